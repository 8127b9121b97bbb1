//! One loaded version of a model: what answers, its door, its metrics.

use std::{sync::Arc, time::Duration};

use aegis_inference::{BackendKind, Graph};
use aegis_registry::{Digest, ModelName, Version};
use aegis_telemetry::{GaugeHandle, VersionMetrics};

use crate::{
    admission::Admission,
    breaker::Breaker,
    canary::observed::Observed,
    predictor::Predictor,
    residency::{INSTANCE_BYTES, LastUse},
};

/// A version that can take requests.
pub(crate) struct LoadedVersion {
    pub(crate) name: ModelName,
    pub(crate) version: Version,
    pub(crate) digest: Digest,
    pub(crate) predictor: Predictor,
    pub(crate) graphs: Vec<Graph>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Arc<VersionMetrics>,
    /// `None`: it never gets out of the way.
    pub(crate) breaker: Option<Arc<Breaker>>,
    /// Whether a request that it failed may run again, on another version.
    pub(crate) idempotent: bool,
    /// Wall time of one request.
    pub(crate) timeout: Duration,
    /// The largest body of one request.
    pub(crate) request_bytes: usize,
    /// What it takes without its networks and ready instances, estimated, in bytes.
    pub(crate) bytes: u64,
    /// What the network of each of `graphs` takes, in their order, in bytes.
    pub(crate) weights: Vec<u64>,
    pub(crate) last_use: LastUse,
    /// How requests went that came by the traffic rule.
    pub(crate) observed: Arc<Observed>,
    /// The series of `aegis_inference_queue_depth`, there while the version is.
    pub(crate) _queue_depth: GaugeHandle,
    /// Likewise of `aegis_concurrency_limit`; `None` for native code.
    pub(crate) _concurrency_limit: Option<GaugeHandle>,
}

impl LoadedVersion {
    /// What it takes now, estimated, in bytes. Of a network that several versions have, each takes its part.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let ready = match &self.predictor {
            Predictor::Handler(handler) => handler.stats().ready,
            Predictor::Direct(_) | Predictor::Native(_) => 0,
        };
        let networks = self.graphs.iter().zip(&self.weights);
        let weights: u64 = networks
            .map(|(graph, bytes)| bytes / graph.sharers().max(1) as u64)
            .sum();
        self.bytes + weights + ready as u64 * INSTANCE_BYTES
    }

    /// The backends that serve, by graph.
    pub(crate) fn backends(&self) -> Vec<(&str, BackendKind)> {
        self.graphs
            .iter()
            .map(|graph| (graph.name(), graph.backend()))
            .collect()
    }
}
