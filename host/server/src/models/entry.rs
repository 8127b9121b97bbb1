//! One model as the server has it: which of its versions are loaded, which is stable, and why one
//! did not load. When versions are loaded and let go is its owner's business.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_registry::{Digest, ModelName, Rollout, Traffic, Version};
use parking_lot::RwLock;

use super::ModelsError;
use crate::{traffic::Rule, version::LoadedVersion};

/// Loaded versions kept beside those that have a part in the traffic: the last stable for a quick
/// way back, and one that somebody asks for by number. What goes beyond is unloaded, oldest first.
const KEPT_BESIDE: usize = 2;

/// One model.
pub(super) struct Entry {
    pub(super) name: ModelName,
    pub(super) state: RwLock<State>,
    pub(super) changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) rule: Rule,
    /// How the canary goes on by itself, where it does.
    pub(super) rollout: Option<Rollout>,
    /// Most recently loaded or made stable first.
    pub(super) loaded: Vec<Arc<LoadedVersion>>,
    pub(super) failure: Option<LoadFailure>,
    /// The versions that the store is known to have.
    known: BTreeSet<Version>,
    /// Whether it was new when it was met, and what is to be loaded of it is not yet.
    pub(super) just_met: bool,
}

#[derive(Clone)]
pub(super) struct LoadFailure {
    pub(super) version: Version,
    pub(super) message: String,
    pub(super) code: &'static str,
    pub(super) at: Instant,
}

impl LoadFailure {
    /// What a request hears of it.
    pub(super) fn error(&self, name: &ModelName) -> ModelsError {
        ModelsError::NotLoaded {
            name: name.clone(),
            version: self.version,
            message: self.message.clone(),
            code: self.code,
        }
    }
}

/// How a model stands, for `/health` and `/v1/models`.
#[derive(Clone, Debug)]
pub struct ModelStatus {
    /// The model.
    pub name: ModelName,
    /// Its stable version.
    pub stable: Option<Version>,
    /// Whether the stable version is loaded.
    pub loaded: bool,
    /// `loaded`; `unloaded`, which the next request changes; or `failed`, for the reason in
    /// `error`.
    pub state: &'static str,
    /// The stable version's digest.
    pub digest: Option<Digest>,
    /// Graphs and the backends that serve them.
    pub backends: Vec<(String, &'static str)>,
    /// Every loaded version.
    pub loaded_versions: Vec<Version>,
    /// How the circuit breakers of the loaded versions stand.
    pub circuits: Vec<CircuitStatus>,
    /// Why the stable version is not loaded, if it failed.
    pub error: Option<String>,
}

/// How the circuit breaker of a loaded version stands.
#[derive(Clone, Debug)]
pub struct CircuitStatus {
    /// The version.
    pub version: Version,
    /// `closed`, `open` or `half-open`.
    pub state: &'static str,
    /// For how long it has been.
    pub lasts: Duration,
    /// Why it is not closed.
    pub why: Option<String>,
}

impl State {
    /// Why the stable version is not loaded, if it should be.
    pub(super) fn stable_failure(&self) -> Option<&LoadFailure> {
        self.failure
            .as_ref()
            .filter(|failure| Some(failure.version) == self.rule.stable)
    }

    /// Whether requests go by this rule already.
    pub(super) fn is_as(&self, traffic: &Traffic) -> bool {
        self.rule == Rule::from(traffic) && self.rollout == traffic.rollout
    }

    /// Why `version` did not load, if that is no longer ago than `within`.
    pub(super) fn failed_lately(&self, version: Version, within: Duration) -> Option<&LoadFailure> {
        self.failure
            .as_ref()
            .filter(|failure| failure.version == version && failure.at.elapsed() < within)
    }

    pub(super) fn find(&self, version: Version) -> Option<Arc<LoadedVersion>> {
        self.loaded
            .iter()
            .find(|loaded| loaded.version == version)
            .cloned()
    }
}

fn circuit(loaded: &Arc<LoadedVersion>) -> Option<CircuitStatus> {
    let status = loaded.breaker.as_ref()?.status();
    Some(CircuitStatus {
        version: loaded.version,
        state: status.state.name(),
        lasts: status.since,
        why: status.why.map(|why| why.to_string()),
    })
}

impl Entry {
    /// A model of which nothing is loaded.
    pub(super) fn new(name: ModelName) -> Entry {
        Entry {
            name,
            state: RwLock::new(State::default()),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn status(&self) -> ModelStatus {
        let state = self.state.read();
        let stable = state.rule.stable.and_then(|stable| state.find(stable));
        let failure = state.stable_failure();
        ModelStatus {
            state: match (&stable, failure) {
                (Some(_), _) => "loaded",
                (None, Some(_)) => "failed",
                (None, None) => "unloaded",
            },
            name: self.name.clone(),
            stable: state.rule.stable,
            loaded: stable.is_some(),
            digest: stable.as_ref().map(|stable| stable.digest),
            backends: stable.as_ref().map_or_else(Vec::new, |stable| {
                stable
                    .backends()
                    .into_iter()
                    .map(|(graph, backend)| (graph.to_owned(), backend.name()))
                    .collect()
            }),
            loaded_versions: state.loaded.iter().map(|loaded| loaded.version).collect(),
            circuits: state.loaded.iter().filter_map(circuit).collect(),
            error: failure.map(|failure| failure.message.clone()),
        }
    }

    /// Takes a loaded version in; gives those that go for it.
    pub(super) fn insert(&self, loaded: Arc<LoadedVersion>) -> Vec<Arc<LoadedVersion>> {
        let mut state = self.state.write();
        if matches!(&state.failure, Some(failure) if failure.version == loaded.version) {
            state.failure = None;
        }
        state.known.insert(loaded.version);
        let share = state.rule.share(loaded.version);
        loaded.metrics.traffic_weight(share);
        state.loaded.insert(0, loaded);
        state.evict()
    }

    /// From here on requests go by this rule; gives the versions that go for it. Those that have a part in it are loaded
    /// already, or will be when they are asked.
    pub(super) fn obey(&self, traffic: &Traffic) -> Vec<Arc<LoadedVersion>> {
        let rule = Rule::from(traffic);
        let mut state = self.state.write();
        state.rule = rule;
        state.rollout.clone_from(&traffic.rollout);
        if let Some(stable) = rule.stable
            && let Some(at) = state
                .loaded
                .iter()
                .position(|loaded| loaded.version == stable)
        {
            let stable = state.loaded.remove(at);
            state.loaded.insert(0, stable);
        }
        for loaded in &state.loaded {
            loaded.metrics.traffic_weight(rule.share(loaded.version));
        }
        state.evict()
    }

    /// Whether the store is known to have a version.
    pub(super) fn knows(&self, version: Version) -> bool {
        self.state.read().known.contains(&version)
    }

    /// Notes that the store has these.
    pub(super) fn learn(&self, there: impl IntoIterator<Item = Version>) {
        self.state.write().known.extend(there);
    }

    /// The versions that are known or loaded here and not among `there`.
    pub(super) fn missing(&self, there: &[Version]) -> BTreeSet<Version> {
        let state = self.state.read();
        let loaded = state.loaded.iter().map(|loaded| loaded.version);
        let here = state.known.iter().copied().chain(loaded);
        here.filter(|version| !there.contains(version)).collect()
    }

    /// Takes a version out that is no more.
    pub(super) fn unload(&self, version: Version) -> Vec<Arc<LoadedVersion>> {
        let mut state = self.state.write();
        state.known.remove(&version);
        state
            .loaded
            .extract_if(.., |loaded| loaded.version == version)
            .collect()
    }

    /// Takes a version out that nobody else holds: with the lock held, nobody can come to.
    pub(super) fn give_up(&self, version: Version) -> Option<Arc<LoadedVersion>> {
        let mut state = self.state.write();
        let mut idle = state.loaded.extract_if(.., |loaded| {
            loaded.version == version && Arc::strong_count(loaded) == 1
        });
        idle.next()
    }
}

impl State {
    /// Lets go of what neither has a part in the traffic nor is among the most recent others.
    fn evict(&mut self) -> Vec<Arc<LoadedVersion>> {
        let busy = self.rule.versions();
        let mut others = 0;
        let beyond = self.loaded.extract_if(.., |loaded| {
            if busy.contains(&loaded.version) {
                return false;
            }
            others += 1;
            others > KEPT_BESIDE
        });
        beyond.collect()
    }
}
