//! A server started again on its data folder: what it had is there, and what was tampered
//! with meanwhile is found out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::harness::{Package, Server, Start};

/// Files of the code cache with this ending.
fn code_files(data: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("code")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

/// The log line that says how a model's handler was loaded.
async fn loaded(server: &Server, model: &str) -> Value {
    server
        .logged("a loaded handler", |line| {
            line["message"] == "handler loaded" && line["model"] == model
        })
        .await
}

#[tokio::test]
async fn models_and_their_traffic_come_back_with_their_code() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::new().data(folder.path()).ready().await;
    server.upload(&Package::guest("vocabulary")).await.is(201);
    let second = Package::guest("vocabulary").and("[config]\nentries = \"7\"");
    server.upload_with(&second, "?promote=true").await.is(201);
    assert_eq!(
        loaded(&server, "vocabulary").await["cached"],
        true,
        "prepared at upload"
    );
    server.stop().await;
    let before = code_files(folder.path(), "cwasm");

    let server = Start::new().data(folder.path()).ready().await;
    let answer = server.ask("vocabulary", "word-6").await.is(200);
    assert_eq!(answer.header("aegis-model-version"), "2");
    assert_eq!(answer.json()["entries"], 7);
    let line = loaded(&server, "vocabulary").await;
    assert_eq!(
        (&line["cached"], &line["version"]),
        (&true.into(), &2.into())
    );
    assert_eq!(
        server.ask("vocabulary&version=1", "word-6").await.ok()["entries"],
        100_000
    );
    assert_eq!(code_files(folder.path(), "cwasm"), before);
    let shown = server.get("/v1/models/vocabulary").await.ok();
    assert_eq!(shown["versions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn versions_that_differ_in_config_only_have_one_code_unless_init_reads_it() {
    for (guest, codes) in [("counter", 1), ("vocabulary", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let server = Start::new().data(folder.path()).ready().await;
        server.upload(&Package::guest(guest)).await.is(201);
        let second = Package::guest(guest).and("[config]\nentries = \"7\"");
        server.upload(&second).await.is(201);
        assert_eq!(code_files(folder.path(), "cwasm").len(), codes, "{guest}");
    }
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::new().data(folder.path()).ready().await;
    server.upload(&Package::example("spam")).await.is(201);
    drop(server);
    let server = Start::new().data(folder.path()).ready().await;
    server.get("/readyz").await.is(200);
    crate::examples::spam_holds(&server).await;
}

#[tokio::test]
async fn starting_again_with_the_same_packages_makes_no_new_version() {
    let folder = tempfile::tempdir().unwrap();
    Start::new()
        .data(folder.path())
        .examples()
        .ready()
        .await
        .stop()
        .await;
    let server = Start::new().data(folder.path()).examples().ready().await;
    let listed = server.get("/v1/models").await.ok();
    for model in listed["models"].as_array().unwrap() {
        assert_eq!(model["versions"].as_array().unwrap().len(), 1, "{model}");
    }
}

#[tokio::test]
async fn code_that_was_altered_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::new().data(folder.path()).ready().await;
    server.upload(&Package::guest("counter")).await.is(201);
    server.stop().await;
    let code = code_files(folder.path(), "cwasm");
    assert_eq!(code.len(), 1);
    let mut bytes = fs::read(&code[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&code[0], bytes).unwrap();

    let server = Start::new().data(folder.path()).ready().await;
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
    server
        .logged("the altered code", |line| {
            line["message"]
                .as_str()
                .is_some_and(|m| m.contains("not made by this host"))
        })
        .await;
    assert_eq!(loaded(&server, "counter").await["cached"], false);
    server.stop().await;

    // And made for good.
    let server = Start::new().data(folder.path()).ready().await;
    assert_eq!(loaded(&server, "counter").await["cached"], true);
}

#[tokio::test]
async fn code_of_another_host_is_not_loaded() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&ours, &theirs] {
        let server = Start::new().data(folder.path()).ready().await;
        server.upload(&Package::guest("counter")).await.is(201);
        server.stop().await;
    }
    for ending in ["cwasm", "json"] {
        for file in code_files(theirs.path(), ending) {
            let name = file.file_name().unwrap();
            fs::copy(&file, ours.path().join("code").join(name)).unwrap();
        }
    }
    let server = Start::new().data(ours.path()).ready().await;
    assert_eq!(loaded(&server, "counter").await["cached"], false);
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
}

#[tokio::test]
async fn the_cache_of_code_may_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::new().data(folder.path()).ready().await;
    server.upload(&Package::guest("counter")).await.is(201);
    server.stop().await;
    for lost in ["code", "work"] {
        fs::remove_dir_all(folder.path().join(lost)).unwrap();
    }
    let server = Start::new().data(folder.path()).ready().await;
    server.get("/readyz").await.is(200);
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
}
