//! What a handler can see: its request, its configuration and its graphs. Not the host, and
//! not the callers before.

use serde_json::json;

use crate::harness::{Package, Start, send};

#[tokio::test]
async fn environment_and_file_system_are_empty() {
    let server = Start::new().ready().await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    let found = server.ask("hostile&do=env", "").await.ok();
    assert_eq!(
        (&found["variables"], &found["arguments"]),
        (&json!(0), &json!(0)),
        "{found}"
    );
    let found = server.ask("hostile&do=fs", "").await.ok();
    for (what, said) in found.as_object().unwrap() {
        assert_ne!(said, "done", "{what}");
    }
}

#[tokio::test]
async fn every_request_has_memory_that_nobody_used_before() {
    let server = Start::new().ready().await;
    server.upload(&Package::guest("counter")).await.is(201);
    for _ in 0..30 {
        assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
    }
}

#[tokio::test]
async fn a_manifest_may_ask_for_instances_to_be_used_again() {
    let server = Start::new().flag("--warm-instances", "1").ready().await;
    let reused = Package::guest("counter").and("[sandbox]\nreuse = true");
    server.upload(&reused).await.is(201);
    let mut most = 0;
    for _ in 0..10 {
        most = most.max(
            server
                .ask("counter", "")
                .await
                .is(200)
                .text()
                .parse::<u32>()
                .unwrap(),
        );
    }
    assert!(most >= 4, "{most}");
}

#[tokio::test]
async fn a_handler_sees_of_a_request_what_the_operator_lets_through() {
    let server = Start::new()
        .flag("--forward-headers", "x-tenant,accept")
        .ready()
        .await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    let request = server
        .prediction("hostile&version=1&a=1&b=%20x&a=2")
        .header("x-request-id", "seen")
        .header("x-tenant", "blue")
        .header("accept", "text/plain")
        .header("authorization", "Bearer secret")
        .header("cookie", "session=secret")
        .header("content-type", "application/x-odd")
        .body("12345");
    let seen = send(request).await.ok();
    assert_eq!(seen["id"], "seen");
    assert_eq!(seen["content_type"], "application/x-odd");
    assert_eq!(seen["body_bytes"], 5);
    assert_eq!(
        seen["headers"],
        json!([["x-tenant", "blue"], ["accept", "text/plain"]])
    );
    assert_eq!(seen["query"], json!([["a", "1"], ["b", " x"], ["a", "2"]]));
}

#[tokio::test]
async fn the_configuration_is_the_manifests() {
    let server = Start::new().ready().await;
    let package =
        Package::hostile("hostile", "").and("[config]\nthreshold = \"0.5\"\nname = \"ü\"");
    server.upload(&package).await.is(201);
    let config = server.ask("hostile&do=config", "").await.ok();
    assert_eq!(config, json!({ "threshold": "0.5", "name": "ü" }));
}

#[tokio::test]
async fn what_a_handler_prints_is_logged_with_its_request() {
    let server = Start::new().ready().await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    let request = server
        .prediction("hostile&do=stdout")
        .header("x-request-id", "printing");
    send(request).await.is(200);
    for (stream, words) in [
        ("stdout", "to standard output"),
        ("stderr", "to standard error"),
    ] {
        let line = server.logged_of("printing", words).await;
        assert_eq!(line["stream"], stream);
        assert_eq!(
            (&line["model"], &line["version"]),
            (&json!("hostile"), &json!(1))
        );
    }
}
