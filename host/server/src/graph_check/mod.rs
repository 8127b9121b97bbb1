//! Whether a graph of an upload loads: tried in a process of its own where uploads are
//! isolated, since native parsers are not memory-safe; the host loads the network itself
//! only after that process has survived it.

mod passed;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use aegis_inference::{
    BackendChoice, Batching, BatchingMode, GraphFiles, GraphSpec, LoadError, Precision, Runtime,
    RuntimeConfig, Target, precheck::Refusal,
};
use aegis_sandbox::worker::{Answer, Bounds, WorkerError, Workers, run_child};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use passed::Passed;

/// The kind of this work, as a worker is told it.
const KIND: &str = "graph";

/// Why a graph is not served.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum GraphFault {
    /// No backend takes it; their words.
    #[error("{message}")]
    NotLoaded {
        /// The words.
        message: String,
    },
    /// Its tensors are in a file that it may not read.
    #[error("{message}")]
    ExternalData {
        /// Which tensor and which file.
        message: String,
    },
    /// Its file is broken, or hostile.
    #[error("{message}")]
    Malformed {
        /// What is wrong and where.
        message: String,
    },
    /// Parsing and warming up took longer than it may.
    #[error(
        "graph `{graph}` is not parsed and warmed up within its {limit_ms} ms ([limits] graph_load_ms)"
    )]
    Timeout {
        /// The graph.
        graph: String,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// It took more memory than it may.
    #[error(
        "parsing and warming up graph `{graph}` takes more than its {limit_mib} MiB of memory ([limits] graph_load_mib)"
    )]
    Memory {
        /// The graph.
        graph: String,
        /// The limit, in MiB.
        limit_mib: u64,
    },
    /// The engine itself broke on it.
    #[error("the engine crashed on graph `{graph}`: {how}")]
    Crashed {
        /// The graph.
        graph: String,
        /// How it ended.
        how: String,
    },
    /// The host's own trouble.
    #[error("graph `{graph}` could not be checked: {message}")]
    Host {
        /// The graph.
        graph: String,
        /// What went wrong.
        message: String,
    },
}

impl GraphFault {
    /// The stable code of the error in HTTP answers.
    pub fn code(&self) -> &'static str {
        match self {
            GraphFault::NotLoaded { .. } => "graph_not_loaded",
            GraphFault::ExternalData { .. } => "external_data",
            GraphFault::Malformed { .. } => "graph_malformed",
            GraphFault::Timeout { .. } => "graph_timeout",
            GraphFault::Memory { .. } => "graph_memory",
            GraphFault::Crashed { .. } => "graph_crashed",
            GraphFault::Host { .. } => "host_error",
        }
    }

    pub(crate) fn timeout(graph: &str, limit: Duration) -> GraphFault {
        GraphFault::Timeout {
            graph: graph.to_owned(),
            limit_ms: limit.as_millis() as u64,
        }
    }
}

impl From<LoadError> for GraphFault {
    fn from(error: LoadError) -> GraphFault {
        let message = error.to_string();
        match error {
            LoadError::Refused { refusal, .. } => match refusal {
                Refusal::ExternalData(_) => GraphFault::ExternalData { message },
                Refusal::Malformed(_) => GraphFault::Malformed { message },
            },
            _ => GraphFault::NotLoaded { message },
        }
    }
}

/// What a worker is told: a runtime and a graph, in words that survive the way.
#[derive(Serialize, Deserialize)]
struct Task {
    onnxruntime: Option<PathBuf>,
    openvino: Option<PathBuf>,
    search: Vec<PathBuf>,
    name: String,
    network: PathBuf,
    /// OpenVINO's weights, which make the network an IR.
    bin: Option<PathBuf>,
    external_data: Option<PathBuf>,
    backend: String,
    target: String,
    precision: String,
    fallback: bool,
    batching: BatchingTask,
}

/// How requests to the graph are to share runs, for the trial of it.
#[derive(Serialize, Deserialize)]
struct BatchingTask {
    /// `None`: not at all.
    automatic: Option<bool>,
    max_rows: u32,
    axes: Vec<(String, Option<usize>)>,
}

impl From<&Batching> for BatchingTask {
    fn from(batching: &Batching) -> BatchingTask {
        BatchingTask {
            automatic: match batching.mode {
                BatchingMode::Off => None,
                BatchingMode::Auto => Some(true),
                BatchingMode::On => Some(false),
            },
            max_rows: batching.max_rows,
            axes: batching.axes.clone(),
        }
    }
}

impl From<BatchingTask> for Batching {
    fn from(task: BatchingTask) -> Batching {
        Batching {
            mode: match task.automatic {
                None => BatchingMode::Off,
                Some(true) => BatchingMode::Auto,
                Some(false) => BatchingMode::On,
            },
            max_rows: task.max_rows,
            axes: task.axes,
            ..Batching::default()
        }
    }
}

impl Task {
    fn new(runtime: &RuntimeConfig, spec: &GraphSpec) -> Task {
        let (network, bin) = match &spec.files {
            GraphFiles::Onnx(file) => (file.clone(), None),
            GraphFiles::OpenVinoIr { xml, bin } => (xml.clone(), Some(bin.clone())),
        };
        Task {
            onnxruntime: runtime.onnxruntime.clone(),
            openvino: runtime.openvino.clone(),
            search: runtime.search.clone(),
            name: spec.name.clone(),
            network,
            bin,
            external_data: spec.external_data.clone(),
            backend: spec.backend.to_string(),
            target: spec.target.to_string(),
            precision: spec.precision.to_string(),
            fallback: spec.fallback,
            batching: (&spec.batching).into(),
        }
    }

    fn load(self) -> Result<Loaded, GraphFault> {
        let odd = |error: aegis_inference::ParseWordError| GraphFault::Host {
            graph: self.name.clone(),
            message: error.to_string(),
        };
        let backend: BackendChoice = self.backend.parse().map_err(odd)?;
        let target: Target = self.target.parse().map_err(odd)?;
        let precision: Precision = self.precision.parse().map_err(odd)?;
        let files = match self.bin {
            Some(bin) => GraphFiles::OpenVinoIr {
                xml: self.network,
                bin,
            },
            None => GraphFiles::Onnx(self.network),
        };
        // One session: others are the same again.
        let spec = GraphSpec {
            external_data: self.external_data,
            backend,
            target,
            precision,
            fallback: self.fallback,
            batching: self.batching.into(),
            ..GraphSpec::new(self.name, files)
        };
        let runtime = Runtime::new(RuntimeConfig {
            onnxruntime: self.onnxruntime,
            openvino: self.openvino,
            search: self.search,
            threads: None,
        });
        let graph = runtime.load(&spec)?;
        let signature = graph.signature();
        let loaded = Loaded {
            backend: graph.backend().name().to_owned(),
            inputs: signature.inputs.len(),
            outputs: signature.outputs.len(),
            warnings: graph.warnings(),
        };
        // It ends with the process, at once: taking it apart first would only be one more
        // chance for native code to crash after all has been seen.
        std::mem::forget((graph, runtime));
        Ok(loaded)
    }
}

/// What a worker found.
#[derive(Debug, Serialize, Deserialize)]
struct Loaded {
    backend: String,
    inputs: usize,
    outputs: usize,
    /// What is not well though it loads.
    warnings: Vec<String>,
}

/// Has a worker parse and warm up a graph of `model`, and try whether requests may share its runs: what is not well
/// though it loads.
pub(crate) async fn in_worker(
    workers: &Workers,
    runtime: &Runtime,
    model: &str,
    spec: &GraphSpec,
    bounds: Bounds,
) -> Result<Vec<String>, GraphFault> {
    let task = Task::new(runtime.config(), spec);
    let graph = || spec.name.clone();
    let answer: Answer<Result<Loaded, GraphFault>> = workers
        .run(KIND, model, task, &[], bounds)
        .await
        .map_err(|error| match error {
            WorkerError::Timeout => GraphFault::timeout(&spec.name, bounds.time),
            WorkerError::Memory => GraphFault::Memory {
                graph: graph(),
                limit_mib: bounds.memory_bytes >> 20,
            },
            WorkerError::Crashed { how } => GraphFault::Crashed {
                graph: graph(),
                how,
            },
            WorkerError::Host { message } => GraphFault::Host {
                graph: graph(),
                message,
            },
        })?;
    let loaded = answer.value?;
    tracing::debug!(
        model,
        graph = spec.name,
        backend = loaded.backend,
        inputs = loaded.inputs,
        outputs = loaded.outputs,
        "the graph loads"
    );
    Ok(loaded.warnings)
}

/// The worker itself. For its `main`.
pub fn graph_child() -> ExitCode {
    run_child(|task: Task, _| (task.load(), Vec::new()))
}
