//! Shared runs on real engines: what the trial finds of real networks, and that answers in company are those alone.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use std::time::Duration;

use aegis_inference::{
    BackendKind, Batching, BatchingMode, Graph, GraphSpec, NamedTensor, Runtime, Target,
};
use common::{digits, fp32, network, runtime_with, spec};

fn batching(runtime: &Runtime, spec: GraphSpec, mode: BatchingMode, wait: Duration) -> Graph {
    let spec = GraphSpec {
        batching: Batching {
            mode,
            max_wait: wait,
            ..Batching::default()
        },
        ..spec
    };
    runtime
        .load(&spec)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// One of many pictures of so many rows.
fn picture(of: u32, rows: u32) -> NamedTensor {
    let values: Vec<f32> = (0..rows * 64)
        .map(|at| ((at * (of + 3)) % 17) as f32)
        .collect();
    fp32("input", &[rows, 64], &values)
}

async fn answers_in_company_are_those_alone(kind: BackendKind) {
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let alone = batching(
        &runtime,
        spec(kind, digits()),
        BatchingMode::Off,
        Duration::ZERO,
    );
    assert_eq!(alone.batching().max_rows, 1);
    // With a wait, so that they do meet.
    let shared = batching(
        &runtime,
        spec(kind, digits()),
        BatchingMode::On,
        Duration::from_millis(20),
    );
    assert_eq!(shared.warnings(), [""; 0]);
    let callers: Vec<_> = (0..24_u32)
        .map(|caller| {
            let (alone, shared) = (alone.clone(), shared.clone());
            tokio::spawn(async move {
                for round in 0..5 {
                    let picture = picture(caller * 5 + round, 1 + caller % 3);
                    let wanted = alone.compute(vec![picture.clone()], None).await;
                    let wanted = wanted.unwrap()[0].tensor.to_vec::<f32>().unwrap();
                    let found = shared.compute(vec![picture], None).await.unwrap();
                    let found = found[0].tensor.to_vec::<f32>().unwrap();
                    assert_eq!(found.len(), wanted.len());
                    for (found, wanted) in found.iter().zip(&wanted) {
                        assert!((found - wanted).abs() < 1e-5, "{found} is not {wanted}");
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let stats = shared.stats();
    assert_eq!(stats.answered, 24 * 5);
    assert!(stats.runs <= stats.answered / 2, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_company_are_those_alone_on_onnxruntime() {
    answers_in_company_are_those_alone(BackendKind::OnnxRuntime).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_company_are_those_alone_on_openvino() {
    answers_in_company_are_those_alone(BackendKind::OpenVino).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_company_are_those_alone_on_the_embedded_engine() {
    answers_in_company_are_those_alone(BackendKind::Embedded).await;
}

fn the_trial_tells_networks_apart(kind: BackendKind) {
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let found = |file: &str, mode| {
        let graph = batching(&runtime, spec(kind, network(file)), mode, Duration::ZERO);
        (graph.batching().max_rows, graph.warnings().join("; "))
    };
    // Each row is a part of the greatest in its batch.
    let (rows, warning) = found("relative.onnx", BatchingMode::Auto);
    assert_eq!(rows, 1);
    assert!(
        warning.contains("answers depend on who shares the run"),
        "{warning}"
    );
    let (rows, warning) = found("relative.onnx", BatchingMode::On);
    assert_eq!(rows, 32);
    assert!(
        warning.contains("answers depend on who shares the run"),
        "{warning}"
    );
    // A batch of rows of two becomes rows of one: twice as many.
    let (rows, warning) = found("reshape-fp32.onnx", BatchingMode::On);
    assert_eq!(rows, 1);
    assert!(
        warning.contains("its rows cannot be told apart"),
        "{warning}"
    );
    // Nothing is of any size.
    let (rows, warning) = found("difference.onnx", BatchingMode::On);
    assert_eq!(rows, 1);
    assert!(
        warning.contains("no input has a dimension of any size"),
        "{warning}"
    );
    // A matrix of rows: ten times the work for a row alone, most of it the weights.
    let (_, warning) = found("slow.onnx", BatchingMode::Auto);
    assert_eq!(warning, "");
}

#[test]
fn the_trial_tells_networks_apart_on_onnxruntime() {
    the_trial_tells_networks_apart(BackendKind::OnnxRuntime);
}

#[test]
fn the_trial_tells_networks_apart_on_openvino() {
    the_trial_tells_networks_apart(BackendKind::OpenVino);
}

#[test]
fn the_trial_tells_networks_apart_on_the_embedded_engine() {
    the_trial_tells_networks_apart(BackendKind::Embedded);
}

#[tokio::test]
async fn a_gpu_that_is_not_there_is_done_without_only_where_that_is_allowed() {
    for kind in [BackendKind::OnnxRuntime, BackendKind::OpenVino] {
        let Some(runtime) = runtime_with(kind) else {
            return;
        };
        let wants = |fallback| GraphSpec {
            target: Target::Gpu,
            fallback,
            ..spec(kind, digits())
        };
        // On a machine that has one this test says nothing.
        let Err(error) = runtime.load(&wants(false)) else {
            continue;
        };
        let graph = runtime.load(&wants(true)).unwrap();
        let warning = graph.warnings().join("; ");
        assert!(warning.contains(&error.to_string()), "{warning}");
        graph.compute(vec![picture(1, 1)], None).await.unwrap();
    }
}
