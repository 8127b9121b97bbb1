//! What is counted of a model and of its versions, for as long as each is known. A version that is unloaded for a while
//! and comes back goes on counting where it was; the series of one that is forgotten go at once, and what requests that
//! were under way still record is nobody's.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter};
use parking_lot::{Mutex, RwLock};

use crate::group::{Group, Groups};
use crate::label;
use crate::outcome::{Limit, Outcome, RolloutChange, SessionEviction, ShadowResult, TrapReason};
use crate::safety::{MAX_REASONS, Reasons};
use crate::table::metric;
use crate::telemetry::{counter, histogram};

/// Graphs that a model's versions may have together, each with its backend, before they share a series.
const GRAPHS: usize = 64;

/// All models that are known, with their versions.
pub(crate) struct Known {
    groups: Groups,
    models: Mutex<HashMap<String, Model>>,
}

struct Model {
    all: Counted<ModelSeries>,
    versions: HashMap<u64, Counted<VersionSeries>>,
}

/// Series and what has them read.
struct Counted<T> {
    series: Arc<T>,
    _group: Arc<Group>,
}

impl<T> Counted<T> {
    fn new(group: Arc<Group>, series: impl FnOnce(&Meter) -> T) -> Self {
        Self {
            series: Arc::new(series(group.meter())),
            _group: group,
        }
    }
}

impl Known {
    pub(crate) fn new(groups: Groups) -> Self {
        Self {
            groups,
            models: Mutex::default(),
        }
    }

    pub(crate) fn model(&self, model: &str) -> Arc<ModelSeries> {
        let mut models = self.models.lock();
        Arc::clone(&self.entry(&mut models, model).all.series)
    }

    pub(crate) fn version(&self, model: &str, version: u64) -> Arc<VersionSeries> {
        let mut models = self.models.lock();
        let entry = self.entry(&mut models, model);
        let of_version = entry.versions.entry(version).or_insert_with(|| {
            let of_model = Arc::clone(&entry.all.series);
            Counted::new(self.groups.open(VersionSeries::room), |meter| {
                VersionSeries::new(meter, of_model, version)
            })
        });
        Arc::clone(&of_version.series)
    }

    fn entry<'a>(&self, models: &'a mut HashMap<String, Model>, model: &str) -> &'a mut Model {
        let model = label::value(model);
        models.entry(model).or_insert_with_key(|model| Model {
            all: Counted::new(self.groups.open(ModelSeries::room), |meter| {
                ModelSeries::new(meter, model)
            }),
            versions: HashMap::new(),
        })
    }

    /// Forgets a version, or a model with all its versions.
    pub(crate) fn forget(&self, model: &str, version: Option<u64>) {
        let model = label::value(model);
        let gone = {
            let mut models = self.models.lock();
            match version {
                None => (models.remove(&model), None),
                Some(version) => {
                    let of_model = models.get_mut(&model);
                    let of_version = of_model.and_then(|known| known.versions.remove(&version));
                    (None, of_version)
                }
            }
        };
        // A provider has work to do as it ends: not under the lock.
        drop(gone);
    }
}

/// What is counted of all versions of a model together.
pub(crate) struct ModelSeries {
    name: String,
    /// In the order of [`TrapReason::ALL`].
    pub(crate) traps: Box<[BoundCounter<u64>]>,
    /// In the order of [`RolloutChange::ALL`].
    pub(crate) rollout_changes: Box<[BoundCounter<u64>]>,
    /// In the order of [`Limit::ALL`].
    pub(crate) refusals: Box<[BoundCounter<u64>]>,
    pub(crate) instantiate: BoundHistogram<f64>,
    pub(crate) batch_size: Histogram<f64>,
    pub(crate) queue: Histogram<f64>,
    pub(crate) compute: Histogram<f64>,
    /// The versions share one list, so that reasons are bounded by model.
    reasons: Reasons,
}

impl ModelSeries {
    /// How many series a metric may have of one model.
    fn room(metric: &str) -> usize {
        match metric {
            name if name == metric::HANDLER_TRAPS.name => TrapReason::ALL.len(),
            name if name == metric::ROLLOUT_CHANGES.name => RolloutChange::ALL.len(),
            name if name == metric::LIMIT_REFUSALS.name => Limit::ALL.len(),
            name if name == metric::HANDLER_INSTANTIATE.name => 1,
            _ => GRAPHS,
        }
    }

    fn new(meter: &Meter, name: &str) -> Self {
        let labels = label::attributes([("model", name.to_owned())]);
        let of = |spec, key, words| bind_all(&counter(meter, spec), &labels, key, words);
        Self {
            name: name.to_owned(),
            traps: of(
                &metric::HANDLER_TRAPS,
                "reason",
                &words(TrapReason::ALL, TrapReason::as_str),
            ),
            refusals: of(
                &metric::LIMIT_REFUSALS,
                "limit",
                &words(Limit::ALL, Limit::as_str),
            ),
            rollout_changes: of(
                &metric::ROLLOUT_CHANGES,
                "change",
                &words(RolloutChange::ALL, RolloutChange::as_str),
            ),
            instantiate: histogram(meter, &metric::HANDLER_INSTANTIATE).bind(&labels),
            batch_size: histogram(meter, &metric::INFERENCE_BATCH_SIZE),
            queue: histogram(meter, &metric::INFERENCE_QUEUE),
            compute: histogram(meter, &metric::INFERENCE_COMPUTE),
            reasons: Reasons::default(),
        }
    }
}

/// What is counted of one version.
pub(crate) struct VersionSeries {
    pub(crate) model: Arc<ModelSeries>,
    pub(crate) labels: Vec<KeyValue>,
    /// In the order of [`Outcome::ALL`].
    pub(crate) requests: Box<[BoundCounter<u64>]>,
    pub(crate) latency: BoundHistogram<f64>,
    /// In the order of [`ShadowResult::ALL`].
    pub(crate) shadow_requests: Box<[BoundCounter<u64>]>,
    pub(crate) shadow_latency: BoundHistogram<f64>,
    pub(crate) circuit_opened: BoundCounter<u64>,
    safety_flags: Counter<u64>,
    session_evictions: Counter<u64>,
    /// Counters by the label value of the reason; as many as [`Reasons`] admits, and `other`.
    flags: RwLock<HashMap<String, BoundCounter<u64>>>,
}

impl VersionSeries {
    /// How many series a metric may have of one version.
    fn room(metric: &str) -> usize {
        match metric {
            name if name == metric::INFERENCE_REQUESTS.name => Outcome::ALL.len(),
            name if name == metric::SHADOW_REQUESTS.name => ShadowResult::ALL.len(),
            name if name == metric::SESSION_EVICTIONS.name => SessionEviction::ALL.len(),
            name if name == metric::SAFETY_FLAGS.name => MAX_REASONS + 1,
            _ => 1,
        }
    }

    fn new(meter: &Meter, model: Arc<ModelSeries>, version: u64) -> Self {
        let labels = label::attributes([
            ("model", model.name.clone()),
            ("model_version", version.to_string()),
        ]);
        let of = |spec, key, words| bind_all(&counter(meter, spec), &labels, key, words);
        Self {
            requests: of(
                &metric::INFERENCE_REQUESTS,
                "outcome",
                &words(Outcome::ALL, Outcome::as_str),
            ),
            latency: histogram(meter, &metric::INFERENCE_LATENCY).bind(&labels),
            shadow_requests: of(
                &metric::SHADOW_REQUESTS,
                "result",
                &words(ShadowResult::ALL, ShadowResult::as_str),
            ),
            shadow_latency: histogram(meter, &metric::SHADOW_LATENCY).bind(&labels),
            circuit_opened: counter(meter, &metric::CIRCUIT_OPENED).bind(&labels),
            safety_flags: counter(meter, &metric::SAFETY_FLAGS),
            flags: RwLock::default(),
            model,
            session_evictions: counter(meter, &metric::SESSION_EVICTIONS),
            labels,
        }
    }

    /// In the order of [`SessionEviction::ALL`]; at zero from here on, and not before: most handlers keep no sessions.
    pub(crate) fn session_evictions(&self) -> Box<[BoundCounter<u64>]> {
        let words = words(SessionEviction::ALL, SessionEviction::as_str);
        bind_all(&self.session_evictions, &self.labels, "reason", &words)
    }

    /// Counts a flag under a reason that is a guest's own word.
    pub(crate) fn flag(&self, reason: &str, count: u64) {
        // The usual word is known and plain already: no allocation, a shared lock.
        if let Some(flag) = self.flags.read().get(reason) {
            flag.add(count);
            return;
        }
        let reason = self.model.reasons.admit(reason);
        let mut flags = self.flags.write();
        flags
            .entry(reason)
            .or_insert_with_key(|reason| {
                self.safety_flags
                    .bind(&with(&self.labels, "reason", reason))
            })
            .add(count);
    }
}

/// The words of a closed list of label values.
pub(crate) fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|value| word(*value)).collect()
}

/// The counters of a closed list of words, which from then on exist at zero.
pub(crate) fn bind_all(
    counter: &Counter<u64>,
    labels: &[KeyValue],
    key: &'static str,
    words: &[&str],
) -> Box<[BoundCounter<u64>]> {
    let bind = |word: &&str| counter.bind(&with(labels, key, word));
    words.iter().map(bind).collect()
}

fn with(labels: &[KeyValue], key: &'static str, value: &str) -> Vec<KeyValue> {
    let mut labels = labels.to_vec();
    labels.push(KeyValue::new(key, value.to_owned()));
    labels
}
