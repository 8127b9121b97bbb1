//! What the integration tests share: the native runtimes, the committed models and short ways to make tensors.

#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(
    dead_code,
    reason = "each test binary compiles this module and uses a part of it"
)]

use std::path::PathBuf;

use aegis_inference::{
    BackendChoice, BackendKind, Graph, GraphFiles, GraphSpec, NamedTensor, Runtime, RuntimeConfig,
    Tensor,
};

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The engines, if this one of them is there. Where it is not, the test is skipped with a line that says so; but under
/// `CI` or with `AEGIS_REQUIRE_RUNTIMES=1` it fails, so that nothing is skipped where it counts.
pub(crate) fn runtime_with(kind: BackendKind) -> Option<Engines> {
    let runtime = Runtime::new(RuntimeConfig::default());
    let status = runtime
        .backends()
        .into_iter()
        .find(|status| status.kind == kind)
        .expect("every backend has a status");
    if status.available {
        return Some(Engines(runtime));
    }
    let required = std::env::var_os("CI").is_some()
        || std::env::var("AEGIS_REQUIRE_RUNTIMES").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{kind} is required here (CI or AEGIS_REQUIRE_RUNTIMES=1 is set) and is not there: {}",
        status.detail
    );
    eprintln!(
        "SKIPPED: {kind} is not there; scripts/runtimes.sh brings it ({})",
        status.detail
    );
    None
}

/// The engines of one test. The last test to let go of them does so when every session has ended, as the process ends
/// soon after it.
pub(crate) struct Engines(Runtime);

impl std::ops::Deref for Engines {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.0
    }
}

impl Drop for Engines {
    fn drop(&mut self) {
        aegis_inference::sessions_ended(std::time::Duration::from_secs(10));
    }
}

pub(crate) fn onnx(path: impl Into<PathBuf>) -> GraphFiles {
    GraphFiles::Onnx(path.into())
}

/// A spec for this backend and file, named after the file.
pub(crate) fn spec(kind: BackendKind, file: PathBuf) -> GraphSpec {
    let name = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .expect("a file name")
        .to_owned();
    GraphSpec {
        backend: BackendChoice::Is(kind),
        ..GraphSpec::new(name, onnx(file))
    }
}

pub(crate) fn load(runtime: &Runtime, kind: BackendKind, file: PathBuf) -> Graph {
    runtime
        .load(&spec(kind, file))
        .unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn digits() -> PathBuf {
    root().join("models/digits/digits.onnx")
}

pub(crate) fn spam() -> PathBuf {
    root().join("models/spam/spam.onnx")
}

/// A network from `tests/networks`.
pub(crate) fn network(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/networks")
        .join(name)
}

pub(crate) fn fp32(name: &str, dims: &[u32], values: &[f32]) -> NamedTensor {
    NamedTensor::new(
        name,
        Tensor::from_slice(dims, values).expect("a right shape"),
    )
}

pub(crate) fn digits_input(batch: u32) -> NamedTensor {
    let values: Vec<f32> = (0..batch * 64).map(|index| (index % 17) as f32).collect();
    fp32("input", &[batch, 64], &values)
}
