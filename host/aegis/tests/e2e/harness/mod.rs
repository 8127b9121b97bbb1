//! What the claims stand on: a server process, packages to upload to it, and its answers,
//! metrics and log lines to look at.

mod answer;
mod command;
mod lines;
mod metrics;
mod package;
mod raw;
mod server;
mod tokens;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) use answer::Answer;
pub(crate) use command::{Aegis, complained, said};
pub(crate) use metrics::Metrics;
pub(crate) use package::{Package, network_file, read as file};
pub(crate) use raw::Raw;
pub(crate) use server::{BINARY, Server, Start, send};
pub(crate) use tokens::Tokens;

/// How long anything may take to come about, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .canonicalize()
        .expect("the repository's folder")
}

/// A JSON file of the repository.
pub(crate) fn json_file(path: &str) -> Value {
    let path = root().join(path);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Looks again until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether ONNX Runtime and OpenVINO are there. Where they must be, their absence fails.
pub(crate) fn native_runtimes() -> bool {
    is_there(".runtimes", &["onnxruntime", "openvino"], "runtimes.sh")
}

/// Whether the model `embeddings` is there. Where it must be, its absence fails.
pub(crate) fn embeddings() -> bool {
    let files = ["model.toml", "embeddings.wasm", "minilm.onnx"];
    is_there(".models/embeddings", &files, "embeddings.sh")
}

/// Whether a script has brought these into a folder of the repository.
fn is_there(folder: &str, names: &[&str], script: &str) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !root().join(folder).join(name).exists())
        .copied()
        .collect();
    if missing.is_empty() {
        return true;
    }
    let required = ["CI", "AEGIS_REQUIRE_RUNTIMES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    assert!(
        !required,
        "{folder} has no {}; bring it with scripts/{script}",
        missing.join(" and no ")
    );
    eprintln!("skipped: {folder} has no {missing:?}; scripts/{script} brings it");
    false
}
