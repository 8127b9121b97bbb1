//! Every tensor type passes through every backend that has it; what cannot pass is named.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use std::fmt::Debug;

use aegis_inference::{
    BackendChoice, BackendKind, ComputeError, Dim, Element, GraphSpec, NamedTensor, Precision,
    Runtime, Shape, Tensor, TensorType,
};
use bytes::Bytes;
use common::{fp32, load, network, runtime_with, spec};
use half::{bf16, f16};

async fn passes<T: Element + PartialEq + Debug>(
    runtime: &Runtime,
    kind: BackendKind,
    values: &[T],
) {
    let ty = T::TYPE;
    let graph = runtime
        .load(&GraphSpec {
            precision: Precision::BackendDefault,
            ..spec(kind, network(&format!("reshape-{ty}.onnx")))
        })
        .unwrap();
    assert_eq!(graph.signature().inputs[0].ty, Some(ty), "{kind}");
    assert_eq!(graph.signature().outputs[0].ty, Some(ty), "{kind}");
    let rows = u32::try_from(values.len() / 2).unwrap();
    let aligned = Tensor::from_slice(&[rows, 2], values).unwrap();

    // The same bytes one byte further on, so that they lie misaligned for all types but one.
    let mut shifted = vec![0];
    shifted.extend_from_slice(aligned.bytes());
    let misaligned =
        Tensor::from_bytes(ty, *aligned.shape(), Bytes::from(shifted).slice(1..)).unwrap();

    for tensor in [aligned, misaligned] {
        let answer = graph
            .compute(vec![NamedTensor::new("x", tensor)], None)
            .await
            .unwrap();
        assert_eq!(&*answer[0].name, "y", "{kind} {ty}");
        assert_eq!(
            answer[0].tensor.shape().dims(),
            [2 * rows, 1],
            "{kind} {ty}"
        );
        assert_eq!(answer[0].tensor.to_vec::<T>().unwrap(), values, "{kind}");
    }
}

#[tokio::test]
async fn all_seven_types_pass_through_onnxruntime() {
    let kind = BackendKind::OnnxRuntime;
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    passes(
        &runtime,
        kind,
        &[
            f16::from_f32(1.5),
            f16::MAX,
            f16::MIN_POSITIVE,
            f16::NEG_ONE,
        ],
    )
    .await;
    passes(
        &runtime,
        kind,
        &[1.5_f32, f32::MAX, f32::MIN_POSITIVE, -0.1],
    )
    .await;
    passes(
        &runtime,
        kind,
        &[1.5_f64, f64::MAX, f64::MIN_POSITIVE, -0.1],
    )
    .await;
    passes(
        &runtime,
        kind,
        &[
            bf16::from_f32(1.5),
            bf16::MAX,
            bf16::MIN_POSITIVE,
            bf16::NEG_ONE,
        ],
    )
    .await;
    passes(&runtime, kind, &[0_u8, 1, 128, 255]).await;
    passes(&runtime, kind, &[i32::MIN, -1, 0, i32::MAX]).await;
    passes(&runtime, kind, &[i64::MIN, -1, 0, i64::MAX]).await;
}

#[tokio::test]
async fn all_seven_types_pass_through_openvino() {
    let kind = BackendKind::OpenVino;
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    passes(
        &runtime,
        kind,
        &[
            f16::from_f32(1.5),
            f16::MAX,
            f16::MIN_POSITIVE,
            f16::NEG_ONE,
        ],
    )
    .await;
    passes(
        &runtime,
        kind,
        &[1.5_f32, f32::MAX, f32::MIN_POSITIVE, -0.1],
    )
    .await;
    passes(
        &runtime,
        kind,
        &[
            bf16::from_f32(1.5),
            bf16::MAX,
            bf16::MIN_POSITIVE,
            bf16::NEG_ONE,
        ],
    )
    .await;
    passes(&runtime, kind, &[0_u8, 1, 128, 255]).await;
    passes(&runtime, kind, &[i32::MIN, -1, 0, i32::MAX]).await;
    passes(
        &runtime,
        kind,
        &[i64::from(i32::MIN), -1, 0, i64::from(i32::MAX)],
    )
    .await;
    passes(&runtime, kind, &[1.5_f64, f64::from(f32::MAX), 0.0, -0.25]).await;
}

#[tokio::test]
async fn all_types_but_bf16_pass_through_the_embedded_engine() {
    let kind = BackendKind::Embedded;
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    passes(
        &runtime,
        kind,
        &[
            f16::from_f32(1.5),
            f16::MAX,
            f16::MIN_POSITIVE,
            f16::NEG_ONE,
        ],
    )
    .await;
    passes(
        &runtime,
        kind,
        &[1.5_f32, f32::MAX, f32::MIN_POSITIVE, -0.1],
    )
    .await;
    passes(
        &runtime,
        kind,
        &[1.5_f64, f64::MAX, f64::MIN_POSITIVE, -0.1],
    )
    .await;
    passes(&runtime, kind, &[0_u8, 1, 128, 255]).await;
    passes(&runtime, kind, &[i32::MIN, -1, 0, i32::MAX]).await;
    passes(&runtime, kind, &[i64::MIN, -1, 0, i64::MAX]).await;
    let error = runtime
        .load(&spec(kind, network("reshape-bf16.onnx")))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "graph `reshape-bf16` was not loaded by embedded: `x` is bf16, which the embedded engine does not compute: \
         use onnxruntime or openvino"
    );
}

#[tokio::test]
async fn openvino_refuses_what_it_would_silently_compute_in_fewer_bits() {
    let kind = BackendKind::OpenVino;
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let error = runtime
        .load(&spec(kind, network("reshape-fp64.onnx")))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "graph `reshape-fp64` was not loaded by openvino: `x` is fp64, which OpenVINO computes in fp32: \
         use onnxruntime, or allow it with precision backend-default"
    );
    let graph = load(&runtime, kind, network("reshape-i64.onnx"));
    let large = NamedTensor::new(
        "x",
        Tensor::from_slice(&[1, 2], &[1, i64::from(i32::MAX) + 1]).unwrap(),
    );
    assert_eq!(
        graph
            .compute(vec![large], None)
            .await
            .unwrap_err()
            .to_string(),
        "input `x` holds 2147483648: OpenVINO computes i64 in 32 bits, use onnxruntime for values beyond"
    );
}

#[tokio::test]
async fn openvino_refuses_a_network_whose_process_a_caller_could_end() {
    let Some(runtime) = runtime_with(BackendKind::OpenVino) else {
        return;
    };
    let asked = spec(BackendKind::OpenVino, network("steps.onnx"));
    assert_eq!(
        runtime.load(&asked).unwrap_err().to_string(),
        "graph `steps` was not loaded by openvino: `Range` (node `y`): its delta, `step`, is no constant, and a \
         caller must not set it on OpenVINO (zero ends the process): use onnxruntime, or make it a constant"
    );
    if runtime_with(BackendKind::OnnxRuntime).is_none() {
        return;
    }
    let graph = runtime
        .load(&GraphSpec {
            backend: BackendChoice::Auto,
            ..asked
        })
        .unwrap();
    assert_eq!(graph.backend(), BackendKind::OnnxRuntime);
    let error = graph.compute(steps(2, 10, 0), None).await.unwrap_err();
    assert!(matches!(error, ComputeError::Backend(_)), "{error}");
    let answer = graph.compute(steps(2, 10, 4), None).await.unwrap();
    assert_eq!(answer[0].tensor.to_vec::<i32>().unwrap(), [2, 6]);
}

/// The inputs of `steps.onnx`.
fn steps(from: i32, to: i32, step: i32) -> Vec<NamedTensor> {
    [("from", from), ("to", to), ("step", step)]
        .map(|(name, value)| NamedTensor::new(name, Tensor::from_slice(&[], &[value]).unwrap()))
        .into()
}

#[tokio::test]
async fn an_output_outside_the_seven_types_is_an_error_that_names_it() {
    for (kind, boolean, unsigned, string) in [
        (BackendKind::OnnxRuntime, "bool", "u32", "string"),
        (BackendKind::OpenVino, "boolean", "u32", "string"),
        (BackendKind::Embedded, "bool", "u32", "string"),
    ] {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        for (file, output, ty) in [
            ("to-bool.onnx", "positive", boolean),
            ("to-u32.onnx", "count", unsigned),
            ("to-string.onnx", "words", string),
        ] {
            let graph = match runtime.load(&spec(kind, network(file))) {
                Ok(graph) => graph,
                Err(error) => {
                    eprintln!("{error}");
                    continue;
                }
            };
            assert_eq!(graph.signature().outputs[0].ty, None);
            let error = graph
                .compute(vec![fp32("x", &[2], &[1.0, 2.0])], None)
                .await
                .unwrap_err();
            assert_eq!(
                error,
                ComputeError::Backend(format!(
                    "output `{output}` is of type {ty}, which cannot be carried: \
                     wasi:nn knows fp16, fp32, fp64, bf16, u8, i32 and i64"
                )),
                "{kind}"
            );
        }
    }
}

#[tokio::test]
async fn an_input_outside_the_seven_types_is_refused_before_it_queues() {
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let graph = load(&runtime, kind, network("from-bool.onnx"));
        let flag = NamedTensor::new(
            "flag",
            Tensor::zeros(TensorType::U8, Shape::new(&[1]).unwrap()),
        );
        let error = graph.compute(vec![flag], None).await.unwrap_err();
        assert!(
            matches!(&error, ComputeError::InvalidInput(words) if words.starts_with("input `flag` is of a type")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_output_whose_size_depends_on_the_values_has_its_real_shape() {
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let graph = load(&runtime, kind, network("nonzero.onnx"));
        assert_eq!(graph.signature().outputs[0].shape[1], Dim::Dynamic);
        for (values, places) in [
            (&[0.0, 5.0, 0.0, 2.0][..], &[1_i64, 3][..]),
            (&[0.0, 0.0], &[]),
        ] {
            let count = u32::try_from(values.len()).unwrap();
            let answer = graph
                .compute(vec![fp32("x", &[count], values)], None)
                .await
                .unwrap();
            assert_eq!(
                answer[0].tensor.shape().dims(),
                [1, u32::try_from(places.len()).unwrap()],
                "{kind}"
            );
            assert_eq!(answer[0].tensor.to_vec::<i64>().unwrap(), places, "{kind}");
        }
    }
}

#[tokio::test]
async fn no_rows_at_all_are_answered_with_no_rows() {
    let kind = BackendKind::OnnxRuntime;
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let graph = load(&runtime, kind, common::digits());
    let answer = graph
        .compute(vec![fp32("input", &[0, 64], &[])], None)
        .await
        .unwrap();
    assert_eq!(answer[0].tensor.shape().dims(), [0, 10]);
}

#[tokio::test]
async fn inputs_and_outputs_keep_the_models_names_and_order() {
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let graph = load(&runtime, kind, network("difference.onnx"));
        let names = |ports: &[aegis_inference::Port]| {
            ports
                .iter()
                .map(|port| port.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&graph.signature().inputs),
            ["left", "right", "offset"],
            "{kind}"
        );
        assert_eq!(
            names(&graph.signature().outputs),
            ["difference", "sum"],
            "{kind}"
        );
        let answer = graph
            .compute(
                vec![
                    fp32("offset", &[], &[0.5]),
                    fp32("right", &[3], &[1.0, 2.0, 3.0]),
                    fp32("left", &[3], &[10.0, 20.0, 30.0]),
                ],
                None,
            )
            .await
            .unwrap();
        assert_eq!(
            answer[0].tensor.to_vec::<f32>().unwrap(),
            [9.0, 18.0, 27.0],
            "{kind}"
        );
        assert_eq!(
            answer[1].tensor.to_vec::<f32>().unwrap(),
            [11.5, 22.5, 33.5],
            "{kind}"
        );
    }
}

#[tokio::test]
async fn outputs_that_are_one_tensor_inside_keep_their_own_names() {
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let graph = load(&runtime, kind, network("aliases.onnx"));
        let answer = graph
            .compute(vec![fp32("x", &[2], &[-1.0, 2.0])], None)
            .await
            .unwrap();
        let names: Vec<&str> = answer.iter().map(|output| &*output.name).collect();
        assert_eq!(names, ["second", "first"], "{kind}");
        for output in &answer {
            assert_eq!(output.tensor.to_vec::<f32>().unwrap(), [0.0, 2.0], "{kind}");
        }
    }
}

#[tokio::test]
async fn inputs_have_the_names_of_the_file_whatever_an_engine_makes_of_them() {
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        let graph = load(&runtime, kind, network("renamed.onnx"));
        let inputs = &graph.signature().inputs;
        let names: Vec<&str> = inputs.iter().map(|input| &*input.name).collect();
        assert_eq!(names, ["axes", "x", "z"], "{kind}");
        let axes = NamedTensor::new("axes", Tensor::from_slice::<i64>(&[0], &[]).unwrap());
        let numbers = [
            fp32("z", &[3], &[1.0, 2.0, 4.0]),
            fp32("x", &[2], &[-1.0, 2.0]),
        ];
        let answer = graph
            .compute([&numbers[..], &[axes]].concat(), None)
            .await
            .unwrap();
        let values = |index: usize| answer[index].tensor.to_vec::<f32>().unwrap();
        assert_eq!((&*answer[0].name, &*answer[1].name), ("y", "sum"), "{kind}");
        assert_eq!(
            (values(0), values(1)),
            (vec![-1.0, 2.0], vec![7.0]),
            "{kind}"
        );
        let missing = graph.compute(numbers.to_vec(), None).await.unwrap_err();
        assert!(missing.to_string().contains("`axes` is missing"), "{kind}");
    }
}

#[tokio::test]
async fn what_is_made_up_for_the_warm_up_is_no_size_or_step_of_zero() {
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        // OpenVINO does not load it: a caller could set a step of zero too.
        if kind == BackendKind::OpenVino {
            continue;
        }
        let graph = load(&runtime, kind, network("steps.onnx"));
        assert!(graph.stats().warm_up.is_some(), "{kind}");
        let answer = graph.compute(steps(2, 10, 3), None).await.unwrap();
        assert_eq!(
            answer[0].tensor.to_vec::<i32>().unwrap(),
            [2, 5, 8],
            "{kind}"
        );
    }
}
