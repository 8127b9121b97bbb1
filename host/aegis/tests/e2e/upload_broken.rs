//! Uploads that break, stall, trick or press: refused cleanly, and nothing is left of them.

use std::{fs, path::Path};

use reqwest::{
    Method,
    multipart::{Form, Part},
};

use crate::harness::{Package, Raw, Server, Start, eventually, send};

/// The files under `folder`, whatever they are, but for locks and the registry's own marks.
pub(crate) fn files_under(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else if !path.ends_with(".lock") {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Sees that nothing of a model is stored and that the next upload is taken.
async fn nothing_is_lost(server: &Server) {
    for folder in ["blobs", "models"] {
        assert_eq!(files_under(&server.data.join(folder)), [""; 0]);
    }
    eventually("an empty staging folder", async || {
        files_under(&server.data.join("work/staging"))
            .is_empty()
            .then_some(())
    })
    .await;
    server.upload(&Package::guest("counter")).await.is(201);
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
}

/// Begins an upload that announces more than it sends.
async fn begin_upload(server: &Server) -> Raw {
    let mut raw = server.raw().await;
    raw.send(format!(
        "POST /v1/models/counter/versions HTTP/1.1\r\nhost: {}\r\n\
         content-type: multipart/form-data; boundary=cut\r\ncontent-length: 100000\r\n\r\n\
         --cut\r\ncontent-disposition: form-data; name=\"file\"; filename=\"handler.wasm\"\r\n\r\n",
        server.address
    ))
    .await;
    raw.send([0; 5000]).await;
    raw
}

fn form(file_name: &str) -> Form {
    let part = Part::bytes(b"name = \"counter\"".to_vec());
    Form::new().part("file", part.file_name(file_name.to_owned()))
}

async fn post(server: &Server, form: Form) -> crate::harness::Answer {
    let request = server.request(Method::POST, "/v1/models/counter/versions");
    send(request.multipart(form)).await
}

#[tokio::test]
async fn an_upload_cut_off_midway_leaves_nothing() {
    let server = Start::new().ready().await;
    let raw = begin_upload(&server).await;
    eventually("the part's bytes on disk", async || {
        (!files_under(&server.data.join("work/staging")).is_empty()).then_some(())
    })
    .await;
    drop(raw);
    nothing_is_lost(&server).await;
}

#[tokio::test]
async fn an_upload_that_ends_before_its_last_boundary_leaves_nothing() {
    let server = Start::new().ready().await;
    let request = server
        .request(Method::POST, "/v1/models/counter/versions")
        .header("content-type", "multipart/form-data; boundary=cut")
        .body("--cut\r\ncontent-disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nhalf");
    let message = send(request).await.refused(400, "upload_incomplete");
    assert!(
        message.contains("send the whole package again"),
        "{message}"
    );
    nothing_is_lost(&server).await;
}

#[tokio::test]
async fn an_upload_that_stalls_is_ended() {
    let server = Start::new()
        .flag("--upload-idle-timeout-ms", "500")
        .ready()
        .await;
    let mut raw = begin_upload(&server).await;
    let answer = raw.read_until("upload_stalled", 1).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    nothing_is_lost(&server).await;
}

#[tokio::test]
async fn what_is_no_package_form_is_told_so() {
    let server = Start::new().ready().await;
    let request = server.request(Method::POST, "/v1/models/counter/versions");
    let message = send(request.json(&1)).await.refused(415, "not_multipart");
    assert!(message.contains("multipart/form-data"), "{message}");
    let unnamed = Form::new().text("handler", "bytes");
    let message = post(&server, unnamed)
        .await
        .refused(400, "part_without_file_name");
    assert!(message.contains("part `handler`"), "{message}");
    post(&server, form("handler.wasm"))
        .await
        .refused(422, "missing_manifest");
    nothing_is_lost(&server).await;
}

#[tokio::test]
async fn no_file_name_leaves_the_package() {
    let server = Start::new().ready().await;
    for name in [
        "../model.toml",
        "/etc/cron.d/x",
        "a/../../model.toml",
        "./model.toml",
        "a//b",
        "C:\\model.toml",
        "a\\b",
        "a\tb",
        "",
    ] {
        let message = post(&server, form(name))
            .await
            .refused(400, "invalid_file_name");
        assert!(message.contains("relative path"), "{message}");
    }
    let twice = form("model.toml").part("file", Part::text("x").file_name("MODEL.toml"));
    post(&server, twice).await.refused(422, "duplicate_file");
    nothing_is_lost(&server).await;
}

#[tokio::test]
async fn a_package_over_the_limit_is_refused() {
    let server = Start::new().flag("--max-upload-mib", "1").ready().await;
    let large = Package::guest("counter").file("handler.wasm", vec![0; 2 << 20]);
    server.upload(&large).await.refused(413, "file_too_large");
    assert_eq!(server.refused_for("-", "package_bytes").await, 1.0);
    nothing_is_lost(&server).await;
}

#[tokio::test]
async fn one_upload_too_many_is_told_to_come_back() {
    let server = Start::new()
        .flag("--max-concurrent-uploads", "1")
        .ready()
        .await;
    let first = begin_upload(&server).await;
    eventually("the first upload's bytes", async || {
        (!files_under(&server.data.join("work/staging")).is_empty()).then_some(())
    })
    .await;
    let counter = Package::guest("counter");
    server
        .upload(&counter)
        .await
        .refused(429, "too_many_uploads");
    assert_eq!(server.refused_for("-", "uploads").await, 1.0);
    drop(first);
    eventually("a free place", async || {
        (server.upload(&counter).await.status != 429).then_some(())
    })
    .await;
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
}

#[tokio::test]
async fn no_web_page_manages_models() {
    let server = Start::new().ready().await;
    let request = server
        .request(Method::POST, "/v1/models/counter/versions")
        .header("origin", "https://example.com")
        .multipart(Package::guest("counter").form());
    send(request).await.refused(403, "cross_origin");
    let rebound = server
        .request(Method::GET, "/v1/models")
        .header("host", "page.example:8000");
    send(rebound).await.refused(403, "wrong_host");
    nothing_is_lost(&server).await;
}

#[tokio::test]
async fn without_management_there_is_no_way_to_manage() {
    let server = Start::new()
        .flag("--management", "off")
        .examples()
        .ready()
        .await;
    server
        .upload(&Package::guest("counter"))
        .await
        .refused(404, "no_such_route");
    server.get("/v1/models").await.refused(404, "no_such_route");
    server.ask("spam", "hello there").await.is(200);
}
