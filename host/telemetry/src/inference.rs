//! The `aegis_*` metrics: a handle for each served version and one for each of its graphs, made when
//! they are loaded. The rooms above say what happened; names and labels are kept here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter};
use parking_lot::{Mutex, RwLock};

use crate::gauge::{Fold, GaugeHandle, ObservedGauge};
use crate::label;
use crate::outcome::{CircuitState, Limit, Outcome, TrapReason, UnloadReason};
use crate::safety::Reasons;
use crate::table::metric;
use crate::telemetry::{counter, histogram};

/// The instruments of all models.
pub struct InferenceMetrics {
    requests: Counter<u64>,
    latency: Histogram<f64>,
    batch_size: Histogram<f64>,
    queue: Histogram<f64>,
    compute: Histogram<f64>,
    safety_flags: Counter<u64>,
    traps: Counter<u64>,
    refusals: Counter<u64>,
    instantiate: Histogram<f64>,
    queue_depth: ObservedGauge,
    loaded: ObservedGauge,
    resident: ObservedGauge,
    store_reachable: ObservedGauge,
    unloads: Box<[BoundCounter<u64>]>,
    circuit: ObservedGauge,
    weight: ObservedGauge,
    /// Reasons are bounded by model, so a model's versions share one list. As long-lived as the
    /// series they bound.
    reasons: Mutex<HashMap<String, Arc<Reasons>>>,
}

impl fmt::Debug for InferenceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferenceMetrics").finish_non_exhaustive()
    }
}

impl InferenceMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        let unloads = counter(meter, &metric::MODEL_UNLOADS);
        let metrics = Self {
            requests: counter(meter, &metric::INFERENCE_REQUESTS),
            latency: histogram(meter, &metric::INFERENCE_LATENCY),
            batch_size: histogram(meter, &metric::INFERENCE_BATCH_SIZE),
            queue: histogram(meter, &metric::INFERENCE_QUEUE),
            compute: histogram(meter, &metric::INFERENCE_COMPUTE),
            safety_flags: counter(meter, &metric::SAFETY_FLAGS),
            traps: counter(meter, &metric::HANDLER_TRAPS),
            refusals: counter(meter, &metric::LIMIT_REFUSALS),
            instantiate: histogram(meter, &metric::HANDLER_INSTANTIATE),
            queue_depth: ObservedGauge::new(meter, &metric::INFERENCE_QUEUE_DEPTH, Fold::Sum),
            loaded: ObservedGauge::new(meter, &metric::MODEL_LOADED, Fold::Newest),
            resident: ObservedGauge::new(meter, &metric::MODELS_RESIDENT, Fold::Sum),
            store_reachable: ObservedGauge::new(meter, &metric::STORE_REACHABLE, Fold::Sum),
            unloads: UnloadReason::ALL
                .iter()
                .map(|reason| unloads.bind(&with(&[], "reason", reason.as_str())))
                .collect(),
            circuit: ObservedGauge::new(meter, &metric::CIRCUIT_STATE, Fold::Newest),
            weight: ObservedGauge::new(meter, &metric::TRAFFIC_WEIGHT, Fold::Newest),
            reasons: Mutex::new(HashMap::new()),
        };
        metrics.bind_refusals(NO_MODEL);
        metrics
    }

    /// The counters of a model's limits, which from then on exist at zero.
    fn bind_refusals(&self, model: &str) -> Box<[BoundCounter<u64>]> {
        Limit::ALL
            .iter()
            .map(|limit| self.refusals.bind(&refusal_labels(model, *limit)))
            .collect()
    }

    /// An upload was refused for a limit. `model` is one that there is; anything else that an
    /// upload calls itself must not become a series.
    pub fn upload_refused(&self, model: Option<&str>, limit: Limit) {
        let model = model.map_or_else(|| NO_MODEL.to_owned(), label::value);
        self.refusals.add(1, &refusal_labels(&model, limit));
    }

    /// The handle of one version of a model, made when it starts to load and kept while it serves.
    /// All its series exist at zero from here on, whatever the outcome or reason. Until told
    /// otherwise it is not loaded, has no traffic, and its circuit is closed.
    pub fn version(&self, model: &str, version: u64) -> VersionMetrics {
        let model = label::value(model);
        let version = version.to_string();
        let by_version =
            label::attributes([("model", model.clone()), ("model_version", version.clone())]);
        let state = Arc::new(VersionState::default());
        let gauge = |gauge: &ObservedGauge, read: fn(&VersionState) -> f64| {
            let state = Arc::clone(&state);
            gauge.register(by_version.clone(), move || read(&state))
        };
        let handle = VersionMetrics {
            requests: Outcome::ALL
                .iter()
                .map(|outcome| {
                    self.requests
                        .bind(&with(&by_version, "outcome", outcome.as_str()))
                })
                .collect(),
            latency: self.latency.bind(&by_version),
            traps: TrapReason::ALL
                .iter()
                .map(|reason| {
                    self.traps.bind(&label::attributes([
                        ("model", model.clone()),
                        ("reason", reason.as_str().to_owned()),
                    ]))
                })
                .collect(),
            refusals: self.bind_refusals(&model),
            instantiate: self
                .instantiate
                .bind(&label::attributes([("model", model.clone())])),
            safety_flags: self.safety_flags.clone(),
            reasons: Arc::clone(self.reasons.lock().entry(model).or_default()),
            flags: RwLock::new(HashMap::new()),
            _gauges: [
                gauge(&self.loaded, |state| {
                    f64::from(u8::from(state.loaded.load(Ordering::Relaxed)))
                }),
                gauge(&self.circuit, |state| {
                    f64::from(state.circuit.load(Ordering::Relaxed))
                }),
                gauge(&self.weight, |state| {
                    f64::from_bits(state.weight.load(Ordering::Relaxed))
                }),
            ],
            labels: by_version,
            state,
        };
        handle.expect_safety_flag(label::OTHER);
        handle
    }

    /// The handle of one loaded graph; `backend` is the one that serves it, not the one asked for.
    pub fn graph(&self, model: &str, graph: &str, backend: &str) -> GraphMetrics {
        let labels = label::attributes([
            ("model", label::value(model)),
            ("graph", label::value(graph)),
            ("backend", label::value(backend)),
        ]);
        GraphMetrics {
            batch_size: self.batch_size.bind(&labels),
            queue: self.queue.bind(&labels),
            compute: self.compute.bind(&labels),
        }
    }

    /// Registers how to read what the loaded versions take together, in bytes: `read` is called at
    /// each scrape, must not block for long and must not call telemetry.
    pub fn resident_bytes(&self, read: impl Fn() -> u64 + Send + Sync + 'static) -> GaugeHandle {
        self.resident.register(Vec::new(), move || read() as f64)
    }

    /// Registers how to read whether the store of models answers: `read` is called at each scrape,
    /// must not block and must not call telemetry.
    pub fn store_reachable(&self, read: impl Fn() -> bool + Send + Sync + 'static) -> GaugeHandle {
        let read = move || f64::from(u8::from(read()));
        self.store_reachable.register(Vec::new(), read)
    }

    /// A version was unloaded.
    pub fn unloaded(&self, reason: UnloadReason) {
        if let Some(unloads) = self.unloads.get(reason as usize) {
            unloads.add(1);
        }
    }

    /// Registers how to read a model's queue depth: `read` is called at each scrape, must not block
    /// and must not call telemetry. Several sources of one model add up (its versions' queues). The
    /// series goes with the last handle.
    pub fn queue_depth(
        &self,
        model: &str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> GaugeHandle {
        self.queue_depth.register(
            label::attributes([("model", label::value(model))]),
            move || read() as f64,
        )
    }
}

/// What stands for the model that an upload would have made.
const NO_MODEL: &str = "-";

fn refusal_labels(model: &str, limit: Limit) -> Vec<KeyValue> {
    label::attributes([
        ("model", model.to_owned()),
        ("limit", limit.as_str().to_owned()),
    ])
}

fn with(labels: &[KeyValue], key: &'static str, value: &str) -> Vec<KeyValue> {
    let mut labels = labels.to_vec();
    labels.push(KeyValue::new(key, value.to_owned()));
    labels
}

#[derive(Default)]
struct VersionState {
    loaded: AtomicBool,
    circuit: AtomicU8,
    /// The bits of an `f64`; zero bits are 0.0.
    weight: AtomicU64,
}

/// What one version of a model records. Its gauges are there while it lives; its counters and
/// histograms stay, as Prometheus wants them to.
pub struct VersionMetrics {
    /// In the order of [`Outcome::ALL`].
    requests: Box<[BoundCounter<u64>]>,
    latency: BoundHistogram<f64>,
    /// In the order of [`TrapReason::ALL`].
    traps: Box<[BoundCounter<u64>]>,
    /// In the order of [`Limit::ALL`].
    refusals: Box<[BoundCounter<u64>]>,
    instantiate: BoundHistogram<f64>,
    safety_flags: Counter<u64>,
    reasons: Arc<Reasons>,
    /// Counters by the label value of the reason; as many as [`Reasons`] admits, and `other`.
    flags: RwLock<HashMap<String, BoundCounter<u64>>>,
    labels: Vec<KeyValue>,
    state: Arc<VersionState>,
    _gauges: [GaugeHandle; 3],
}

impl fmt::Debug for VersionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionMetrics")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl VersionMetrics {
    /// A prediction has ended so, `latency` after admission was asked for. The latency is recorded
    /// only of those that ran ([`Outcome::ran`]).
    pub fn request(&self, outcome: Outcome, latency: Duration) {
        if let Some(requests) = self.requests.get(outcome as usize) {
            requests.add(1);
        }
        if outcome.ran() {
            self.latency.record(latency.as_secs_f64());
        }
    }

    /// The handler trapped or was stopped.
    pub fn trap(&self, reason: TrapReason) {
        if let Some(traps) = self.traps.get(reason as usize) {
            traps.add(1);
        }
    }

    /// A limit refused something, this often.
    pub fn refused(&self, limit: Limit, times: u32) {
        if let Some(refusals) = self.refusals.get(limit as usize) {
            refusals.add(times.into());
        }
    }

    /// A fresh instance was made in this time.
    pub fn instantiated(&self, took: Duration) {
        self.instantiate.record(took.as_secs_f64());
    }

    /// The handler raised a safety flag. `reason` is the guest's word: it is made plain
    /// (`[a-z0-9_]`, at most 32 characters), and beyond 32 reasons a model counts as `other`.
    pub fn safety_flag(&self, reason: &str) {
        // The usual word is known and plain already: no allocation, a shared lock.
        if let Some(flag) = self.flags.read().get(reason) {
            flag.add(1);
            return;
        }
        self.with_flag(reason, 1);
    }

    /// The handler may raise this flag: its series exists at zero from here on.
    pub fn expect_safety_flag(&self, reason: &str) {
        self.with_flag(reason, 0);
    }

    fn with_flag(&self, reason: &str, count: u64) {
        let reason = self.reasons.admit(reason);
        let mut flags = self.flags.write();
        flags
            .entry(reason)
            .or_insert_with_key(|reason| {
                self.safety_flags
                    .bind(&with(&self.labels, "reason", reason))
            })
            .add(count);
    }

    /// Whether the version is loaded and warm.
    pub fn loaded(&self, loaded: bool) {
        self.state.loaded.store(loaded, Ordering::Relaxed);
    }

    /// Where the version's circuit breaker stands.
    pub fn circuit(&self, state: CircuitState) {
        self.state.circuit.store(state as u8, Ordering::Relaxed);
    }

    /// The version's share of its model's traffic, 0 to 1; what is not a number counts as 0.
    pub fn traffic_weight(&self, share: f64) {
        let share = if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        };
        self.state.weight.store(share.to_bits(), Ordering::Relaxed);
    }
}

/// What one loaded graph records.
pub struct GraphMetrics {
    batch_size: BoundHistogram<f64>,
    queue: BoundHistogram<f64>,
    compute: BoundHistogram<f64>,
}

impl fmt::Debug for GraphMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphMetrics").finish_non_exhaustive()
    }
}

impl GraphMetrics {
    /// The graph ran once, for `batch_size` requests, the first of which had waited `queue`, and
    /// took `compute`.
    pub fn ran(&self, batch_size: usize, queue: Duration, compute: Duration) {
        self.batch_size.record(batch_size as f64);
        self.queue.record(queue.as_secs_f64());
        self.compute.record(compute.as_secs_f64());
    }
}
