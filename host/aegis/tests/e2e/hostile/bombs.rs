//! Guests that want more than they may have: memory, handles, words, series.

use super::{fault_line, misbehave, outcomes, server, still_serves, traps};
use crate::harness::{Package, Start};

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

#[tokio::test]
async fn a_log_of_short_lines_or_of_one_long_line_is_cut_by_what_it_costs() {
    let server = server("log_kib = 8\ntimeout_ms = 20000").await;
    for what in ["newlines", "endless-line", "binary", "flood&n=200"] {
        let id = what.split('&').next().unwrap();
        misbehave(&server, what, id).await.is(200);
        server.logged_of(id, "more than its limit of log").await;
        let mut messages = 0;
        for line in server.log() {
            if line["request_id"] == id && line["level"] == "INFO" {
                messages += 1;
                let bytes = line["message"].as_str().unwrap().len();
                // A byte that is no UTF-8 is logged as three.
                assert!(bytes <= 3 * (4 << 10), "{what}: a line of {bytes} bytes");
            }
        }
        assert!(messages <= (8 << 10) / 64, "{what}: {messages} lines");
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn an_instance_that_holds_on_to_what_it_was_given_is_replaced_at_its_limit() {
    let server = Start::new().ready().await;
    let keeping = Package::hostile("hostile", "tensor_mib = 1").and("[sandbox]\nreuse = true");
    server.upload(&keeping).await.is(201);
    // Three fit. An instance that stayed when it was full would refuse all that come after. Which one is asked is the
    // host's choice, so it takes a while until each has been.
    let (mut answered, mut refused, mut most) = (0, 0, 0);
    while refused < 4 && answered < 1000 {
        let answer = server.ask("hostile&do=keep&n=300", "").await;
        if answer.status == 200 {
            most = most.max(answer.json()["kept"].as_u64().unwrap());
            answered += 1;
        } else {
            answer.refused(500, "handler_error");
            refused += 1;
        }
    }
    assert_eq!(most, 3);
    assert!(
        refused == 4 && answered >= 2 * refused,
        "{answered} answered, {refused} refused"
    );
}

#[tokio::test]
async fn what_a_handler_says_is_cut_and_never_sent_whole() {
    let server = server("timeout_ms = 20000").await;
    for (what, status, code) in [
        ("long-refusal", 422, "invalid_input"),
        ("long-field", 422, "invalid_input"),
        ("long-failure", 500, "handler_error"),
        ("echo-name", 500, "handler_error"),
    ] {
        let answer = misbehave(&server, what, what).await;
        answer.refused(status, code);
        assert!(
            answer.body.len() < 16 << 10,
            "{what}: {}",
            answer.body.len()
        );
        if status == 500 {
            let line = fault_line(&server, what).await.to_string();
            assert!(line.len() < 16 << 10, "{what}: {} bytes", line.len());
        }
    }
}
