//! The interface `inference`: running a graph on a guest's tensors.

use std::sync::Arc;

use aegis_inference::{ComputeError, Graph, NamedTensor, Terms};
use wasmtime::component::Resource;

use super::{Errable, GuestTensor, MAX_QUOTED, graph::HeldGraph, quoted};
use crate::{
    bindings::wasi::nn::{errors::ErrorCode, inference},
    instance::GuestState,
    refusals::Limit,
    text::cut,
    traced::compute_traced,
};

/// A guest's `graph-execution-context`. It holds its graph, so it outlives the `graph`
/// handle it came from.
#[derive(Debug)]
pub struct GuestContext(pub(super) HeldGraph);

impl GuestState {
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
            match self.take_tensor(handle)? {
                GuestTensor::Usable(tensor) => {
                    // The graph's own copy of the name, where it has one: no allocation.
                    let name = ports.iter().find(|port| *port.name == *name).map_or_else(
                        || Arc::from(cut(name, MAX_QUOTED)),
                        |port| Arc::clone(&port.name),
                    );
                    taken.push(NamedTensor { name, tensor });
                }
                GuestTensor::Unusable { code, reason, .. } => {
                    if wrong.is_none() {
                        wrong = Some((code, format!("input `{}`: {reason}", quoted(name))));
                    }
                }
            }
        }
        Ok(match wrong {
            None => Ok(taken),
            Some(error) => Err(error),
        })
    }

    /// A compute error as wasi:nn says it. wasi:nn has no code for a full queue; the prefix
    /// `overloaded:` is the SDK's to read.
    fn describe(&mut self, error: ComputeError) -> (ErrorCode, String) {
        let message = error.to_string();
        match error {
            ComputeError::InvalidInput(_) => (ErrorCode::InvalidArgument, message),
            ComputeError::QueueFull { .. } => {
                self.refusals.add(Limit::Queue, 1);
                (ErrorCode::RuntimeError, format!("overloaded: {message}"))
            }
            ComputeError::DeadlineExceeded => {
                self.refusals.add(Limit::Timeout, 1);
                (ErrorCode::Timeout, message)
            }
            ComputeError::Panicked(_) => (ErrorCode::Unknown, message),
            _ => (ErrorCode::RuntimeError, message),
        }
    }
}

impl inference::Host for GuestState {}

impl inference::HostGraphExecutionContext for GuestState {
    async fn compute(
        &mut self,
        this: Resource<GuestContext>,
        inputs: Vec<(String, Resource<GuestTensor>)>,
    ) -> Errable<Vec<(String, Resource<GuestTensor>)>> {
        let graph = self.table.get(&this)?.0.graph.clone();
        let inputs = match self.take_inputs(&graph, inputs)? {
            Ok(inputs) => inputs,
            Err((code, reason)) => return self.nn_error(code, reason),
        };
        let terms = Terms {
            deadline: Some(self.deadline),
            priority: self.priority,
        };
        let outputs = match compute_traced(&graph, inputs, terms, &self.trace).await {
            Ok(outputs) => outputs,
            Err(error) => {
                let (code, message) = self.describe(error);
                return self.nn_error(code, message);
            }
        };
        let mut given = Vec::with_capacity(outputs.len());
        for NamedTensor { name, tensor } in outputs {
            if let Err((code, reason)) = self.charge_tensor(tensor.byte_len()) {
                for (_, handle) in given {
                    self.take_tensor(handle)?;
                }
                let message = if code == ErrorCode::TooLarge {
                    format!("output `{name}`: {reason}")
                } else {
                    reason
                };
                return self.nn_error(code, message);
            }
            given.push((
                (*name).to_owned(),
                self.table.push(GuestTensor::Usable(tensor))?,
            ));
        }
        Ok(Ok(given))
    }

    fn drop(&mut self, this: Resource<GuestContext>) -> wasmtime::Result<()> {
        let GuestContext(held) = self.table.delete(this)?;
        self.release(held);
        self.nn.contexts = self.nn.contexts.saturating_sub(1);
        Ok(())
    }
}
