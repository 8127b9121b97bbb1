//! The worker that prepares a component: its order, its answer and both sides' part.

use std::{process::ExitCode, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Answer, Bounds, WorkerError, Workers};
use crate::{
    engine::{SandboxConfig, preparing_engine},
    make::{Facts, Made, make},
    prepare::{PrepareError, PrepareSpec},
};

/// The kind of this work, as a worker is told it.
const KIND: &str = "compile";

/// Beside the times that the worker itself keeps: to start, to read and to answer.
const OVERHEAD: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Task {
    spec: PrepareSpec,
    /// The one setting of the engine that is an operator's.
    max_stack_bytes: usize,
}

/// Has a worker make native code, for the engine that `config` gives.
pub(crate) async fn in_worker(
    workers: &Workers,
    config: &SandboxConfig,
    bytes: &[u8],
    spec: &PrepareSpec,
) -> Result<Made, PrepareError> {
    let limits = &spec.limits;
    let task = Task {
        spec: spec.clone(),
        max_stack_bytes: config.max_stack_bytes,
    };
    let bounds = Bounds {
        time: limits.compile_time + limits.init_timeout + OVERHEAD,
        memory_bytes: limits.compile_bytes,
    };
    let answer: Answer<Result<Facts, PrepareError>> = workers
        .run(KIND, &spec.model, task, bytes, bounds)
        .await
        .map_err(|error| match error {
            WorkerError::Timeout => PrepareError::CompileTimeout {
                limit_ms: limits.compile_time.as_millis() as u64,
            },
            WorkerError::Memory => PrepareError::CompileMemory {
                limit_mib: limits.compile_bytes >> 20,
            },
            WorkerError::Crashed { how } => PrepareError::CompileCrashed { how },
            WorkerError::Host { message } => PrepareError::Host { message },
        })?;
    Ok(Made {
        facts: answer.value?,
        code: answer.payload,
    })
}

/// The worker itself. For its `main`.
pub fn child() -> ExitCode {
    super::run_child(|task: Task, bytes| match prepare(task, bytes) {
        Ok(made) => (Ok(made.facts), made.code),
        Err(error) => (Err(error), Vec::new()),
    })
}

fn prepare(task: Task, bytes: Vec<u8>) -> Result<Made, PrepareError> {
    let config = SandboxConfig {
        max_stack_bytes: task.max_stack_bytes,
        // Nothing is cached here: the folder is the parent's.
        ..SandboxConfig::new("")
    };
    let engine = preparing_engine(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| PrepareError::Host {
            message: error.to_string(),
        })?;
    let made = runtime.block_on(make(&engine, &engine, bytes, &task.spec));
    // A compiler that is out of time is not waited for: it ends with the process.
    runtime.shutdown_background();
    made
}
