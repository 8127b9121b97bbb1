//! From a package on disk to a version that can take requests: graphs into backends, the
//! handler into the sandbox. Used at upload to see that a package works, and at load.

use std::{collections::BTreeMap, iter, path::PathBuf, sync::Arc, time::Duration};

use aegis_inference::{
    BackendChoice, BackendKind, Batching, BatchingMode, Graph, GraphFiles, GraphSpec, Observer,
    Precision, RunReport, Runtime, Target,
};
use aegis_registry::{
    Manifest, PackageDir, Version,
    manifest::{
        self, BatchAxis, EffectiveLimits, GraphBackend, GraphTarget, InitGrant as ManifestGrant,
        Limits, Precision as ManifestPrecision,
    },
};
use aegis_sandbox::{
    GraphLoader, HandlerSpec, InitGrant, Limits as SandboxLimits, PrepareError, PrepareReport,
    PrepareSpec, Sandbox, SessionBounds, worker::Bounds,
};
use aegis_telemetry::{GraphMetrics, Limit, Telemetry, doing_in_this_trace};
use thiserror::Error;

use crate::{
    admission::Admission,
    direct::DirectGraph,
    graph_check::{self, GraphFault},
    predictor::Predictor,
    residency::{LastUse, VERSION_BYTES},
    sessions::Sessions,
    version::LoadedVersion,
};

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
}

/// Why a package cannot serve.
#[derive(Debug, Error)]
pub enum PackageLoadError {
    /// A network that is not served.
    #[error(transparent)]
    Graph(#[from] GraphFault),
    /// A handler that is refused.
    #[error(transparent)]
    Handler(#[from] PrepareError),
    /// A file of the package cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Several graphs and nothing that says which to run.
    #[error(
        "the model has no handler and {graphs} graphs; a model without a handler serves one graph directly"
    )]
    NoHandler {
        /// How many it has.
        graphs: usize,
    },
    /// More graphs than a model may have.
    #[error("the model has {graphs} graphs, and may have {limit} here (limits.graphs)")]
    TooManyGraphs {
        /// How many it has.
        graphs: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A graph whose files are too large.
    #[error(
        "the files of graph `{graph}` have {bytes} bytes, over the limit of {} MiB (limits.graph_mib)",
        limit_bytes >> 20
    )]
    GraphTooLarge {
        /// The graph.
        graph: String,
        /// Its files together, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// The host's own trouble.
    #[error("loading failed: {0}")]
    Host(String),
}

impl PackageLoadError {
    /// The stable code of the error in HTTP answers.
    pub fn code(&self) -> &'static str {
        match self {
            PackageLoadError::Graph(fault) => fault.code(),
            PackageLoadError::Handler(error) => error.code(),
            PackageLoadError::NoHandler { .. } => "no_handler",
            PackageLoadError::TooManyGraphs { .. } => "too_many_graphs",
            PackageLoadError::GraphTooLarge { .. } => "graph_too_large",
            PackageLoadError::Read { .. } | PackageLoadError::Host(_) => "host_error",
        }
    }

    /// The limit that the package went over, if that is why it cannot serve.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self {
            PackageLoadError::Handler(error) => error.limit().map(limit_label),
            PackageLoadError::Graph(GraphFault::Timeout { .. }) => Some(Limit::GraphLoadTime),
            PackageLoadError::Graph(GraphFault::Memory { .. }) => Some(Limit::GraphLoadMemory),
            PackageLoadError::TooManyGraphs { .. } => Some(Limit::Graphs),
            PackageLoadError::GraphTooLarge { .. } => Some(Limit::GraphBytes),
            _ => None,
        }
    }

    /// Whether the host is at fault rather than the package.
    pub fn is_hosts_fault(&self) -> bool {
        matches!(
            self,
            PackageLoadError::Read { .. }
                | PackageLoadError::Host(_)
                | PackageLoadError::Handler(PrepareError::Host { .. })
                | PackageLoadError::Graph(GraphFault::Host { .. })
        )
    }
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
        let Some(bytes) = read_handler(package).await? else {
            return Ok(Checked {
                handler: None,
                warnings,
            });
        };
        let limits = manifest.limits.effective(&self.ceilings);
        let spec = PrepareSpec {
            model: manifest.name.to_string(),
            limits: sandbox_limits(&limits),
            config: manifest.config.clone(),
            init_grants: init_grants(manifest),
        };
        Ok(Checked {
            handler: Some(self.sandbox.prepare(bytes, spec).await?),
            warnings,
        })
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
        let graphs = self.graphs(package).await?;
        let timeout = Duration::from_millis(limits.timeout_ms.into());
        let mut resident = VERSION_BYTES + graph_bytes(package);
        let predictor = match read_handler(package).await? {
            Some(bytes) => {
                let bounds = session_bounds(&limits);
                let sessions = self.sessions.of(&self.sandbox, &name, version, bounds);
                let spec = HandlerSpec {
                    model: name.to_string(),
                    version: version.get(),
                    graphs: graphs
                        .iter()
                        .map(|graph| (graph.name().to_owned(), graph.clone()))
                        .collect::<BTreeMap<_, _>>(),
                    graph_loader: self.graph_loader.clone(),
                    sessions: Some(sessions),
                    config: manifest.config.clone(),
                    limits: sandbox_limits(&limits),
                    reuse: manifest.sandbox.reuse,
                };
                let (handler, report) = self
                    .sandbox
                    .load(bytes, spec, init_grants(manifest))
                    .await?;
                if handler.keeps_sessions() {
                    self.sessions.watch(&self.telemetry, &name, version);
                }
                log_report(&name, version, &report);
                resident += report.code_bytes;
                Predictor::Handler(handler)
            }
            None => match graphs.first() {
                Some(graph) => Predictor::Direct(DirectGraph::new(graph.clone(), &limits)),
                None => return Err(PackageLoadError::NoHandler { graphs: 0 }),
            },
        };
        let admission = Arc::new(Admission::new(
            limits.max_concurrency as usize,
            limits.max_queue as usize,
        ));
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
            timeout,
            request_bytes: limits.request_mib as usize * MIB,
            bytes: resident,
            last_use: LastUse::now(),
            _queue_depth: queue_depth,
        })
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
                    graph_check::in_worker(workers, &self.runtime, model, &spec, bounds).await?
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

    /// Loads the package's graphs.
    async fn graphs(&self, package: &PackageDir) -> Result<Vec<Graph>, PackageLoadError> {
        let manifest = package.manifest();
        let limits = manifest.limits.effective(&self.ceilings);
        let mut graphs = Vec::with_capacity(manifest.graphs.len());
        for graph in &manifest.graphs {
            let spec = graph_spec(package, graph, &limits, self.runtime.threads());
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

/// The graphs' files: what a graph holds is mostly its weights, which its sessions share.
fn graph_bytes(package: &PackageDir) -> u64 {
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    let graphs = package.manifest().graphs.iter();
    graphs
        .map(|graph| {
            let weights = package.weights(graph).map_or(0, size);
            size(package.graph(graph)) + weights
        })
        .sum()
}

fn log_report(name: &aegis_registry::ModelName, version: Version, report: &PrepareReport) {
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

fn graph_spec(
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

const MIB: usize = 1 << 20;

/// The sandbox's word for a limit as the metrics'.
pub(crate) fn limit_label(limit: aegis_sandbox::Limit) -> Limit {
    let known = (Limit::ALL.iter()).find(|known| known.as_str() == limit.as_str());
    // A test holds that every word of the sandbox is one of the metrics.
    *known.unwrap_or(&Limit::Memory)
}

fn sandbox_limits(limits: &EffectiveLimits) -> SandboxLimits {
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

fn session_bounds(limits: &EffectiveLimits) -> SessionBounds {
    SessionBounds {
        value_bytes: limits.session_kib as usize * 1024,
        sessions: limits.sessions as usize,
        bytes: limits.session_mib as usize * MIB,
        time_to_live: Duration::from_secs(limits.session_ttl_s.into()),
    }
}

fn init_grants(manifest: &Manifest) -> Vec<InitGrant> {
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

/// Turns the scheduler's reports into metrics. The handle is made at the first report, as
/// only then is it known which backend serves.
struct GraphObserver {
    telemetry: Arc<Telemetry>,
    model: String,
    metrics: std::sync::OnceLock<GraphMetrics>,
}

impl GraphObserver {
    fn new(telemetry: Arc<Telemetry>, model: &str) -> GraphObserver {
        GraphObserver {
            telemetry,
            model: model.to_owned(),
            metrics: std::sync::OnceLock::new(),
        }
    }

    /// The backend is known once the graph is loaded.
    fn metrics(&self, graph: &str, backend: BackendKind) -> &GraphMetrics {
        self.metrics.get_or_init(|| {
            let inference = self.telemetry.inference();
            inference.graph(&self.model, graph, backend.name())
        })
    }
}

impl Observer for GraphObserver {
    fn ran(&self, report: RunReport<'_>) {
        self.metrics(report.graph, report.backend).ran(
            report.batch_size,
            report.queue,
            report.compute,
        );
    }
}
