//! The models this server serves: which versions are loaded, which one is stable, and how
//! that changes beside the traffic.
//!
//! A request takes an `Arc` of its version and keeps it to the end, so replacing or
//! dropping a version never touches what is in flight. Changes of one model are made one
//! at a time, behind a lock that requests never take.

mod elsewhere;
mod entry;
mod error;
mod rollout;
mod routing;
mod unload;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_inference::{Graph, Runtime};
use aegis_registry::{
    Collected, CommitMeta, Digest, Manifest, Model, ModelName, Package, Registry, RegistryError,
    SignatureState, Traffic, Upload, UploadLimits, Version, VersionDiff, VersionRecord,
    manifest::{EffectiveLimits, Limits},
};
use aegis_sandbox::{GraphLoader, PrepareReport, Sandbox};
use aegis_telemetry::{GaugeHandle, Telemetry, UnloadReason};
use futures_util::{StreamExt as _, stream};
use parking_lot::RwLock;

pub use entry::{CircuitStatus, ModelStatus};
use entry::{Entry, LoadFailure};
pub use error::ModelsError;
pub(crate) use routing::Routed;

use crate::{
    breaker::Kept,
    config::ServerConfig,
    follow::StoreWatch,
    graph_bytes::BytesLoader,
    graph_check::Passed,
    load::{Checked, Loader},
    predictor::Predictor,
    residency::{Candidate, LOADS_AT_ONCE, LastUse, Residency},
    sessions::Sessions,
    traffic::Rule,
    version::LoadedVersion,
};

/// How long after a failed load the next request may try again.
const RETRY_LOAD: Duration = Duration::from_secs(10);

/// The models. Cheap to clone.
#[derive(Clone)]
pub struct Models {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    loader: Loader,
    prewarm: bool,
    upload_limits: UploadLimits,
    residency: Residency,
    give_back: Option<fn()>,
    entries: RwLock<HashMap<ModelName, Arc<Entry>>>,
    started: AtomicBool,
    /// The series of `aegis_models_resident_bytes`.
    resident: OnceLock<GaugeHandle>,
    /// Whether a task waits for what is over the budget to come out of use.
    trimming: AtomicBool,
    /// Whether memory is about to be given back.
    giving_back: AtomicBool,
    store: Arc<StoreWatch>,
}

/// What publishing a package did.
#[derive(Debug)]
pub struct PublishOutcome {
    /// The version.
    pub record: Arc<VersionRecord>,
    /// False if a version of exactly this content was there already.
    pub created: bool,
    /// Whether it is the stable version now.
    pub serving: bool,
    /// What preparing its handler took; nothing for a model without one.
    pub handler: Option<PrepareReport>,
    /// The limits that hold for it here.
    pub limits: EffectiveLimits,
    /// What its manifest asks for and does not get, a sentence each.
    pub warnings: Vec<String>,
}

impl Models {
    /// The models of `registry`, none of them loaded yet.
    pub fn new(
        registry: Registry,
        sandbox: Sandbox,
        runtime: Runtime,
        telemetry: Arc<Telemetry>,
        config: &ServerConfig,
    ) -> Models {
        let graph_loader = config.allow_graph_bytes.then(|| {
            let limits = Limits::default().effective(&config.ceilings);
            let worker_bytes = u64::from(limits.graph_load_mib) << 20;
            let loader = BytesLoader::new(runtime.clone(), sandbox.clone(), worker_bytes);
            Arc::new(loader) as Arc<dyn GraphLoader>
        });
        let loader = Loader {
            sandbox,
            runtime,
            graph_loader,
            sessions: Sessions::default(),
            passed: Passed::new(),
            breakers: Kept::default(),
            telemetry,
            ceilings: config.ceilings,
        };
        let models = Models {
            inner: Arc::new(Inner {
                registry,
                loader,
                residency: Residency::new(config.memory_budget),
                prewarm: config.prewarm_model,
                give_back: config.give_back,
                upload_limits: UploadLimits {
                    max_total_bytes: config.max_upload_bytes,
                    max_part_bytes: config.max_upload_bytes,
                    ..UploadLimits::default()
                },
                entries: RwLock::new(HashMap::new()),
                started: AtomicBool::new(false),
                trimming: AtomicBool::new(false),
                giving_back: AtomicBool::new(false),
                resident: OnceLock::new(),
                store: Arc::new(StoreWatch::default()),
            }),
        };
        let inner = Arc::downgrade(&models.inner);
        let metrics = models.inner.loader.telemetry.inference();
        let resident = metrics
            .resident_bytes(move || inner.upgrade().map_or(0, |inner| inner.resident_bytes()));
        let _ = models.inner.resident.set(resident);
        let store = Arc::downgrade(&models.inner.store);
        let reachable = metrics
            .store_reachable(move || store.upgrade().is_some_and(|store| store.is_reachable()));
        let _ = models.inner.store.series.set(reachable);
        models
    }

    /// Reads the registry and, if so configured, loads every stable version, in order of name
    /// and as many as the memory budget has room for. A model that does not load is logged and
    /// shown in `/health`; the others serve.
    pub async fn start(&self) -> Result<(), ModelsError> {
        let mut stables = Vec::new();
        for model in self.inner.registry.models().await? {
            let entry = self.entry_or_new(&model.name);
            let rule = Rule::from(&model.traffic);
            entry.learn(model.versions.iter().map(|record| record.version));
            self.let_go(entry.obey(&model.traffic), UnloadReason::Replaced);
            for version in rule.versions() {
                stables.push((Arc::clone(&entry), version));
            }
        }
        // Those that answer most come first.
        stables.sort_by_key(|(entry, version)| entry.state.read().rule.stable != Some(*version));
        if self.inner.prewarm {
            self.prewarm(stables).await;
        }
        self.inner.started.store(true, Ordering::Release);
        Ok(())
    }

    async fn prewarm(&self, stables: Vec<(Arc<Entry>, Version)>) {
        let left = AtomicUsize::new(0);
        let going = AtomicU64::new(0);
        let load = async |(entry, stable): (Arc<Entry>, Version)| {
            // What a model will take is known when it is loaded. Until then it, and those that
            // are being loaded now, are taken for the greatest so far.
            let going_with_it = going.fetch_add(1, Ordering::AcqRel) + 1;
            let (total, greatest) = self.inner.resident_and_greatest();
            let fits = self.inner.residency.fits(total + going_with_it * greatest);
            // Once one is left, so is the rest: a smaller one that fits would be no help to tell
            // which are loaded.
            if fits && left.load(Ordering::Relaxed) == 0 {
                // One that does not load is in the log and in `/health`.
                let _ = self.load(&entry, stable).await;
            } else {
                left.fetch_add(1, Ordering::Relaxed);
            }
            going.fetch_sub(1, Ordering::AcqRel);
        };
        let mut stables = stables.into_iter();
        // Alone, so that there is a greatest.
        if let Some(first) = stables.next() {
            load(first).await;
        }
        stream::iter(stables)
            .for_each_concurrent(LOADS_AT_ONCE, &load)
            .await;
        let left = left.into_inner();
        if left > 0 {
            tracing::info!(
                models = left,
                "the memory budget is full: these models are loaded when they are asked for"
            );
        }
    }

    /// Whether every stable version that should be loaded is: all but those that nobody has
    /// asked for yet and those that the memory budget has no room for, which a request brings
    /// back.
    pub fn all_loaded(&self) -> bool {
        self.inner.started.load(Ordering::Acquire)
            && self
                .inner
                .entries
                .read()
                .values()
                .all(|entry| entry.state.read().stable_failure().is_none())
    }

    /// Whether [`Models::start`] has been through all models.
    pub fn started(&self) -> bool {
        self.inner.started.load(Ordering::Acquire)
    }

    /// How every model stands, by name.
    pub fn status(&self) -> Vec<ModelStatus> {
        let mut all: Vec<_> = self
            .inner
            .entries
            .read()
            .values()
            .map(|entry| entry.status())
            .collect();
        all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        all
    }

    /// How one model stands.
    pub fn status_of(&self, name: &ModelName) -> Option<ModelStatus> {
        Some(self.inner.entries.read().get(name)?.status())
    }

    /// Starts an upload to `name`.
    pub(crate) async fn begin_upload(&self, name: ModelName) -> Result<Upload, RegistryError> {
        self.inner
            .registry
            .begin_upload(name, self.inner.upload_limits)
            .await
    }

    /// Sees that a package works, makes it a version and, if it is the model's first or
    /// `promote` says so, makes it the one that answers.
    pub async fn publish(
        &self,
        package: Package,
        promote: bool,
        who: Option<String>,
    ) -> Result<PublishOutcome, ModelsError> {
        let checked = self.inner.loader.check(package.dir()).await?;
        let Checked {
            handler,
            warnings: found,
            tried,
        } = checked;
        let (limits, mut warnings) = self.limits_of(package.dir().manifest());
        warnings.extend(found);
        let commit = self
            .inner
            .registry
            .commit(package, CommitMeta { who: who.clone() })
            .await?;
        let record = commit.record;
        let entry = self.entry_or_new(&record.name);
        entry.learn([record.version]);
        let traffic = self.inner.registry.traffic(&record.name).await?;
        let serving = if promote {
            self.promote(&record.name, record.version, who.as_deref())
                .await?;
            true
        } else if traffic.stable == Some(record.version) {
            self.load(&entry, record.version).await?;
            self.let_go(entry.obey(&traffic), UnloadReason::Replaced);
            true
        } else {
            false
        };
        // If the version serves, it has found the weights that were loaded to try it.
        drop(tried);
        self.inner.store.note_change();
        tracing::info!(
            model = %record.name,
            version = %record.version,
            digest = %record.digest,
            created = commit.created,
            serving,
            "version published"
        );
        Ok(PublishOutcome {
            record,
            created: commit.created,
            serving,
            handler,
            limits,
            warnings,
        })
    }

    /// The limits that hold for a package, and what of its wishes the ceilings cut.
    fn limits_of(&self, manifest: &Manifest) -> (EffectiveLimits, Vec<String>) {
        let ceilings = &self.inner.loader.ceilings;
        let cut = manifest.limits.cut_by(ceilings).into_iter();
        let warnings = cut
            .map(|(key, wish, ceiling)| {
                format!(
                    "limits.{key}: {wish} is asked, {ceiling} is the ceiling here; {ceiling} holds"
                )
            })
            .collect();
        (manifest.limits.effective(ceilings), warnings)
    }

    /// Deletes a version that has no part in the traffic.
    pub async fn delete_version(
        &self,
        name: &ModelName,
        version: Version,
        who: Option<&str>,
    ) -> Result<(), ModelsError> {
        self.inner
            .registry
            .delete_version(name, version, who)
            .await?;
        let entry = self.inner.entries.read().get(name).cloned();
        if let Some(entry) = entry {
            // A load that is under way ends first, and what it loaded goes too.
            let _changing = entry.changing.lock().await;
            self.let_go(entry.unload(version), UnloadReason::Deleted);
        }
        self.inner.loader.forget(name, Some(version));
        Ok(())
    }

    /// Deletes a model and all its versions.
    pub async fn delete_model(
        &self,
        name: &ModelName,
        who: Option<&str>,
    ) -> Result<(), ModelsError> {
        let deleted = self.inner.registry.delete_model(name, who).await;
        // A deletion that was cut off may have been ended behind our back: then the model
        // is gone from the registry and not from here.
        if matches!(deleted, Ok(()) | Err(RegistryError::ModelNotFound { .. })) {
            self.forget(name).await;
        }
        Ok(deleted?)
    }

    /// What the registry has of a model.
    pub async fn show(&self, name: &ModelName) -> Result<Model, ModelsError> {
        Ok(self.inner.registry.model(name).await?)
    }

    /// What the registry has, of all models.
    pub async fn list(&self) -> Result<Vec<Model>, ModelsError> {
        Ok(self.inner.registry.models().await?)
    }

    /// What is different in version `to` of a model, compared with version `from`.
    pub async fn diff(
        &self,
        name: &ModelName,
        from: Version,
        to: Version,
    ) -> Result<VersionDiff, ModelsError> {
        Ok(self.inner.registry.diff(name, from, to).await?)
    }

    /// Whose signature a version has.
    pub async fn signature(&self, record: &VersionRecord) -> Result<SignatureState, ModelsError> {
        Ok(self.inner.registry.signature(record).await?)
    }

    /// Removes from the store what nobody needs, or only says what that would be.
    pub async fn collect(&self, grace: Duration, dry_run: bool) -> Result<Collected, ModelsError> {
        let registry = &self.inner.registry;
        Ok(match dry_run {
            true => registry.find_garbage(grace).await?,
            false => registry.collect_garbage(grace).await?,
        })
    }

    /// Serves `predictor` as a model of its own beside the registry's: the benchmark's way
    /// to measure the same server without a sandbox.
    pub fn insert_unsandboxed(
        &self,
        name: &ModelName,
        predictor: Predictor,
        max_concurrency: usize,
        timeout: Duration,
    ) {
        let version = Version::FIRST;
        let telemetry = &self.inner.loader.telemetry;
        let admission = Arc::new(crate::admission::Admission::new(max_concurrency, 1024));
        let metrics = telemetry.inference().version(name.as_str(), version.get());
        let depth = Arc::clone(&admission);
        let loaded = Arc::new(LoadedVersion {
            name: name.clone(),
            version,
            digest: Digest::of(name.as_str().as_bytes()),
            predictor,
            graphs: Vec::new(),
            admission,
            metrics: Arc::new(metrics),
            breaker: None,
            idempotent: false,
            timeout,
            request_bytes: usize::MAX,
            bytes: 0,
            weights: Vec::new(),
            last_use: LastUse::now(),
            observed: Arc::default(),
            _concurrency_limit: None,
            _queue_depth: telemetry
                .inference()
                .queue_depth(name.as_str(), move || depth.waiting() as u64),
        });
        let entry = self.entry_or_new(name);
        self.let_go(entry.insert(Arc::clone(&loaded)), UnloadReason::Replaced);
        let mut traffic = Traffic::default();
        traffic.stable = Some(version);
        self.let_go(entry.obey(&traffic), UnloadReason::Replaced);
    }

    /// The graphs of a model's stable version, if that is loaded: for comparing on the very
    /// same sessions, see [`Models::insert_unsandboxed`].
    pub fn graphs(&self, name: &ModelName) -> Vec<Graph> {
        let entry = self.inner.entries.read().get(name).cloned();
        let stable = entry.and_then(|entry| {
            let state = entry.state.read();
            state.rule.stable.and_then(|stable| state.find(stable))
        });
        stable.map_or_else(Vec::new, |version| version.graphs.clone())
    }

    fn entry_or_new(&self, name: &ModelName) -> Arc<Entry> {
        if let Some(entry) = self.inner.entries.read().get(name) {
            return Arc::clone(entry);
        }
        Arc::clone(
            self.inner
                .entries
                .write()
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Entry::new(name.clone()))),
        )
    }

    /// The loaded version, loading it if nobody else has: callers that come together load
    /// once.
    async fn load(
        &self,
        entry: &Arc<Entry>,
        version: Version,
    ) -> Result<Arc<LoadedVersion>, ModelsError> {
        let _changing = entry.changing.lock().await;
        if let Some(loaded) = entry.state.read().find(version) {
            return Ok(loaded);
        }
        // Never closed; were it, loads would only be unbounded.
        let _place = self.inner.residency.loads.acquire().await.ok();
        match self.load_from_registry(&entry.name, version).await {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                self.let_go(entry.insert(Arc::clone(&loaded)), UnloadReason::Replaced);
                self.make_room();
                Ok(loaded)
            }
            Err(error) => {
                if !error.is_not_found() {
                    tracing::error!(model = %entry.name, version = %version, %error, "model not loaded");
                    entry.state.write().failure = Some(LoadFailure {
                        version,
                        message: error.to_string(),
                        code: error.code(),
                        at: Instant::now(),
                    });
                }
                Err(error)
            }
        }
    }

    async fn load_from_registry(
        &self,
        name: &ModelName,
        version: Version,
    ) -> Result<LoadedVersion, ModelsError> {
        let record = self.inner.registry.version(name, version).await?;
        let package = self.inner.registry.materialise(&record).await?;
        Ok(self.inner.loader.load(&package, version).await?)
    }
}

impl Inner {
    fn candidates(&self) -> Vec<Candidate<(Arc<Entry>, Version)>> {
        let entries: Vec<_> = self.entries.read().values().cloned().collect();
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let state = entry.state.read();
            all.extend(state.loaded.iter().map(|loaded| Candidate {
                last_use: loaded.last_use.at(),
                bytes: loaded.resident_bytes(),
                what: (Arc::clone(&entry), loaded.version),
            }));
        }
        all
    }

    /// What all loaded versions take together, estimated, and the greatest of them.
    fn resident_and_greatest(&self) -> (u64, u64) {
        let bytes = self.candidates().into_iter().map(|version| version.bytes);
        bytes.fold((0, 0), |(total, greatest), bytes| {
            (total + bytes, greatest.max(bytes))
        })
    }

    fn resident_bytes(&self) -> u64 {
        self.resident_and_greatest().0
    }
}
