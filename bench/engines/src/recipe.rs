//! What to feed each model whose speed is taken, and what is known of its answers.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{engine::Session, onnx::Signature, tensor::Tensor};

/// Tokens in a row given to the text model.
const TOKENS: usize = 16;

/// The file's name without its ending; a recipe goes by it.
pub fn model_name(path: &Path) -> &str {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
}

/// Repeatable numbers in 0..bound.
fn noise(count: usize, bound: u64) -> Vec<u64> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    (0..count).map(next).collect()
}

fn floats(shape: &[usize], bound: u64) -> Tensor {
    let values: Vec<f32> = noise(shape.iter().product(), bound)
        .into_iter()
        .map(|value| value as f32)
        .collect();
    Tensor::f32(shape, &values)
}

/// Inputs for a model, by its name, for a batch of `batch`.
pub fn inputs(path: &Path, signature: &Signature, batch: usize) -> Result<Vec<Tensor>> {
    let input = |name: &str| {
        Ok(match (model_name(path), name) {
            ("digits-mlp", _) => floats(&[batch, 64], 17),
            ("spam", _) => Tensor::f32(
                &[batch, 4096],
                &noise(batch * 4096, 50)
                    .into_iter()
                    .map(|v| f32::from(u8::from(v == 0)))
                    .collect::<Vec<_>>(),
            ),
            ("mlp-64-1024-1024-10", _) => floats(&[batch, 64], 2),
            ("minilm", "input_ids") => {
                let ids: Vec<i64> = noise(batch * TOKENS, 20_000)
                    .into_iter()
                    .map(|id| id as i64 + 1000)
                    .collect();
                Tensor::i64(&[batch, TOKENS], &ids)
            }
            ("minilm", "attention_mask") => Tensor::i64(&[batch, TOKENS], &vec![1; batch * TOKENS]),
            ("minilm", _) => Tensor::i64(&[batch, TOKENS], &vec![0; batch * TOKENS]),
            ("efficientnet-lite0", _) => floats(&[batch, 224, 224, 3], 256),
            (_, "sr") => Tensor::i64(&[], &[16_000]),
            (_, "state") => Tensor::f32(&[2, batch, 128], &vec![0.0; 2 * batch * 128]),
            (_, "input") => Tensor::f32(&[batch, 576], &vec![0.0; batch * 576]),
            (model, name) => bail!("no recipe for input {name:?} of {model:?}"),
        })
    };
    signature
        .inputs
        .iter()
        .map(|port| input(&port.name))
        .collect()
}

/// Holds a model against what is known of it: goldens, cosines, the value for silence.
pub fn check(path: &Path, session: &mut dyn Session) -> Result<String> {
    let golden = |name: &str| -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&std::fs::read(
            path.with_file_name(name),
        )?)?)
    };
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value
            .as_array()
            .map(|list| list.iter().filter_map(serde_json::Value::as_f64).collect())
            .unwrap_or_default()
    };
    match model_name(path) {
        "digits-mlp" => {
            let golden = golden("digits-golden.json")?;
            let cases = golden["cases"].as_array().context("no cases")?;
            let rows: Vec<f32> = cases
                .iter()
                .flat_map(|case| numbers(&case["input"]))
                .map(|v| v as f32)
                .collect();
            let got = session
                .run(&[Tensor::f32(&[cases.len(), 64], &rows)])?
                .remove(0)
                .as_f64();
            let want: Vec<f64> = cases
                .iter()
                .flat_map(|case| numbers(&case["probabilities"]))
                .collect();
            Ok(format!("goldens: {:.0e} off", furthest(&got, &want)))
        }
        "spam" => {
            let golden = golden("spam-golden.json")?;
            let cases = golden["cases"].as_array().context("no cases")?;
            let mut rows = vec![0f32; cases.len() * 4096];
            for (row, case) in rows.chunks_mut(4096).zip(cases) {
                for word in numbers(&case["indices"]) {
                    row[word as usize] = 1.0;
                }
            }
            let got = session
                .run(&[Tensor::f32(&[cases.len(), 4096], &rows)])?
                .remove(0)
                .as_f64();
            let want: Vec<f64> = cases
                .iter()
                .filter_map(|case| case["spam_probability"].as_f64())
                .collect();
            Ok(format!("goldens: {:.0e} off", furthest(&got, &want)))
        }
        "minilm" => {
            let sentences = golden("minilm-sentences.json")?;
            let shape = [3, TOKENS];
            let rows = |name: &str| -> Vec<i64> {
                let rows = sentences[name]
                    .as_array()
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                rows.iter().flat_map(numbers).map(|id| id as i64).collect()
            };
            let inputs = [
                rows("input_ids"),
                rows("attention_mask"),
                vec![0; 3 * TOKENS],
            ]
            .map(|v| Tensor::i64(&shape, &v));
            let vectors = session.run(&inputs)?.remove(0).as_f64();
            let row = |index: usize| &vectors[index * 384..(index + 1) * 384];
            let cosine = |a, b| row(a).iter().zip(row(b)).map(|(x, y)| x * y).sum::<f64>();
            Ok(format!(
                "cosines {:.4} {:.4} {:.4}",
                cosine(0, 1),
                cosine(0, 2),
                cosine(1, 2)
            ))
        }
        name if name.starts_with("silero") => {
            let signature = Signature::read(&std::fs::read(path)?)?;
            let silence = session
                .run(&inputs(path, &signature, 1)?)?
                .remove(0)
                .as_f64();
            Ok(format!(
                "silence {:.5}",
                silence.first().copied().unwrap_or(f64::NAN)
            ))
        }
        _ => Ok(String::new()),
    }
}

/// The greatest distance of two lists of numbers; infinite where their lengths differ.
pub fn furthest(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    got.iter()
        .zip(want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}
