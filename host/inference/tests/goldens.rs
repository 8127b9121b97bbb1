//! Every backend answers the committed models as the framework that trained them did.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod common;

use aegis_inference::{BackendKind, Dim, TensorType};
use common::{digits, fp32, load, root, runtime_with, spam};
use serde::Deserialize;

const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct DigitsGolden {
    cases: Vec<DigitsCase>,
}

#[derive(Deserialize)]
struct DigitsCase {
    input: Vec<f32>,
    label: usize,
    probabilities: Vec<f32>,
}

#[derive(Deserialize)]
struct SpamGolden {
    cases: Vec<SpamCase>,
}

#[derive(Deserialize)]
struct SpamCase {
    indices: Vec<usize>,
    spam_probability: f32,
}

fn golden<T: for<'de> Deserialize<'de>>(path: &str) -> T {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= TOLERANCE, "{got} is not {want}");
    }
}

async fn digits_agree(kind: BackendKind) {
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let graph = load(&runtime, kind, digits());
    assert_eq!(graph.backend(), kind);
    let input = &graph.signature().inputs[0];
    assert_eq!((&*input.name, input.ty), ("input", Some(TensorType::Fp32)));
    assert_eq!(input.shape, [Dim::Dynamic, Dim::Fixed(64)]);
    let output = &graph.signature().outputs[0];
    assert_eq!(
        (&*output.name, output.ty),
        ("probabilities", Some(TensorType::Fp32))
    );
    assert_eq!(output.shape, [Dim::Dynamic, Dim::Fixed(10)]);

    let golden: DigitsGolden = golden("models/digits/digits-golden.json");
    for case in &golden.cases {
        let answer = graph
            .compute(vec![fp32("input", &[1, 64], &case.input)], None)
            .await
            .unwrap();
        assert_eq!(answer.len(), 1);
        assert_eq!(&*answer[0].name, "probabilities");
        assert_eq!(answer[0].tensor.shape().dims(), [1, 10]);
        let got = answer[0].tensor.to_vec::<f32>().unwrap();
        assert_close(&got, &case.probabilities);
        let best = (0..10).max_by(|a, b| got[*a].total_cmp(&got[*b])).unwrap();
        assert_eq!(best, case.label);
    }

    // The same graph at another batch: the dynamic dimension is reported by its real size.
    let rows: Vec<f32> = (0..8)
        .flat_map(|row| golden.cases[row % golden.cases.len()].input.clone())
        .collect();
    let answer = graph
        .compute(vec![fp32("input", &[8, 64], &rows)], None)
        .await
        .unwrap();
    assert_eq!(answer[0].tensor.shape().dims(), [8, 10]);
    let got = answer[0].tensor.to_vec::<f32>().unwrap();
    for (row, got) in got.chunks(10).enumerate() {
        assert_close(got, &golden.cases[row % golden.cases.len()].probabilities);
    }
}

async fn spam_agrees(kind: BackendKind) {
    let Some(runtime) = runtime_with(kind) else {
        return;
    };
    let graph = load(&runtime, kind, spam());
    let golden: SpamGolden = golden("models/spam/spam-golden.json");
    for case in &golden.cases {
        let mut words = vec![0.0; 4096];
        for index in &case.indices {
            words[*index] = 1.0;
        }
        let answer = graph
            .compute(vec![fp32("words", &[1, 4096], &words)], None)
            .await
            .unwrap();
        assert_eq!(&*answer[0].name, "spam_probability");
        assert_eq!(answer[0].tensor.shape().dims(), [1, 1]);
        assert_close(
            &answer[0].tensor.to_vec::<f32>().unwrap(),
            &[case.spam_probability],
        );
    }
}

#[tokio::test]
async fn onnxruntime_agrees_on_digits() {
    digits_agree(BackendKind::OnnxRuntime).await;
}

#[tokio::test]
async fn onnxruntime_agrees_on_spam() {
    spam_agrees(BackendKind::OnnxRuntime).await;
}

#[tokio::test]
async fn openvino_agrees_on_digits() {
    digits_agree(BackendKind::OpenVino).await;
}

#[tokio::test]
async fn openvino_agrees_on_spam() {
    spam_agrees(BackendKind::OpenVino).await;
}

#[tokio::test]
async fn embedded_agrees_on_digits() {
    digits_agree(BackendKind::Embedded).await;
}

#[tokio::test]
async fn embedded_agrees_on_spam() {
    spam_agrees(BackendKind::Embedded).await;
}
