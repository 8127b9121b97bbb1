//! Uploads that work: which version answers, and that no request is lost to a change.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use reqwest::Method;

use crate::harness::{Package, Server, Start, eventually, send};

/// The spam model with another threshold: another version.
fn spam(threshold: &str) -> Package {
    Package::example("spam").replacing(
        "threshold = \"0.5\"",
        &format!("threshold = \"{threshold}\""),
    )
}

/// The version that answers.
async fn answering(server: &Server, model: &str) -> String {
    let answer = server.ask(model, "hello there").await.is(200);
    answer.header("aegis-model-version").to_owned()
}

#[tokio::test]
async fn the_first_version_answers_at_once() {
    let server = Start::new().ready().await;
    let answer = server.upload(&spam("0.5")).await.is(201);
    assert_eq!(answer.header("location"), "/v1/models/spam/versions/1");
    let uploaded = answer.json();
    assert_eq!(uploaded["name"], "spam");
    assert_eq!(uploaded["version"], 1);
    assert_eq!(uploaded["created"], true);
    assert_eq!(uploaded["serving"], true);
    assert!(uploaded["digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(uploaded["handler"]["compile_ms"].as_f64().unwrap() > 0.0);
    assert!(uploaded["handler"]["code_bytes"].as_u64().unwrap() > 0);
    assert_eq!(answering(&server, "spam").await, "1");
}

#[tokio::test]
async fn a_network_that_was_checked_is_not_checked_again_and_another_is() {
    let start = Start::new().flag("--log-filter", "info,aegis_server=debug");
    let server = start.ready().await;
    let checks = || {
        let log = server.log();
        let count = |words: &str| log.iter().filter(|line| line["message"] == *words).count();
        (count("the graph loads"), count("the graph loaded before"))
    };
    server.upload(&spam("0.1")).await.is(201);
    assert_eq!(checks(), (1, 0));
    server.upload(&spam("0.2")).await.is(201);
    assert_eq!(checks(), (1, 1));
    // The same files on another backend are another matter.
    let other = spam("0.3").replacing("backend = \"auto\"", "backend = \"embedded\"");
    server.upload(&other).await.is(201);
    assert_eq!(checks(), (2, 1));
}

#[tokio::test]
async fn a_later_version_answers_when_promoted() {
    let server = Start::new().ready().await;
    server.upload(&spam("0.1")).await.is(201);
    let second = server.upload(&spam("0.2")).await.is(201).json();
    assert_eq!(
        (&second["version"], &second["serving"]),
        (&2.into(), &false.into())
    );
    assert_eq!(answering(&server, "spam").await, "1");
    // Who asks for it by number gets it before.
    assert_eq!(answering(&server, "spam&version=2").await, "2");

    let shown = server.promote("spam", 2).await.ok();
    assert_eq!(shown["traffic"]["stable"], 2);
    assert_eq!(answering(&server, "spam").await, "2");

    let third = server
        .upload_with(&spam("0.3"), "?promote=true")
        .await
        .is(201)
        .json();
    assert_eq!(
        (&third["version"], &third["serving"]),
        (&3.into(), &true.into())
    );
    assert_eq!(answering(&server, "spam").await, "3");

    // And back.
    server.promote("spam", 1).await.ok();
    assert_eq!(answering(&server, "spam").await, "1");
}

#[tokio::test]
async fn the_same_content_is_the_same_version() {
    let server = Start::new().ready().await;
    let first = server.upload(&spam("0.1")).await.is(201).json();
    server.upload(&spam("0.2")).await.is(201);
    let again = server.upload(&spam("0.1")).await.is(200).json();
    assert_eq!(again["created"], false);
    assert_eq!(again["version"], 1);
    assert_eq!(again["digest"], first["digest"]);
    let promoted = server
        .upload_with(&spam("0.2"), "?promote=true")
        .await
        .is(200)
        .json();
    assert_eq!(
        (&promoted["version"], &promoted["serving"]),
        (&2.into(), &true.into())
    );
    assert_eq!(answering(&server, "spam").await, "2");
}

#[tokio::test]
async fn models_are_listed_and_shown_with_their_versions() {
    let server = Start::new().ready().await;
    assert_eq!(
        server.get("/v1/models").await.ok()["models"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    server.upload(&spam("0.1")).await.is(201);
    server.upload(&spam("0.2")).await.is(201);
    server.upload(&Package::example("digits")).await.is(201);

    let listed = server.get("/v1/models").await.ok();
    let names: Vec<_> = listed["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["name"])
        .collect();
    assert_eq!(names, ["digits", "spam"]);
    let shown = server.get("/v1/models/spam").await.ok();
    assert_eq!(shown, listed["models"][1]);
    assert_eq!(shown["traffic"]["stable"], 1);
    assert_eq!(shown["loaded"], true);
    assert_eq!(shown["versions"].as_array().unwrap().len(), 2);
    let version = server.get("/v1/models/spam/versions/2").await.ok();
    assert_eq!(version, shown["versions"][1]);
    let files: Vec<_> = version["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["path"])
        .collect();
    assert!(files.contains(&&"spam.wasm".into()), "{files:?}");

    for (path, code) in [
        ("/v1/models/nobody", "model_not_found"),
        ("/v1/models/spam/versions/9", "version_not_found"),
    ] {
        server.get(path).await.refused(404, code);
    }
    server
        .get("/v1/models/spam/versions/one")
        .await
        .refused(400, "invalid_version");
    server
        .get("/v1/models/UPPER")
        .await
        .refused(400, "invalid_model_name");
}

#[tokio::test]
async fn what_answers_is_not_deleted_and_what_is_deleted_is_gone() {
    let server = Start::new().ready().await;
    server.upload(&spam("0.1")).await.is(201);
    server
        .upload_with(&spam("0.2"), "?promote=true")
        .await
        .is(201);
    let message = server
        .delete("/v1/models/spam/versions/2")
        .await
        .refused(409, "version_in_use");
    assert!(message.contains("stable"), "{message}");
    server.delete("/v1/models/spam/versions/1").await.is(204);
    server
        .delete("/v1/models/spam/versions/1")
        .await
        .refused(404, "version_not_found");
    server
        .get("/v1/models/spam/versions/1")
        .await
        .refused(404, "version_not_found");
    server
        .ask("spam&version=1", "hello")
        .await
        .refused(404, "version_not_found");
    server
        .promote("spam", 1)
        .await
        .refused(404, "version_not_found");
    assert_eq!(answering(&server, "spam").await, "2");

    server.delete("/v1/models/spam").await.is(204);
    server
        .ask("spam", "hello")
        .await
        .refused(404, "model_not_found");
    server
        .get("/v1/models/spam")
        .await
        .refused(404, "model_not_found");
    // Numbers are never given twice.
    let back = server.upload(&spam("0.1")).await.is(201).json();
    assert_eq!(
        (&back["version"], &back["serving"]),
        (&3.into(), &true.into())
    );
    assert_eq!(answering(&server, "spam").await, "3");
}

#[tokio::test]
async fn a_traffic_rule_that_makes_no_sense_changes_nothing() {
    let server = Start::new().ready().await;
    server.upload(&spam("0.1")).await.is(201);
    let put = |body: &'static str| {
        server
            .request(Method::PUT, "/v1/models/spam/traffic")
            .body(body)
    };
    for body in [
        "",
        "{}",
        "{\"stable\": 0}",
        "{\"stable\": 1, \"canary\": 2}",
    ] {
        send(put(body)).await.refused(422, "invalid_traffic");
    }
    send(put("{\"stable\": 1}").header("content-type", "text/plain"))
        .await
        .refused(415, "unsupported_media_type");
    server
        .promote("spam", 9)
        .await
        .refused(404, "version_not_found");
    server
        .promote("nobody", 1)
        .await
        .refused(404, "model_not_found");
    assert_eq!(answering(&server, "spam").await, "1");
}

#[tokio::test]
async fn no_request_fails_while_versions_come_and_go() {
    let server = Arc::new(Start::new().ready().await);
    server.upload(&spam("0.10")).await.is(201);
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (server, done) = (Arc::clone(&server), Arc::clone(&done));
            tokio::spawn(async move {
                let mut versions = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    versions.push(answering(&server, "spam").await);
                }
                versions
            })
        })
        .collect();
    for version in 2..=4_u64 {
        let package = spam(&format!("0.{version}"));
        if version % 2 == 0 {
            server.upload_with(&package, "?promote=true").await.is(201);
        } else {
            server.upload(&package).await.is(201);
            server.promote("spam", version).await.ok();
        }
        server
            .delete(&format!("/v1/models/spam/versions/{}", version - 1))
            .await
            .is(204);
        // From here on nobody gets the version before.
        assert_eq!(answering(&server, "spam").await, version.to_string());
    }
    eventually("an answer of the last version", async || {
        (answering(&server, "spam").await == "4").then_some(())
    })
    .await;
    done.store(true, Ordering::Relaxed);
    for client in clients {
        let versions = client.await.expect("every request was answered");
        assert!(versions.is_sorted(), "{versions:?}");
        assert!(!versions.is_empty());
    }
}
