//! What more sessions of a graph cost, and more graphs of one network: not the weights once more. In a process of its own,
//! as it measures the process.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis_inference::{
    BackendKind, Batching, BatchingMode, Graph, GraphFiles, GraphSpec, NamedTensor, Runtime,
    Tensor, Terms,
};
use common::{root, runtime_with, spec};

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// A network with weights that show, if it is there.
fn minilm() -> Option<PathBuf> {
    let file = root().join(".models/embeddings/minilm.onnx");
    if !file.exists() {
        assert!(
            std::env::var_os("CI").is_none()
                && std::env::var_os("AEGIS_REQUIRE_RUNTIMES").is_none(),
            "{} is required here: scripts/embeddings.sh brings it",
            file.display()
        );
        eprintln!("SKIPPED: scripts/embeddings.sh brings the network");
        return None;
    }
    Some(file)
}

/// One test, as two at once would measure each other.
#[cfg(target_os = "linux")]
#[test]
fn sessions_of_one_graph_and_graphs_of_one_content_share_weights() {
    let Some(file) = minilm() else { return };
    for kind in BackendKind::ALL {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        sessions_share(&runtime, &spec(kind, file.clone()));
        graphs_share(&runtime, &spec(kind, file.clone()));
    }
}

fn sessions_share(runtime: &Runtime, spec: &GraphSpec) {
    let weights = fs::metadata(file_of(spec)).unwrap().len();
    let load = |sessions| {
        let spec = GraphSpec {
            sessions,
            ..spec.clone()
        };
        runtime.load(&spec).unwrap()
    };
    // What the engine keeps from its first load is not the second one's.
    drop(load(1));
    let before = resident();
    let one = load(1);
    let with_one = resident();
    let eight = load(8);
    let with_eight = resident();
    let (first, second) = (
        with_one.saturating_sub(before),
        with_eight.saturating_sub(with_one),
    );
    // Seven more copies would be seven times the file.
    assert!(
        second < first + 3 * weights,
        "{}: one session takes {} MiB, eight take {} MiB, of a file of {} MiB",
        spec.backend,
        first >> 20,
        second >> 20,
        weights >> 20
    );
    drop((one, eight));
}

fn graphs_share(runtime: &Runtime, spec: &GraphSpec) {
    let weights = fs::metadata(file_of(spec)).unwrap().len();
    let waiting = |max_wait| GraphSpec {
        content: Some("minilm".to_owned()),
        // Both are tried in company: the embedded engine keeps something of each number of rows.
        batching: Batching {
            mode: BatchingMode::On,
            max_rows: 4,
            max_wait,
            ..Batching::default()
        },
        ..spec.clone()
    };
    let (at_once, patient) = (waiting(Duration::ZERO), waiting(Duration::from_millis(5)));
    let first = runtime.load(&at_once).unwrap();
    let before = resident();
    let second = runtime.load(&patient).unwrap();
    let taken = resident().saturating_sub(before);
    assert_eq!((first.sharers(), second.sharers()), (2, 2));
    assert!(
        taken < weights / 2,
        "{}: the second graph takes {} MiB, of a file of {} MiB",
        spec.backend,
        taken >> 20,
        weights >> 20
    );
    assert_eq!(first.batching().max_wait, at_once.batching.max_wait);
    assert_eq!(second.batching().max_wait, patient.batching.max_wait);
    let expected = answer(&first);
    drop(first);
    // What is left answers as the first did, and is found by a third.
    let third = runtime.load(&at_once).unwrap();
    drop(second);
    assert_eq!(answer(&third), expected);
}

fn file_of(spec: &GraphSpec) -> &Path {
    match &spec.files {
        GraphFiles::Onnx(file) => file,
        GraphFiles::OpenVinoIr { xml, .. } => xml,
    }
}

fn answer(graph: &Graph) -> Vec<NamedTensor> {
    let ids = |value| Tensor::from_slice(&[1, 4], &[value; 4]).unwrap();
    let ports = graph.signature().inputs.iter();
    let inputs = ports.map(|port| NamedTensor::new(&*port.name, ids(1_i64)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime
        .block_on(graph.compute(inputs.collect(), Terms::default()))
        .unwrap()
}
