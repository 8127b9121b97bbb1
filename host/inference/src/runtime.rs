//! Finds the engines, says which are there, and picks the one that loads a graph.

use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::{Backend, Embedded, Network, OnnxRuntime, OpenNetworks, OpenVino};
use crate::error::{Attempt, LoadError};
use crate::graph::{BackendChoice, BackendKind, Graph, GraphFiles, GraphSpec, Opened, Target};
use crate::observe::{Observer, Unobserved};
use crate::precheck;
use crate::scheduler::{Budget, Settings};

/// Where the native libraries may be. Empty means: only the places everyone looks in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// ONNX Runtime's library or its folder. Given, it is the only place looked in.
    pub onnxruntime: Option<PathBuf>,
    /// OpenVINO's C library or its folder. Given, it is the only place looked in.
    pub openvino: Option<PathBuf>,
    /// Folders to search before the usual ones.
    pub search: Vec<PathBuf>,
    /// How many threads all graphs together compute on; `None`: one for each core. Graphs whose runs use more at once
    /// take turns.
    pub threads: Option<usize>,
}

/// Whether a backend can serve, and why or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendStatus {
    /// Which backend.
    pub kind: BackendKind,
    /// Whether graphs can be loaded with it.
    pub available: bool,
    /// The engine's version, where it tells.
    pub version: Option<String>,
    /// The library's path, or what was looked for and what went wrong.
    pub detail: String,
}

/// The engines of this process. Cheap to clone.
///
/// Looking for them costs nothing until the first [`Runtime::load`] or [`Runtime::backends`]. A native library can be
/// loaded once in a process: a second `Runtime` shares the first one's libraries, wherever it is told to look.
#[derive(Clone)]
pub struct Runtime {
    engines: Arc<Engines>,
}

struct Engines {
    config: RuntimeConfig,
    onnxruntime: OnnxRuntime,
    openvino: OpenVino,
    embedded: Embedded,
    networks: OpenNetworks,
    budget: Arc<Budget>,
}

impl Runtime {
    /// Takes the configuration. Never fails: a library that is not there is a state, seen in [`Runtime::backends`].
    #[must_use]
    pub fn new(config: RuntimeConfig) -> Self {
        Self {
            engines: Arc::new(Engines {
                onnxruntime: OnnxRuntime::new(config.onnxruntime.clone(), config.search.clone()),
                openvino: OpenVino::new(config.openvino.clone(), config.search.clone()),
                embedded: Embedded,
                networks: OpenNetworks::default(),
                budget: Budget::new(config.threads.unwrap_or_else(cores)),
                config,
            }),
        }
    }

    /// What it was configured with: another process finds the same libraries by it.
    #[must_use]
    pub fn config(&self) -> &RuntimeConfig {
        &self.engines.config
    }

    /// The state of every backend, in `auto`'s order. Loads the native libraries the first time: blocking.
    #[must_use]
    pub fn backends(&self) -> Vec<BackendStatus> {
        BackendKind::ALL
            .into_iter()
            .map(|kind| self.backend(kind).status())
            .collect()
    }

    /// Loads a graph, warms its sessions up and starts their threads. Blocking, for seconds where networks are large and
    /// no other graph has loaded the same.
    ///
    /// # Errors
    /// [`LoadError`], with the words of every backend that was tried.
    pub fn load(&self, spec: &GraphSpec) -> Result<Graph, LoadError> {
        self.load_observed(spec, Arc::new(Unobserved))
    }

    /// As [`Runtime::load`], reporting every run to `observer`.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    pub fn load_observed(
        &self,
        spec: &GraphSpec,
        observer: Arc<dyn Observer>,
    ) -> Result<Graph, LoadError> {
        if let Some(problem) = spec.problem() {
            return Err(LoadError::Settings {
                graph: spec.name.clone(),
                problem,
            });
        }
        for path in spec.files.paths() {
            // Backends word a missing file each in their own way, or not at all.
            std::fs::File::open(path).map_err(|error| LoadError::File {
                graph: spec.name.clone(),
                file: path.display().to_string(),
                problem: error.to_string(),
            })?;
        }
        precheck::files(spec).map_err(|refusal| LoadError::Refused {
            graph: spec.name.clone(),
            refusal,
        })?;
        let opened = self.open_or_fall_back(spec)?;
        let backend = opened.backend;
        let settings = Settings {
            sessions: spec.sessions,
            queue_capacity: spec.queue_capacity,
            threads: spec.intra_op_threads,
            batching: spec.batching.clone(),
            ..Settings::default()
        };
        let budget = &self.engines.budget;
        Graph::start_within(&spec.name, opened, &settings, budget, observer).map_err(|words| {
            LoadError::Backend {
                graph: spec.name.clone(),
                attempt: Attempt { backend, words },
            }
        })
    }

    /// How many threads all graphs together compute on.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.engines.budget.threads()
    }

    /// Opens the network on the device it asks for, or on the processor where that will do.
    fn open_or_fall_back(&self, spec: &GraphSpec) -> Result<Opened, LoadError> {
        let opened = |(backend, network), warning| Opened {
            backend,
            network,
            warning,
        };
        match self.open(spec) {
            Err(error) if spec.target == Target::Gpu && spec.fallback => {
                let processor = GraphSpec {
                    target: Target::Cpu,
                    ..spec.clone()
                };
                let words = format!("it runs on the processor, as fallback allows: {error}");
                let network = self.open(&processor)?;
                tracing::warn!(graph = spec.name, "{words}");
                Ok(opened(network, Some(words)))
            }
            asked_for => Ok(opened(asked_for?, None)),
        }
    }

    fn open(&self, spec: &GraphSpec) -> Result<(BackendKind, Arc<dyn Network>), LoadError> {
        let try_with = |kind| {
            let networks = &self.engines.networks;
            networks
                .open(kind, self.backend(kind), spec)
                .map_err(|words| Attempt {
                    backend: kind,
                    words,
                })
        };
        let kind = match spec.backend {
            BackendChoice::Is(kind) => {
                return try_with(kind)
                    .map(|network| (kind, network))
                    .map_err(|attempt| LoadError::Backend {
                        graph: spec.name.clone(),
                        attempt,
                    });
            }
            BackendChoice::Auto => native_backends(&spec.files),
        };
        let mut attempts = Vec::new();
        let mut native_is_there = false;
        for kind in kind {
            let status = self.backend(*kind).status();
            if !status.available {
                attempts.push(Attempt {
                    backend: *kind,
                    words: status.detail,
                });
                continue;
            }
            native_is_there = true;
            match try_with(*kind) {
                Ok(network) => return Ok((*kind, network)),
                Err(attempt) => attempts.push(attempt),
            }
        }
        // A graph that a native backend refuses is not quietly served by a slower engine that may read it otherwise.
        if !native_is_there {
            match try_with(BackendKind::Embedded) {
                Ok(network) => return Ok((BackendKind::Embedded, network)),
                Err(attempt) => attempts.push(attempt),
            }
        }
        Err(LoadError::NoBackend {
            graph: spec.name.clone(),
            attempts,
        })
    }

    fn backend(&self, kind: BackendKind) -> &dyn Backend {
        match kind {
            BackendKind::OnnxRuntime => &self.engines.onnxruntime,
            BackendKind::OpenVino => &self.engines.openvino,
            BackendKind::Embedded => &self.engines.embedded,
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The native backends that read these files, best first.
fn native_backends(files: &GraphFiles) -> &'static [BackendKind] {
    match files {
        GraphFiles::Onnx(_) => &[BackendKind::OnnxRuntime, BackendKind::OpenVino],
        GraphFiles::OpenVinoIr { .. } => &[BackendKind::OpenVino],
    }
}
