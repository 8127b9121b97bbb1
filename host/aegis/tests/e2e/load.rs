//! Many at once: everyone gets their own answer, and the one too many is told at once.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Answer, Package, Server, Start, eventually};

/// How many callers come at once, and how often each.
const CALLERS: usize = 64;
const TIMES: usize = 4;

/// A picture that no other caller has.
fn picture(caller: usize) -> String {
    let mut state = caller as u64 + 1;
    let pixels: Vec<u64> = (0..64)
        .map(|_| {
            // Knuth's generator of his MMIX; its high bits are well mixed.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 17
        })
        .collect();
    json!({ "pixels": pixels }).to_string()
}

#[tokio::test]
async fn each_of_many_callers_gets_their_own_answer() {
    let server = Arc::new(Start::new().examples().ready().await);
    let mut alone: Vec<Value> = Vec::new();
    for caller in 0..CALLERS {
        let answer = server
            .predict("digits", "application/json", picture(caller))
            .await;
        alone.push(answer.ok()["probabilities"].clone());
    }
    // They can be told apart at all.
    assert!((1..CALLERS).all(|caller| alone[caller] != alone[0]));

    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..TIMES {
                    let body = picture(caller);
                    answers.push(
                        server
                            .predict("digits", "application/json", body)
                            .await
                            .ok(),
                    );
                }
                answers
            })
        })
        .collect();
    for (caller, alone) in callers.into_iter().zip(&alone) {
        for answer in caller.await.unwrap() {
            let together = answer["probabilities"].as_array().unwrap();
            for (found, wanted) in together.iter().zip(alone.as_array().unwrap()) {
                crate::examples::close(found, wanted);
            }
        }
    }
}

#[tokio::test]
async fn who_finds_the_queue_full_is_told_at_once_and_the_others_are_answered() {
    let server = Arc::new(Start::new().ready().await);
    let narrow = "max_concurrency = 1\nmax_queue = 1\ntimeout_ms = 20000";
    server
        .upload(&Package::hostile("narrow", narrow))
        .await
        .is(201);
    let gauge = async |name: &str, labels: &[(&str, &str)], wanted: f64| {
        eventually(&format!("{name} {wanted}"), async || {
            (server.metrics().await.sum(name, labels) == Some(wanted)).then_some(())
        })
        .await;
    };
    let first = in_the_background(&server, "narrow&do=sleep&n=2000").await;
    let second = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.ask("narrow", "").await })
    };
    gauge("aegis_inference_queue_depth", &[("model", "narrow")], 1.0).await;

    let message = server
        .ask("narrow&do=sleep&n=1", "")
        .await
        .refused(429, "overloaded");
    assert!(message.contains("1 requests"), "{message}");
    assert!(!first.is_finished(), "the third was not told at once");

    first.await.unwrap().is(200);
    second.await.unwrap().is(200);
    gauge("aegis_inference_queue_depth", &[("model", "narrow")], 0.0).await;
    let labels = [("model", "narrow"), ("outcome", "overloaded")];
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.sum("aegis_inference_requests_total", &labels),
        Some(1.0)
    );
    server.ask("narrow&do=sleep&n=1", "").await.is(200);
}

#[tokio::test]
async fn who_waits_longer_than_their_time_is_answered_and_who_leaves_frees_their_place() {
    let server = Arc::new(Start::new().ready().await);
    let narrow = "max_concurrency = 1\nmax_queue = 1\ntimeout_ms = 1000";
    server
        .upload(&Package::hostile("narrow", narrow))
        .await
        .is(201);
    let busy = in_the_background(&server, "narrow&do=sleep").await;
    let depth = async |wanted: f64| {
        let labels = [("model", "narrow")];
        eventually("the queue's depth", async || {
            let metrics = server.metrics().await;
            (metrics.sum("aegis_inference_queue_depth", &labels) == Some(wanted)).then_some(())
        })
        .await;
    };
    let mut leaver = server.raw().await;
    leaver
        .send("POST /predict?identifier=narrow HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await;
    depth(1.0).await;
    drop(leaver);
    depth(0.0).await;
    busy.await.unwrap().refused(504, "timeout");
    let labels = [("model", "narrow"), ("outcome", "cancelled")];
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.sum("aegis_inference_requests_total", &labels),
        Some(1.0)
    );
    server.ask("narrow", "").await.is(200);
}

#[tokio::test]
async fn the_operators_bounds_hold_whatever_a_manifest_asks() {
    let start = Start::new().flag("--predict-max-concurrency", "1");
    let server = Arc::new(start.flag("--predict-max-queue", "0").ready().await);
    let wide = "max_concurrency = 100\nmax_queue = 100\ntimeout_ms = 20000";
    server.upload(&Package::hostile("wide", wide)).await.is(201);
    let busy = in_the_background(&server, "wide&do=sleep&n=1500").await;
    server.ask("wide", "").await.refused(429, "overloaded");
    assert_eq!(server.refused_for("wide", "queue").await, 1.0);
    busy.await.unwrap().is(200);
    server.ask("wide", "").await.is(200);
}

#[tokio::test]
async fn who_finds_no_instance_waits_for_one_until_their_time_is_over() {
    let start = Start::new().flag("--max-instances", "1");
    let server = Arc::new(start.flag("--warm-instances", "0").ready().await);
    let slow = "timeout_ms = 20000";
    server.upload(&Package::hostile("slow", slow)).await.is(201);
    let hasty = "timeout_ms = 400";
    server
        .upload(&Package::hostile("hasty", hasty))
        .await
        .is(201);
    let busy = in_the_background(&server, "slow&do=sleep&n=3000").await;
    let message = server
        .ask("hasty", "")
        .await
        .refused(503, "no_free_instance");
    assert!(message.contains("all 1 slots"), "{message}");
    assert_eq!(server.refused_for("hasty", "instances").await, 1.0);
    assert!(!busy.is_finished());
    server.ask("slow", "").await.is(200);
    busy.await.unwrap().is(200);
    server.ask("hasty", "").await.is(200);
}

/// Asks, and waits until the request is running.
async fn in_the_background(server: &Arc<Server>, model: &str) -> JoinHandle<Answer> {
    let (asking, model) = (Arc::clone(server), model.to_owned());
    let asked = tokio::spawn(async move { asking.ask(&model, "").await });
    eventually("a request in flight", async || {
        let metrics = server.metrics().await;
        let labels = [("endpoint", "/predict")];
        (metrics.sum("http_requests_in_flight", &labels) == Some(1.0)).then_some(())
    })
    .await;
    asked
}

/// Sixteen callers of a handler that waits: more at once gain, so more are let in than at first, up to the ceiling.
#[tokio::test]
async fn an_adaptive_limit_rises_while_that_gains() {
    let server = Start::new().ready().await;
    let fixed = Package::guest("hostile").and("[limits]\nmax_concurrency = 12");
    server.upload(&fixed).await.is(201);
    let adaptive = Package::guest("hostile")
        .and("[limits]\nmax_concurrency = 12\n[admission]\nadaptive = true");
    server.upload_with(&adaptive, "?promote=true").await.is(201);
    let limit = async |version: &str| {
        let labels = [("model", "hostile"), ("model_version", version)];
        let metrics = server.metrics().await;
        metrics.sum("aegis_concurrency_limit", &labels)
    };
    assert_eq!(
        (limit("1").await, limit("2").await),
        (Some(12.0), Some(4.0))
    );
    let caller = async || {
        for _ in 0..40 {
            server.ask("hostile&do=sleep&n=5", "").await.is(200);
        }
    };
    futures_util::future::join_all((0..16).map(|_| caller())).await;
    let found = limit("2").await.unwrap();
    assert!((5.0..=12.0).contains(&found), "{found}");
}
