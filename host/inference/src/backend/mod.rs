//! The seam between the scheduler and the engines: what a backend is asked, and in which order.
//!
//! A [`Backend`] opens a network once; the [`Network`] makes as many [`Session`]s as run side by side. Nothing here
//! queues, checks names or keeps time: the scheduler and the signature do.

mod discover;
mod embedded;
mod library;
mod onnxruntime;
mod openvino;
mod shared;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smallvec::SmallVec;

use crate::error::ComputeError;
use crate::graph::{GraphSpec, Signature};
use crate::runtime::BackendStatus;
use crate::tensor::{MAX_RANK, NamedTensor, Shape};

pub(crate) use embedded::Embedded;
pub(crate) use onnxruntime::OnnxRuntime;
pub use onnxruntime::onnxruntime_environment;
pub(crate) use openvino::OpenVino;
pub(crate) use shared::OpenNetworks;

/// An engine that opens networks. Made once a process.
pub trait Backend: Send + Sync {
    /// Whether the engine is there, and which. May load the native library the first time: blocking.
    fn status(&self) -> BackendStatus;

    /// The settings that go into a network as it is opened, in words. Graphs of one content that agree in them may have
    /// one network between them; `None` where each needs its own.
    fn opened_with(&self, spec: &GraphSpec) -> Option<String>;

    /// Opens a network. Called once a graph, or once for all that share it; blocking.
    ///
    /// # Errors
    /// The backend's own words, without the graph's name.
    fn open(&self, spec: &GraphSpec) -> Result<Box<dyn Network>, String>;
}

/// One opened network.
pub trait Network: Send + Sync {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// Makes a session. Called once for each session of each graph that has the network, and again to replace one that panicked; blocking.
    ///
    /// # Errors
    /// The backend's own words.
    fn session(&self) -> Result<Box<dyn Session>, String>;
}

/// One loaded copy of a network, which runs one batch at a time.
pub trait Session: Send {
    /// Whether a run with these inputs takes no longer than others, as one that must first prepare itself for their
    /// shapes would. Asked with the queue's lock held, before a run is made in place; must not wait.
    fn is_ready_for(&self, inputs: &[NamedTensor]) -> bool {
        let _ = inputs;
        true
    }

    /// Runs `inputs`, which are the signature's inputs in its order, and answers with its outputs in its order, each
    /// with the type and shape that the backend returned. Blocking; called by one thread at a time, but not always the
    /// same. A session that panics is thrown away.
    ///
    /// # Errors
    /// [`ComputeError::Backend`] with the backend's own words.
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError>;
}

/// What a panic in a backend said.
pub(crate) fn panic_words(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!(
        "the backend panicked: {}",
        said.unwrap_or("it did not say why")
    )
}

/// Turns a panic into words. The crates over native libraries assert where a library breaks its own contract; such a
/// library fails a load, not the process.
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panic_words(&*panic)))
}

/// As [`guarded`], for a run: its panic is told apart from the backend's own words.
pub(crate) fn guarded_run<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, ComputeError> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(ended) => ended.map_err(ComputeError::Backend),
        Err(panic) => Err(ComputeError::Panicked(panic_words(&*panic))),
    }
}

/// What is wrong with the tensor of one of a network's ports.
fn about(what: &str, name: &str, words: &str) -> ComputeError {
    ComputeError::Backend(format!("{what} `{name}` {words}"))
}

/// Dimensions as native libraries write them.
fn shape_of(dims: &[i64]) -> Result<Shape, String> {
    let dims = dims
        .iter()
        .map(|dim| u32::try_from(*dim))
        .collect::<Result<SmallVec<[u32; MAX_RANK]>, _>>()
        .map_err(|_| format!("has a dimension outside 0 to {}: {dims:?}", u32::MAX))?;
    Shape::new(&dims).map_err(|error| format!("cannot be carried: {error}"))
}

/// The words for an output whose element type is outside the seven.
fn untransportable(ty: &str) -> String {
    format!(
        "is of type {ty}, which cannot be carried: wasi:nn knows fp16, fp32, fp64, bf16, u8, i32 and i64"
    )
}
