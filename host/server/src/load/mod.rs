//! From a package on disk to a version that can take requests: graphs into backends, the
//! handler into the sandbox. Used at upload to see that a package works, and at load.

mod error;
mod observer;
mod sample;
mod spec;

use std::{collections::BTreeMap, iter, path::PathBuf, sync::Arc, time::Duration};

use aegis_inference::{Graph, GraphSpec, Observer, Runtime};
use aegis_registry::{
    Manifest, ModelName, PackageDir, Version,
    manifest::{EffectiveLimits, Limits},
};
use aegis_sandbox::{
    GraphLoader, HandlerSpec, PrepareReport, PrepareSpec, Sandbox, worker::Bounds,
};
use aegis_telemetry::{Telemetry, doing_in_this_trace};

pub use error::PackageLoadError;
use observer::GraphObserver;
use sample::Sample;
pub(crate) use spec::limit_label;
use spec::{MIB, graph_spec, init_grants, sandbox_limits, session_bounds};

use crate::{
    admission::Admission,
    breaker,
    direct::DirectGraph,
    graph_check::{GraphFault, Passed},
    predictor::Predictor,
    residency::{LastUse, VERSION_BYTES},
    sessions::Sessions,
    version::LoadedVersion,
};

/// How often a version answers its sample before it serves: once to touch everything, and once more as all others will
/// find it.
const WARM_UPS: usize = 2;

/// What a package is loaded with.
#[derive(Clone)]
pub(crate) struct Loader {
    pub(crate) sandbox: Sandbox,
    pub(crate) runtime: Runtime,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) ceilings: Limits,
    /// What loads networks from handlers' own bytes, where that is allowed.
    pub(crate) graph_loader: Option<Arc<dyn GraphLoader>>,
    /// What handlers keep between requests.
    pub(crate) sessions: Sessions,
    /// Networks whose check need not be repeated.
    pub(crate) passed: Passed,
    /// How the breakers of versions stood that are not loaded any more.
    pub(crate) breakers: breaker::Kept,
}

impl Loader {
    /// Sees that a package would serve: its graphs load and its handler starts. Compiles
    /// and snapshots the handler on the way.
    pub(crate) async fn check(&self, package: &PackageDir) -> Result<Checked, PackageLoadError> {
        let checked = self.try_out(package).await;
        if let Err(error) = &checked {
            tracing::warn!(
                model = %package.manifest().name,
                code = error.code(),
                "an upload is refused: {error}"
            );
        }
        checked
    }

    async fn try_out(&self, package: &PackageDir) -> Result<Checked, PackageLoadError> {
        let manifest = package.manifest();
        self.one_graph_without_handler(manifest)?;
        self.within_limits(package).await?;
        let warnings = self.check_graphs(package).await?;
        let handler = match read_handler(package).await? {
            None => None,
            Some(bytes) => {
                let limits = manifest.limits.effective(&self.ceilings);
                let spec = PrepareSpec {
                    model: manifest.name.to_string(),
                    limits: sandbox_limits(&limits),
                    config: manifest.config.clone(),
                    init_grants: init_grants(manifest),
                };
                Some(self.sandbox.prepare(bytes, spec).await?)
            }
        };
        Ok(Checked {
            handler,
            warnings,
            tried: self.try_sample(package).await?,
        })
    }

    /// Has the package answer its sample, if it has one, before it is a version: what it keeps of that, and what it says
    /// of itself, is nobody's.
    async fn try_sample(&self, package: &PackageDir) -> Result<Option<Tried>, PackageLoadError> {
        let limits = package.manifest().limits.effective(&self.ceilings);
        let Some(sample) = Sample::read(package, &limits).await? else {
            return Ok(None);
        };
        let graphs = self.graphs(package, false).await?;
        let sessions = Sessions::default();
        let served = self
            .predictor(package, Version::FIRST, &graphs, &sessions)
            .await?;
        sample.ask(&served.predictor).await?;
        Ok(Some(Tried { _graphs: graphs }))
    }

    /// Loads a version for serving.
    pub(crate) async fn load(
        &self,
        package: &PackageDir,
        version: Version,
    ) -> Result<LoadedVersion, PackageLoadError> {
        let manifest = package.manifest();
        let name = manifest.name.clone();
        self.one_graph_without_handler(manifest)?;
        self.within_limits(package).await?;
        let limits = manifest.limits.effective(&self.ceilings);
        let metrics = self
            .telemetry
            .inference()
            .version(name.as_str(), version.get());
        let metrics = Arc::new(metrics);
        let breaker =
            breaker::of_version(&manifest.breaker, &name, version, &metrics, &self.breakers)
                .map_err(|error| PackageLoadError::Host(error.to_string()))?;
        let graphs = self.graphs(package, true).await?;
        let timeout = Duration::from_millis(limits.timeout_ms.into());
        let Served { predictor, report } = self
            .predictor(package, version, &graphs, &self.sessions)
            .await?;
        if let Predictor::Handler(handler) = &predictor
            && handler.keeps_sessions()
        {
            self.sessions.watch(&self.telemetry, &name, version);
        }
        let mut resident = VERSION_BYTES;
        if let Some(report) = &report {
            log_report(&name, version, report);
            resident += report.code_bytes;
        }
        self.warm(package, version, &predictor).await?;
        let admission = Arc::new(admission(manifest, &limits));
        let concurrency_limit = {
            let (admission, version) = (Arc::clone(&admission), version.get());
            let read = move || admission.limit() as u64;
            let metrics = self.telemetry.inference();
            metrics.concurrency_limit(name.as_str(), version, read)
        };
        let queue_depth = {
            let (admission, graphs) = (Arc::clone(&admission), graphs.clone());
            self.telemetry
                .inference()
                .queue_depth(name.as_str(), move || {
                    let queued: usize = graphs.iter().map(Graph::queue_depth).sum();
                    (admission.waiting() + queued) as u64
                })
        };
        metrics.loaded(true);
        Ok(LoadedVersion {
            name,
            version,
            digest: package.digest(),
            predictor,
            graphs,
            admission,
            metrics,
            breaker,
            idempotent: manifest.idempotent,
            timeout,
            request_bytes: limits.request_mib as usize * MIB,
            bytes: resident,
            weights: graph_bytes(package),
            last_use: LastUse::now(),
            observed: Arc::default(),
            _queue_depth: queue_depth,
            _concurrency_limit: Some(concurrency_limit),
        })
    }

    /// What answers for a package with these graphs.
    async fn predictor(
        &self,
        package: &PackageDir,
        version: Version,
        graphs: &[Graph],
        sessions: &Sessions,
    ) -> Result<Served, PackageLoadError> {
        let manifest = package.manifest();
        let name = &manifest.name;
        let limits = manifest.limits.effective(&self.ceilings);
        let Some(bytes) = read_handler(package).await? else {
            let [graph, ..] = graphs else {
                return Err(PackageLoadError::NoHandler { graphs: 0 });
            };
            return Ok(Served {
                predictor: Predictor::Direct(DirectGraph::new(graph.clone(), &limits)),
                report: None,
            });
        };
        let bounds = session_bounds(&limits);
        let spec = HandlerSpec {
            model: name.to_string(),
            version: version.get(),
            graphs: graphs
                .iter()
                .map(|graph| (graph.name().to_owned(), graph.clone()))
                .collect::<BTreeMap<_, _>>(),
            graph_loader: self.graph_loader.clone(),
            sessions: Some(sessions.of(&self.sandbox, name, version, bounds)),
            config: manifest.config.clone(),
            limits: sandbox_limits(&limits),
            reuse: manifest.sandbox.reuse,
        };
        let (handler, report) = self
            .sandbox
            .load(bytes, spec, init_grants(manifest))
            .await?;
        Ok(Served {
            predictor: Predictor::Handler(handler),
            report: Some(report),
        })
    }

    /// Has a version answer its sample before anybody else asks, so that code, instances and networks have all run once
    /// with what they will be given. It was well when it was uploaded: what is not well now is told in the log, and the
    /// version serves.
    async fn warm(
        &self,
        package: &PackageDir,
        version: Version,
        predictor: &Predictor,
    ) -> Result<(), PackageLoadError> {
        let limits = package.manifest().limits.effective(&self.ceilings);
        let Some(sample) = Sample::read(package, &limits).await? else {
            return Ok(());
        };
        for _ in 0..WARM_UPS {
            if let Err(error) = sample.ask(predictor).await {
                let model = &package.manifest().name;
                tracing::warn!(%model, version = version.get(), "warming up: {error}");
                break;
            }
        }
        Ok(())
    }

    /// Lets go of what is kept of a version, or of all versions of a model, beyond its unloading: they are deleted.
    pub(crate) fn forget(&self, name: &ModelName, version: Option<Version>) {
        self.sessions.forget(name, version);
        self.breakers.forget(name, version);
        let inference = self.telemetry.inference();
        inference.forget(name.as_str(), version.map(Version::get));
    }

    fn one_graph_without_handler(&self, manifest: &Manifest) -> Result<(), PackageLoadError> {
        match manifest.graphs.len() {
            graphs if manifest.handler.is_none() && graphs != 1 => {
                Err(PackageLoadError::NoHandler { graphs })
            }
            _ => Ok(()),
        }
    }

    /// Holds a package's graphs to their number and size, before anything of them is read.
    async fn within_limits(&self, package: &PackageDir) -> Result<(), PackageLoadError> {
        let manifest = package.manifest();
        let limits = manifest.limits.effective(&self.ceilings);
        if manifest.graphs.len() > limits.graphs as usize {
            return Err(PackageLoadError::TooManyGraphs {
                graphs: manifest.graphs.len(),
                limit: limits.graphs as usize,
            });
        }
        let limit_bytes = u64::from(limits.graph_mib) << 20;
        for graph in &manifest.graphs {
            let mut bytes = 0;
            for path in iter::once(package.graph(graph)).chain(package.weights(graph)) {
                let read = tokio::fs::metadata(&path).await;
                bytes += read
                    .map_err(|source| PackageLoadError::Read { path, source })?
                    .len();
            }
            if bytes > limit_bytes {
                return Err(PackageLoadError::GraphTooLarge {
                    graph: graph.name.clone(),
                    bytes,
                    limit_bytes,
                });
            }
        }
        Ok(())
    }

    /// Sees that the package's graphs load within their limits, and says what is not well with them though they
    /// do. Without isolation a parser that is out of time is left to itself.
    async fn check_graphs(&self, package: &PackageDir) -> Result<Vec<String>, PackageLoadError> {
        let manifest = package.manifest();
        let limits = manifest.limits.effective(&self.ceilings);
        let bounds = Bounds {
            time: Duration::from_millis(limits.graph_load_ms.into()),
            memory_bytes: u64::from(limits.graph_load_mib) << 20,
        };
        let mut warnings = Vec::new();
        for graph in &manifest.graphs {
            let spec = graph_spec(package, graph, &limits, self.runtime.threads());
            let warnings_here = match self.sandbox.workers() {
                Some(workers) => {
                    let model = manifest.name.as_str();
                    self.passed
                        .or_in_worker(workers, &self.runtime, model, &spec, bounds)
                        .await?
                }
                None => {
                    let graph = tokio::time::timeout(bounds.time, self.graph(&spec, None))
                        .await
                        .map_err(|_| GraphFault::timeout(&spec.name, bounds.time))??;
                    graph.warnings()
                }
            };
            let all = warnings_here
                .into_iter()
                .chain(oversubscribed(&spec, self.runtime.threads()));
            warnings.extend(all.map(|warning| format!("graph `{}`: {warning}", spec.name)));
        }
        Ok(warnings)
    }

    /// Loads the package's graphs; their runs are counted if they are `observed`.
    async fn graphs(
        &self,
        package: &PackageDir,
        observed: bool,
    ) -> Result<Vec<Graph>, PackageLoadError> {
        let manifest = package.manifest();
        let limits = manifest.limits.effective(&self.ceilings);
        let mut graphs = Vec::with_capacity(manifest.graphs.len());
        for graph in &manifest.graphs {
            let spec = graph_spec(package, graph, &limits, self.runtime.threads());
            if !observed {
                graphs.push(self.graph(&spec, None).await?);
                continue;
            }
            let observer = GraphObserver::new(Arc::clone(&self.telemetry), manifest.name.as_str());
            let observer = Arc::new(observer);
            let seen: Arc<dyn Observer> = Arc::clone(&observer) as _;
            let graph = self.graph(&spec, Some(seen)).await?;
            // So that its series are there at zero.
            observer.metrics(graph.name(), graph.backend());
            graphs.push(graph);
        }
        Ok(graphs)
    }

    /// Loads one graph, off the executor's threads: native parsers take their time.
    async fn graph(
        &self,
        spec: &GraphSpec,
        observer: Option<Arc<dyn Observer>>,
    ) -> Result<Graph, PackageLoadError> {
        let (runtime, spec) = (self.runtime.clone(), spec.clone());
        tokio::task::spawn_blocking(doing_in_this_trace(move || match observer {
            Some(observer) => runtime.load_observed(&spec, observer),
            None => runtime.load(&spec),
        }))
        .await
        .map_err(|error| PackageLoadError::Host(format!("the loader of a graph failed: {error}")))?
        .map_err(|error| GraphFault::from(error).into())
    }
}

/// What the check of a package found.
pub(crate) struct Checked {
    /// What became of its handler, if it has one.
    pub(crate) handler: Option<PrepareReport>,
    /// What is not well with it, though it serves.
    pub(crate) warnings: Vec<String>,
    /// What its sample was answered with.
    pub(crate) tried: Option<Tried>,
}

/// Graphs that were loaded to try a package: while they are there, the version that it becomes finds their weights.
pub(crate) struct Tried {
    _graphs: Vec<Graph>,
}

/// What answers, and what it took to make it, if it is a handler.
struct Served {
    predictor: Predictor,
    report: Option<PrepareReport>,
}

/// That a graph's sessions want more threads than there are, if they do.
fn oversubscribed(spec: &GraphSpec, threads: usize) -> Option<String> {
    let wanted = spec.sessions.saturating_mul(spec.intra_op_threads);
    (wanted > threads).then(|| {
        format!(
            "{} sessions of {} threads each are more than the {threads} that networks compute on here \
             (inference_threads): they take turns",
            spec.sessions, spec.intra_op_threads
        )
    })
}

async fn read_handler(package: &PackageDir) -> Result<Option<Vec<u8>>, PackageLoadError> {
    match package.handler() {
        None => Ok(None),
        Some(path) => tokio::fs::read(&path)
            .await
            .map(Some)
            .map_err(|source| PackageLoadError::Read { path, source }),
    }
}

/// The size of each graph's files: what a graph holds is mostly its weights, which its sessions share.
fn graph_bytes(package: &PackageDir) -> Vec<u64> {
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    let graphs = package.manifest().graphs.iter();
    graphs
        .map(|graph| {
            let weights = package.weights(graph).map_or(0, size);
            size(package.graph(graph)) + weights
        })
        .collect()
}

fn log_report(name: &ModelName, version: Version, report: &PrepareReport) {
    let snapshot = report.snapshot.clone().unwrap_or_default();
    tracing::info!(
        model = %name,
        version = version.get(),
        compile_ms = report.compile_ms,
        code_bytes = report.code_bytes,
        cached = report.cached,
        init_ms = snapshot.init_ms,
        snapshot_bytes = snapshot.after_bytes,
        "handler loaded"
    );
}

fn admission(manifest: &Manifest, limits: &EffectiveLimits) -> Admission {
    let (inside, queue) = (limits.max_concurrency as usize, limits.max_queue as usize);
    if manifest.admission.adaptive {
        Admission::adaptive(inside, queue)
    } else {
        Admission::new(inside, queue)
    }
}
