//! The server: HTTP, admission, routing and health. It puts the other rooms together and
//! has no inference, sandboxing or storage of its own.
//!
//! [`Server::bind`] takes a checked [`ServerConfig`] and the rooms; [`Server::run`] serves
//! until it is told to stop and then drains.

pub mod access;
mod admission;
mod breaker;
mod canary;
mod config;
mod direct;
mod first_bytes;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod graph_bytes;
mod graph_check;
mod http;
mod limits_table;
mod listener;
mod load;
mod looks;
mod models;
mod predictor;
mod residency;
mod serve;
mod sessions;
mod traffic;
mod version;

/// Of inference: what a program that serves needs to set up, and what it may ask of a network.
pub use aegis_inference::{
    BackendChoice, BackendKind, Dim, GraphFiles, GraphSpec, Port, Runtime, RuntimeConfig,
    TensorType, sessions_ended,
};
pub use aegis_sandbox::{Sandbox, SandboxConfig, SandboxError};
pub use config::ServerConfig;
pub use direct::DirectGraph;
pub use follow::StoreStatus;
pub use graph_check::{GraphFault, graph_child};
pub use limits_table::{LIMIT_OUTCOMES, LimitOutcome};
pub use load::PackageLoadError;
pub use models::{CircuitStatus, ModelStatus, Models, ModelsError, PublishOutcome};
pub use predictor::{NativePredictor, Predictor};
pub use serve::{DrainReport, Server, ServerError};
