//! Each backend, chosen by manifest, answers the goldens; `auto` serves without native ones.

use serde_json::json;

use crate::{
    examples::{digits_hold, spam_holds},
    harness::{Package, Server, Start, native_runtimes},
};

/// Uploads both examples with their graphs on this backend.
async fn examples_on(server: &Server, backend: &str) {
    for model in ["digits", "spam"] {
        let package = Package::example(model)
            .replacing("backend = \"auto\"", &format!("backend = \"{backend}\""));
        server.upload(&package).await.is(201);
    }
}

/// The backend that serves each model, as `/health` tells.
async fn serving(server: &Server) -> Vec<String> {
    let health = server.get("/health").await.ok();
    let models = health["models"].as_array().unwrap();
    models
        .iter()
        .map(|model| {
            assert_eq!(model["backend"], model["graphs"][0]["backend"]);
            model["backend"].as_str().unwrap().to_owned()
        })
        .collect()
}

async fn the_goldens_hold_on(backend: &str) {
    let server = Start::new().ready().await;
    examples_on(&server, backend).await;
    assert_eq!(serving(&server).await, [backend, backend]);
    digits_hold(&server).await;
    spam_holds(&server).await;
    let metrics = server.metrics().await;
    let labels = [
        ("model", "digits"),
        ("graph", "digits"),
        ("backend", backend),
    ];
    assert!(metrics.sum("aegis_inference_compute_seconds_count", &labels) > Some(0.0));
}

#[tokio::test]
async fn the_goldens_hold_on_onnxruntime() {
    if native_runtimes() {
        the_goldens_hold_on("onnxruntime").await;
    }
}

#[tokio::test]
async fn the_goldens_hold_on_openvino() {
    if native_runtimes() {
        the_goldens_hold_on("openvino").await;
    }
}

#[tokio::test]
async fn the_goldens_hold_on_the_embedded_engine() {
    the_goldens_hold_on("embedded").await;
}

#[tokio::test]
async fn without_a_native_runtime_auto_serves_and_says_by_what() {
    let server = Start::new()
        .flag("--onnxruntime", "/nowhere/libonnxruntime.so")
        .flag("--openvino", "/nowhere/libopenvino_c.so")
        .examples()
        .ready()
        .await;
    assert_eq!(serving(&server).await, ["embedded", "embedded"]);
    digits_hold(&server).await;
    let health = server.get("/health").await.ok();
    for backend in health["backends"].as_array().unwrap() {
        assert_eq!(
            backend["available"],
            backend["name"] == "embedded",
            "{backend}"
        );
        assert!(!backend["detail"].as_str().unwrap().is_empty());
    }
    // What the manifest insists on is refused with the backend's own words.
    let insisting =
        Package::example("digits").replacing("backend = \"auto\"", "backend = \"onnxruntime\"");
    let message = server
        .upload(&insisting)
        .await
        .refused(422, "graph_not_loaded");
    assert!(message.contains("/nowhere/libonnxruntime.so"), "{message}");
}

#[tokio::test]
async fn a_model_without_a_handler_serves_its_graph() {
    let server = Start::new().ready().await;
    let digits = Package::example("digits");
    let direct = Package::new(
        "direct",
        "name = \"direct\"\n[[graph]]\nname = \"digits\"\nfile = \"digits.onnx\"\n",
    )
    .file("digits.onnx", digits.bytes("digits.onnx"));
    let uploaded = server.upload(&direct).await.is(201).json();
    assert!(uploaded.get("handler").is_none());
    let body = json!({ "inputs": [
        { "name": "input", "shape": [1, 64], "datatype": "FP32", "data": vec![0.0; 64] }
    ] });
    let answer = server
        .predict("direct", "application/json", body.to_string())
        .await
        .ok();
    let output = &answer["outputs"][0];
    assert_eq!(output["name"], "probabilities");
    assert_eq!(output["shape"], json!([1, 10]));
    let wrong = server.predict("direct", "application/json", "{}").await;
    wrong.refused(422, "invalid_input");
}
