//! Predictions that never reach a handler: what is wrong with the request is told by code.

use reqwest::{Body, Method};

use crate::harness::{Raw, Server, Start, eventually, send};

#[tokio::test]
async fn a_target_that_is_not_there_is_named() {
    let server = Start::new().examples().ready().await;
    let ask = async |path: &str| send(server.request(Method::POST, path).body("{}")).await;
    for (path, status, code, part) in [
        ("/predict", 400, "missing_identifier", "identifier=NAME"),
        (
            "/predict?version=1",
            400,
            "missing_identifier",
            "identifier=NAME",
        ),
        (
            "/predict?identifier=",
            400,
            "invalid_model_name",
            "1 to 63 characters",
        ),
        (
            "/predict?identifier=..%2F..%2Fetc",
            400,
            "invalid_model_name",
            "../../etc",
        ),
        (
            "/predict?identifier=nobody",
            404,
            "model_not_found",
            "`nobody`",
        ),
        (
            "/predict?identifier=spam&version=7",
            404,
            "version_not_found",
            "no version 7",
        ),
        (
            "/predict?identifier=spam&version=0",
            400,
            "invalid_version",
            "`0`",
        ),
        (
            "/predict?identifier=spam&version=latest",
            400,
            "invalid_version",
            "`latest`",
        ),
        (
            "/predict?identifier=spam&identifier=digits",
            400,
            "repeated_parameter",
            "given twice",
        ),
        ("/prdict?identifier=spam", 404, "no_such_route", "/prdict"),
        (
            "/predict/",
            404,
            "no_such_route",
            "POST /predict?identifier=NAME",
        ),
    ] {
        let message = ask(path).await.refused(status, code);
        assert!(message.contains(part), "{path}: `{part}` in: {message}");
    }
    let answer = server.get("/predict?identifier=spam").await;
    answer.refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "POST");
    server.ask("spam", "hello there").await.is(200);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
    let server = Start::new()
        .flag("--max-body-mib", "1")
        .examples()
        .ready()
        .await;
    let large = vec![b'x'; (1 << 20) + 1];
    let message = server
        .predict("spam", "text/plain", large.clone())
        .await
        .refused(413, "body_too_large");
    assert!(message.contains("1048576 bytes"), "{message}");
    let pieces = large
        .chunks(100_000)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
    let chunked = Body::wrap_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()));
    server
        .predict("spam", "text/plain", chunked)
        .await
        .refused(413, "body_too_large");

    let fitting = "word ".repeat(200_000);
    server.ask("spam", &fitting).await.is(200);
    let labels = [("model", "spam"), ("outcome", "too_large")];
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.sum("aegis_inference_requests_total", &labels),
        Some(2.0)
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_or_dawdles_is_not_run() {
    let server = Start::new()
        .flag("--request-timeout-ms", "1000")
        .examples()
        .ready()
        .await;
    let head =
        "POST /predict?identifier=spam HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf";
    let mut dawdling = server.raw().await;
    dawdling.send(head).await;
    let answer = dawdling.read_until("request_timeout", 1).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut broken = server.raw().await;
    broken.send(head).await;
    drop(broken);
    server.ask("spam", "hello there").await.is(200);
    let labels = [("model", "spam"), ("outcome", "ok")];
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.sum("aegis_inference_requests_total", &labels),
        Some(1.0)
    );
}

#[tokio::test]
async fn bodies_that_would_fill_the_memory_together_are_told_to_come_back() {
    let server = Start::new()
        .flag("--max-bodies-mib", "2")
        .flag("--request-timeout-ms", "120000")
        .examples()
        .ready()
        .await;
    // One that never ends holds what it has sent. It may come too late and find no room
    // itself: then it comes again.
    let megabyte = "word ".repeat(200_000);
    let mut greedy = greedy_caller(&server).await;
    let message = eventually("no room", async || {
        let metrics = server.metrics().await;
        if metrics.sum("http_requests_in_flight", &[("endpoint", "/predict")]) == Some(0.0) {
            greedy = greedy_caller(&server).await;
            return None;
        }
        let answer = server.ask("spam", &megabyte).await;
        (answer.status == 503).then(|| answer.refused(503, "no_room"))
    })
    .await;
    assert!(message.contains("2 MiB"), "{message}");
    // Small ones still fit, and the large one does once the greedy is gone.
    server.ask("spam", "hello there").await.is(200);
    drop(greedy);
    eventually("room again", async || {
        let answer = server.ask("spam", &megabyte).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// A caller who sends one and a half MiB of a body, and not the rest.
async fn greedy_caller(server: &Server) -> Raw {
    let sent = (1 << 20) + (512 << 10);
    let mut greedy = server.raw().await;
    greedy
        .send(format!(
            "POST /predict?identifier=spam HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{}",
            sent + 1,
            "x".repeat(sent)
        ))
        .await;
    greedy
}
