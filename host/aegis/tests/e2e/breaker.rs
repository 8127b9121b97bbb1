//! A version that answers badly gets out of the way, is probed, and comes back; what a caller got wrong never opens its
//! breaker.
//!
//! In each model here `vocabulary` is version 1 and answers whatever the query says; `hostile` is version 2 and does
//! what the query's `do` says.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Package, Server, Start, eventually, send};

/// A model of both, version 2 with this in its manifest, under this traffic rule.
pub(crate) async fn model(server: &Server, name: &str, manifest: &str, rule: Value) {
    let guest = |guest: &str| crate::harness::file(&format!("target/guests/{guest}.wasm"));
    let good = Package::handler(name, guest("vocabulary"));
    server.upload(&good).await.is(201);
    let other = Package::handler(name, guest("hostile")).and(manifest);
    server.upload(&other).await.is(201);
    set(server, name, rule).await;
}

pub(crate) async fn set(server: &Server, name: &str, rule: Value) {
    let request = server.request(Method::PUT, &format!("/v1/models/{name}/traffic"));
    send(request.json(&rule)).await.is(200);
}

pub(crate) fn with_fallback() -> Value {
    json!({ "stable": 2, "fallback": 1 })
}

/// A prediction with the rest of the query.
pub(crate) async fn ask(server: &Server, model: &str, query: &str) -> Answer {
    server.ask(&format!("{model}{query}"), "word-6").await
}

/// Version and part that answered, and whose breakers had a say.
pub(crate) fn by(answer: &Answer) -> (&str, &str, &str) {
    (
        answer.header("aegis-model-version"),
        answer.header("aegis-traffic"),
        answer.header("aegis-circuit"),
    )
}

/// What `/health` says of the breaker of a model's version.
pub(crate) async fn circuit(server: &Server, model: &str, version: u64) -> Value {
    let health = server.get("/health").await.ok();
    let models = health["models"].as_array().unwrap();
    let of_model = models.iter().find(|shown| shown["name"] == model).unwrap();
    let circuits = of_model["circuits"].as_array().unwrap();
    let found = circuits.iter().find(|shown| shown["version"] == version);
    found.cloned().unwrap_or_default()
}

async fn metric(server: &Server, name: &str, model: &str, version: &str) -> f64 {
    let labels = [("model", model), ("model_version", version)];
    server.metrics().await.sum(name, &labels).unwrap()
}

#[tokio::test]
async fn a_version_that_fails_gives_way_to_the_fallback_and_comes_back() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nconsecutive_failures = 5\nopen_ms = 2000";
    model(&server, "words", manifest, with_fallback()).await;
    assert_eq!(circuit(&server, "words", 2).await["state"], "closed");
    for _ in 0..5 {
        let answer = ask(&server, "words", "&do=trap").await;
        answer.refused(500, "handler_trap");
        assert_eq!(by(&answer), ("2", "stable", ""));
    }
    let answer = ask(&server, "words", "&do=trap").await.is(200);
    assert_eq!(by(&answer), ("1", "fallback", "2 open"));

    let seen = circuit(&server, "words", 2).await;
    assert_eq!(seen["state"], "open");
    assert_eq!(seen["why"], "5 failures in a row");
    let since = seen["since"].as_str().unwrap();
    assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
    assert_eq!(circuit(&server, "words", 1).await["state"], "closed");
    assert_eq!(
        metric(&server, "aegis_circuit_state", "words", "2").await,
        2.0
    );
    let opened = metric(&server, "aegis_circuit_opened_total", "words", "2").await;
    assert_eq!(opened, 1.0);
    let line = server
        .logged("the breaker's opening", |line| line["circuit"] == "open")
        .await;
    assert_eq!(
        (&line["model"], &line["version"]),
        (&json!("words"), &json!(2))
    );
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("5 failures in a row"),
        "{line}"
    );
    server.get("/readyz").await.is(200);

    let probe = eventually("a probe", async || {
        let answer = ask(&server, "words", "").await.is(200);
        (answer.header("aegis-model-version") == "2").then_some(answer)
    })
    .await;
    assert_eq!(by(&probe), ("2", "stable", "2 half-open"));
    eventually("the breaker closes", async || {
        (circuit(&server, "words", 2).await["state"] == "closed").then_some(())
    })
    .await;
    let answer = ask(&server, "words", "").await.is(200);
    assert_eq!(by(&answer), ("2", "stable", ""));
    assert_eq!(
        metric(&server, "aegis_circuit_state", "words", "2").await,
        0.0
    );
    assert_eq!(circuit(&server, "words", 2).await.get("why"), None);
}

/// Asks for others until a version is unloaded for want of memory.
async fn displace(server: &Server, name: &str, version: u64) {
    for number in 0..8 {
        let other = crate::residency::model(&format!("other-{number}"));
        let status = server.upload(&other).await.status;
        assert!([200, 201].contains(&status), "{status}");
    }
    eventually("the version's unloading", async || {
        for number in 0..8 {
            let other = format!("other-{number}");
            server.ask(&other, "").await.is(200);
        }
        circuit(server, name, version).await.is_null().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_version_that_is_unloaded_while_its_breaker_is_open_comes_back_with_it_open() {
    let server = Start::new().flag("--memory-budget-mib", "4").ready().await;
    let manifest = "[breaker]\nconsecutive_failures = 5\nopen_ms = 60000";
    model(&server, "words", manifest, with_fallback()).await;
    for _ in 0..5 {
        let answer = ask(&server, "words", "&do=trap").await;
        answer.refused(500, "handler_trap");
    }
    for _ in 0..2 {
        displace(&server, "words", 2).await;
        let answer = ask(&server, "words", "&do=trap").await.is(200);
        assert_eq!(by(&answer), ("1", "fallback", "2 open"));
        let seen = circuit(&server, "words", 2).await;
        assert_eq!(seen["state"], "open");
        assert_eq!(seen["why"], "5 failures in a row");
        let figure = async |name| metric(&server, name, "words", "2").await;
        assert_eq!(figure("aegis_circuit_state").await, 2.0);
        assert_eq!(figure("aegis_circuit_opened_total").await, 1.0, "once");
    }
    // Deleted, it leaves nothing.
    displace(&server, "words", 2).await;
    set(&server, "words", json!({ "stable": 1, "fallback": null })).await;
    server.delete("/v1/models/words/versions/2").await.is(204);
    let labels = [("model", "words"), ("model_version", "2")];
    let metrics = server.metrics().await;
    for name in ["aegis_circuit_state", "aegis_circuit_opened_total"] {
        assert_eq!(metrics.sum(name, &labels), None, "{name}");
    }
}

#[tokio::test]
async fn each_way_to_fail_opens_the_breaker() {
    let server = Start::new().ready().await;
    let manifest = "[limits]\ntimeout_ms = 500\nmemory_mib = 16\n[breaker]\nconsecutive_failures = 2\nopen_ms = 60000";
    for (name, query, status) in [
        ("trap", "&do=trap", 500),
        ("memory", "&do=alloc", 500),
        ("loop", "&do=loop", 504),
        ("sleep", "&do=sleep", 504),
        ("said", "&do=fail&as=internal", 500),
        ("unready", "&do=fail&as=not-ready", 503),
        ("unsendable", "&do=bad-content-type", 500),
    ] {
        model(&server, name, manifest, with_fallback()).await;
        for _ in 0..2 {
            let answer = ask(&server, name, query).await.is(status);
            assert_eq!(by(&answer), ("2", "stable", ""), "{name}");
        }
        let answer = ask(&server, name, query).await.is(200);
        assert_eq!(by(&answer), ("1", "fallback", "2 open"), "{name}");
    }
}

#[tokio::test]
async fn what_the_caller_got_wrong_never_opens_it() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nconsecutive_failures = 1\nmin_requests = 1\nerror_rate = 0.01";
    model(&server, "words", manifest, with_fallback()).await;
    for (what, status) in [
        ("invalid-input", 422),
        ("unsupported-media-type", 415),
        ("too-large", 413),
        ("overloaded", 429),
    ] {
        for _ in 0..25 {
            let answer = ask(&server, "words", &format!("&do=fail&as={what}")).await;
            assert_eq!(by(&answer.is(status)), ("2", "stable", ""));
        }
    }
    assert_eq!(circuit(&server, "words", 2).await["state"], "closed");
}

#[tokio::test]
async fn a_slow_version_gives_way_too() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nlatency_ms = 100\nmin_requests = 5\nopen_ms = 60000";
    model(&server, "words", manifest, with_fallback()).await;
    for _ in 0..5 {
        let answer = ask(&server, "words", "&do=sleep&n=150").await.is(200);
        assert_eq!(answer.header("aegis-model-version"), "2");
    }
    let answer = ask(&server, "words", "&do=sleep&n=150").await.is(200);
    assert_eq!(by(&answer), ("1", "fallback", "2 open"));
    let why = circuit(&server, "words", 2).await["why"].clone();
    let why = why.as_str().unwrap();
    assert!(why.starts_with("p95 over 100ms: 5 of 5 requests"), "{why}");
}

#[tokio::test]
async fn a_canary_that_fails_gives_way_to_the_stable_version() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nconsecutive_failures = 3\nopen_ms = 60000";
    let canary = json!({ "canary": { "version": 2, "weight": 100 } });
    model(&server, "words", manifest, canary).await;
    for _ in 0..3 {
        let answer = ask(&server, "words", "&do=trap").await.is(500);
        assert_eq!(by(&answer), ("2", "canary", ""));
    }
    let answer = ask(&server, "words", "&do=trap").await.is(200);
    assert_eq!(by(&answer), ("1", "stable", "2 open"));
}

#[tokio::test]
async fn whoever_is_alone_answers_all_the_same_unless_its_manifest_refuses() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nconsecutive_failures = 3\nopen_ms = 60000";
    model(&server, "serves", manifest, json!({ "stable": 2 })).await;
    for _ in 0..3 {
        ask(&server, "serves", "&do=trap").await.is(500);
    }
    // One caller's poison takes nothing from the others.
    let answer = ask(&server, "serves", "").await.is(200);
    assert_eq!(by(&answer), ("2", "stable", "2 open"));
    let answer = ask(&server, "serves", "&do=trap").await;
    answer.refused(500, "handler_trap");
    assert_eq!(circuit(&server, "serves", 2).await["state"], "open");

    let manifest = "[breaker]\nconsecutive_failures = 3\nopen_ms = 1000\nmax_open_ms = 1000\nrefuse_alone = true";
    model(&server, "refuses", manifest, json!({ "stable": 2 })).await;
    for _ in 0..3 {
        ask(&server, "refuses", "&do=trap").await.is(500);
    }
    let answer = ask(&server, "refuses", "").await;
    let message = answer.refused(503, "circuit_open");
    assert_eq!(answer.header("aegis-model-version"), "2");
    assert!(message.contains("3 failures in a row"), "{message}");
    let labels = [
        ("model", "refuses"),
        ("model_version", "2"),
        ("outcome", "rejected"),
    ];
    let metrics = server.metrics().await;
    let rejected = metrics.sum("aegis_inference_requests_total", &labels);
    assert_eq!(rejected, Some(1.0));
    let again = eventually("the probe is let in", async || {
        let answer = ask(&server, "refuses", "").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(by(&again), ("2", "stable", "2 half-open"));
}

#[tokio::test]
async fn a_named_version_and_a_shadow_have_no_part_in_it() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nconsecutive_failures = 3\nopen_ms = 60000";
    let shadow = json!({ "shadow": { "version": 2, "weight": 100 } });
    model(&server, "words", manifest, shadow).await;
    for _ in 0..10 {
        let answer = ask(&server, "words", "&do=trap").await.is(200);
        assert_eq!(by(&answer), ("1", "stable", ""));
        let answer = ask(&server, "words", "&do=trap&version=2").await.is(500);
        assert_eq!(by(&answer), ("2", "named", ""));
    }
    eventually("the copies have failed", async || {
        let labels = [("model", "words"), ("result", "failed")];
        let failed = server.metrics().await;
        let failed = failed.sum("aegis_shadow_requests_total", &labels)?;
        (failed >= 5.0).then_some(())
    })
    .await;
    assert_eq!(circuit(&server, "words", 2).await["state"], "closed");
    set(
        &server,
        "words",
        json!({ "stable": 2, "fallback": 1, "shadow": null }),
    )
    .await;
    for _ in 0..3 {
        ask(&server, "words", "&do=trap").await.is(500);
    }
    assert_eq!(circuit(&server, "words", 2).await["state"], "open");
    let answer = ask(&server, "words", "&version=2").await.is(200);
    assert_eq!(by(&answer), ("2", "named", ""));
    assert_eq!(circuit(&server, "words", 2).await["state"], "open");
}

#[tokio::test]
async fn a_manifest_can_do_without() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nenabled = false\nconsecutive_failures = 1";
    model(&server, "words", manifest, with_fallback()).await;
    for _ in 0..30 {
        let answer = ask(&server, "words", "&do=trap").await.is(500);
        assert_eq!(by(&answer), ("2", "stable", ""));
    }
    assert_eq!(circuit(&server, "words", 2).await, Value::Null);
}

/// Whoever sends a body slowly does not keep the place of the probe from others.
#[tokio::test]
async fn a_slow_caller_does_not_keep_the_version_away() {
    let server = Start::new().ready().await;
    let manifest = "[breaker]\nconsecutive_failures = 2\nopen_ms = 500\nmax_open_ms = 500";
    model(&server, "words", manifest, with_fallback()).await;
    for _ in 0..2 {
        ask(&server, "words", "&do=trap").await.is(500);
    }
    eventually("half open", async || {
        let state = circuit(&server, "words", 2).await;
        (state["state"] == "half-open").then_some(())
    })
    .await;
    let mut slow = server.raw().await;
    slow.send(
        "POST /predict?identifier=words HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: text/plain\r\ncontent-length: 6\r\n\r\nwor",
    )
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = ask(&server, "words", "").await.is(200);
    assert_eq!(by(&answer), ("2", "stable", "2 half-open"));
    eventually("closed", async || {
        let state = circuit(&server, "words", 2).await;
        (state["state"] == "closed").then_some(())
    })
    .await;
    slow.send("d-6").await;
    let answered = slow.read_to_end().await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    assert!(answered.contains("aegis-model-version: 2"), "{answered}");
}
