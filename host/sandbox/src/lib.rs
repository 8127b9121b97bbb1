//! The sandbox: runs handlers, the WebAssembly components that teams put around their
//! networks, so that nothing a handler does can panic, block or grow the host without
//! bound.
//!
//! A component passes through here twice. At upload [`Sandbox::prepare`] checks it, runs
//! its one-time initialisation, keeps the initialised memory as a snapshot and compiles
//! that to native code. At load [`Sandbox::load`] maps the native code and gives a
//! [`Handler`], which answers each request from a fresh instance made ahead of need.
//!
//! Networks come in as [`aegis_inference::Graph`]s and are served to guests through
//! `wasi:nn`. HTTP, storage and routing are other rooms' business.

mod bindings;
mod code_cache;
mod component;
mod engine;
mod fault;
#[doc(hidden)]
pub mod fuzzing;
mod graph_loader;
mod guest_memory;
mod handler;
mod host;
mod inspect;
mod instance;
mod lane;
mod limits;
mod make;
mod parts;
mod prepare;
mod refusals;
mod sessions;
mod snapshot;
mod text;
mod traced;
mod warm;
pub mod worker;

pub use bindings::types::{Failure, Problem, Request, Response};
pub use bindings::{Datatype, InferenceRequest, InferenceResponse, Parameter, TypedTensor};
pub use component::{Exports, GRANTED};
pub use engine::{Sandbox, SandboxConfig, SandboxError};
pub use fault::{Fault, TrapReason};
pub use graph_loader::{GraphBytes, GraphContent, GraphLoadFailure, GraphLoader};
pub use handler::{Call, Handler, HandlerSpec, HandlerStats, Outcome, Signals};
pub use inspect::{Extent, Import, Inspection, Sizes, inspect};
pub use limits::Limits;
pub use prepare::{InitGrant, PrepareError, PrepareReport, PrepareSpec, SnapshotReport};
pub use refusals::{Limit, Refusals};
pub use sessions::{LetGo, SessionBounds, SessionStore};
pub use traced::compute_traced;
