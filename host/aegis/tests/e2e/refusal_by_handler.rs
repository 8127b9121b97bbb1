//! What handlers refuse: each kind of failure has its status and code, and a caller's
//! mistake is never the server's.

use crate::harness::{Package, Start, send};

#[tokio::test]
async fn digits_tells_what_is_wrong_with_its_input() {
    let server = Start::new().examples().ready().await;
    let pixels =
        |first: &str, more: usize| format!("{{\"pixels\":[{first}{}]}}", ",0".repeat(more));
    for (body, field, part) in [
        (String::new(), None, "the body is empty"),
        ("[".to_owned(), None, "not JSON"),
        ("{}".to_owned(), None, "pixels"),
        ("{\"pixels\":\"7\"}".to_owned(), Some("/pixels"), "string"),
        (
            pixels("0", 62),
            Some("/pixels"),
            "64 numbers wanted, 63 given",
        ),
        (pixels("0", 64), Some("/pixels"), "64 numbers wanted"),
        (pixels("NaN", 63), None, "not JSON"),
        (
            pixels("1e39", 63),
            Some("/pixels/0"),
            "inf is outside 0 to 16",
        ),
        (pixels("17", 63), Some("/pixels/0"), "17 is outside 0 to 16"),
        (pixels("true", 63), Some("/pixels/0"), "boolean"),
    ] {
        let answer = server
            .predict("digits", "application/json", body.clone())
            .await;
        let message = answer.refused(422, "invalid_input");
        assert!(message.contains(part), "{body}: `{part}` in: {message}");
        if let Some(field) = field {
            assert_eq!(answer.json()["field"], field, "{body}");
        }
    }
    for content_type in ["text/plain", "image/gif", "nonsense"] {
        let answer = server.predict("digits", content_type, "7").await;
        let message = answer.refused(415, "unsupported_media_type");
        assert!(message.contains("image/png"), "{message}");
    }
    for (content_type, body) in [
        ("image/png", "\x7fPNG"),
        ("image/jpeg", "no picture"),
        ("image/png", ""),
    ] {
        let answer = server.predict("digits", content_type, body).await;
        answer.refused(422, "invalid_input");
    }
    let labels = [("model", "digits"), ("outcome", "invalid_input")];
    let metrics = server.metrics().await;
    assert_eq!(
        metrics.sum("aegis_inference_requests_total", &labels),
        Some(13.0)
    );
}

#[tokio::test]
async fn each_failure_of_a_handler_has_its_status() {
    let server = Start::new().ready().await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    for (kind, status, code, part) in [
        ("invalid-input", 422, "invalid_input", "a number is wanted"),
        (
            "unsupported-media-type",
            415,
            "unsupported_media_type",
            "text/plain",
        ),
        ("too-large", 413, "input_too_large", "at most 10 are read"),
        ("overloaded", 429, "overloaded", "come again"),
        ("not-ready", 503, "not_ready", "not yet"),
        ("timeout", 504, "timeout", "took too long"),
        ("internal", 500, "handler_error", "the log has it"),
    ] {
        let answer = server.ask(&format!("hostile&do=fail&as={kind}"), "").await;
        let message = answer.refused(status, code);
        assert!(message.contains(part), "{kind}: {message}");
        if kind == "invalid-input" {
            assert_eq!(answer.json()["field"], "/pixels/3");
        }
    }
}

#[tokio::test]
async fn what_a_handler_says_of_its_own_fault_is_for_the_log_only() {
    let server = Start::new().ready().await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    let request = server
        .prediction("hostile&do=fail")
        .header("x-request-id", "own-fault");
    let answer = send(request).await;
    answer.refused(500, "handler_error");
    assert!(!answer.text().contains("secret"));
    let line = server.logged_of("own-fault", "the handler's secret").await;
    assert_eq!(
        (&line["model"], &line["version"]),
        (&"hostile".into(), &1.into())
    );
}
