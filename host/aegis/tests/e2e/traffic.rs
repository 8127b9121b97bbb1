//! Who answers how much of a model's requests: canary, shadow, fallback, rollback, by the routes and by the commands.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Aegis, Package, Server, Start, eventually, said};

/// Two versions of `vocabulary`, the first one stable; the second tells another number of entries.
async fn two_versions() -> Server {
    let server = Start::new().ready().await;
    server.upload(&Package::guest("vocabulary")).await.is(201);
    let second = Package::guest("vocabulary").and("[config]\nentries = \"7\"");
    server.upload(&second).await.is(201);
    server
}

async fn rule(server: &Server, wish: Value) -> Value {
    let request = server
        .request(Method::PUT, "/v1/models/vocabulary/traffic")
        .json(&wish);
    let answer = crate::harness::Answer::read(request.send().await.unwrap()).await;
    answer.ok()["traffic"].clone()
}

/// The part and the version that answer a caller.
async fn answered_by(server: &Server, caller: &str) -> (String, String) {
    let request = server
        .prediction("vocabulary")
        .header("aegis-sticky", caller)
        .header("content-type", "text/plain")
        .body("word-6");
    let answer = crate::harness::Answer::read(request.send().await.unwrap())
        .await
        .is(200);
    let (part, version) = (
        answer.header("aegis-traffic").to_owned(),
        answer.header("aegis-model-version").to_owned(),
    );
    let entries = if version == "1" { 100_000 } else { 7 };
    assert_eq!(
        answer.json()["entries"],
        entries,
        "another version's answer"
    );
    (part, version)
}

#[tokio::test]
async fn a_canary_gets_its_share_and_callers_stay_with_it() {
    let server = two_versions().await;
    let set = rule(&server, json!({ "canary": { "version": 2, "weight": 25 } })).await;
    assert_eq!(set["canary"], json!({ "version": 2, "weight": 25.0 }));
    let mut canary = Vec::new();
    for caller in 0..200 {
        let (part, version) = answered_by(&server, &format!("caller {caller}")).await;
        assert_eq!(part == "canary", version == "2");
        canary.push(part == "canary");
    }
    let share = canary.iter().filter(|canary| **canary).count();
    // 50 are expected; six standard deviations of 6 aside.
    assert!((14..=86).contains(&share), "{share} of 200");
    rule(&server, json!({ "canary": { "version": 2, "weight": 60 } })).await;
    for (caller, was) in canary.iter().enumerate() {
        let (part, _) = answered_by(&server, &format!("caller {caller}")).await;
        assert!(!was || part == "canary", "caller {caller} was sent back");
    }
    let weights = server.metrics().await;
    let weight = |version: &str| {
        let labels = [("model", "vocabulary"), ("model_version", version)];
        weights.sum("aegis_traffic_weight", &labels)
    };
    assert_eq!((weight("1"), weight("2")), (Some(0.4), Some(0.6)));
    let set = rule(&server, json!({ "canary": null })).await;
    assert_eq!(set["canary"], Value::Null);
    for caller in 0..50 {
        let (part, _) = answered_by(&server, &format!("caller {caller}")).await;
        assert_eq!(part, "stable");
    }
}

#[tokio::test]
async fn a_shadow_sees_copies_and_nobody_sees_its_answers() {
    let server = two_versions().await;
    rule(
        &server,
        json!({ "shadow": { "version": 2, "weight": 100 } }),
    )
    .await;
    for caller in 0..20 {
        assert_eq!(
            answered_by(&server, &format!("caller {caller}")).await,
            ("stable".to_owned(), "1".to_owned())
        );
    }
    eventually("every copy is compared", async || {
        let metrics = server.metrics().await;
        let of = |result: &str| {
            let labels = [
                ("model", "vocabulary"),
                ("model_version", "2"),
                ("result", result),
            ];
            metrics
                .sum("aegis_shadow_requests_total", &labels)
                .unwrap_or_default()
        };
        // Its `entries` is another number.
        (of("different") + of("left_out") >= 20.0 && of("different") > 0.0).then_some(())
    })
    .await;
    let metrics = server.metrics().await;
    let labels = [("model", "vocabulary"), ("model_version", "2")];
    let counted = metrics.sum("aegis_inference_requests_total", &labels);
    assert_eq!(counted, Some(0.0), "copies are not requests");
}

#[tokio::test]
async fn a_rule_that_makes_no_sense_changes_nothing() {
    let server = two_versions().await;
    let before = server.get("/v1/models/vocabulary").await.ok()["traffic"].clone();
    for (wish, status, code) in [
        (json!({}), 422, "invalid_traffic"),
        (
            json!({ "canary": { "version": 1, "weight": 5 } }),
            422,
            "invalid_traffic",
        ),
        (
            json!({ "canary": { "version": 2, "weight": 5.05 } }),
            422,
            "invalid_traffic",
        ),
        (
            json!({ "shadow": { "version": 1, "weight": 5 } }),
            422,
            "invalid_traffic",
        ),
        (
            json!({ "canary": { "version": 9, "weight": 5 } }),
            404,
            "version_not_found",
        ),
        (
            json!({ "stable": 2, "fallback": 9 }),
            404,
            "version_not_found",
        ),
        (
            json!({ "stable": null, "stabel": 2 }),
            422,
            "invalid_traffic",
        ),
    ] {
        let request = server
            .request(Method::PUT, "/v1/models/vocabulary/traffic")
            .json(&wish);
        let answer = crate::harness::Answer::read(request.send().await.unwrap()).await;
        answer.refused(status, code);
    }
    let after = server.get("/v1/models/vocabulary").await.ok()["traffic"].clone();
    assert_eq!(before, after);
    // A version with a part is not deleted.
    rule(&server, json!({ "canary": { "version": 2, "weight": 0 } })).await;
    let refused = server.delete("/v1/models/vocabulary/versions/2").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
}

#[tokio::test]
async fn rules_hold_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::new().data(folder.path()).ready().await;
    server.upload(&Package::guest("vocabulary")).await.is(201);
    let second = Package::guest("vocabulary").and("[config]\nentries = \"7\"");
    server.upload(&second).await.is(201);
    rule(
        &server,
        json!({ "canary": { "version": 2, "weight": 100 } }),
    )
    .await;
    server.stop().await;
    let server = Start::new().data(folder.path()).ready().await;
    let answered = answered_by(&server, "anyone").await;
    assert_eq!(answered, ("canary".to_owned(), "2".to_owned()));
}

#[tokio::test]
async fn the_commands_change_the_rule_and_say_it_in_a_sentence() {
    let server = two_versions().await;
    let url = server.url("");
    let told = async |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain(["--server", &url]).collect();
        said(&Aegis::new(&words).run().await)
    };
    let canary = told(&["canary", "vocabulary", "2", "--weight", "12.5"]).await;
    assert!(
        canary.contains("version 2 is the canary and answers 12.5 %"),
        "{canary}"
    );
    let fallback = told(&["fallback", "vocabulary", "1"]).await;
    assert!(fallback.contains("version 1 is the fallback"), "{fallback}");
    let promoted = told(&["promote", "vocabulary", "2"]).await;
    assert!(
        promoted.contains("version 2 answers requests now"),
        "{promoted}"
    );
    let back = told(&["rollback", "vocabulary"]).await;
    assert!(back.contains("version 1 is stable"), "{back}");
    assert_eq!(answered_by(&server, "anyone").await.1, "1");
    let off = told(&["fallback", "vocabulary", "--off"]).await;
    assert!(!off.contains("fallback"), "{off}");
}

/// Canaries set, changed and withdrawn under load, promotions and rollbacks: every request is answered by the version
/// that its header names.
#[tokio::test]
async fn no_request_is_lost_to_a_change_of_the_rule() {
    let server = two_versions().await;
    let asks = async {
        for caller in 0..300 {
            answered_by(&server, &format!("caller {caller}")).await;
        }
    };
    let changes = async {
        for round in 0..10 {
            let weight = f64::from(round) * 10.0;
            rule(
                &server,
                json!({ "canary": { "version": 2, "weight": weight } }),
            )
            .await;
            rule(&server, json!({ "stable": 2 })).await;
            let request = server.request(Method::POST, "/v1/models/vocabulary/rollback");
            request.send().await.unwrap().error_for_status().unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(asks, changes);
}
