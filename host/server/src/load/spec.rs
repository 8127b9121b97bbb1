//! A manifest's words as the backends' and the sandbox's.

use std::{iter, time::Duration};

use aegis_inference::{
    BackendChoice, BackendKind, Batching, BatchingMode, GraphFiles, GraphSpec, Precision, Target,
};
use aegis_registry::{
    Manifest, PackageDir, PackagePath,
    manifest::{
        self, BatchAxis, EffectiveLimits, GraphBackend, GraphTarget, InitGrant as ManifestGrant,
        Precision as ManifestPrecision,
    },
};
use aegis_sandbox::{InitGrant, Limits as SandboxLimits, SessionBounds};
use aegis_telemetry::Limit;

pub(super) fn graph_spec(
    package: &PackageDir,
    graph: &manifest::Graph,
    limits: &EffectiveLimits,
    threads: usize,
) -> GraphSpec {
    let file = package.graph(graph);
    let weights = package.weights(graph);
    let (files, external_data) = match weights {
        Some(bin) if file.extension().is_some_and(|ext| ext == "xml") => {
            (GraphFiles::OpenVinoIr { xml: file, bin }, None)
        }
        weights => (GraphFiles::Onnx(file), weights),
    };
    let mut spec = GraphSpec::new(graph.name.clone(), files);
    spec.content = content(package, graph);
    spec.external_data = external_data;
    spec.backend = match graph.backend {
        GraphBackend::Auto => BackendChoice::Auto,
        GraphBackend::Onnxruntime => BackendChoice::Is(BackendKind::OnnxRuntime),
        GraphBackend::Openvino => BackendChoice::Is(BackendKind::OpenVino),
        GraphBackend::Embedded => BackendChoice::Is(BackendKind::Embedded),
    };
    spec.target = match graph.target {
        GraphTarget::Cpu => Target::Cpu,
        GraphTarget::Gpu => Target::Gpu,
    };
    spec.fallback = graph.fallback;
    spec.precision = match graph.precision {
        ManifestPrecision::F32 => Precision::F32,
        ManifestPrecision::BackendDefault => Precision::BackendDefault,
    };
    spec.intra_op_threads = graph.threads as usize;
    spec.sessions = match (graph.sessions, graph.target) {
        (Some(sessions), _) => sessions as usize,
        // They share the weights, and a thread for each is only started when there is work for it.
        (None, GraphTarget::Cpu) => (threads / spec.intra_op_threads.max(1)).max(1),
        (None, GraphTarget::Gpu) => 1,
    };
    spec.batching = batching(graph.batching.as_ref());
    // Admission lets at most this many of the model's requests in, and each waits for at
    // most one graph at a time: the graph's queue is never the narrower one.
    spec.queue_capacity = (limits.max_concurrency as usize).max(1);
    spec
}

/// The digests of a graph's files, the network's first.
fn content(package: &PackageDir, graph: &manifest::Graph) -> Option<String> {
    let digest = |path: &PackagePath| {
        let file = package.files().iter().find(|file| file.path == *path)?;
        Some(file.digest.to_string())
    };
    let files = iter::once(&graph.file).chain(&graph.weights);
    let digests: Option<Vec<_>> = files.map(digest).collect();
    Some(digests?.join(" "))
}

/// How requests share runs: as the manifest says, else where it is safe and gains.
fn batching(asked: Option<&manifest::Batching>) -> Batching {
    let settings = match asked {
        None => {
            return Batching {
                mode: BatchingMode::Auto,
                ..Batching::default()
            };
        }
        Some(manifest::Batching::Off) => return Batching::default(),
        Some(manifest::Batching::On(settings)) => settings,
    };
    Batching {
        mode: BatchingMode::On,
        max_rows: settings.max_batch_size,
        max_wait: Duration::from_millis(settings.max_latency_ms.into()),
        preferred_rows: settings.preferred_batch_sizes.clone(),
        axes: settings
            .axes
            .iter()
            .map(|(name, axis)| {
                let axis = match axis {
                    BatchAxis::At(axis) => Some(*axis as usize),
                    BatchAxis::Shared => None,
                };
                (name.clone(), axis)
            })
            .collect(),
    }
}

pub(super) const MIB: usize = 1 << 20;

/// The sandbox's word for a limit as the metrics'.
pub(crate) fn limit_label(limit: aegis_sandbox::Limit) -> Limit {
    let known = (Limit::ALL.iter()).find(|known| known.as_str() == limit.as_str());
    // A test holds that every word of the sandbox is one of the metrics.
    *known.unwrap_or(&Limit::Memory)
}

pub(super) fn sandbox_limits(limits: &EffectiveLimits) -> SandboxLimits {
    SandboxLimits {
        memory_bytes: limits.memory_mib as usize * MIB,
        timeout: Duration::from_millis(limits.timeout_ms.into()),
        init_timeout: Duration::from_millis(limits.init_timeout_ms.into()),
        tensor_bytes: limits.tensor_mib as usize * MIB,
        log_bytes: limits.log_kib as usize * 1024,
        response_bytes: limits.response_mib as usize * MIB,
        handles: limits.handles as usize,
        tensors: limits.tensors as usize,
        contexts: limits.contexts as usize,
        table_elements: limits.table_elements as usize,
        tables: limits.tables as usize,
        memories: limits.memories as usize,
        core_instances: limits.core_instances as usize,
        graphs: limits.graphs as usize,
        graph_bytes: limits.graph_mib as usize * MIB,
        compile_time: Duration::from_millis(limits.compile_ms.into()),
        compile_bytes: u64::from(limits.compile_mib) << 20,
    }
}

pub(super) fn session_bounds(limits: &EffectiveLimits) -> SessionBounds {
    SessionBounds {
        value_bytes: limits.session_kib as usize * 1024,
        sessions: limits.sessions as usize,
        bytes: limits.session_mib as usize * MIB,
        time_to_live: Duration::from_secs(limits.session_ttl_s.into()),
    }
}

pub(super) fn init_grants(manifest: &Manifest) -> Vec<InitGrant> {
    manifest
        .sandbox
        .init_grants
        .iter()
        .map(|grant| match grant {
            ManifestGrant::SecureRandom => InitGrant::SecureRandom,
            ManifestGrant::WallClock => InitGrant::WallClock,
        })
        .collect()
}
