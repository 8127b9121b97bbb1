//! `aegis loadtest` against a running server: its statuses and its rows.

use crate::{
    cli::{aegis, run},
    harness::Start,
};

/// One cell of a second.
const QUICK: [&str; 11] = [
    "--users",
    "4",
    "--workers",
    "2",
    "--duration",
    "1s",
    "--ramp-up=0s",
    "--warm-up=0s",
    "--think=10ms",
    "--data=free prize",
    "--content-type=text/plain",
];

fn words<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let begin = ["loadtest", "--model", model];
    [&begin, QUICK.as_slice(), more].concat()
}

#[tokio::test]
async fn a_load_test_writes_the_seeds_row_and_its_status_is_the_verdict() {
    let server = Start::new().examples().ready().await;
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let rows = folder.path().join("rows.csv");
    let files = [
        "--html",
        page.to_str().unwrap(),
        "--csv",
        rows.to_str().unwrap(),
    ];
    let easy = ["-o", "csv", "--p95-ms", "5000", "--p95-warn-ms", "5000"];
    let passed = aegis(&server, &words("spam", &[files.as_slice(), &easy].concat())).await;
    assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    let table = String::from_utf8(passed.stdout).unwrap();
    let (head, row) = table.trim_end().split_once('\n').unwrap();
    assert!(
        head.starts_with("Timestamp,Users,Workers,Duration,InitialReplicas"),
        "{head}"
    );
    assert!(
        row.contains("Z,4,2,1,,,,,,") && row.ends_with(",0.0"),
        "{row}"
    );
    assert_eq!(std::fs::read_to_string(rows).unwrap(), table);
    assert!(std::fs::read_to_string(page).unwrap().contains("PASS"));

    let hard = ["--p95-ms", "0.001", "--p95-warn-ms", "0.001"];
    let failed = aegis(&server, &words("spam", &hard)).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(String::from_utf8_lossy(&failed.stdout).contains("FAIL"));
}

#[tokio::test]
async fn a_load_test_of_nothing_has_a_status_of_its_own() {
    let server = Start::new().examples().ready().await;
    let unknown = aegis(&server, &words("nobody", &[])).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("aegis models"));
    let dead = run("http://127.0.0.1:1", &words("spam", &[]), "").await;
    assert_eq!(dead.status.code(), Some(2), "{dead:?}");
    assert!(String::from_utf8_lossy(&dead.stderr).contains("aegis serve"));
}
