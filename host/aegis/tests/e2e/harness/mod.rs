//! What the claims stand on: a server process, packages to upload to it, and its answers,
//! metrics and log lines to look at.

mod answer;
mod callers;
mod collector;
mod command;
mod lines;
mod metrics;
mod package;
mod raw;
mod server;
mod sink;
mod store_wire;
mod tokens;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) use answer::Answer;
pub(crate) use callers::{Callers, Tally};
pub(crate) use collector::Collector;
pub(crate) use command::{Aegis, complained, said};
pub(crate) use metrics::Metrics;
pub(crate) use package::{Package, network_file, package_on, read as file};
pub(crate) use raw::Raw;
pub(crate) use server::{BINARY, Server, Start, send};
pub(crate) use sink::{Received, SpanSeen};
pub(crate) use store_wire::{Fate, StoreWire};
pub(crate) use tokens::Tokens;

/// How long anything may take to come about, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(180);

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

/// Whether the model `efficientnet` is there. Where it must be, its absence fails.
pub(crate) fn efficientnet() -> bool {
    let files = ["model.toml", "efficientnet.wasm", "efficientnet-lite0.onnx"];
    is_there(".models/efficientnet", &files, "efficientnet.sh")
}

/// Whether the model `guard` is there. Where it must be, its absence fails.
pub(crate) fn guard() -> bool {
    let files = ["model.toml", "guard.wasm", "minilm.onnx", "injection.onnx"];
    is_there(".models/guard", &files, "guard.sh")
}

/// Whether the model `vad` is there. Where it must be, its absence fails.
pub(crate) fn vad() -> bool {
    is_there(
        ".models/vad",
        &["model.toml", "vad.wasm", "silero.onnx"],
        "vad.sh",
    )
}

/// Whether the collector that telemetry is sent to is there. Where it must be, its absence fails.
fn rotel() -> bool {
    is_there(".tools/rotel", &["rotel-agent"], "telemetry-tools.sh")
}

/// Prometheus' own checker, from the path. Where it must be, its absence fails.
pub(crate) fn promtool() -> Option<PathBuf> {
    tool_on_path("promtool", "k8s-tools.sh")
}

/// A program from the path. Where it must be, its absence fails.
pub(crate) fn tool_on_path(name: &str, script: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        missing(&format!("there is no {name} on the path"), script);
    }
    found
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
    let missing_files = missing.join(" and no ");
    self::missing(&format!("{folder} has no {missing_files}"), script);
    false
}

/// Fails where nothing may be missing; says so where it may.
fn missing(what: &str, script: &str) {
    let required = ["CI", "AEGIS_REQUIRE_RUNTIMES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    assert!(!required, "{what}; bring it with scripts/{script}");
    eprintln!("skipped: {what}; scripts/{script} brings it");
}
