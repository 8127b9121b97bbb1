//! One loaded version of a model: what answers, its door, its metrics.

use std::{sync::Arc, time::Duration};

use aegis_inference::{BackendKind, Graph};
use aegis_registry::{Digest, ModelName, Version};
use aegis_telemetry::{GaugeHandle, VersionMetrics};

use crate::{
    admission::Admission,
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
    pub(crate) metrics: VersionMetrics,
    /// Wall time of one request.
    pub(crate) timeout: Duration,
    /// The largest body of one request.
    pub(crate) request_bytes: usize,
    /// What it takes without its ready instances, estimated, in bytes.
    pub(crate) bytes: u64,
    pub(crate) last_use: LastUse,
    /// The series of `aegis_inference_queue_depth`, there while the version is.
    pub(crate) _queue_depth: GaugeHandle,
}

impl LoadedVersion {
    /// What it takes now, estimated, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let ready = match &self.predictor {
            Predictor::Handler(handler) => handler.stats().ready,
            Predictor::Direct(_) | Predictor::Native(_) => 0,
        };
        self.bytes + ready as u64 * INSTANCE_BYTES
    }

    /// The backends that serve, by graph.
    pub(crate) fn backends(&self) -> Vec<(&str, BackendKind)> {
        self.graphs
            .iter()
            .map(|graph| (graph.name(), graph.backend()))
            .collect()
    }
}
