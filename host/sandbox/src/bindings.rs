//! What wasmtime makes of `wit/`: the types that cross the boundary, the traits the host
//! implements and the handles to a guest's exports.
#![expect(missing_docs, reason = "generated; the WIT is the documentation")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "aegis:inference/full-handler",
    imports: {
        // What is native waits: compute, and parsing a network from bytes where that is allowed.
        // Everything else answers at once.
        "wasi:nn/inference@0.2.0-rc-2024-10-28.[method]graph-execution-context.compute": async | trappable,
        "wasi:nn/graph@0.2.0-rc-2024-10-28.load": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "wasi:nn/tensor@0.2.0-rc-2024-10-28.tensor": crate::host::nn::GuestTensor,
        "wasi:nn/graph@0.2.0-rc-2024-10-28.graph": crate::host::nn::GuestGraph,
        "wasi:nn/inference@0.2.0-rc-2024-10-28.graph-execution-context": crate::host::nn::GuestContext,
        "wasi:nn/errors@0.2.0-rc-2024-10-28.error": crate::host::nn::GuestError,
    },
});

pub(crate) use aegis::inference::types;
pub use exports::aegis::inference::infer::{InferenceRequest, InferenceResponse};
pub use types::{Datatype, NamedTensor as TypedTensor, Parameter};
