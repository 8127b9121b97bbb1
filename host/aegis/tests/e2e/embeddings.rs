//! The model `embeddings`: a tokenizer inside the handler, a network of 90 MB that
//! `aegis push` uploads, and answers that are those of the published model.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    cli::aegis,
    harness::{
        Answer, Package, Server, Start, embeddings, json_file, native_runtimes, package_on, root,
        said,
    },
};

/// A server that has the model, and what it said of the upload.
async fn with_embeddings(package: &Path) -> (Server, Value) {
    let server = Start::new().ready().await;
    let words = ["push", package.to_str().unwrap(), "--output", "json"];
    let uploaded = serde_json::from_str(&said(&aegis(&server, &words).await)).unwrap();
    (server, uploaded)
}

async fn ask(server: &Server, body: &Value) -> Answer {
    server
        .predict("embeddings", "application/json", body.to_string())
        .await
}

/// The vectors of these texts, none of which is cut.
async fn embed(server: &Server, texts: &[&str]) -> Vec<Vec<f64>> {
    let answer = ask(server, &json!({ "texts": texts })).await.ok();
    assert_eq!(answer.get("truncated"), None);
    vectors(&answer, texts.len())
}

/// The vectors of an answer for this many texts.
fn vectors(answer: &Value, count: usize) -> Vec<Vec<f64>> {
    assert_eq!(answer["dimensions"], 384);
    assert_eq!(answer["model"], "all-MiniLM-L6-v2");
    let vectors: Vec<Vec<f64>> = serde_json::from_value(answer["embeddings"].clone()).unwrap();
    assert_eq!(vectors.len(), count);
    for vector in &vectors {
        assert_eq!(vector.len(), 384);
        assert!((dot(vector, vector) - 1.0).abs() < 1e-5);
    }
    vectors
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// How far the vectors are apart at most, in one number of them.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The published cosines, and that a batch answers as its texts alone.
async fn the_cosines_hold_on(backend: &str) {
    let (server, uploaded) =
        with_embeddings(package_on("embeddings", &["minilm.onnx"], backend).path()).await;
    assert_eq!(uploaded["serving"], true, "{uploaded}");
    // The vocabulary of 30,000 words is in the snapshot.
    let snapshot = &uploaded["handler"]["snapshot"];
    let size = |key: &str| snapshot[key].as_u64().unwrap();
    assert!(
        size("after_bytes") > size("before_bytes") + (1 << 20),
        "{uploaded}"
    );

    let golden = json_file("examples/embeddings/golden.json");
    let texts: Vec<&str> = golden["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    let together = embed(&server, &texts).await;
    let tolerance = golden["tolerance"].as_f64().unwrap();
    let cosines = golden["cosines"].as_array().unwrap();
    assert_eq!(cosines.len(), 3);
    for cosine in cosines {
        let (a, b) = (cosine[0].as_u64().unwrap(), cosine[1].as_u64().unwrap());
        let found = dot(&together[a as usize], &together[b as usize]);
        let wanted = cosine[2].as_f64().unwrap();
        assert!(
            (found - wanted).abs() <= tolerance,
            "{found} is not {wanted}"
        );
    }
    for (text, row) in texts.iter().zip(&together) {
        let alone = embed(&server, &[text]).await;
        assert!(apart(&alone[0], row) < 1e-5, "{text}");
    }
}

#[tokio::test]
async fn the_cosines_hold_on_onnxruntime() {
    if embeddings() && native_runtimes() {
        the_cosines_hold_on("onnxruntime").await;
    }
}

#[tokio::test]
async fn the_cosines_hold_on_openvino() {
    if embeddings() && native_runtimes() {
        the_cosines_hold_on("openvino").await;
    }
}

#[tokio::test]
async fn the_cosines_hold_on_the_embedded_engine() {
    if embeddings() {
        the_cosines_hold_on("embedded").await;
    }
}

/// The same network without the handler is given the ids that the reference tokenizer makes
/// (tokens.json): what it answers is what the handler answers of the text.
#[tokio::test]
async fn the_tokenizer_is_the_models_own() {
    if !embeddings() {
        return;
    }
    let (server, _) = with_embeddings(&root().join(".models/embeddings")).await;
    let network = fs::read(root().join(".models/embeddings/minilm.onnx")).unwrap();
    let direct = Package::new(
        "direct",
        "name = \"direct\"\n[[graph]]\nname = \"minilm\"\nfile = \"minilm.onnx\"\n",
    );
    server
        .upload(&direct.file("minilm.onnx", network))
        .await
        .is(201);

    let goldens = json_file("examples/embeddings/tokens.json");
    let goldens = goldens.as_array().unwrap();
    assert!(goldens.len() >= 10);
    let texts: Vec<&str> = goldens
        .iter()
        .map(|golden| golden["text"].as_str().unwrap())
        .collect();
    let answer = ask(&server, &json!({ "texts": texts })).await.ok();
    // The last is longer than the network reads.
    assert_eq!(answer["truncated"], json!([texts.len() - 1]));
    let answered = vectors(&answer, texts.len());
    for (golden, row) in goldens.iter().zip(&answered) {
        let length = golden["ids"].as_array().unwrap().len();
        let input = |name: &str, data: Value| json!({ "name": name, "shape": [1, length], "datatype": "INT64", "data": data });
        let body = json!({ "inputs": [
            input("input_ids", golden["ids"].clone()),
            input("attention_mask", json!(vec![1; length])),
            input("token_type_ids", json!(vec![0; length])),
        ] });
        let answer = server
            .predict("direct", "application/json", body.to_string())
            .await
            .ok();
        let wanted: Vec<f64> =
            serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap();
        assert!(apart(row, &wanted) < 1e-5, "{}", golden["text"]);
    }
}

#[tokio::test]
async fn bounds_are_told_and_hold() {
    // The largest request is timed for a native engine.
    if !embeddings() || !native_runtimes() {
        return;
    }
    let (server, _) = with_embeddings(&root().join(".models/embeddings")).await;
    let none = ask(&server, &json!({ "texts": [] })).await.ok();
    assert_eq!(
        none,
        json!({ "model": "all-MiniLM-L6-v2", "dimensions": 384, "embeddings": [] })
    );

    let many = ask(&server, &json!({ "texts": vec!["a"; 33] })).await;
    let message = many.refused(413, "input_too_large");
    assert!(
        message.contains("33 texts: at most 32 in a request"),
        "{message}"
    );
    let long = ask(
        &server,
        &json!({ "texts": ["a", "b".repeat((8 << 10) + 1)] }),
    )
    .await;
    let message = long.refused(422, "invalid_input");
    assert!(
        message.contains("8193 bytes of text: at most 8192"),
        "{message}"
    );
    assert_eq!(long.json()["field"], "/texts/1");
    for (body, field) in [
        (json!({ "texts": ["a", 7] }), json!("/texts/1")),
        (json!({ "texts": "a" }), json!("/texts")),
        (json!({ "text": ["a"] }), json!("/text")),
    ] {
        let answer = ask(&server, &body).await;
        answer.refused(422, "invalid_input");
        assert_eq!(answer.json()["field"], field, "{body}");
    }

    // As much as is taken: every byte of every text a token, cut at 256, within the limits
    // of the model.
    let longest = "!".repeat(8 << 10);
    let answer = ask(&server, &json!({ "texts": vec![longest; 32] }))
        .await
        .ok();
    assert_eq!(answer["embeddings"].as_array().unwrap().len(), 32);
    assert_eq!(answer["truncated"].as_array().unwrap().len(), 32);
}
