//! The interface `graph`: a model's own graphs by name, and execution contexts of them.

use std::sync::Arc;

use aegis_inference::Graph;
use wasmtime::component::Resource;

use super::{Errable, GuestContext, quoted};
use crate::{
    bindings::wasi::nn::{
        errors::ErrorCode,
        graph::{self, ExecutionTarget, GraphEncoding},
    },
    instance::GuestState,
    refusals::Limit,
};

/// A guest's `graph`.
#[derive(Debug)]
pub struct GuestGraph(pub(super) HeldGraph);

/// A graph that a guest has a handle to, or a context of.
#[derive(Clone, Debug)]
pub struct HeldGraph {
    pub(super) graph: Graph,
    /// How many bytes it was loaded from, if from the guest's own: they are given back with
    /// the last that holds it.
    pub(super) own_bytes: Option<Arc<usize>>,
}

impl GuestState {
    /// Lets go of a graph; the last to do so gives back what it was charged.
    pub(super) fn release(&mut self, held: HeldGraph) {
        let last = held.own_bytes.and_then(Arc::into_inner);
        if let Some(bytes) = last {
            self.discharge_bytes(bytes);
            self.nn.graphs = self.nn.graphs.saturating_sub(1);
        }
    }
}

impl graph::Host for GuestState {
    async fn load(
        &mut self,
        builder: Vec<Vec<u8>>,
        encoding: GraphEncoding,
        target: ExecutionTarget,
    ) -> Errable<Resource<GuestGraph>> {
        self.load_bytes(builder, encoding, target).await
    }

    fn load_by_name(&mut self, name: String) -> Errable<Resource<GuestGraph>> {
        match self.handler.graphs.get(&name) {
            Some(graph) => {
                let graph = GuestGraph(HeldGraph {
                    graph: graph.clone(),
                    own_bytes: None,
                });
                Ok(Ok(self.table.push(graph)?))
            }
            None => {
                let known: Vec<_> = self.handler.graphs.keys().map(String::as_str).collect();
                let message = format!(
                    "this model has no graph named `{}`; it has {}",
                    quoted(name),
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
        let limit = self.handler.limits.contexts;
        if self.nn.contexts >= limit {
            self.refusals.add(Limit::Contexts, 1);
            return self.nn_error(
                ErrorCode::TooLarge,
                format!(
                    "this model's instances hold at most {limit} execution contexts at a time \
                     (limits.contexts); drop one, or compute again in one"
                ),
            );
        }
        let context = GuestContext(self.table.get(&this)?.0.clone());
        let handle = self.table.push(context)?;
        self.nn.contexts += 1;
        Ok(Ok(handle))
    }

    fn drop(&mut self, this: Resource<GuestGraph>) -> wasmtime::Result<()> {
        let GuestGraph(held) = self.table.delete(this)?;
        self.release(held);
        Ok(())
    }
}
