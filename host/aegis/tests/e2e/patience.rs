//! `X-Request-Timeout`: a caller who waits for less than the manifest gives is answered in that time, wherever the
//! request is then.

use std::time::{Duration, Instant};

use crate::{
    breaker::circuit,
    harness::{Answer, Package, Server, Start, send},
};

async fn ask(server: &Server, query: &str, patience: &str) -> Answer {
    let request = server
        .prediction(&format!("hostile{query}"))
        .header("x-request-timeout", patience);
    send(request.body("")).await
}

/// Asks, and sees that the answer came before anybody else's time was out.
async fn in_time(server: &Server, query: &str, patience: &str) -> String {
    let asked = Instant::now();
    let answer = ask(server, query, patience).await;
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}",
        asked.elapsed()
    );
    answer.refused(504, "timeout")
}

async fn hostile(manifest: &str) -> Server {
    let server = Start::new().ready().await;
    let package = Package::guest("hostile").with_digits().and(manifest);
    server.upload(&package).await.is(201);
    server
}

#[tokio::test]
async fn the_guest_the_scheduler_and_the_clock_end_with_the_callers_patience() {
    let server = hostile("[limits]\ntimeout_ms = 20000").await;
    for (query, patience) in [
        ("&do=loop", "0.3"),
        ("&do=sleep", "300ms"),
        ("&do=digits&n=100000000", "0.3s"),
    ] {
        in_time(&server, query, patience).await;
    }
    ask(&server, "", "5").await.is(200);
}

#[tokio::test]
async fn the_queue_ends_with_the_callers_patience() {
    let server = hostile("[limits]\ntimeout_ms = 20000\nmax_concurrency = 1").await;
    let long = async { ask(&server, "&do=sleep&n=3000", "20").await.is(200) };
    let short = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let asked = Instant::now();
        let message = in_time(&server, "", "200ms").await;
        assert!(asked.elapsed() < Duration::from_secs(2));
        assert!(message.contains("waited for its turn"), "{message}");
    };
    tokio::join!(long, short);
}

#[tokio::test]
async fn a_patient_caller_gets_no_more_than_the_manifest_gives() {
    let server = hostile("[limits]\ntimeout_ms = 300").await;
    for patience in ["1000", "99999999999999999999"] {
        in_time(&server, "&do=loop", patience).await;
    }
}

#[tokio::test]
async fn what_is_no_time_is_refused_with_what_would_be_one() {
    let server = hostile("").await;
    for patience in ["soon", "-1", "0", "0ms", "1h", ""] {
        let message = ask(&server, "", patience)
            .await
            .refused(400, "invalid_timeout");
        assert!(
            message.contains("such as `2`, `0.5` or `1.5s`"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn callers_in_a_hurry_do_not_open_the_breaker() {
    let server = hostile("[limits]\ntimeout_ms = 20000\n[breaker]\nconsecutive_failures = 1").await;
    for _ in 0..3 {
        in_time(&server, "&do=loop", "50ms").await;
    }
    assert_eq!(circuit(&server, "hostile", 1).await["state"], "closed");
}
