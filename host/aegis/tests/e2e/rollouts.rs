//! Canaries that go on by themselves: to the end, back when they are worse, and on under another replica.

use std::time::Duration;

use serde_json::Value;

use crate::cli::aegis;
use crate::harness::{Callers, Package, Server, Start, eventually, said};
use crate::registry::tools::S3;

/// A little more than a step needs, so that the steps' time decides.
const CALLERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(5);

fn unwell(name: &str, config: &str) -> Package {
    Package::guest("unwell").and(&format!("[config]\nname = \"{name}\"\n{config}"))
}

/// Version 1, which is well, and version 2, which is as its configuration says.
async fn with_second(server: &Server, config: &str) {
    server.upload(&unwell("version 1", "")).await.is(201);
    server.upload(&unwell("version 2", config)).await.is(201);
}

async fn rule(server: &Server) -> Value {
    server.get("/v1/models/unwell").await.ok()["traffic"].clone()
}

/// Why the canary was withdrawn, once it is.
async fn withdrawn(server: &Server) -> String {
    eventually("the withdrawal", async || {
        let rule = rule(server).await;
        let last = rule["history"].as_array()?.last()?.clone();
        (last["action"] == "withdraw_rollout").then(|| last["why"].as_str().map(str::to_owned))?
    })
    .await
}

/// Two replicas on one bucket, which both answer with version 1; version 2 is as its configuration says.
async fn two_replicas(s3: &S3, config: &str) -> (Server, Server) {
    let replica = || Start::new().replica("s3://models", s3.variables()).ready();
    let (one, other) = (replica().await, replica().await);
    with_second(&one, config).await;
    eventually("the other answers", async || {
        (other.ask("unwell", "1").await.status == 200).then_some(())
    })
    .await;
    (one, other)
}

fn drives(server: &Server) -> bool {
    let said = |line: &Value| line["message"] == "this replica drives the rollout";
    server.log().iter().any(said)
}

/// Which of two replicas drives the rollout, first.
async fn driver_first(one: Server, other: Server) -> (Server, Server) {
    let one_does = eventually("a driver", async || {
        (drives(&one) || drives(&other)).then(|| drives(&one))
    })
    .await;
    match one_does {
        true => (one, other),
        false => (other, one),
    }
}

/// The end of a rollout that nothing speaks against.
async fn went_out(server: &Server) {
    eventually("the end", async || {
        let rule = rule(server).await;
        let last = rule["history"].as_array()?.last()?.clone();
        assert_ne!(last["action"], "withdraw_rollout", "{last}");
        (rule["stable"] == 2).then_some(())
    })
    .await;
}

async fn changes(server: &Server, change: &str) -> f64 {
    let labels = [("model", "unwell"), ("change", change)];
    let metrics = server.metrics().await;
    metrics
        .sum("aegis_rollout_changes_total", &labels)
        .unwrap_or_default()
}

#[tokio::test]
async fn a_version_that_is_no_worse_becomes_stable_step_by_step() {
    let server = Start::new().ready().await;
    with_second(&server, "").await;
    let callers = Callers::start(&server.address, "unwell", CALLERS, PAUSE);
    let steps = [
        "--steps",
        "20,60,100",
        "--every",
        "1s",
        "--min-requests",
        "20",
    ];
    let said_at_once =
        said(&aegis(&server, &[&["canary", "unwell", "2"][..], &steps].concat()).await);
    assert_eq!(
        said_at_once.trim(),
        "unwell: version 1 is stable; version 2 is the canary and answers 20 % in step 1 of 3, which take 1 s each at least"
    );
    eventually("the second step", async || {
        (rule(&server).await["canary"]["weight"] == 60.0).then_some(())
    })
    .await;
    went_out(&server).await;
    let tally = callers.stop().await;
    assert!(
        tally.failed.is_empty() && tally.wrong.is_empty(),
        "{tally:?}"
    );
    assert!(
        tally.of_version(1) > 20 && tally.of_version(2) > 20,
        "{tally:?}"
    );
    let rule = rule(&server).await;
    assert_eq!(
        (&rule["canary"], &rule["rollout"]),
        (&Value::Null, &Value::Null)
    );
    let history = said(&aegis(&server, &["history", "unwell"]).await);
    for done in ["begin_rollout", "advance_rollout", "end_rollout"] {
        assert!(history.contains(done), "{history}");
    }
    assert_eq!(
        (
            changes(&server, "advanced").await,
            changes(&server, "ended").await
        ),
        (1.0, 1.0)
    );
}

#[tokio::test]
async fn one_that_fails_more_often_is_withdrawn_and_it_is_said_why() {
    let server = Start::new().ready().await;
    // Without a breaker, which might be quicker.
    with_second(&server, "fail_one_in = \"3\"\n[breaker]\nenabled = false").await;
    let callers = Callers::start(&server.address, "unwell", CALLERS, PAUSE);
    let wish = [
        "canary", "unwell", "2", "--steps", "30,100", "--every", "1h",
    ];
    said(&aegis(&server, &wish).await);
    let why = withdrawn(&server).await;
    let tally = callers.stop().await;
    // Those whose turn it was to fail, and nothing else.
    assert_eq!(
        tally.failed.keys().collect::<Vec<_>>(),
        ["handler_error"],
        "{tally:?}"
    );
    assert!(tally.wrong.is_empty(), "{tally:?}");
    assert!(
        why.starts_with("its error rate is") && why.contains("stable's 0.00 %"),
        "{why}"
    );
    let rule = rule(&server).await;
    assert_eq!(
        (&rule["stable"], &rule["canary"]),
        (&1.into(), &Value::Null)
    );
    let history = said(&aegis(&server, &["history", "unwell"]).await);
    assert!(
        history.contains("withdraw_rollout") && history.contains(&why),
        "{history}"
    );
    assert_eq!(changes(&server, "withdrawn").await, 1.0);
    server
        .logged("the withdrawal in the log", |line| {
            line["message"] == "the canary is withdrawn" && line["why"] == why
        })
        .await;
    let after = Callers::start(&server.address, "unwell", CALLERS, PAUSE);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = after.stop().await;
    assert_eq!(after.of_version(1), after.asked, "{after:?}");
}

#[tokio::test]
async fn one_whose_slowest_are_slower_is_withdrawn() {
    let server = Start::new().ready().await;
    with_second(&server, "slow_one_in = \"4\"\nwait_ms = \"200\"").await;
    let callers = Callers::start(&server.address, "unwell", CALLERS, PAUSE);
    let wish = [
        "canary", "unwell", "2", "--steps", "50,100", "--every", "1h",
    ];
    said(&aegis(&server, &wish).await);
    let why = withdrawn(&server).await;
    let tally = callers.stop().await;
    assert!(
        tally.failed.is_empty() && tally.wrong.is_empty(),
        "{tally:?}"
    );
    assert!(
        why.starts_with("its p99 is") || why.starts_with("its circuit breaker opened"),
        "{why}"
    );
}

#[tokio::test]
async fn a_rollout_outlives_a_server_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Start::new().data(&data).ready().await;
    with_second(&server, "").await;
    let wish = [
        "canary", "unwell", "2", "--steps", "50,100", "--every", "1s",
    ];
    said(&aegis(&server, &[&wish[..], &["--min-requests", "20"]].concat()).await);
    eventually("a driver", async || {
        rule(&server).await["rollout"]["driver"]["holder"]
            .is_string()
            .then_some(())
    })
    .await;
    server.kill();
    let server = Start::new().data(&data).ready().await;
    assert_eq!(rule(&server).await["rollout"]["step"], 0);
    let callers = Callers::start(&server.address, "unwell", CALLERS, PAUSE);
    // The dead one's right has to run out first.
    went_out(&server).await;
    let tally = callers.stop().await;
    assert!(
        tally.failed.is_empty() && tally.wrong.is_empty(),
        "{tally:?}"
    );
}

#[tokio::test]
async fn of_two_replicas_one_drives_and_the_other_follows_it() {
    let Some(s3) = S3::start().await else { return };
    let (one, other) = two_replicas(&s3, "").await;
    let wish = [
        "canary", "unwell", "2", "--steps", "50,100", "--every", "1s",
    ];
    said(&aegis(&one, &[&wish[..], &["--min-requests", "20"]].concat()).await);
    let (first, second) = driver_first(one, other).await;
    // The driver dies, and the other goes on.
    assert!(drives(&first) && !drives(&second));
    first.kill();
    let callers = Callers::start(&second.address, "unwell", CALLERS, PAUSE);
    went_out(&second).await;
    assert!(drives(&second));
    let tally = callers.stop().await;
    assert!(
        tally.failed.is_empty() && tally.wrong.is_empty(),
        "{tally:?}"
    );
}

#[tokio::test]
async fn a_driver_to_whom_no_request_comes_judges_by_what_the_others_saw() {
    let Some(s3) = S3::start().await else { return };
    // Without a breaker, so that it is the failures that are told.
    let second = "fail_one_in = \"3\"\n[breaker]\nenabled = false";
    let (one, other) = two_replicas(&s3, second).await;
    let wish = [
        "canary", "unwell", "2", "--steps", "50,100", "--every", "1h",
    ];
    said(&aegis(&one, &wish).await);
    let (idle, asked) = driver_first(one, other).await;
    let callers = Callers::start(&asked.address, "unwell", CALLERS, PAUSE);
    let why = withdrawn(&asked).await;
    callers.stop().await;
    assert!(why.starts_with("its error rate is"), "{why}");
    assert!(!drives(&asked), "whoever drives was asked nothing itself");
    // What was told of it goes with it.
    eventually("its reports are gone", async || {
        let gc = aegis(&idle, &["gc", "--dry-run", "--grace", "0"]).await;
        (!said(&gc).contains("reports of rollouts")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_rollout_is_refused_with_what_would_be_one() {
    let server = Start::new().ready().await;
    with_second(&server, "").await;
    let before = rule(&server).await;
    for (wish, says) in [
        (
            vec!["2", "--steps", "50,20"],
            "steps are percents that rise",
        ),
        (vec!["2", "--steps", "0,20"], "steps are percents that rise"),
        (vec!["1", "--steps", "5,100"], "version 1 is stable already"),
        (vec!["9", "--steps", "5,100"], "has no version 9"),
        (vec!["2", "--steps", "5.55,100"], "in steps of 0.1"),
        (
            vec!["2", "--steps", "5,100", "--every", "10ms"],
            "a second at least",
        ),
        (
            vec!["2", "--steps", "5,100", "--every", "soon"],
            "no span of time",
        ),
        (vec!["2", "--every", "2m", "--weight", "5"], "--steps"),
        (vec!["2"], "--weight"),
    ] {
        let wish = [&["canary", "unwell"][..], &wish].concat();
        let refused = aegis(&server, &wish).await;
        let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success());
        assert!(complaint.contains(says), "{wish:?}: {complaint}");
    }
    assert_eq!(rule(&server).await, before);
}
