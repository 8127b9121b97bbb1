//! The host's side of a context: the real one inside a component, the fake one of a test
//! anywhere else. Both have the same three types with the same methods.

#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::{Graph, Host, Tensor};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod fake;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use fake::{Graph, Host, Tensor};

/// What wasi:nn says of a failure.
pub(crate) type NnError = (crate::ErrorCode, String);
