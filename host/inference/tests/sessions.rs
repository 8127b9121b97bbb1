//! What holds with real sessions: side by side, on every backend, and with words an operator can act on.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aegis_inference::{
    BackendChoice, BackendKind, ComputeError, GraphFiles, GraphSpec, LoadError, NamedTensor,
    Runtime, RuntimeConfig, Shape, Target, Tensor, TensorType, precheck::Refusal,
};
use common::{digits, digits_input, fp32, load, network, runtime_with, spec};

/// A run of some milliseconds.
fn slow_input() -> NamedTensor {
    NamedTensor::new(
        "x",
        Tensor::zeros(TensorType::Fp32, Shape::new(&[512, 256]).unwrap()),
    )
}

async fn answers_are_not_mixed_up(kind: BackendKind) {
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let graph = runtime
        .load(&GraphSpec {
            sessions: 3,
            ..spec(kind, network("scale.onnx"))
        })
        .unwrap();
    let callers: Vec<_> = (0..8_u32)
        .map(|caller| {
            let graph = graph.clone();
            tokio::spawn(async move {
                for round in 0..50_u32 {
                    // Another number of rows every time, so that sessions also change shapes under way.
                    let rows = 1 + (caller + round) % 5;
                    let first = (caller * 100 + round) as f32;
                    let values: Vec<f32> =
                        (0..rows).flat_map(|row| [first + row as f32; 3]).collect();
                    let answer = graph
                        .compute(vec![fp32("x", &[rows, 3], &values)], None)
                        .await
                        .unwrap();
                    let want: Vec<f32> = (0..rows)
                        .flat_map(|row| {
                            [1.0, 10.0, 100.0].map(|factor| (first + row as f32) * factor)
                        })
                        .collect();
                    assert_eq!(answer[0].tensor.shape().dims(), [rows, 3]);
                    assert_eq!(answer[0].tensor.to_vec::<f32>().unwrap(), want);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(graph.stats().runs, 400);
    assert_eq!(graph.stats().idle_sessions, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn onnxruntime_sessions_side_by_side_never_mix_answers() {
    answers_are_not_mixed_up(BackendKind::OnnxRuntime).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn openvino_sessions_side_by_side_never_mix_answers() {
    answers_are_not_mixed_up(BackendKind::OpenVino).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn embedded_sessions_side_by_side_never_mix_answers() {
    answers_are_not_mixed_up(BackendKind::Embedded).await;
}

/// With two sessions a request answers while a long one runs; with one it would have to wait for its end.
async fn a_second_session_answers_meanwhile(kind: BackendKind) {
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let graph = runtime
        .load(&GraphSpec {
            sessions: 2,
            ..spec(kind, network("slow.onnx"))
        })
        .unwrap();
    let large = NamedTensor::new(
        "x",
        Tensor::zeros(TensorType::Fp32, Shape::new(&[16_384, 256]).unwrap()),
    );
    let long = tokio::spawn({
        let graph = graph.clone();
        async move { graph.compute(vec![large], None).await }
    });
    while graph.stats().idle_sessions == 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let small = NamedTensor::new(
        "x",
        Tensor::zeros(TensorType::Fp32, Shape::new(&[1, 256]).unwrap()),
    );
    graph.compute(vec![small], None).await.unwrap();
    assert!(!long.is_finished(), "{kind}: the long run was over first");
    long.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_onnxruntime_sessions_run_at_the_same_time() {
    a_second_session_answers_meanwhile(BackendKind::OnnxRuntime).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_openvino_sessions_run_at_the_same_time() {
    a_second_session_answers_meanwhile(BackendKind::OpenVino).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_embedded_sessions_run_at_the_same_time() {
    a_second_session_answers_meanwhile(BackendKind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_covers_the_native_run() {
    let kind = BackendKind::OnnxRuntime;
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let graph = load(&runtime, kind, network("slow.onnx"));
    let large = NamedTensor::new(
        "x",
        Tensor::zeros(TensorType::Fp32, Shape::new(&[65_536, 256]).unwrap()),
    );
    let begin = Instant::now();
    let error = graph
        .compute(vec![large], Some(begin + Duration::from_millis(20)))
        .await
        .unwrap_err();
    assert_eq!(error, ComputeError::DeadlineExceeded);
    assert!(
        graph.stats().idle_sessions == 0,
        "the run goes on by itself"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn short_runs_are_made_in_place_and_long_ones_are_not() {
    let kind = BackendKind::OnnxRuntime;
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let graph = load(&runtime, kind, digits());
    for _ in 0..10 {
        graph.compute(vec![digits_input(1)], None).await.unwrap();
    }
    assert_eq!(graph.stats().in_place_runs, 10, "{:?}", graph.stats());
    // The same graph with far more rows than the warm-up's one.
    graph.compute(vec![digits_input(4096)], None).await.unwrap();
    assert_eq!(graph.stats().in_place_runs, 10);

    let slow = load(&runtime, kind, network("slow.onnx"));
    slow.compute(vec![slow_input()], None).await.unwrap();
    assert_eq!(slow.stats().in_place_runs, 0);
}

#[tokio::test]
async fn openvinos_own_format_is_read_by_openvino_and_refused_by_the_others() {
    let files = GraphFiles::OpenVinoIr {
        xml: network("scale.xml"),
        bin: network("scale.bin"),
    };
    let spec = |choice| GraphSpec {
        backend: choice,
        ..GraphSpec::new("scale", files.clone())
    };
    if let Some(runtime) = runtime_with(BackendKind::OpenVino) {
        let graph = runtime.load(&spec(BackendChoice::Auto)).unwrap();
        assert_eq!(graph.backend(), BackendKind::OpenVino);
        let answer = graph
            .compute(vec![fp32("x", &[1, 3], &[1.0, 2.0, 3.0])], None)
            .await
            .unwrap();
        assert_eq!(&*answer[0].name, "y");
        assert_eq!(
            answer[0].tensor.to_vec::<f32>().unwrap(),
            [1.0, 20.0, 300.0]
        );
    }
    if let Some(runtime) = runtime_with(BackendKind::OnnxRuntime) {
        let error = runtime
            .load(&spec(BackendChoice::Is(BackendKind::OnnxRuntime)))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "graph `scale` was not loaded by onnxruntime: it reads ONNX files only: OpenVINO's .xml and .bin need the \
             backend openvino"
        );
    }
}

#[test]
fn auto_prefers_onnxruntime_for_an_onnx_file() {
    let Some(runtime) = runtime_with(BackendKind::OnnxRuntime) else {
        return;
    };
    let graph = runtime
        .load(&GraphSpec::new("digits", common::onnx(digits())))
        .unwrap();
    assert_eq!(graph.backend(), BackendKind::OnnxRuntime);
}

#[tokio::test]
async fn auto_serves_with_the_embedded_engine_where_no_native_library_is() {
    // Only if no other test of this process has loaded the libraries, which is so under nextest.
    let runtime = Runtime::new(RuntimeConfig {
        onnxruntime: Some(PathBuf::from("/nowhere")),
        openvino: Some(PathBuf::from("/nowhere")),
        ..RuntimeConfig::default()
    });
    if runtime
        .backends()
        .iter()
        .any(|status| status.available && status.kind != BackendKind::Embedded)
    {
        eprintln!("SKIPPED: this process has a native library loaded");
        return;
    }
    let graph = runtime
        .load(&GraphSpec::new("digits", common::onnx(digits())))
        .unwrap();
    assert_eq!(graph.backend(), BackendKind::Embedded);
    graph.compute(vec![digits_input(3)], None).await.unwrap();

    let error = runtime
        .load(&GraphSpec::new(
            "bf16",
            common::onnx(network("reshape-bf16.onnx")),
        ))
        .unwrap_err();
    let LoadError::NoBackend { attempts, .. } = error else {
        panic!("{error}")
    };
    let tried: Vec<BackendKind> = attempts.iter().map(|attempt| attempt.backend).collect();
    assert_eq!(tried, BackendKind::ALL);
    assert!(
        attempts[0]
            .words
            .starts_with("ONNX Runtime was not found; looked in /nowhere"),
        "{}",
        attempts[0]
    );
    assert!(attempts[2].words.contains("bf16"), "{}", attempts[2]);
}

#[tokio::test]
async fn the_embedded_engine_serves_more_shapes_than_it_keeps_plans() {
    let runtime = Runtime::new(RuntimeConfig::default());
    let graph = load(&runtime, BackendKind::Embedded, network("scale.onnx"));
    for round in 0..2 {
        for rows in 0..40_u32 {
            let values = vec![round as f32; rows as usize * 3];
            let answer = graph
                .compute(vec![fp32("x", &[rows, 3], &values)], None)
                .await
                .unwrap();
            assert_eq!(answer[0].tensor.shape().dims(), [rows, 3]);
        }
    }
}

#[tokio::test]
async fn a_value_the_network_cannot_take_costs_its_caller_the_answer_and_nobody_else() {
    let lookup = |index: i64| {
        vec![NamedTensor::new(
            "index",
            Tensor::from_slice(&[1], &[index]).unwrap(),
        )]
    };
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let graph = load(&runtime, kind, network("lookup.onnx"));
        for _ in 0..3 {
            let wrong = graph.compute(lookup(1_000_000_000), None).await;
            // OpenVINO answers zero for what is not in the table.
            match kind {
                BackendKind::OpenVino => {}
                BackendKind::OnnxRuntime => assert!(matches!(wrong, Err(ComputeError::Backend(_)))),
                BackendKind::Embedded => assert!(matches!(wrong, Err(ComputeError::Panicked(_)))),
            }
            let right = graph.compute(lookup(2), None).await.unwrap();
            assert_eq!(right[0].tensor.to_vec::<f32>().unwrap(), [3.0], "{kind}");
        }
        assert_eq!(graph.stats().sessions, 1, "{kind}");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_and_never_the_processor() {
    for (kind, words) in [
        (
            BackendKind::OnnxRuntime,
            "target gpu needs the CUDA execution provider",
        ),
        (
            BackendKind::OpenVino,
            "target gpu needs a device that OpenVINO's GPU plugin can drive",
        ),
    ] {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let spec = GraphSpec {
            target: Target::Gpu,
            ..spec(kind, digits())
        };
        match runtime.load(&spec) {
            Ok(_) => eprintln!("SKIPPED: this machine has a GPU that {kind} drives"),
            Err(error) => assert!(error.to_string().contains(words), "{error}"),
        }
    }
}

#[test]
fn a_broken_file_is_refused_before_any_backend_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.onnx");
    let whole = fs::read(digits()).unwrap();
    for bytes in [&b"this is no network"[..], &whole[..whole.len() / 2], &[]] {
        fs::write(&broken, bytes).unwrap();
        let error = Runtime::new(RuntimeConfig::default())
            .load(&GraphSpec::new("broken", common::onnx(&broken)))
            .unwrap_err();
        assert!(
            matches!(
                &error,
                LoadError::Refused {
                    refusal: Refusal::Malformed(_),
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_graph_that_makes_no_sense_is_refused_in_the_backends_words() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.onnx");
    // A graph of one node, whose operator there is not.
    fs::write(&broken, b"\x08\x08\x42\x02\x10\x11\x3a\x16\x0a\x09\x12\x01y\x22\x04Frob\x62\x09\x0a\x01y\x12\x04\x0a\x02\x08\x01").unwrap();
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let error = runtime.load(&spec(kind, broken.clone())).unwrap_err();
        let LoadError::Backend { attempt, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(attempt.backend, kind);
        assert!(!attempt.words.is_empty());
    }
}

#[test]
fn weights_outside_the_models_folder_are_never_read() {
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        match runtime.load(&spec(kind, network("escape.onnx"))) {
            Ok(_) => panic!("{kind} read a file of its host for a model"),
            Err(error) => eprintln!("{error}"),
        }
    }
}

#[test]
fn a_missing_file_is_named_before_any_backend_is_asked() {
    let error = Runtime::new(RuntimeConfig::default())
        .load(&GraphSpec::new("gone", common::onnx("nowhere/gone.onnx")))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("graph `gone`: cannot read nowhere/gone.onnx: "),
        "{error}"
    );
}

#[test]
fn a_library_that_is_not_one_is_a_state_that_says_what_was_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("libonnxruntime.so");
    fs::write(&fake, "not a library").unwrap();
    let runtime = Runtime::new(RuntimeConfig {
        onnxruntime: Some(fake.clone()),
        openvino: Some(PathBuf::from("/nowhere")),
        ..RuntimeConfig::default()
    });
    for status in runtime.backends() {
        let place = match status.kind {
            BackendKind::OnnxRuntime => fake.display().to_string(),
            BackendKind::OpenVino => "/nowhere".to_owned(),
            BackendKind::Embedded => continue,
        };
        // Another test of this process may have loaded the real library, which is then shared.
        if !status.available {
            assert!(status.detail.contains(&place), "{}", status.detail);
            assert!(status.detail.contains("as configured"), "{}", status.detail);
        }
    }
}

#[tokio::test]
async fn a_run_that_fails_harms_none_after_it_of_its_graph_or_of_others() {
    for kind in [BackendKind::OnnxRuntime, BackendKind::OpenVino] {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let ask = |shape: [i64; 2]| {
            vec![
                fp32("x", &[4], &[1.0, 2.0, 3.0, 4.0]),
                NamedTensor::new("shape", Tensor::from_slice(&[2], &shape).unwrap()),
            ]
        };
        // Each graph is gone when the next one runs, on this thread as before.
        for _ in 0..5 {
            let graph = load(&runtime, kind, network("refuses.onnx"));
            for _ in 0..3 {
                let error = graph.compute(ask([7, 7]), None).await.unwrap_err();
                assert!(matches!(error, ComputeError::Backend(_)), "{kind}: {error}");
            }
            let answer = graph.compute(ask([2, 2]), None).await.unwrap();
            assert_eq!(answer[0].tensor.shape().dims(), [2, 2], "{kind}");
            graph.compute(ask([7, 7]), None).await.unwrap_err();
            drop(graph);
            let other = load(&runtime, kind, digits());
            other.compute(vec![digits_input(2)], None).await.unwrap();
        }
    }
}
