//! The fake host of native tests: graphs are closures, and what a handler signals is kept
//! for the test to look at. The public face is [`crate::testing`].

use std::{cell::RefCell, collections::BTreeMap, fmt, rc::Rc};

use super::NnError;
use crate::{
    ErrorCode, Tensors,
    bindings::host::aegis::inference::sessions::{Condition, Error, Session},
    tensor::{Tensor as GuestTensor, TensorType},
};

/// A fake graph: inputs in, named outputs or a host's error out.
pub(crate) type FakeGraph =
    Rc<dyn Fn(&Tensors) -> Result<Vec<(String, GuestTensor<'static>)>, NnError>>;

/// What a test set up, and what the handler did.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) graphs: BTreeMap<String, FakeGraph>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) flags: Vec<String>,
    pub(crate) records: Vec<(String, f64)>,
    pub(crate) sessions: BTreeMap<String, (Vec<u8>, u64)>,
    pub(crate) last_revision: u64,
}

/// A session's bounds in a host that was told no other.
const MAX_KEY: usize = 256;
const MAX_STATE: usize = 64 << 10;

/// Shared by the test and the contexts it makes.
#[derive(Clone, Default)]
pub(crate) struct Host(pub(crate) Rc<RefCell<State>>);

impl Host {
    #[expect(clippy::unnecessary_wraps, reason = "the real host can fail here")]
    pub(crate) fn config(&self, key: &str) -> Result<Option<String>, String> {
        Ok(self.0.borrow().config.get(key).cloned())
    }

    pub(crate) fn flag(&self, reason: &str) {
        self.0.borrow_mut().flags.push(reason.to_owned());
    }

    pub(crate) fn session(&self, key: &str) -> Result<Option<Session>, Error> {
        check_key(key)?;
        let state = self.0.borrow();
        Ok(state.sessions.get(key).map(|(value, revision)| Session {
            value: value.clone(),
            revision: *revision,
        }))
    }

    pub(crate) fn keep_session(
        &self,
        key: &str,
        value: &[u8],
        condition: Condition,
    ) -> Result<u64, Error> {
        check_key(key)?;
        if value.len() > MAX_STATE {
            return Err(Error::TooLarge(format!(
                "{} bytes of one session, over the limit of {MAX_STATE} (limits.session_kib)",
                value.len()
            )));
        }
        let mut state = self.0.borrow_mut();
        state.check(key, condition)?;
        state.last_revision += 1;
        let revision = state.last_revision;
        let kept = (value.to_vec(), revision);
        state.sessions.insert(key.to_owned(), kept);
        Ok(revision)
    }

    pub(crate) fn forget_session(&self, key: &str, condition: Condition) -> Result<(), Error> {
        check_key(key)?;
        let mut state = self.0.borrow_mut();
        state.check(key, condition)?;
        state.sessions.remove(key);
        Ok(())
    }

    pub(crate) fn record(&self, name: &str, value: f64) {
        self.0.borrow_mut().records.push((name.to_owned(), value));
    }
}

impl State {
    fn check(&self, key: &str, condition: Condition) -> Result<(), Error> {
        let current = self.sessions.get(key).map(|(_, revision)| *revision);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::Revision(revision) => current == Some(revision),
        };
        if holds {
            Ok(())
        } else {
            Err(Error::Conflict(current))
        }
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        bytes => Err(Error::InvalidKey(format!(
            "a session's key has 1 to {MAX_KEY} bytes, not {bytes}"
        ))),
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host(fake)")
    }
}

pub(crate) struct Graph(FakeGraph);

impl Graph {
    pub(crate) fn open(host: &Host, name: &str) -> Result<Self, NnError> {
        host.0
            .borrow()
            .graphs
            .get(name)
            .map(|graph| Self(Rc::clone(graph)))
            .ok_or_else(|| {
                (
                    ErrorCode::NotFound,
                    format!("the test gave its fake host no graph `{name}`"),
                )
            })
    }

    pub(crate) fn run(
        &self,
        inputs: &[(&str, GuestTensor<'_>)],
    ) -> Result<Vec<(String, Tensor)>, NnError> {
        let tensors = inputs
            .iter()
            .map(|(name, tensor)| ((*name).to_owned(), tensor.into()))
            .collect();
        let outputs = (self.0)(&Tensors { tensors })?;
        Ok(outputs
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.into()))
            .collect())
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graph(fake)")
    }
}

/// A tensor on the host's side, with the methods of wasi:nn's resource.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    shape: Vec<u32>,
    element: TensorType,
    bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn dimensions(&self) -> Vec<u32> {
        self.shape.clone()
    }

    pub(crate) fn ty(&self) -> TensorType {
        self.element
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

impl From<&GuestTensor<'_>> for Tensor {
    fn from(tensor: &GuestTensor<'_>) -> Self {
        Self {
            shape: tensor.shape().to_vec(),
            element: tensor.element(),
            bytes: tensor.bytes().to_vec(),
        }
    }
}
