//! The models this server serves: which versions are loaded, which one is stable, and how
//! that changes beside the traffic.
//!
//! A request takes an `Arc` of its version and keeps it to the end, so replacing or
//! dropping a version never touches what is in flight. Changes of one model are made one
//! at a time, behind a lock that requests never take.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_inference::{Graph, Runtime};
use aegis_registry::{
    CommitMeta, Digest, ErrorKind, Manifest, Model, ModelName, Package, Registry, RegistryError,
    Upload, UploadLimits, Version, VersionRecord, manifest::EffectiveLimits,
};
use aegis_sandbox::{GraphLoader, PrepareReport, Sandbox};
use aegis_telemetry::Telemetry;
use parking_lot::RwLock;
use thiserror::Error;

use crate::{
    config::ServerConfig,
    graph_bytes::BytesLoader,
    load::{Loader, PackageLoadError},
    predictor::Predictor,
    version::LoadedVersion,
};

/// Loaded versions kept beside a model's stable one: the last stable for a quick way back,
/// and one that somebody asks for by number. What goes beyond is unloaded, oldest first.
const KEPT_BESIDE_STABLE: usize = 2;

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
    entries: RwLock<HashMap<ModelName, Arc<Entry>>>,
    started: AtomicBool,
}

/// One model.
struct Entry {
    name: ModelName,
    state: RwLock<State>,
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    stable: Option<Version>,
    /// Most recently loaded or made stable first.
    loaded: Vec<Arc<LoadedVersion>>,
    failure: Option<LoadFailure>,
}

#[derive(Clone)]
struct LoadFailure {
    version: Version,
    message: String,
    code: &'static str,
    at: Instant,
}

/// Why a model does not answer or does not change.
#[derive(Debug, Error)]
pub enum ModelsError {
    /// The registry's word.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A package that does not work.
    #[error(transparent)]
    Package(#[from] PackageLoadError),
    /// The model is there and no version of it is stable.
    #[error("model `{name}` has no stable version; promote one, or ask for a version")]
    NoStableVersion {
        /// The model.
        name: ModelName,
    },
    /// The version did not load and it is too soon to try again.
    #[error("version {version} of model `{name}` is not loaded: {message}")]
    NotLoaded {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// Why it did not load.
        message: String,
        /// The code of that reason.
        code: &'static str,
    },
}

impl ModelsError {
    /// The stable code of the error in HTTP answers.
    pub fn code(&self) -> &'static str {
        match self {
            ModelsError::Registry(error) => error.code(),
            ModelsError::Package(error) => error.code(),
            ModelsError::NoStableVersion { .. } => "no_stable_version",
            ModelsError::NotLoaded { .. } => "not_loaded",
        }
    }

    fn is_not_found(&self) -> bool {
        matches!(self, ModelsError::Registry(error) if error.kind() == ErrorKind::NotFound)
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
    /// The stable version's digest.
    pub digest: Option<Digest>,
    /// Graphs and the backends that serve them.
    pub backends: Vec<(String, &'static str)>,
    /// Every loaded version.
    pub loaded_versions: Vec<Version>,
    /// Why the stable version is not loaded, if it failed.
    pub error: Option<String>,
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
        let graph_loader = config
            .allow_graph_bytes
            .then(|| Arc::new(BytesLoader::new(runtime.clone())) as Arc<dyn GraphLoader>);
        let loader = Loader {
            sandbox,
            runtime,
            graph_loader,
            telemetry,
            ceilings: config.ceilings,
        };
        Models {
            inner: Arc::new(Inner {
                registry,
                loader,
                prewarm: config.prewarm_model,
                upload_limits: UploadLimits {
                    max_total_bytes: config.max_upload_bytes,
                    max_part_bytes: config.max_upload_bytes,
                    ..UploadLimits::default()
                },
                entries: RwLock::new(HashMap::new()),
                started: AtomicBool::new(false),
            }),
        }
    }

    /// Reads the registry and, if so configured, loads every stable version. A model that
    /// does not load is logged and shown in `/health`; the others serve.
    pub async fn start(&self) -> Result<(), ModelsError> {
        for model in self.inner.registry.models().await? {
            let entry = self.entry_or_new(&model.name);
            entry.state.write().stable = model.traffic.stable;
            let Some(stable) = model.traffic.stable.filter(|_| self.inner.prewarm) else {
                continue;
            };
            // One that does not load is in the log and in `/health`.
            if let Ok(version) = self.load(&entry, stable).await {
                version.metrics.traffic_weight(1.0);
            }
        }
        self.inner.started.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether every stable version that must be loaded is.
    pub fn all_loaded(&self) -> bool {
        self.inner.started.load(Ordering::Acquire)
            && self.inner.entries.read().values().all(|entry| {
                let state = entry.state.read();
                match state.stable {
                    Some(stable) => state.find(stable).is_some(),
                    None => true,
                }
            })
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

    /// The version that answers a request for `name`, or for a certain `version` of it,
    /// loading it if need be.
    pub(crate) async fn resolve(
        &self,
        name: &ModelName,
        version: Option<Version>,
    ) -> Result<Arc<LoadedVersion>, ModelsError> {
        let entry = self
            .inner
            .entries
            .read()
            .get(name)
            .cloned()
            .ok_or_else(|| RegistryError::ModelNotFound { name: name.clone() })?;
        let wanted = {
            let state = entry.state.read();
            let wanted = version
                .or(state.stable)
                .ok_or_else(|| ModelsError::NoStableVersion { name: name.clone() })?;
            if let Some(loaded) = state.find(wanted) {
                return Ok(loaded);
            }
            if let Some(failure) = &state.failure
                && failure.version == wanted
                && failure.at.elapsed() < RETRY_LOAD
            {
                return Err(ModelsError::NotLoaded {
                    name: name.clone(),
                    version: wanted,
                    message: failure.message.clone(),
                    code: failure.code,
                });
            }
            wanted
        };
        self.load(&entry, wanted).await
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
        let handler = self.inner.loader.check(package.dir()).await?;
        let (limits, warnings) = self.limits_of(package.dir().manifest());
        let commit = self
            .inner
            .registry
            .commit(package, CommitMeta { who: who.clone() })
            .await?;
        let record = commit.record;
        let entry = self.entry_or_new(&record.name);
        let traffic = self.inner.registry.traffic(&record.name).await?;
        let serving = if promote {
            self.promote(&record.name, record.version, who.as_deref())
                .await?;
            true
        } else if traffic.stable == Some(record.version) {
            let loaded = self.load(&entry, record.version).await?;
            entry.make_stable(&loaded);
            true
        } else {
            false
        };
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

    /// Makes `version` the one that answers: loads it first, then changes the rule, then
    /// switches. Requests in flight end where they began.
    pub async fn promote(
        &self,
        name: &ModelName,
        version: Version,
        who: Option<&str>,
    ) -> Result<(), ModelsError> {
        // The registry knows whether the model exists; entries follow it.
        self.inner.registry.version(name, version).await?;
        let entry = self.entry_or_new(name);
        let loaded = self.load(&entry, version).await?;
        let _changing = entry.changing.lock().await;
        self.inner.registry.set_stable(name, version, who).await?;
        entry.make_stable(&loaded);
        tracing::info!(model = %name, version = %version, "version promoted");
        Ok(())
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
        if let Some(entry) = self.inner.entries.read().get(name) {
            entry.unload(version);
        }
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
            self.inner.entries.write().remove(name);
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
            metrics,
            timeout,
            request_bytes: usize::MAX,
            _queue_depth: telemetry
                .inference()
                .queue_depth(name.as_str(), move || depth.waiting() as u64),
        });
        let entry = self.entry_or_new(name);
        entry.insert(Arc::clone(&loaded));
        entry.make_stable(&loaded);
    }

    /// The graphs of a model's stable version, if that is loaded: for comparing on the very
    /// same sessions, see [`Models::insert_unsandboxed`].
    pub fn graphs(&self, name: &ModelName) -> Vec<Graph> {
        let entry = self.inner.entries.read().get(name).cloned();
        let stable = entry.and_then(|entry| {
            let state = entry.state.read();
            state.stable.and_then(|stable| state.find(stable))
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
                .or_insert_with(|| {
                    Arc::new(Entry {
                        name: name.clone(),
                        state: RwLock::new(State::default()),
                        changing: tokio::sync::Mutex::new(()),
                    })
                }),
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
        match self.load_from_registry(&entry.name, version).await {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                entry.insert(Arc::clone(&loaded));
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

impl State {
    fn find(&self, version: Version) -> Option<Arc<LoadedVersion>> {
        self.loaded
            .iter()
            .find(|loaded| loaded.version == version)
            .cloned()
    }
}

impl Entry {
    fn status(&self) -> ModelStatus {
        let state = self.state.read();
        let stable = state.stable.and_then(|stable| state.find(stable));
        ModelStatus {
            name: self.name.clone(),
            stable: state.stable,
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
            error: state
                .failure
                .as_ref()
                .filter(|failure| Some(failure.version) == state.stable)
                .map(|failure| failure.message.clone()),
        }
    }

    fn insert(&self, loaded: Arc<LoadedVersion>) {
        let mut state = self.state.write();
        if matches!(&state.failure, Some(failure) if failure.version == loaded.version) {
            state.failure = None;
        }
        state.loaded.insert(0, loaded);
        state.evict();
    }

    fn make_stable(&self, loaded: &Arc<LoadedVersion>) {
        let mut state = self.state.write();
        state.stable = Some(loaded.version);
        state
            .loaded
            .retain(|other| !Arc::ptr_eq(other, loaded) && other.version != loaded.version);
        for other in &state.loaded {
            other.metrics.traffic_weight(0.0);
        }
        state.loaded.insert(0, Arc::clone(loaded));
        loaded.metrics.traffic_weight(1.0);
        state.evict();
    }

    fn unload(&self, version: Version) {
        let mut state = self.state.write();
        for loaded in state
            .loaded
            .extract_if(.., |loaded| loaded.version == version)
        {
            loaded.metrics.loaded(false);
        }
    }
}

impl State {
    /// Lets go of what is neither stable nor among the most recent others.
    fn evict(&mut self) {
        let stable = self.stable;
        let mut others = 0;
        for gone in self.loaded.extract_if(.., |loaded| {
            if Some(loaded.version) == stable {
                return false;
            }
            others += 1;
            others > KEPT_BESIDE_STABLE
        }) {
            gone.metrics.loaded(false);
        }
    }
}
