//! Short-lived processes for what an upload contains. Compilers and parsers meet hostile
//! bytes there: they may take memory without end, never return, or crash, and the worst
//! that comes of it is a refused upload.
//!
//! A worker is this same program, started with other words. It is told everything on its
//! standard input, a line of JSON and then bytes, and answers the same way on its standard
//! output, which is a file without a name: nothing is left of it whoever dies first. It
//! bounds itself before it reads anything ([`child`]); the parent bounds its time and says
//! how it ended ([`parent`]).
//!
//! What a worker is not: a second sandbox. It runs as the same user, so bytes that could
//! take over the compiler itself would have that user's rights. The key of the code cache
//! is never given to it, and what it calls native code is believed.

mod child;
pub(crate) mod compile;
mod parent;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use child::run as run_child;
pub use compile::child as compile_child;
pub use parent::{Answer, Workers};

/// How a worker is started. The kind of its work follows the arguments as the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub args: Vec<OsString>,
}

impl WorkerCommand {
    /// The program that is running, by the kernel's own name for it: it is found though its
    /// file has been replaced, and the worker is then still of the same version.
    pub fn this_program(args: &[&str]) -> WorkerCommand {
        WorkerCommand {
            program: PathBuf::from("/proc/self/exe"),
            args: args.iter().map(OsString::from).collect(),
        }
    }
}

/// What a worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Wall time, from its start to its answer.
    pub time: Duration,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
}

/// How a worker ended without an answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WorkerError {
    /// Its time was over.
    #[error("it did not end in time")]
    Timeout,
    /// It took more memory than it may have.
    #[error("it took more memory than it may have")]
    Memory,
    /// It crashed: a signal, a panic, an answer that makes no sense.
    #[error("it crashed: {how}")]
    Crashed {
        /// How it ended.
        how: String,
    },
    /// It could not be started or heard.
    #[error("{message}")]
    Host {
        /// What the system said.
        message: String,
    },
}

/// The first line that a worker reads.
#[derive(Serialize, Deserialize)]
struct Order<T> {
    /// Who asks. A worker whose parent is another has been orphaned.
    parent: u32,
    bounds: Bounds,
    /// How many bytes follow the line.
    input_bytes: usize,
    task: T,
}

/// A line of JSON longer than this is not one of ours: specs are bounded by manifests
/// (1 MiB), messages by what a guest or a parser may say.
const MAX_LINE: u64 = 8 << 20;
