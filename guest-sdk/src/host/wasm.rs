//! The real host: wasi:nn, wasi:config, signals and sessions, as imported by the component.

use super::NnError;
use crate::{
    bindings::host::{
        aegis::inference::{sessions, signals},
        wasi::{
            config::store,
            nn::{errors, graph, inference},
        },
    },
    tensor::Tensor as GuestTensor,
};

pub(crate) use crate::bindings::host::wasi::nn::tensor::Tensor;

/// The imports need nothing to hold on to.
#[derive(Debug)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn config(&self, key: &str) -> Result<Option<String>, String> {
        store::get(key).map_err(|error| match error {
            store::Error::Upstream(message) | store::Error::Io(message) => message,
        })
    }

    pub(crate) fn flag(&self, reason: &str) {
        signals::flag(reason);
    }

    pub(crate) fn session(&self, key: &str) -> Result<Option<sessions::Session>, sessions::Error> {
        sessions::get(key)
    }

    pub(crate) fn keep_session(
        &self,
        key: &str,
        state: &[u8],
        condition: sessions::Condition,
    ) -> Result<u64, sessions::Error> {
        sessions::set(key, state, condition)
    }

    pub(crate) fn forget_session(
        &self,
        key: &str,
        condition: sessions::Condition,
    ) -> Result<(), sessions::Error> {
        sessions::delete(key, condition)
    }

    pub(crate) fn record(&self, name: &str, value: f64) {
        signals::record_value(name, value);
    }
}

#[derive(Debug)]
pub(crate) struct Graph(inference::GraphExecutionContext);

impl Graph {
    pub(crate) fn open(_: &Host, name: &str) -> Result<Self, NnError> {
        graph::load_by_name(name)
            .and_then(|graph| graph.init_execution_context())
            .map(Self)
            .map_err(told)
    }

    pub(crate) fn run(
        &self,
        inputs: &[(&str, GuestTensor<'_>)],
    ) -> Result<Vec<(String, Tensor)>, NnError> {
        let inputs = inputs
            .iter()
            .map(|(name, tensor)| {
                let sent = Tensor::new(tensor.shape(), tensor.element(), tensor.bytes());
                ((*name).to_owned(), sent)
            })
            .collect();
        self.0.compute(inputs).map_err(told)
    }
}

fn told(error: errors::Error) -> NnError {
    (error.code(), error.data())
}
