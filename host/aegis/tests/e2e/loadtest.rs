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
    let easy = ["-o", "csv", "--p95-ms", "5000"];
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

#[tokio::test]
async fn the_slo_file_is_what_it_is_judged_by() {
    let server = Start::new().examples().ready().await;
    let folder = tempfile::tempdir().unwrap();
    let slo = folder.path().join("slo.toml");
    // Nothing comes in five hundredths of a millisecond.
    let hopeless = "[objectives]\np50_ms = 0.1\np95_ms = 0.1\np95_warning_ms = 0.1\n";
    std::fs::write(&slo, hopeless).unwrap();
    let by_file = ["--slo", slo.to_str().unwrap()];
    let failed = aegis(&server, &words("spam", &by_file)).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let words_of = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(words_of.contains("over 0.1 ms"), "{words_of}");
    std::fs::write(&slo, "[objectives]\np95_ms = 375\n").unwrap();
    let wrong = aegis(&server, &words("spam", &by_file)).await;
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        told.contains("slo.toml") && told.contains("line 2"),
        "{told}"
    );
}

#[tokio::test]
async fn simulated_replicas_are_of_the_model_and_say_so_everywhere() {
    let server = Start::new().examples().ready().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("service.toml"), "service_ms = 100\nconcurrency = 4\n").unwrap();
    let service = path("service.toml");
    let (page, rows) = (path("report.html"), path("rows.csv"));
    let asked = ["--replicas", "simulate", "--service", &service];
    let kept = ["--html", &page, "--csv", &rows, "--p95-ms", "5000"];
    let ran = aegis(&server, &words("spam", &[asked.as_slice(), &kept].concat())).await;
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let table = String::from_utf8(ran.stdout).unwrap();
    assert!(table.contains("SIMULATED REPLICAS"), "{table}");
    assert!(
        table.contains("Replicas are simulated, not read from a cluster"),
        "{table}"
    );
    assert!(
        std::fs::read_to_string(page)
            .unwrap()
            .contains("Replicas, simulated")
    );
    let rows = std::fs::read_to_string(rows).unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    assert_eq!(lines.len(), 3, "{rows}");
    assert!(lines[1].starts_with("# replicas are simulated"), "{rows}");
    assert!(lines[2].contains("Z,4,2,1,3,3,3,0,0,"), "{rows}");
    let without = ["--replicas", "simulate", "--service", "nowhere.toml"];
    let refused = aegis(&server, &words("spam", &without)).await;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
