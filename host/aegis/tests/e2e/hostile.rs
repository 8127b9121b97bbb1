//! Whatever a handler does, its caller gets a clean error, the metrics and the log say what
//! it was, and the next honest request is answered.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::harness::{Answer, Package, Server, Start, send};

/// A server with the guest `hostile` under these limits.
async fn server(limits: &str) -> Server {
    let server = Start::new().ready().await;
    server
        .upload(&Package::hostile("hostile", limits))
        .await
        .is(201);
    server
}

/// Lets the guest misbehave under this request id.
async fn misbehave(server: &Server, what: &str, id: &str) -> Answer {
    let request = server.prediction(&format!("hostile&do={what}"));
    send(request.header("x-request-id", id)).await
}

/// An honest request is answered.
async fn still_serves(server: &Server) {
    let answer = server.ask("hostile&do=digits", "").await.ok();
    assert!(answer["first"].as_f64().unwrap() >= 0.0, "{answer}");
}

/// How often the model was stopped for this reason.
async fn traps(server: &Server, reason: &str) -> f64 {
    let labels = [("model", "hostile"), ("reason", reason)];
    let metrics = server.metrics().await;
    metrics
        .sum("aegis_handler_traps_total", &labels)
        .expect("there from the start")
}

async fn outcomes(server: &Server, outcome: &str) -> f64 {
    let labels = [
        ("model", "hostile"),
        ("model_version", "1"),
        ("outcome", outcome),
    ];
    let metrics = server.metrics().await;
    metrics
        .sum("aegis_inference_requests_total", &labels)
        .expect("there from the start")
}

/// The log line of a request that ended badly.
async fn fault_line(server: &Server, id: &str) -> Value {
    server
        .logged(&format!("the fault of {id}"), |line| {
            line["request_id"] == id && line["level"] == "ERROR"
        })
        .await
}

#[tokio::test]
async fn every_trap_is_a_clean_500_with_its_backtrace_in_the_log() {
    let server = server("timeout_ms = 20000\ntensor_mib = 8").await;
    for (what, reason, said) in [
        ("trap", "unreachable", "unreachable"),
        ("panic", "unreachable", "unreachable"),
        ("exit", "exit", "exit"),
        ("recurse", "stack_overflow", "stack"),
        ("many-tensors&n=1024", "host_refused", ""),
        ("bad-utf8", "other", "utf-8"),
    ] {
        let before = traps(&server, reason).await;
        let id = what.split('&').next().unwrap();
        let answer = misbehave(&server, what, id).await;
        let message = answer.refused(500, "handler_trap");
        assert!(message.contains("crashed"), "{message}");
        assert_eq!(answer.header("aegis-model-version"), "1");
        assert_eq!(traps(&server, reason).await, before + 1.0, "{what}");

        let line = fault_line(&server, id).await;
        assert_eq!(
            (&line["model"], &line["version"]),
            (&"hostile".into(), &1.into())
        );
        assert!(line["message"].as_str().unwrap().contains(said), "{line}");
        // Only a call's end, its results being read, has no guest code on the stack.
        if what != "bad-utf8" {
            assert!(
                line["backtrace"].as_str().unwrap().contains("hostile"),
                "{line}"
            );
        }
        still_serves(&server).await;
    }
    let words = server.logged_of("panic", "the handler gives up").await;
    assert_eq!(words["stream"], "stderr");
    assert_eq!(outcomes(&server, "trap").await, 6.0);
}

#[tokio::test]
async fn a_handler_that_wants_more_memory_than_its_limit_is_told_apart() {
    let server = server("timeout_ms = 20000\nmemory_mib = 32").await;
    let message = misbehave(&server, "alloc", "greedy")
        .await
        .refused(500, "handler_out_of_memory");
    assert!(message.contains("32 MiB"), "{message}");
    assert_eq!(traps(&server, "memory_limit").await, 1.0);
    assert_eq!(outcomes(&server, "out_of_memory").await, 1.0);
    fault_line(&server, "greedy").await;
    // What is under the limit is had, and freed for the next.
    for _ in 0..3 {
        let answer = server.ask("hostile&do=alloc&n=20", "").await.ok();
        assert_eq!(answer["mebibytes"], 20);
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_handler_that_never_ends_is_ended_by_its_time_limit() {
    let server = server("timeout_ms = 600").await;
    for (count, what) in [(1.0, "loop"), (2.0, "sleep")] {
        let message = misbehave(&server, what, what).await.refused(504, "timeout");
        assert!(message.contains(" ms"), "{message}");
        assert_eq!(traps(&server, "time_limit").await, count);
        assert_eq!(outcomes(&server, "timeout").await, count);
        fault_line(&server, what).await;
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn handlers_that_loop_keep_nobody_else_waiting() {
    let server = Start::new().flag("--worker-threads", "2").ready().await;
    let server = Arc::new(server);
    server
        .upload(&Package::hostile("hostile", "timeout_ms = 5000"))
        .await
        .is(201);
    server.upload(&Package::guest("counter")).await.is(201);
    let loops: Vec<_> = (0..4)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { misbehave(&server, "loop", "loop").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        server.ask("counter", "").await.is(200);
        server.get("/livez").await.is(200);
    }
    assert!(
        loops.iter().all(|ended| !ended.is_finished()),
        "the loops were waited for"
    );
    for ended in loops {
        ended.await.unwrap().refused(504, "timeout");
    }
}

#[tokio::test]
async fn what_the_host_refuses_the_handler_is_an_error_it_can_read() {
    let server = server("").await;
    for (what, said) in [
        ("no-graph", "no graph named `nowhere`; it has digits"),
        ("load", "Security"),
        ("wrong-type", "i64"),
        ("wrong-name", "outlet"),
        ("wrong-shape", "63"),
        ("short-tensor", "InvalidArgument"),
        ("huge-tensor", "InvalidArgument"),
    ] {
        misbehave(&server, what, what)
            .await
            .refused(500, "handler_error");
        let line = fault_line(&server, what).await;
        let message = line["message"].as_str().unwrap();
        assert!(
            message.to_lowercase().contains(&said.to_lowercase()),
            "{what}: {message}"
        );
        still_serves(&server).await;
    }
    assert_eq!(outcomes(&server, "handler_error").await, 7.0);
}

#[tokio::test]
async fn an_answer_over_its_limit_is_not_sent() {
    let server = server("response_mib = 1").await;
    let fitting = server.ask("hostile&do=big", "").await.is(200);
    assert_eq!(fitting.body.len(), 1 << 20);
    let message = misbehave(&server, "big&n=1048577", "big")
        .await
        .refused(500, "response_too_large");
    assert!(message.contains("1048577 bytes"), "{message}");
    fault_line(&server, "big").await;
    still_serves(&server).await;
}

#[tokio::test]
async fn a_handler_does_not_speak_for_the_host() {
    let server = server("").await;
    let answer = misbehave(&server, "bad-header", "mine").await.is(200);
    assert_eq!(answer.text(), "answered");
    assert_eq!(answer.header("content-length"), "8");
    assert_eq!(answer.header("x-request-id"), "mine");
    assert_eq!(answer.header("aegis-model-version"), "1");
    assert_eq!(answer.header("x-fine"), "yes");
    assert_eq!(answer.header("set-cookie"), "");
    assert_eq!(answer.header("split"), "");
    server.logged_of("mine", "is not sent").await;

    misbehave(&server, "bad-content-type", "type")
        .await
        .refused(500, "handler_error");
    still_serves(&server).await;
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_with_one_line_that_says_so() {
    let server = server("log_kib = 8\ntimeout_ms = 20000").await;
    misbehave(&server, "flood", "flood").await.is(200);
    server
        .logged_of("flood", "more than its limit of log")
        .await;
    let lines: Vec<_> = server
        .log()
        .into_iter()
        .filter(|line| line["request_id"] == "flood")
        .collect();
    let (warnings, lines): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["level"] == "WARN");
    assert_eq!(warnings.len(), 1);
    let bytes: usize = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap().len() + 1)
        .sum();
    assert!((4 << 10..=8 << 10).contains(&bytes), "{bytes}");
    still_serves(&server).await;
}

#[tokio::test]
async fn a_handler_cannot_swell_the_metrics() {
    let server = server("").await;
    misbehave(&server, "flags&n=500", "flags").await.is(200);
    misbehave(&server, "values&n=500", "values").await.is(200);
    let metrics = server.metrics().await;
    let flags: Vec<_> = metrics.of("aegis_safety_flags_total").collect();
    assert!((2..=33).contains(&flags.len()), "{}", flags.len());
    let counted: f64 = flags.iter().map(|series| series.value).sum();
    assert!((1.0..=500.0).contains(&counted), "{counted}");
    still_serves(&server).await;
}
