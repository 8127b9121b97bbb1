//! A request that a version failed runs again on the next in line: where the manifest says that this is safe, and only
//! there.
//!
//! As in `breaker.rs`: version 1 answers whatever the query says, version 2 does what its `do` says.

use serde_json::{Value, json};

use crate::{
    breaker::{ask, by, model, with_fallback},
    harness::{Server, Start},
};

/// More than any test here sends: what is tested is not the breaker.
const PATIENT: &str = "[breaker]\nconsecutive_failures = 1000\nmin_requests = 1000";

async fn started(top: &str, rule: Value) -> Server {
    let server = Start::new().ready().await;
    let manifest = format!("{top}\n[limits]\ntimeout_ms = 500\nmemory_mib = 16\n{PATIENT}");
    model(&server, "words", &manifest, rule).await;
    server
}

async fn counted(server: &Server, version: &str, outcome: &str) -> f64 {
    let labels = [
        ("model", "words"),
        ("model_version", version),
        ("outcome", outcome),
    ];
    let metrics = server.metrics().await;
    metrics
        .sum("aegis_inference_requests_total", &labels)
        .unwrap()
}

#[tokio::test]
async fn what_a_version_fails_the_fallback_answers() {
    let server = started("idempotent = true", with_fallback()).await;
    for query in ["&do=trap", "&do=fail&as=internal", "&do=fail&as=not-ready"] {
        let answer = ask(&server, "words", query).await.is(200);
        assert_eq!(by(&answer), ("1", "fallback", ""), "{query}");
        assert_eq!(answer.json()["id"], 6, "the body was there");
    }
    assert_eq!(counted(&server, "2", "trap").await, 1.0);
    assert_eq!(counted(&server, "1", "ok").await, 3.0);
    let answer = ask(&server, "words", "").await.is(200);
    assert_eq!(by(&answer), ("2", "stable", ""));
    let line = server
        .logged("the second run", |line| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.contains("runs again on version 1"))
        })
        .await;
    assert_eq!(line["version"], 2);
}

#[tokio::test]
async fn what_a_canary_fails_the_stable_version_answers() {
    let canary = json!({ "canary": { "version": 2, "weight": 100 } });
    let server = started("idempotent = true", canary).await;
    let answer = ask(&server, "words", "&do=trap").await.is(200);
    assert_eq!(by(&answer), ("1", "fallback", ""));
}

#[tokio::test]
async fn nothing_runs_twice_that_should_not() {
    let server = started("idempotent = true", with_fallback()).await;
    // The caller's mistakes, and what the server has no room for.
    for (what, status) in [("invalid-input", 422), ("overloaded", 429)] {
        let answer = ask(&server, "words", &format!("&do=fail&as={what}")).await;
        assert_eq!(by(&answer.is(status)), ("2", "stable", ""));
    }
    // Who names a version wants that one.
    let answer = ask(&server, "words", "&do=trap&version=2").await.is(500);
    assert_eq!(by(&answer), ("2", "named", ""));
    // No time is left.
    let answer = ask(&server, "words", "&do=sleep").await.is(504);
    assert_eq!(by(&answer), ("2", "stable", ""));
    assert_eq!(counted(&server, "1", "ok").await, 0.0);
}

#[tokio::test]
async fn a_manifest_that_says_nothing_has_each_request_run_once() {
    for top in ["", "idempotent = false"] {
        let server = started(top, with_fallback()).await;
        let answer = ask(&server, "words", "&do=trap").await.is(500);
        assert_eq!(by(&answer), ("2", "stable", ""));
        assert_eq!(counted(&server, "1", "ok").await, 0.0);
    }
}

/// Both fail: the caller has the answer of the second, whose name is on it.
#[tokio::test]
async fn a_fallback_that_fails_too_says_so_itself() {
    let server = started("idempotent = true", with_fallback()).await;
    let raw = crate::harness::file("target/guests/hostile.wasm");
    let third = crate::harness::Package::handler("words", raw).and("[config]\nthird = \"yes\"");
    server.upload(&third).await.is(201);
    crate::breaker::set(&server, "words", json!({ "fallback": 3 })).await;
    let answer = ask(&server, "words", "&do=trap").await;
    answer.refused(500, "handler_trap");
    assert_eq!(by(&answer), ("3", "fallback", ""));
}

/// The second run has its own breaker in its way too.
#[tokio::test]
async fn what_its_breaker_keeps_from_a_fallback_does_not_run_there() {
    let server = started("idempotent = true", with_fallback()).await;
    let hostile = crate::harness::file("target/guests/hostile.wasm");
    let third = crate::harness::Package::handler("words", hostile)
        .and("[breaker]\nconsecutive_failures = 2\nopen_ms = 60000");
    server.upload(&third).await.is(201);
    crate::breaker::set(&server, "words", json!({ "fallback": 3 })).await;
    for _ in 0..2 {
        let answer = ask(&server, "words", "&do=trap").await.is(500);
        assert_eq!(by(&answer), ("3", "fallback", ""));
    }
    let answer = ask(&server, "words", "&do=trap").await.is(500);
    assert_eq!(by(&answer), ("2", "stable", ""));
}
