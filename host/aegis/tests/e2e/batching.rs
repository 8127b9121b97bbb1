//! Requests share runs through the whole server, and what an upload says of a graph whose requests should not.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Package, Server, Start, native_runtimes, network_file, send};

/// A model without a handler, of the network `scale` or `relative` of the tests.
fn direct(name: &str, network: &str, keys: &str) -> Package {
    Package::new(name, &format!("name = \"{name}\"\n")).graph(network, keys, network_file(network))
}

/// The request for rows of two numbers each.
fn rows(rows: &[[f32; 2]]) -> String {
    json!({ "inputs": [{
        "name": "x", "datatype": "FP32", "shape": [rows.len(), 2], "data": rows,
    }] })
    .to_string()
}

fn warnings(answer: &Value) -> Vec<String> {
    let warnings = answer["warnings"].as_array().expect("warnings");
    warnings
        .iter()
        .map(|warning| warning.as_str().expect("words").to_owned())
        .collect()
}

#[tokio::test]
async fn an_upload_says_that_answers_depend_on_their_company() {
    let server = Start::new().ready().await;
    // Each row is divided by the greatest value of the whole batch.
    let answer = server
        .upload(&direct("relative", "relative", ""))
        .await
        .is(201)
        .json();
    let [warning] = &warnings(&answer)[..] else {
        panic!("one warning: {answer}")
    };
    assert!(
        warning.starts_with("graph `relative`: requests run alone, as answers depend on who shares the run: a row's `y`"),
        "{warning}"
    );
    let insists = direct("insists", "relative", "batching = true\n");
    let answer = server.upload(&insists).await.is(201).json();
    assert!(
        warnings(&answer)[0].contains("`batching = false` gives every request its own"),
        "{answer}"
    );
    let modest = direct("modest", "relative", "batching = false\n");
    let answer = server.upload(&modest).await.is(201).json();
    assert_eq!(warnings(&answer), [""; 0]);
}

#[tokio::test]
async fn a_request_with_more_rows_than_a_run_takes_is_answered_whole() {
    let server = Start::new().ready().await;
    let package = direct("cut", "relative", "batching = { max_batch_size = 2 }\n");
    server.upload(&package).await.is(201);
    let body = rows(&[[1.0, 2.0], [4.0, 1.0], [8.0, 2.0], [1.0, 1.0], [5.0, 10.0]]);
    let answer = server.predict("cut", "application/json", body).await.ok();
    let output = &answer["outputs"][0];
    assert_eq!(output["shape"], json!([5, 2]), "{answer}");
    // This network shows where it was cut: rows are parts of the greatest in their run.
    let whole = json!([0.25, 0.5, 1.0, 0.25, 1.0, 0.25, 0.125, 0.125, 0.5, 1.0]);
    assert_eq!(output["data"], whole, "{answer}");
}

#[tokio::test]
async fn without_a_gpu_a_graph_that_may_fall_back_does_and_says_so() {
    let server = Start::new().ready().await;
    let refused = direct("gpu", "relative", "target = \"gpu\"\n");
    let message = server
        .upload(&refused)
        .await
        .refused(422, "graph_not_loaded");
    assert!(message.contains("target gpu needs"), "{message}");
    let falls_back = direct(
        "gpu",
        "relative",
        "target = \"gpu\"\nfallback = true\nbatching = false\n",
    );
    let answer = server.upload(&falls_back).await.is(201).json();
    let [warning] = &warnings(&answer)[..] else {
        panic!("one warning: {answer}")
    };
    assert!(
        warning.contains("it runs on the processor, as fallback allows"),
        "{warning}"
    );
    assert!(warning.contains("target gpu needs"), "{warning}");
    server
        .predict("gpu", "application/json", rows(&[[1.0, 2.0]]))
        .await
        .ok();
}

#[tokio::test]
async fn a_run_has_the_threads_that_its_manifest_says_and_more_than_there_are_is_told() {
    if !native_runtimes() {
        return;
    }
    let server = Start::new().flag("--inference-threads", "8").ready().await;
    let mut threads = Vec::new();
    // The first brings threads of the server's own that stay.
    for (name, count) in [("first", 1), ("one", 1), ("eight", 8), ("nine", 9)] {
        let keys = format!("backend = \"onnxruntime\"\nthreads = {count}\n");
        let before = server.threads();
        let answer = server.upload(&direct(name, "relative", &keys)).await;
        let answer = answer.is(201).json();
        threads.push(server.threads().saturating_sub(before));
        let told = warnings(&answer);
        let is_told = told
            .iter()
            .any(|warning| warning.contains("1 sessions of 9 threads"));
        assert_eq!(is_told, count == 9, "{answer}");
    }
    // The session's own thread is a run's first, the others come with it, and the server may start one more.
    assert!(
        threads[1] < 8 && threads[2] >= 8 && threads[3] >= 9,
        "{threads:?}"
    );
}

#[tokio::test]
async fn a_priority_is_one_of_its_words() {
    let server = Start::new().examples().ready().await;
    let ask = |word: &str| {
        let body = json!({ "pixels": vec![0; 64] }).to_string();
        let request = server.prediction("digits").header("aegis-priority", word);
        send(
            request
                .header("content-type", "application/json")
                .body(body),
        )
    };
    for word in ["high", "normal", "Low"] {
        ask(word).await.ok();
    }
    let message = ask("urgent").await.refused(400, "invalid_priority");
    assert_eq!(
        message,
        "the header aegis-priority takes one of high, normal, low"
    );
}

/// Many callers of one graph that takes its time: fewer runs than requests, and the metrics say so.
#[tokio::test]
async fn requests_that_wait_share_a_run_and_the_metrics_show_it() {
    let server = Arc::new(Start::new().ready().await);
    let package = direct(
        "scale",
        "relative",
        "batching = { max_batch_size = 16, max_latency_ms = 100 }\n",
    );
    server.upload(&package).await.is(201);
    let callers: Vec<_> = (1..=16)
        .map(|caller| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let body = rows(&[[caller as f32, 16.0]]);
                let answer = server.predict("scale", "application/json", body).await.ok();
                assert_eq!(answer["outputs"][0]["data"][0], json!(caller as f32 / 16.0));
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("answered");
    }
    let figure = |server: &Arc<Server>| {
        let server = Arc::clone(server);
        async move {
            let metrics = server.metrics().await;
            let of = |name| metrics.sum(name, &[("model", "scale")]).expect("there");
            (
                of("aegis_inference_batch_size_sum"),
                of("aegis_inference_batch_size_count"),
            )
        }
    };
    let (requests, runs) = figure(&server).await;
    assert!(requests >= 16.0, "{requests}");
    assert!(runs < requests / 2.0, "{runs} runs for {requests} requests");
}
