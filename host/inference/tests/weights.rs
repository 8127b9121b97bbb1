//! What more sessions of a graph cost: not its weights once more. In a process of its own, as it measures the process.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::fs;

use aegis_inference::{BackendKind, GraphSpec};
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

#[cfg(target_os = "linux")]
#[test]
fn sessions_of_one_graph_share_its_weights() {
    let file = root().join(".models/embeddings/minilm.onnx");
    if !file.exists() {
        assert!(
            std::env::var_os("CI").is_none()
                && std::env::var_os("AEGIS_REQUIRE_RUNTIMES").is_none(),
            "{} is required here: scripts/embeddings.sh brings it",
            file.display()
        );
        eprintln!("SKIPPED: scripts/embeddings.sh brings the network");
        return;
    }
    let weights = fs::metadata(&file).unwrap().len();
    for kind in [
        BackendKind::OnnxRuntime,
        BackendKind::OpenVino,
        BackendKind::Embedded,
    ] {
        let Some(runtime) = runtime_with(kind) else {
            continue;
        };
        // What the engine keeps from its first load is not the second one's.
        let load = |sessions| {
            runtime
                .load(&GraphSpec {
                    sessions,
                    ..spec(kind, file.clone())
                })
                .unwrap()
        };
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
            "{kind}: one session takes {} MiB, eight take {} MiB, of a file of {} MiB",
            first >> 20,
            second >> 20,
            weights >> 20
        );
        eprintln!(
            "{kind}: one session {} MiB, eight {} MiB, file {} MiB",
            first >> 20,
            second >> 20,
            weights >> 20
        );
        drop((one, eight));
    }
}
