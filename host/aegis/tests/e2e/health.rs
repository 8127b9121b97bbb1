//! Alive, ready, healthy: three questions with three answers.

use crate::harness::{Package, Start};

#[tokio::test]
async fn a_server_without_models_is_ready() {
    let server = Start::new().ready().await;
    assert_eq!(server.get("/livez").await.is(200).text(), "ok\n");
    assert_eq!(server.get("/readyz").await.is(200).text(), "ok\n");
    let health = server.get("/health").await.ok();
    assert_eq!(health["status"], "ok");
    assert!(health["models"].as_array().unwrap().is_empty());
    let backends = health["backends"].as_array().unwrap();
    assert_eq!(backends.len(), 3);
    assert!(
        backends
            .iter()
            .any(|b| b["name"] == "embedded" && b["available"] == true)
    );
}

#[tokio::test]
async fn health_tells_of_every_model_what_serves_it() {
    let server = Start::new().examples().ready().await;
    let health = server.get("/health").await.ok();
    let models = health["models"].as_array().unwrap();
    assert_eq!(models.len(), 2);
    for (model, name) in models.iter().zip(["digits", "spam"]) {
        assert_eq!(model["name"], name);
        assert_eq!(model["model_version"], 1);
        assert_eq!(model["loaded"], true);
        assert_eq!(model["graphs"][0]["name"], name);
        assert!(model["digest"].as_str().unwrap().starts_with("sha256:"));
        assert!(model.get("error").is_none());
        let known = ["onnxruntime", "openvino", "embedded"];
        assert!(known.contains(&model["backend"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_model_that_does_not_load_keeps_the_server_from_being_ready_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = Start::new().data(folder.path()).ready().await;
    server.upload(&Package::example("spam")).await.is(201);
    let digits =
        Package::example("digits").replacing("backend = \"auto\"", "backend = \"embedded\"");
    server.upload(&digits).await.is(201);
    server.stop().await;
    // Its network's bytes are lost to a disk.
    let record = folder.path().join("models/digits/versions/1.json");
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let files = record["files"].as_array().unwrap();
    let graph = files
        .iter()
        .find(|file| file["path"] == "digits.onnx")
        .unwrap();
    let digest = graph["digest"].as_str().unwrap().replace("sha256:", "");
    let blob = folder.path().join("blobs/sha256").join(digest);
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    std::fs::remove_dir_all(folder.path().join("work/versions")).unwrap();

    let server = Start::new().data(folder.path()).ready().await;
    server.get("/livez").await.is(200);
    assert_eq!(server.get("/readyz").await.is(503).text(), "degraded\n");
    let health = server.get("/health").await.is(503).json();
    assert_eq!(health["status"], "degraded");
    let (broken, sound) = (&health["models"][0], &health["models"][1]);
    assert_eq!(
        (&broken["name"], &broken["loaded"]),
        (&"digits".into(), &false.into())
    );
    let error = broken["error"].as_str().unwrap();
    assert!(
        error.contains("`digits.onnx`") && error.contains("corrupt"),
        "{error}"
    );
    assert_eq!(sound["loaded"], true);
    let message = server
        .predict("digits", "application/json", "{}")
        .await
        .refused(503, "not_loaded");
    assert!(message.contains("digits.onnx"), "{message}");
    server.ask("spam", "hello there").await.is(200);
    let listed = server.get("/v1/models/digits").await.ok();
    assert!(
        listed["error"].as_str().unwrap().contains("corrupt"),
        "{listed}"
    );

    // As the message says: the same package again repairs it.
    let again = server.upload(&digits).await.is(200).json();
    assert_eq!(
        (&again["version"], &again["serving"]),
        (&1.into(), &true.into())
    );
    server.get("/readyz").await.is(200);
    crate::examples::digits_hold(&server).await;
}
