//! The `aegis_*` metrics: a handle for each served version and one for each of its graphs, made when
//! they are loaded. The rooms above say what happened; names and labels are kept here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::metrics::{BoundCounter, BoundHistogram};

use crate::gauge::{Fold, GaugeHandle, ObservedGauge};
use crate::group::Groups;
use crate::label;
use crate::outcome::{
    CircuitState, Limit, Outcome, RolloutChange, SessionEviction, ShadowResult, TrapReason,
    UnloadReason,
};
use crate::series::{Known, VersionSeries, bind_all, words};
use crate::table::metric;
use crate::telemetry::counter;

/// The instruments of all models.
pub struct InferenceMetrics {
    known: Known,
    /// Of uploads that no model was made of, in the order of [`Limit::ALL`].
    nobodys_refusals: Box<[BoundCounter<u64>]>,
    sessions: ObservedGauge,
    session_bytes: ObservedGauge,
    queue_depth: ObservedGauge,
    loaded: ObservedGauge,
    resident: ObservedGauge,
    store_reachable: ObservedGauge,
    unloads: Box<[BoundCounter<u64>]>,
    concurrency_limit: ObservedGauge,
    circuit: ObservedGauge,
    weight: ObservedGauge,
}

impl fmt::Debug for InferenceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InferenceMetrics").finish_non_exhaustive()
    }
}

impl InferenceMetrics {
    pub(crate) fn new(groups: &Groups) -> Self {
        let meter = groups.lasting().meter();
        let nobody = label::attributes([("model", NO_MODEL.to_owned())]);
        let limits = words(Limit::ALL, Limit::as_str);
        let reasons = words(UnloadReason::ALL, UnloadReason::as_str);
        let refusals = counter(meter, &metric::LIMIT_REFUSALS);
        let unloads = counter(meter, &metric::MODEL_UNLOADS);
        Self {
            known: Known::new(groups.clone()),
            nobodys_refusals: bind_all(&refusals, &nobody, "limit", &limits),
            sessions: ObservedGauge::new(meter, &metric::SESSIONS, Fold::Newest),
            session_bytes: ObservedGauge::new(meter, &metric::SESSION_BYTES, Fold::Newest),
            queue_depth: ObservedGauge::new(meter, &metric::INFERENCE_QUEUE_DEPTH, Fold::Sum),
            loaded: ObservedGauge::new(meter, &metric::MODEL_LOADED, Fold::Newest),
            resident: ObservedGauge::new(meter, &metric::MODELS_RESIDENT, Fold::Sum),
            store_reachable: ObservedGauge::new(meter, &metric::STORE_REACHABLE, Fold::Sum),
            unloads: bind_all(&unloads, &[], "reason", &reasons),
            concurrency_limit: ObservedGauge::new(meter, &metric::CONCURRENCY_LIMIT, Fold::Newest),
            circuit: ObservedGauge::new(meter, &metric::CIRCUIT_STATE, Fold::Newest),
            weight: ObservedGauge::new(meter, &metric::TRAFFIC_WEIGHT, Fold::Newest),
        }
    }

    /// An upload was refused for a limit. `model` is one that there is; anything else that an
    /// upload calls itself must not become a series.
    pub fn upload_refused(&self, model: Option<&str>, limit: Limit) {
        let known = model.map(|model| self.known.model(model));
        let refusals = known
            .as_ref()
            .map_or(&self.nobodys_refusals, |model| &model.refusals);
        add(refusals, limit as usize, 1);
    }

    /// A version was deleted, or a model with all its versions: what was counted of it goes, now. Should
    /// it be made again, it counts from zero.
    pub fn forget(&self, model: &str, version: Option<u64>) {
        self.known.forget(model, version);
    }

    /// The handle of one version of a model, made when it starts to load and kept while it serves.
    /// All its series exist at zero from here on, whatever the outcome or reason; one that was there
    /// before and not forgotten goes on counting where it was. Until told otherwise it is not loaded,
    /// has no traffic, and its circuit is closed.
    pub fn version(&self, model: &str, version: u64) -> VersionMetrics {
        let series = self.known.version(model, version);
        let state = Arc::new(VersionState::default());
        let gauge = |gauge: &ObservedGauge, read: fn(&VersionState) -> f64| {
            let state = Arc::clone(&state);
            gauge.register(series.labels.clone(), move || read(&state))
        };
        let handle = VersionMetrics {
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
            series,
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
        let series = self.known.model(model);
        GraphMetrics {
            batch_size: series.batch_size.bind(&labels),
            queue: series.queue.bind(&labels),
            compute: series.compute.bind(&labels),
        }
    }

    /// The handle of a version's sessions. `read` gives how many there are and what they hold, in
    /// bytes: it is called at each scrape, must not block for long and must not call telemetry.
    pub fn sessions(
        &self,
        model: &str,
        version: u64,
        read: impl Fn() -> (u64, u64) + Clone + Send + Sync + 'static,
    ) -> SessionMetrics {
        let series = self.known.version(model, version);
        let labels = series.labels.clone();
        let read_bytes = read.clone();
        SessionMetrics {
            evictions: series.session_evictions(),
            _gauges: [
                self.sessions
                    .register(labels.clone(), move || read().0 as f64),
                self.session_bytes
                    .register(labels, move || read_bytes().1 as f64),
            ],
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
        add(&self.unloads, reason as usize, 1);
    }

    /// A model's rollout was moved on or withdrawn here.
    pub fn rollout_changed(&self, model: &str, change: RolloutChange) {
        let known = self.known.model(model);
        add(&known.rollout_changes, change as usize, 1);
    }

    /// Registers how to read how many requests of a version may run at once: `read` is called at each scrape, must not
    /// block and must not call telemetry.
    pub fn concurrency_limit(
        &self,
        model: &str,
        version: u64,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> GaugeHandle {
        let labels = label::attributes([
            ("model", label::value(model)),
            ("model_version", version.to_string()),
        ]);
        self.concurrency_limit
            .register(labels, move || read() as f64)
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

/// Counts under the word at `index` of a closed list.
fn add(counters: &[BoundCounter<u64>], index: usize, count: u64) {
    if let Some(counter) = counters.get(index) {
        counter.add(count);
    }
}

#[derive(Default)]
struct VersionState {
    loaded: AtomicBool,
    circuit: AtomicU8,
    /// The bits of an `f64`; zero bits are 0.0.
    weight: AtomicU64,
}

/// What one version of a model records. Its gauges are there while it lives; its counters and
/// histograms until they are forgotten.
pub struct VersionMetrics {
    series: Arc<VersionSeries>,
    state: Arc<VersionState>,
    _gauges: [GaugeHandle; 3],
}

impl fmt::Debug for VersionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionMetrics")
            .field("labels", &self.series.labels)
            .finish_non_exhaustive()
    }
}

impl VersionMetrics {
    /// A prediction has ended so, `latency` after admission was asked for. The latency is recorded
    /// only of those that ran ([`Outcome::ran`]).
    pub fn request(&self, outcome: Outcome, latency: Duration) {
        add(&self.series.requests, outcome as usize, 1);
        if outcome.ran() {
            self.series.latency.record(latency.as_secs_f64());
        }
    }

    /// The handler trapped or was stopped.
    pub fn trap(&self, reason: TrapReason) {
        add(&self.series.model.traps, reason as usize, 1);
    }

    /// A limit refused something, this often.
    pub fn refused(&self, limit: Limit, times: u32) {
        add(&self.series.model.refusals, limit as usize, times.into());
    }

    /// A fresh instance was made in this time.
    pub fn instantiated(&self, took: Duration) {
        self.series.model.instantiate.record(took.as_secs_f64());
    }

    /// A copy of a request that the version got as a shadow has ended so.
    pub fn shadow(&self, result: ShadowResult) {
        add(&self.series.shadow_requests, result as usize, 1);
    }

    /// A copy of a request took the version so long.
    pub fn shadow_took(&self, took: Duration) {
        self.series.shadow_latency.record(took.as_secs_f64());
    }

    /// The handler raised a safety flag. `reason` is the guest's word: it is made plain
    /// (`[a-z0-9_]`, at most 32 characters), and beyond 32 reasons a model counts as `other`.
    pub fn safety_flag(&self, reason: &str) {
        self.series.flag(reason, 1);
    }

    /// The handler may raise this flag: its series exists at zero from here on.
    pub fn expect_safety_flag(&self, reason: &str) {
        self.series.flag(reason, 0);
    }

    /// Whether the version is loaded and warm.
    pub fn loaded(&self, loaded: bool) {
        self.state.loaded.store(loaded, Ordering::Relaxed);
    }

    /// Where the version's circuit breaker stands now.
    pub fn circuit(&self, state: CircuitState) {
        if state == CircuitState::Open {
            self.series.circuit_opened.add(1);
        }
        self.circuit_still(state);
    }

    /// As [`VersionMetrics::circuit`], of a breaker that stood there before: nothing is counted.
    pub fn circuit_still(&self, state: CircuitState) {
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

/// What one version's sessions record. Its gauges are there while it lives.
pub struct SessionMetrics {
    /// In the order of [`SessionEviction::ALL`].
    evictions: Box<[BoundCounter<u64>]>,
    _gauges: [GaugeHandle; 2],
}

impl fmt::Debug for SessionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionMetrics").finish_non_exhaustive()
    }
}

impl SessionMetrics {
    /// So many sessions were let go for this reason.
    pub fn evicted(&self, reason: SessionEviction, sessions: u64) {
        add(&self.evictions, reason as usize, sessions);
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
