//! Networks, run natively: tensors, graphs, the backends that execute them and the scheduler before them.
//!
//! This crate is the only place that knows a backend exists. It knows nothing of WebAssembly, HTTP or packages: a
//! [`Runtime`] finds the native libraries, [`Runtime::load`] turns files into a [`Graph`], and [`Graph::compute`]
//! answers one request. Metrics leave through [`Observer`].

pub mod backend;
mod error;
mod graph;
mod observe;
pub mod precheck;
mod runtime;
mod scheduler;
mod sync;
mod tensor;

pub use error::{Attempt, ComputeError, LoadError};
pub use graph::{
    BackendChoice, BackendKind, Dim, Graph, GraphFiles, GraphSpec, GraphStats, ParseWordError,
    Port, Precision, Signature, Target,
};
pub use observe::{Observer, RunReport, RunTimes, Unobserved};
pub use runtime::{BackendStatus, Runtime, RuntimeConfig};
pub use scheduler::{
    Batching, BatchingMode, BatchingState, IN_PLACE_BOUND, Priority, Settings, Terms,
    sessions_ended,
};
pub use tensor::{
    Element, MAX_RANK, NamedTensor, ParseTensorTypeError, Shape, Tensor, TensorError, TensorType,
};
