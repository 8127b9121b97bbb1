//! A package's own request: an upload that does not answer it is refused, and a version has answered it before anybody
//! else asks.

use crate::cli::aegis;
use crate::harness::{Package, Server, Start, file};

/// Digits with this sample, and an answer to it if there is one.
fn digits(sample: &str, answer: Option<&str>) -> Package {
    let package = Package::example("digits").file("sample.json", sample);
    match answer {
        None => package.and("[sample]\nfile = \"sample.json\""),
        Some(answer) => package
            .and("[sample]\nfile = \"sample.json\"\nanswer = \"answer.json\"")
            .file("answer.json", answer),
    }
}

fn pixels() -> String {
    String::from_utf8(file("models/digits/samples/pixels.json")).unwrap()
}

/// Runs of the network of digits.
async fn runs(server: &Server) -> f64 {
    let metrics = server.metrics().await;
    let runs = metrics.sum("aegis_inference_batch_size_count", &[("model", "digits")]);
    runs.unwrap_or_default()
}

async fn refused(server: &Server, package: &Package, words: &[&str]) {
    let answer = server.upload(package).await.is(422).json();
    assert_eq!(answer["code"], "sample_failed", "{answer}");
    let told = answer["error"].as_str().unwrap();
    for word in words {
        assert!(told.contains(word), "{word} in {told}");
    }
    server.get("/v1/models/digits").await.is(404);
}

#[tokio::test]
async fn a_version_has_answered_its_sample_before_anybody_asks() {
    let server = Start::new().ready().await;
    server.upload(&digits(&pixels(), None)).await.is(201);
    assert_eq!(runs(&server).await, 2.0);
    let metrics = server.metrics().await;
    let asked = metrics.sum("aegis_inference_requests_total", &[("model", "digits")]);
    assert_eq!(asked, Some(0.0));
    // One that answers nobody yet is loaded when it is promoted, and has answered when that is done.
    let second = digits(&pixels(), None).and("[config]\nsecond = \"1\"");
    server.upload(&second).await.is(201);
    assert_eq!(runs(&server).await, 2.0);
    server.promote("digits", 2).await.is(200);
    assert_eq!(runs(&server).await, 4.0);
}

#[tokio::test]
async fn a_sample_with_its_answer_is_a_test_of_the_upload() {
    let server = Start::new().ready().await;
    server.upload(&Package::example("digits")).await.is(201);
    let json = "application/json";
    let answer = server.predict("digits", json, pixels()).await;
    let golden = answer.is(200).text();
    server.delete("/v1/models/digits").await.is(204);
    let wrong = golden.replacen("\"digit\":4", "\"digit\":5", 1);
    assert_ne!(golden, wrong);
    refused(
        &server,
        &digits(&pixels(), Some(&wrong)),
        &[
            "sample.json",
            "answered otherwise than `answer.json`",
            "\"digit\":4",
        ],
    )
    .await;
    // JSON is compared as JSON.
    let laid_out: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let laid_out = serde_json::to_string_pretty(&laid_out).unwrap();
    server
        .upload(&digits(&pixels(), Some(&laid_out)))
        .await
        .is(201);
}

#[tokio::test]
async fn an_upload_that_does_not_answer_its_sample_is_refused_with_what_came_of_it() {
    let server = Start::new().ready().await;
    refused(
        &server,
        &digits("{\"pixels\": [1]}", None),
        &["found it invalid", "pixels"],
    )
    .await;
    let odd = digits(&pixels(), None).replacing(
        "file = \"sample.json\"",
        "file = \"sample.json\"\ncontent_type = \"video/mp4\"",
    );
    refused(&server, &odd, &["media type", "sample.content_type"]).await;
    let large =
        digits(&" ".repeat(2 << 20), None).replacing("[limits]", "[limits]\nrequest_mib = 1");
    refused(&server, &large, &["2097152 bytes", "limits.request_mib"]).await;
    // A model without a handler has samples too.
    let direct = Package::new("digits", "name = \"digits\"")
        .with_digits()
        .and("[sample]\nfile = \"sample.json\"")
        .file("sample.json", "{}");
    refused(&server, &direct, &["inputs"]).await;
    let missing = digits(&pixels(), None).without("sample.json");
    let told = server.upload(&missing).await.is(422).text();
    assert!(told.contains("sample.json"), "{told}");
}

#[tokio::test]
async fn a_sample_is_pushed_with_its_model() {
    let server = Start::new().ready().await;
    let folder = tempfile::tempdir().unwrap();
    digits(&pixels(), None).write_to(folder.path());
    let pushed = aegis(&server, &["push", folder.path().to_str().unwrap()]).await;
    assert!(pushed.status.success(), "{pushed:?}");
    assert_eq!(runs(&server).await, 2.0);
}

#[tokio::test]
async fn what_is_only_tried_leaves_no_series() {
    let server = Start::new().ready().await;
    let keeps = |sample: &str| {
        Package::new("keeps", "name = \"keeps\"\nhandler = \"sessions.wasm\"")
            .file("sessions.wasm", file("target/guests/sessions.wasm"))
            .and(&format!("[sample]\nfile = \"sample.txt\"\n{sample}"))
            .file("sample.txt", "hello")
            .file("answer.txt", "this is not what it says")
    };
    let told = server
        .upload(&keeps("answer = \"answer.txt\""))
        .await
        .refused(422, "sample_failed");
    assert!(told.contains("answer.txt"), "{told}");
    let metrics = server.metrics().await;
    assert!(
        !metrics.text.contains("model=\"keeps\""),
        "{}",
        metrics.text
    );
    server
        .upload(&keeps("").without("answer.txt"))
        .await
        .is(201);
    let sessions = server
        .metrics()
        .await
        .sum("aegis_sessions", &[("model", "keeps")]);
    assert_eq!(sessions, Some(0.0));
}

#[tokio::test]
async fn a_version_whose_sample_has_become_too_large_serves_all_the_same() {
    let data = tempfile::tempdir().unwrap();
    let server = Start::new().data(data.path()).ready().await;
    let large = format!("{}{}", " ".repeat(2 << 20), pixels());
    server.upload(&digits(&large, None)).await.is(201);
    server.stop().await;
    let start = Start::new().data(data.path());
    let server = start.flag("--ceilings", "request_mib=1").ready().await;
    let json = "application/json";
    server.predict("digits", json, pixels()).await.is(200);
    server
        .logged("the warning", |line| {
            let message = line["message"].as_str().unwrap_or_default();
            message.starts_with("warming up") && message.contains("request_mib")
        })
        .await;
}
