//! Guests that reach for what is not theirs: other networks, the host's voice.

use super::{fault_line, misbehave, outcomes, server, still_serves};

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
async fn no_name_reaches_another_models_network() {
    let server = server("").await;
    let neighbour = crate::harness::Package::example("spam");
    server.upload(&neighbour).await.is(201);
    for name in [
        "spam",
        "spam/spam",
        "../spam/spam",
        "..%2Fdigits",
        "/digits",
        "./digits",
        "digits/",
        "digits%00",
        "digits%20",
        "d%D1%96gits",
        "%EF%BD%84igits",
        "digits%E2%80%8B",
        "DIGITS",
        "digits.onnx",
        "digits:1",
        "digits@1",
        "*",
        "",
    ] {
        let id = format!("name-{}", name.len());
        misbehave(&server, &format!("graph&name={name}"), &id)
            .await
            .refused(500, "handler_error");
        let line = fault_line(&server, &id).await;
        let said = line["message"].as_str().unwrap();
        assert!(said.contains("has no graph named"), "{name}: {said}");
        assert!(said.contains("it has digits"), "{name}: {said}");
    }
    misbehave(&server, "graph&name=digits", "own").await.is(200);
}

#[tokio::test]
async fn no_line_of_a_guest_passes_for_another() {
    let server = server("").await;
    misbehave(&server, "forge", "forger").await.is(200);
    server.logged_of("forger", "forged").await;
    server.logged_of("forger", "overwritten").await;
    for line in server.log() {
        assert_ne!(line["request_id"], "another", "{line}");
        assert_ne!(line["message"], "forged", "{line}");
    }
}

#[tokio::test]
async fn a_log_for_people_has_no_terminal_codes_of_a_guest() {
    let server = crate::harness::Start::new()
        .flag("--log-format", "text")
        .ready()
        .await;
    let package = crate::harness::Package::hostile("hostile", "");
    server.upload(&package).await.is(201);
    misbehave(&server, "forge", "forger").await.is(200);
    let text = crate::harness::eventually("the forged line", async || {
        let text = server.log_text();
        text.contains("overwritten").then_some(text)
    })
    .await;
    assert!(!text.contains("\x1b[31m"), "{text:?}");
    assert!(!text.contains('\r') && !text.contains('\x07'), "{text:?}");
}
