//! `wasi:nn@0.2.0-rc-2024-10-28` over [`aegis_inference`].
//!
//! A guest sees its own model's graphs, by name, and nothing else; networks from its own
//! bytes only where the operator allows them. Compute waits without holding a thread. All
//! that a guest holds here lies outside its WebAssembly memory and is counted in [`Usage`]
//! against its limits. One file an interface; here are errors and the counting.
#![expect(
    unreachable_pub,
    reason = "the generated bindings re-export these types, from a private module"
)]

mod compute;
mod graph;
mod load;
mod tensor;

use wasmtime::component::Resource;

pub use compute::GuestContext;
pub use graph::GuestGraph;
pub use tensor::GuestTensor;

use crate::{
    bindings::wasi::nn::errors::{self, ErrorCode},
    instance::GuestState,
    refusals::Limit,
    text::cut,
};

type Errable<T> = wasmtime::Result<Result<T, Resource<GuestError>>>;

/// A guest's `error`.
#[derive(Debug)]
pub struct GuestError {
    code: ErrorCode,
    data: String,
}

/// The longest text of an error, in bytes. A guest may hold as many errors as it may hold
/// handles, and some repeat what it said.
const MAX_ERROR_DATA: usize = 1 << 10;

/// The longest name of a guest's that an error repeats, in bytes.
const MAX_QUOTED: usize = 64;

/// What every tensor counts beside its bytes: so that a guest pays for empty ones too.
pub(crate) const TENSOR_OVERHEAD: usize = 128;

/// What one instance holds of `wasi:nn`, in the host's memory.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Usable tensors.
    pub(crate) tensors: usize,
    /// Their bytes and overhead, and the bytes of networks loaded from bytes.
    pub(crate) tensor_bytes: usize,
    /// Execution contexts.
    pub(crate) contexts: usize,
    /// Networks loaded from bytes.
    pub(crate) graphs: usize,
}

impl Usage {
    /// Bytes of tensors and of networks loaded from bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.tensor_bytes
    }
}

impl GuestState {
    fn nn_error<T>(&mut self, code: ErrorCode, data: impl Into<String>) -> Errable<T> {
        let data = cut(data.into(), MAX_ERROR_DATA);
        Ok(Err(self.table.push(GuestError { code, data })?))
    }

    /// Takes `bytes` from the instance's budget; the error says why not.
    fn charge_bytes(&mut self, what: &str, bytes: usize) -> Result<(), (ErrorCode, String)> {
        let limit = self.handler.limits.tensor_bytes;
        let used = self.nn.bytes();
        match used.checked_add(bytes).filter(|wanted| *wanted <= limit) {
            Some(wanted) if self.tensor_share.cover(wanted) => {
                self.nn.tensor_bytes = wanted;
                Ok(())
            }
            Some(_) => {
                self.refusals.add(Limit::GuestMemory, 1);
                // Nothing is wrong with what the guest asks, and later it may have it.
                Err((
                    ErrorCode::RuntimeError,
                    format!(
                        "overloaded: all handlers together hold the {} MiB of memory that this \
                         host has for them",
                        self.tensor_share.limit() >> 20
                    ),
                ))
            }
            None => {
                self.refusals.add(Limit::TensorBytes, 1);
                let reason = format!(
                    "{what} of {bytes} bytes is over this model's budget: {limit} bytes of \
                     tensors per instance (limits.tensor_mib), {used} in use"
                );
                Err((ErrorCode::TooLarge, reason))
            }
        }
    }

    fn discharge_bytes(&mut self, bytes: usize) {
        self.nn.tensor_bytes = self.nn.tensor_bytes.saturating_sub(bytes);
        self.tensor_share.shrink(self.nn.tensor_bytes);
    }

    /// Takes a tensor of `bytes` from the instance's budget.
    fn charge_tensor(&mut self, bytes: usize) -> Result<(), (ErrorCode, String)> {
        let limit = self.handler.limits.tensors;
        if self.nn.tensors >= limit {
            self.refusals.add(Limit::Tensors, 1);
            let reason = format!(
                "this model's instances hold at most {limit} tensors at a time (limits.tensors)"
            );
            return Err((ErrorCode::TooLarge, reason));
        }
        self.charge_bytes("a tensor", bytes.saturating_add(TENSOR_OVERHEAD))?;
        self.nn.tensors += 1;
        Ok(())
    }

    fn discharge_tensor(&mut self, bytes: usize) {
        self.discharge_bytes(bytes.saturating_add(TENSOR_OVERHEAD));
        self.nn.tensors = self.nn.tensors.saturating_sub(1);
    }
}

/// A guest's word in an error message.
fn quoted(name: String) -> String {
    cut(name, MAX_QUOTED).escape_debug().to_string()
}

impl errors::Host for GuestState {}

impl errors::HostError for GuestState {
    fn code(&mut self, this: Resource<GuestError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&this)?.code)
    }

    fn data(&mut self, this: Resource<GuestError>) -> wasmtime::Result<String> {
        Ok(self.table.get(&this)?.data.clone())
    }

    fn drop(&mut self, this: Resource<GuestError>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
