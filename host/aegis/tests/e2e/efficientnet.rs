//! The model `efficientnet`: a photo in, decoded and scaled inside the handler, and the class of what is in it out.

use serde_json::Value;

use crate::harness::{Package, Server, Start, efficientnet, file, native_runtimes};

const FOLDER: &str = ".models/efficientnet";

async fn on(backend: &str) -> Server {
    let manifest = String::from_utf8(file(&format!("{FOLDER}/model.toml"))).unwrap();
    let mut package = Package::new("efficientnet", &manifest)
        .replacing("backend = \"auto\"", &format!("backend = \"{backend}\""));
    for name in ["efficientnet.wasm", "efficientnet-lite0.onnx"] {
        package = package.file(name, file(&format!("{FOLDER}/{name}")));
    }
    let server = Start::new().ready().await;
    server.upload(&package).await.is(201);
    server
}

/// The classes that it sees in a photo, their indices and probabilities, the most probable first.
async fn seen(server: &Server, photo: &str) -> Vec<(u64, f64)> {
    let photo = file(&format!("examples/efficientnet/samples/{photo}"));
    let answer = server
        .predict("efficientnet", "image/jpeg", photo)
        .await
        .ok();
    let class = |class: &Value| {
        assert!(!class["label"].as_str().unwrap().is_empty());
        let probability = class["probability"].as_f64().unwrap();
        (class["index"].as_u64().unwrap(), probability)
    };
    let classes: Vec<_> = answer["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(class)
        .collect();
    assert_eq!(classes.len(), 5);
    assert!(classes.is_sorted_by(|a, b| a.1 >= b.1), "{classes:?}");
    classes
}

/// ImageNet has five classes of cats that live with people, 281 (tabby) to 285 (Egyptian), and the photo is of one with
/// stripes; and it has one of espresso.
async fn photos_are_seen_for_what_they_are_on(backend: &str) {
    let server = on(backend).await;
    let cat = seen(&server, "cat.jpg").await;
    let cats: f64 = cat
        .iter()
        .filter(|(index, _)| (281..=285).contains(index))
        .map(|(_, probability)| probability)
        .sum();
    assert!((281..=285).contains(&cat[0].0) && cats > 0.8, "{cat:?}");
    let coffee = seen(&server, "coffee.jpg").await;
    assert!(coffee[0].0 == 967 && coffee[0].1 > 0.7, "{coffee:?}");
}

#[tokio::test]
async fn photos_are_seen_for_what_they_are_on_onnxruntime() {
    if efficientnet() && native_runtimes() {
        photos_are_seen_for_what_they_are_on("onnxruntime").await;
    }
}

#[tokio::test]
async fn photos_are_seen_for_what_they_are_on_openvino() {
    if efficientnet() && native_runtimes() {
        photos_are_seen_for_what_they_are_on("openvino").await;
    }
}

#[tokio::test]
async fn photos_are_seen_for_what_they_are_on_the_embedded_engine() {
    if efficientnet() {
        photos_are_seen_for_what_they_are_on("embedded").await;
    }
}

#[tokio::test]
async fn what_is_no_photo_is_refused() {
    if !efficientnet() {
        return;
    }
    let server = on("auto").await;
    let text = server.predict("efficientnet", "text/plain", "a cat").await;
    text.refused(415, "unsupported_media_type");
    let broken = server.predict("efficientnet", "image/jpeg", "a cat").await;
    let message = broken.refused(422, "invalid_input");
    assert!(message.contains("the picture cannot be read"), "{message}");
}
