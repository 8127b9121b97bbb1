//! ONNX's own node cases (PyPI `onnx` 1.20.0), through `wasi:nn` from a guest, on each backend: which of those that the
//! seven types of `wasi:nn` can carry give the answer that is due.
//!
//! What fails is listed in `tests/conformance/BACKEND.toml`, each case with its reason; a failure that is not listed
//! fails the test, and so does a listed case that passes. `UPDATE_CONFORMANCE=1` rewrites the lists: reasons stay, what
//! is new is marked for a human to explain. `docs/operators.md` is made of the lists.
//!
//! The cases come from `scripts/conformance.sh`, the guest from `scripts/handlers.sh`, the native runtimes from
//! `scripts/runtimes.sh`. Cases run in processes of their own (`parent`, `child`): a native library that crashes in one
//! of them ends no other.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod cases;
mod child;
mod compare;
mod failures;
mod page;
mod parent;
mod proto;

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use aegis_inference::{BackendKind, Runtime, RuntimeConfig};

use failures::{Failures, NEW};

/// The node cases of onnx 1.20.0.
const ALL: usize = 1653;

/// Those of them whose inputs and outputs are all tensors of types that `wasi:nn` has.
const CARRIED: usize = 1252;

#[test]
fn onnxruntime_fails_the_cases_that_are_listed_and_no_others() {
    hold(
        BackendKind::OnnxRuntime,
        "onnxruntime_fails_the_cases_that_are_listed_and_no_others",
    );
}

#[test]
fn openvino_fails_the_cases_that_are_listed_and_no_others() {
    hold(
        BackendKind::OpenVino,
        "openvino_fails_the_cases_that_are_listed_and_no_others",
    );
}

#[test]
fn the_embedded_engine_fails_the_cases_that_are_listed_and_no_others() {
    hold(
        BackendKind::Embedded,
        "the_embedded_engine_fails_the_cases_that_are_listed_and_no_others",
    );
}

/// Runs all cases on a backend and holds its list to what came of them. `test` is the calling test's own name: its
/// children are told apart from it by their environment.
fn hold(backend: BackendKind, test: &str) {
    if let Some(folder) = child::folder() {
        return child::run(&folder, backend);
    }
    if !cases::are_there() || !is_there(backend) {
        return;
    }
    let (all, carried) = cases::carried();
    assert_eq!((all, carried.len()), (ALL, CARRIED), "cases of onnx 1.20.0");
    let begun = Instant::now();
    let ended = parent::run(test, &carried);
    assert_eq!(ended.len(), CARRIED, "every case has an end");
    let failed: BTreeMap<String, String> = ended
        .into_iter()
        .filter_map(|(case, said)| Some((case, said?)))
        .collect();
    eprintln!(
        "{backend}: {} of {CARRIED} cases pass, in {:.0?}",
        CARRIED - failed.len(),
        begun.elapsed()
    );
    let listed = Failures::read(backend);
    if std::env::var_os("UPDATE_CONFORMANCE").is_some() {
        let listed = listed.updated(&failed);
        listed.write(backend);
        let new = listed.new_ones();
        assert!(
            new.is_empty(),
            "{backend}: {} failures are marked `{NEW}` in {}: put a reason there",
            new.len(),
            Failures::path(backend).display()
        );
        return;
    }
    let problems = listed.problems(&failed);
    assert!(
        problems.is_empty(),
        "{} is not what came of the cases on {backend}:\n{}\nUPDATE_CONFORMANCE=1 rewrites it, \
         for a human to say why",
        Failures::path(backend).display(),
        problems.join("\n")
    );
}

/// The repository's folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Whether a backend can serve. Where it must be there, its absence fails.
fn is_there(backend: BackendKind) -> bool {
    let states = Runtime::new(RuntimeConfig::default()).backends();
    let state = states.into_iter().find(|state| state.kind == backend);
    let state = state.unwrap();
    if !state.available {
        missing(&state.detail, "runtimes.sh");
    }
    state.available
}

/// Fails where nothing may be missing; says so where it may.
fn missing(what: &str, script: &str) {
    let required = ["CI", "AEGIS_REQUIRE_RUNTIMES"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    assert!(!required, "{what}; bring it with scripts/{script}");
    eprintln!("skipped: {what}; scripts/{script} brings it");
}
