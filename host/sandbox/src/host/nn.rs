//! `wasi:nn@0.2.0-rc-2024-10-28` over [`aegis_inference`].
//!
//! A guest sees its own model's graphs, by name, and nothing else: `load` from bytes is
//! refused with `security`. Compute waits without holding a thread. Tensors live in host
//! memory and are counted against the instance.
//!
//! WIT's tensor constructor cannot fail, so a tensor that makes no sense is kept as
//! [`GuestTensor::Unusable`] and refused where the guest can act on it: by `compute`, with
//! `invalid-argument` or `too-large` and the reason.
#![expect(
    unreachable_pub,
    reason = "the generated bindings re-export these types, from a private module"
)]

use std::sync::Arc;

use aegis_inference::{ComputeError, Graph, NamedTensor, Shape, Tensor, TensorType};
use wasmtime::component::Resource;

use crate::{
    bindings::wasi::nn::{
        errors::{self, ErrorCode},
        graph::{self, ExecutionTarget, GraphEncoding},
        inference, tensor,
    },
    instance::GuestState,
};

type Errable<T> = wasmtime::Result<Result<T, Resource<GuestError>>>;

/// A guest's `tensor`.
#[derive(Debug)]
pub enum GuestTensor {
    /// Shape, type and bytes agree.
    Usable(Tensor),
    /// They do not, or the tensor was over the budget. What the guest gave, without the
    /// bytes, and why it cannot be used.
    Unusable {
        /// The dimensions as given.
        dimensions: Vec<u32>,
        /// The type as given.
        ty: tensor::TensorType,
        /// What `compute` answers.
        code: ErrorCode,
        /// Why.
        reason: String,
    },
}

/// A guest's `graph`: one of its model's own.
#[derive(Debug)]
pub struct GuestGraph(Graph);

/// A guest's `graph-execution-context`. It holds its graph, so it outlives the `graph`
/// handle it came from.
#[derive(Debug)]
pub struct GuestContext(Graph);

/// A guest's `error`.
#[derive(Debug)]
pub struct GuestError {
    code: ErrorCode,
    data: String,
}

/// What every tensor counts beside its bytes: so that a guest pays for empty ones too.
const TENSOR_OVERHEAD: usize = 128;

impl GuestState {
    fn nn_error<T>(&mut self, code: ErrorCode, data: impl Into<String>) -> Errable<T> {
        let data = data.into();
        Ok(Err(self.table.push(GuestError { code, data })?))
    }

    /// Takes a tensor's size from the instance's budget.
    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        let limit = self.handler.limits.tensor_bytes;
        let wanted = self
            .tensor_bytes
            .saturating_add(bytes)
            .saturating_add(TENSOR_OVERHEAD);
        if wanted > limit {
            return Err(format!(
                "a tensor of {bytes} bytes is over this model's budget: {limit} bytes of tensors \
                 per instance, {} in use",
                self.tensor_bytes
            ));
        }
        self.tensor_bytes = wanted;
        Ok(())
    }

    fn discharge(&mut self, tensor: &GuestTensor) {
        if let GuestTensor::Usable(tensor) = tensor {
            self.tensor_bytes = self
                .tensor_bytes
                .saturating_sub(tensor.byte_len() + TENSOR_OVERHEAD);
        }
    }

    fn make_tensor(
        &mut self,
        dimensions: Vec<u32>,
        ty: tensor::TensorType,
        data: Vec<u8>,
    ) -> GuestTensor {
        let made = Shape::new(&dimensions)
            .and_then(|shape| Tensor::new(ty.into(), shape, data))
            .map_err(|error| (ErrorCode::InvalidArgument, error.to_string()))
            .and_then(|tensor| match self.charge(tensor.byte_len()) {
                Ok(()) => Ok(tensor),
                Err(reason) => Err((ErrorCode::TooLarge, reason)),
            });
        match made {
            Ok(tensor) => GuestTensor::Usable(tensor),
            Err((code, reason)) => GuestTensor::Unusable {
                dimensions,
                ty,
                code,
                reason,
            },
        }
    }

    /// Takes `inputs` out of the guest's hands, whatever is wrong with one of them: they
    /// were given away by the call.
    fn take_inputs(
        &mut self,
        graph: &Graph,
        inputs: Vec<(String, Resource<GuestTensor>)>,
    ) -> wasmtime::Result<Result<Vec<NamedTensor>, (ErrorCode, String)>> {
        let ports = &graph.signature().inputs;
        let mut taken = Vec::with_capacity(inputs.len());
        let mut wrong = None;
        for (name, handle) in inputs {
            let tensor = self.table.delete(handle)?;
            self.discharge(&tensor);
            match tensor {
                GuestTensor::Usable(tensor) => {
                    // The graph's own copy of the name, where it has one: no allocation.
                    let name = ports
                        .iter()
                        .find(|port| *port.name == *name)
                        .map_or_else(|| Arc::from(name), |port| Arc::clone(&port.name));
                    taken.push(NamedTensor { name, tensor });
                }
                GuestTensor::Unusable { code, reason, .. } => {
                    wrong.get_or_insert((code, format!("input `{name}`: {reason}")));
                }
            }
        }
        Ok(match wrong {
            None => Ok(taken),
            Some(error) => Err(error),
        })
    }
}

impl tensor::Host for GuestState {}

impl tensor::HostTensor for GuestState {
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        ty: tensor::TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<GuestTensor>> {
        let tensor = self.make_tensor(dimensions, ty, data);
        Ok(self.table.push(tensor)?)
    }

    fn dimensions(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(match self.table.get(&this)? {
            GuestTensor::Usable(tensor) => tensor.shape().dims().to_vec(),
            GuestTensor::Unusable { dimensions, .. } => dimensions.clone(),
        })
    }

    fn ty(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<tensor::TensorType> {
        Ok(match self.table.get(&this)? {
            GuestTensor::Usable(tensor) => tensor.ty().into(),
            GuestTensor::Unusable { ty, .. } => *ty,
        })
    }

    fn data(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(match self.table.get(&this)? {
            GuestTensor::Usable(tensor) => tensor.bytes().to_vec(),
            GuestTensor::Unusable { .. } => Vec::new(),
        })
    }

    fn drop(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<()> {
        let tensor = self.table.delete(this)?;
        self.discharge(&tensor);
        Ok(())
    }
}

impl graph::Host for GuestState {
    fn load(
        &mut self,
        _builder: Vec<Vec<u8>>,
        _encoding: GraphEncoding,
        _target: ExecutionTarget,
    ) -> Errable<Resource<GuestGraph>> {
        self.nn_error(
            ErrorCode::Security,
            "loading a network from a handler's own bytes is not allowed here; put the network \
             into the model package and open it with load-by-name",
        )
    }

    fn load_by_name(&mut self, name: String) -> Errable<Resource<GuestGraph>> {
        match self.handler.graphs.get(&name) {
            Some(graph) => {
                let graph = GuestGraph(graph.clone());
                Ok(Ok(self.table.push(graph)?))
            }
            None => {
                let known: Vec<_> = self.handler.graphs.keys().map(String::as_str).collect();
                let message = format!(
                    "this model has no graph named `{}`; it has {}",
                    name.escape_debug(),
                    if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    }
                );
                self.nn_error(ErrorCode::NotFound, message)
            }
        }
    }
}

impl graph::HostGraph for GuestState {
    fn init_execution_context(
        &mut self,
        this: Resource<GuestGraph>,
    ) -> Errable<Resource<GuestContext>> {
        let context = GuestContext(self.table.get(&this)?.0.clone());
        Ok(Ok(self.table.push(context)?))
    }

    fn drop(&mut self, this: Resource<GuestGraph>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl inference::Host for GuestState {}

impl inference::HostGraphExecutionContext for GuestState {
    async fn compute(
        &mut self,
        this: Resource<GuestContext>,
        inputs: Vec<(String, Resource<GuestTensor>)>,
    ) -> Errable<Vec<(String, Resource<GuestTensor>)>> {
        let graph = self.table.get(&this)?.0.clone();
        let inputs = match self.take_inputs(&graph, inputs)? {
            Ok(inputs) => inputs,
            Err((code, reason)) => return self.nn_error(code, reason),
        };
        let outputs = match graph.compute(inputs, Some(self.deadline)).await {
            Ok(outputs) => outputs,
            Err(error) => {
                let (code, message) = describe(error);
                return self.nn_error(code, message);
            }
        };
        let mut given = Vec::with_capacity(outputs.len());
        for NamedTensor { name, tensor } in outputs {
            if let Err(reason) = self.charge(tensor.byte_len()) {
                for (_, handle) in given {
                    let tensor = self.table.delete(handle)?;
                    self.discharge(&tensor);
                }
                return self.nn_error(ErrorCode::TooLarge, format!("output `{name}`: {reason}"));
            }
            given.push((
                (*name).to_owned(),
                self.table.push(GuestTensor::Usable(tensor))?,
            ));
        }
        Ok(Ok(given))
    }

    fn drop(&mut self, this: Resource<GuestContext>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
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

/// A compute error as wasi:nn says it. wasi:nn has no code for a full queue; the prefix
/// `overloaded:` is the SDK's to read.
fn describe(error: ComputeError) -> (ErrorCode, String) {
    let message = error.to_string();
    match error {
        ComputeError::InvalidInput(_) => (ErrorCode::InvalidArgument, message),
        ComputeError::QueueFull { .. } => {
            (ErrorCode::RuntimeError, format!("overloaded: {message}"))
        }
        ComputeError::DeadlineExceeded => (ErrorCode::Timeout, message),
        _ => (ErrorCode::RuntimeError, message),
    }
}

impl From<tensor::TensorType> for TensorType {
    fn from(ty: tensor::TensorType) -> Self {
        match ty {
            tensor::TensorType::Fp16 => TensorType::Fp16,
            tensor::TensorType::Fp32 => TensorType::Fp32,
            tensor::TensorType::Fp64 => TensorType::Fp64,
            tensor::TensorType::Bf16 => TensorType::Bf16,
            tensor::TensorType::U8 => TensorType::U8,
            tensor::TensorType::I32 => TensorType::I32,
            tensor::TensorType::I64 => TensorType::I64,
        }
    }
}

impl From<TensorType> for tensor::TensorType {
    fn from(ty: TensorType) -> Self {
        match ty {
            TensorType::Fp16 => tensor::TensorType::Fp16,
            TensorType::Fp32 => tensor::TensorType::Fp32,
            TensorType::Fp64 => tensor::TensorType::Fp64,
            TensorType::Bf16 => tensor::TensorType::Bf16,
            TensorType::U8 => tensor::TensorType::U8,
            TensorType::I32 => tensor::TensorType::I32,
            TensorType::I64 => tensor::TensorType::I64,
        }
    }
}
