//! Models come and go with the memory budget: whoever asks for one that went finds it loaded
//! again, and a server that keeps to its budget is a ready one.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use crate::harness::{Answer, Package, Server, Start, eventually, network_file, send};

/// A model of its own: the guest `counter` with its name in a custom section.
pub(crate) fn model(name: &str) -> Package {
    let mut component = Package::guest("counter").bytes("handler.wasm").to_vec();
    let length = u8::try_from(2 + name.len()).unwrap();
    component.extend([0, length, 1, b'n']);
    component.extend(name.as_bytes());
    Package::handler(name, component)
}

fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|index| format!("model-{index:02}"))
        .collect()
}

/// A data folder with so many models.
async fn filled(data: &Path, count: usize) -> Vec<String> {
    let server = Start::new().data(data).ready().await;
    let names = names(count);
    for name in &names {
        server.upload(&model(name)).await.is(201);
    }
    server.stop().await;
    names
}

/// The models' states in `/health`, which must say that all is well.
async fn states(server: &Server) -> Vec<String> {
    let health = server.get("/health").await.is(200).json();
    assert_eq!(health["status"], "ok");
    let state = |model: &Value| {
        assert_eq!(model["loaded"], model["state"] == "loaded", "{model}");
        model["state"].as_str().unwrap().to_owned()
    };
    health["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(state)
        .collect()
}

fn count(states: &[String], wanted: &str) -> usize {
    states.iter().filter(|state| *state == wanted).count()
}

async fn unloads(server: &Server) -> f64 {
    let metrics = server.metrics().await;
    let labels = [("reason", "budget")];
    metrics.sum("aegis_model_unloads_total", &labels).unwrap()
}

/// The budget in most of these, in MiB: room for a few of these models.
const BUDGET: &str = "4";

#[tokio::test]
async fn models_beyond_the_budget_go_and_come_back_without_an_error() {
    let server = Start::new().flag("--memory-budget-mib", BUDGET);
    let server = Arc::new(server.ready().await);
    let names = names(16);
    for name in &names {
        server.upload(&model(name)).await.is(201);
        server.get("/readyz").await.is(200);
    }
    // Every model, many times, several at once and the same one by several callers.
    stream::iter(0..320)
        .for_each_concurrent(8, async |index| {
            let name = &names[index * 7 / 2 % names.len()];
            assert_eq!(server.ask(name, "").await.is(200).text(), "0");
            server.get("/readyz").await.is(200);
        })
        .await;
    // What was in use to the last goes a moment later.
    let metrics = eventually("all are within the budget", async || {
        let metrics = server.metrics().await;
        let resident = metrics.sum("aegis_models_resident_bytes", &[]).unwrap();
        (resident <= f64::from(4 << 20)).then_some(metrics)
    })
    .await;
    let states = states(&server).await;
    assert!(count(&states, "unloaded") >= 8, "{states:?}");
    assert_eq!(count(&states, "failed"), 0);
    assert!(unloads(&server).await >= 16.0);
    // What is not loaded does not look as if it should be.
    let loaded = metrics.of("aegis_model_loaded");
    assert!(loaded.into_iter().all(|series| series.value == 1.0));
}

#[tokio::test]
async fn a_start_loads_as_many_as_fit_and_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let names = filled(folder.path(), 12).await;
    let start = Start::new().data(folder.path());
    let server = start.flag("--memory-budget-mib", BUDGET).ready().await;
    server.get("/readyz").await.is(200);
    let states = states(&server).await;
    assert!(count(&states, "loaded") >= 2, "{states:?}");
    assert!(count(&states, "unloaded") >= 4, "{states:?}");
    // In order of name, so that the operator can tell which.
    assert_eq!((&*states[0], &*states[11]), ("loaded", "unloaded"));
    let line = server
        .logged("what was left", |line| {
            line["message"]
                .as_str()
                .is_some_and(|m| m.contains("budget is full"))
        })
        .await;
    assert_eq!(line["models"], count(&states, "unloaded"));
    assert_eq!(
        unloads(&server).await,
        0.0,
        "nothing was loaded for nothing"
    );
    for name in &names {
        server.ask(name, "").await.is(200);
    }
}

#[tokio::test]
async fn requests_that_come_together_load_a_model_once() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 1).await;
    let start = Start::new().data(folder.path());
    let server = start.flag("--prewarm-model", "false").ready().await;
    assert_eq!(states(&server).await, ["unloaded"]);
    server.get("/readyz").await.is(200);
    stream::iter(0..16)
        .for_each_concurrent(16, async |_| {
            server.ask("model-00", "").await.is(200);
        })
        .await;
    assert_eq!(states(&server).await, ["loaded"]);
    let loads = server.log().into_iter();
    let loads = loads.filter(|line| line["message"] == "handler loaded");
    assert_eq!(loads.count(), 1);
}

#[tokio::test]
async fn a_model_that_answers_a_request_is_not_unloaded() {
    // Nothing fits: every model goes as soon as nobody uses it and another is loaded.
    let server = Start::new().flag("--memory-budget-mib", "1");
    let server = Arc::new(server.ready().await);
    let slow = Package::hostile("slow", "timeout_ms = 30000");
    server.upload(&slow).await.is(201);
    let asking = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.ask("slow&do=sleep", "").await })
    };
    eventually("the request runs", async || {
        let labels = [("endpoint", "/predict")];
        let metrics = server.metrics().await;
        let running = metrics.sum("http_requests_in_flight", &labels);
        (running == Some(1.0)).then_some(())
    })
    .await;
    let others = names(4);
    for name in &others {
        server.upload(&model(name)).await.is(201);
        server.ask(name, "").await.is(200);
    }
    let states = states(&server).await;
    assert_eq!(states[4], "loaded", "slow comes last by name");
    assert!(!asking.is_finished());
    // Its caller leaves: it goes with the next that is loaded, and comes back.
    asking.abort();
    eventually("slow is unloaded", async || {
        for name in &others {
            server.ask(name, "").await.is(200);
        }
        let mut lines = server.log().into_iter();
        lines.find(|line| {
            line["message"] == "version unloaded"
                && line["model"] == "slow"
                && line["reason"] == "budget"
        })
    })
    .await;
    server.ask("slow&do=digits", "").await.is(200);
}

#[tokio::test]
async fn memory_stays_where_it_is_while_models_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let names = filled(folder.path(), 24).await;
    let start = Start::new().data(folder.path());
    let server = start.flag("--memory-budget-mib", BUDGET).ready().await;
    let mut after = Vec::new();
    for _ in 0..6 {
        for name in &names {
            server.ask(name, "").await.is(200);
        }
        after.push(server.memory_kib("RssAnon"));
    }
    assert!(unloads(&server).await >= 100.0);
    // The first two rounds fill the pool's slots and the allocator's reserves. Were what goes
    // kept, four rounds of 24 models of more than 0.5 MiB each would add 48 MiB.
    let (settled, last) = (after[1], after[5]);
    assert!(last <= settled + (12 << 10), "{after:?} KiB");
}

/// What the loaded versions take together, as the server estimates it.
async fn resident(server: &Server) -> f64 {
    let metrics = server.metrics().await;
    metrics.sum("aegis_models_resident_bytes", &[]).unwrap()
}

/// A network that is as large as others are by their weights: by a remark.
fn large_network() -> Vec<u8> {
    let mut network = network_file("scale");
    // Field 6 of an ONNX file, and its length.
    network.extend([0x32, 0x80, 0x80, 0x80, 0x04]);
    network.resize(network.len() + REMARK, b'.');
    network
}

const REMARK: usize = 8 << 20;

/// The model `scale` of that network, with more keys for its graph.
fn scale(keys: &str) -> Package {
    Package::new("scale", "name = \"scale\"\n").graph("scale", keys, large_network())
}

/// Asks a version of it.
async fn ask_scale(server: &Server, version: &str) -> Answer {
    let body = serde_json::json!({ "inputs": [{
        "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3],
    }] });
    let request = server.prediction(&format!("scale{version}")).json(&body);
    send(request).await
}

#[tokio::test]
async fn versions_that_differ_in_batching_alone_have_one_network_between_them() {
    let server = Start::new().ready().await;
    let ask = async |version: &str| {
        let answer = ask_scale(&server, version).await.is(200).json();
        let found = &answer["outputs"][0]["data"];
        assert_eq!(*found, serde_json::json!([1.0, 20.0, 300.0]));
    };
    server.upload(&scale("")).await.is(201);
    ask("").await;
    let one = resident(&server).await;
    assert!(one > REMARK as f64, "{one}");
    let batched = scale("sessions = 1\nbatching = { max_batch_size = 8, max_latency_ms = 1 }\n");
    server.upload(&batched).await.is(201);
    ask("&version=2").await;
    let two = resident(&server).await;
    assert!(two < one + REMARK as f64 / 2.0, "{one}, then {two}");
    // It outlives the version that loaded it.
    server.promote("scale", 2).await.is(200);
    server.delete("/v1/models/scale/versions/1").await.is(204);
    ask("").await;
    let left = resident(&server).await;
    assert!(left > REMARK as f64, "{left}");
}

#[tokio::test]
async fn a_version_that_is_deleted_while_it_is_being_loaded_is_gone() {
    let server = Start::new().ready().await;
    server.upload(&scale("")).await.is(201);
    for turn in 0..8_u32 {
        let package = scale("").and(&format!("[limits]\ntimeout_ms = {}", 20_000 + turn));
        let version = server.upload(&package).await.is(201).json();
        let version = version["version"].as_u64().unwrap();
        // Loading takes some tens of milliseconds: one of these comes upon it.
        let asked = format!("&version={version}");
        let delete = async {
            tokio::time::sleep(Duration::from_millis((turn * 4).into())).await;
            let path = format!("/v1/models/scale/versions/{version}");
            server.delete(&path).await.is(204);
        };
        let (_, ()) = tokio::join!(ask_scale(&server, &asked), delete);
        let of_version = format!("model_version=\"{version}\"");
        eventually("its series go", async || {
            let text = server.metrics().await.text;
            (!text.contains(&of_version)).then_some(())
        })
        .await;
        let answer = ask_scale(&server, &asked).await;
        answer.refused(404, "version_not_found");
    }
}
