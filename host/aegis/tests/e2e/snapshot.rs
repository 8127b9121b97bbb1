//! `lifecycle.init` runs once, at upload: its memory is kept, its failures refuse the upload,
//! and what a snapshot would freeze is granted only where the manifest asks.

use crate::harness::{Package, Start};

#[tokio::test]
async fn what_init_built_is_there_for_every_request() {
    let server = Start::new().ready().await;
    let uploaded = server
        .upload(&Package::guest("vocabulary"))
        .await
        .is(201)
        .json();
    let snapshot = &uploaded["handler"]["snapshot"];
    assert!(snapshot["init_ms"].as_f64().unwrap() > 0.0, "{uploaded}");
    let size = |key: &str| snapshot[key].as_u64().unwrap();
    // A hundred thousand entries are megabytes.
    assert!(
        size("after_bytes") > size("before_bytes") + (1 << 20),
        "{uploaded}"
    );
    for (word, id) in [("word-0", 0), ("word-12345", 12345), ("word-99999", 99999)] {
        let answer = server.ask("vocabulary", word).await.ok();
        assert_eq!(answer["id"], id);
        assert_eq!(answer["entries"], 100_000);
        assert_eq!(answer["lookups_before"], 0);
    }
    let unknown = server.ask("vocabulary", "word-100000").await.ok();
    assert!(unknown["id"].is_null());
}

#[tokio::test]
async fn the_configuration_shapes_the_snapshot() {
    let server = Start::new().ready().await;
    let small = Package::guest("vocabulary").and("[config]\nentries = \"10\"");
    server.upload(&small).await.is(201);
    assert_eq!(server.ask("vocabulary", "word-9").await.ok()["entries"], 10);
    // The same code with another configuration is another snapshot.
    let smaller = Package::guest("vocabulary").and("[config]\nentries = \"5\"");
    server.upload_with(&smaller, "?promote=true").await.is(201);
    assert!(server.ask("vocabulary", "word-9").await.ok()["id"].is_null());
}

#[tokio::test]
async fn an_init_that_fails_refuses_the_upload_with_its_own_words() {
    let server = Start::new().ready().await;
    let message = server
        .upload(&Package::guest("init_fails"))
        .await
        .refused(422, "init_failed");
    assert!(
        message.contains("the vocabulary is broken: line 3 has no id"),
        "{message}"
    );
    // An init under too small a limit says so.
    let tight = Package::guest("vocabulary").and("[limits]\nmemory_mib = 4");
    let message = server.upload(&tight).await.refused(422, "init_failed");
    assert!(message.contains("4 MiB"), "{message}");
    let listed = server.get("/v1/models").await.ok();
    assert!(listed["models"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn an_init_that_keeps_a_handle_is_told_what_to_do_instead() {
    let server = Start::new().ready().await;
    let printing = Package::guest("vocabulary").and("[config]\nannounce = \"true\"");
    let message = server.upload(&printing).await.refused(422, "init_failed");
    for part in ["resource handles", "making a vocabulary of 100000 entries"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn randomness_and_time_are_frozen_only_where_the_manifest_asks() {
    let server = Start::new().ready().await;
    for (guest, import, grant) in [
        ("init_random", "wasi:random/random", "secure-random"),
        ("init_clock", "wasi:clocks/wall-clock", "wall-clock"),
    ] {
        let message = server
            .upload(&Package::guest(guest))
            .await
            .refused(422, "init_failed");
        assert!(
            message.contains(import) && message.contains("init_grants"),
            "{message}"
        );

        let granted = Package::guest(guest).and(&format!("[sandbox]\ninit_grants = [\"{grant}\"]"));
        server.upload(&granted).await.is(201);
        let answer = async || {
            let text = server.ask(guest, "").await.is(200).text();
            let (frozen, fresh) = text.split_once(' ').unwrap();
            (frozen.to_owned(), fresh.to_owned())
        };
        let (first, second) = (answer().await, answer().await);
        assert_eq!(first.0, second.0, "{guest}");
        assert_ne!(first.1, second.1, "{guest}");
        assert_ne!(first.0, first.1, "{guest}");
    }
}
