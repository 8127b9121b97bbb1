//! A loaded graph: the handle callers hold, over the scheduler that runs it.

mod signature;
mod spec;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use signature::{Dim, Port, Signature};
pub use spec::{
    BackendChoice, BackendKind, GraphFiles, GraphSpec, ParseWordError, Precision, Target,
};

use crate::backend::Network;
use crate::error::ComputeError;
use crate::observe::{Observer, RunTimes};
use crate::scheduler::{BatchingState, Budget, Scheduler, Settings, Terms};
use crate::tensor::NamedTensor;

/// A loaded graph. Cheap to clone; its threads end when the last handle is dropped.
#[derive(Clone)]
pub struct Graph {
    inner: Arc<Inner>,
}

struct Inner {
    signature: Signature,
    scheduler: Scheduler,
    /// What is not well with how it was opened.
    warning: Option<String>,
}

/// A network, the backend that opened it, and what is not well with that.
pub(crate) struct Opened {
    pub(crate) backend: BackendKind,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) warning: Option<String>,
}

/// What a graph is doing at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphStats {
    /// Requests waiting for a session.
    pub queue_depth: usize,
    /// Requests that may wait.
    pub queue_capacity: usize,
    /// Bytes of input that wait.
    pub queue_bytes: usize,
    /// Sessions there are; fewer than asked for only while one that panicked is being replaced.
    pub sessions: usize,
    /// Sessions with nothing to do.
    pub idle_sessions: usize,
    /// Session runs made.
    pub runs: u64,
    /// Of these, runs on the caller's own thread.
    pub in_place_runs: u64,
    /// Requests that runs have answered: more than runs, where they are shared.
    pub answered: u64,
    /// The median of the warm-up's runs; `None` where no input could be made up or the graph refused it.
    pub warm_up: Option<Duration>,
}

impl Graph {
    /// Starts a graph over an opened network: makes and warms up its sessions, starts their threads. Blocking.
    /// [`crate::Runtime::load`] does this; it is public so that other crates can test against a network of their own.
    ///
    /// # Errors
    /// The backend's words, when a session cannot be made.
    pub fn start(
        name: &str,
        backend: BackendKind,
        network: Box<dyn Network>,
        settings: Settings,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, String> {
        let budget = Budget::new(settings.sessions.saturating_mul(settings.threads));
        let opened = Opened {
            backend,
            network: network.into(),
            warning: None,
        };
        Self::start_within(name, opened, &settings, &budget, observer)
    }

    /// As [`Graph::start`], with runs that take their turns with those of other graphs.
    pub(crate) fn start_within(
        name: &str,
        opened: Opened,
        settings: &Settings,
        budget: &Arc<Budget>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, String> {
        let Opened {
            backend,
            network,
            warning,
        } = opened;
        let signature = network.signature().clone();
        let scheduler = Scheduler::start(name, backend, network, settings, budget, observer)?;
        Ok(Self {
            inner: Arc::new(Inner {
                signature,
                scheduler,
                warning,
            }),
        })
    }

    /// What is not well with it though it serves: that it runs on another device than was asked for, or why its requests
    /// do not share runs, or should not.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let batching = self.inner.scheduler.batching().warning;
        self.inner.warning.iter().cloned().chain(batching).collect()
    }

    /// The graph's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.inner.scheduler.graph()
    }

    /// The backend that serves it.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        self.inner.scheduler.backend()
    }

    /// How many graphs have its network between them, this one included.
    #[must_use]
    pub fn sharers(&self) -> usize {
        self.inner.scheduler.sharers()
    }

    /// What it takes and gives.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.inner.signature
    }

    /// Answers one request. Outputs come in the signature's order, each with the type and shape the backend returned.
    ///
    /// A run that is known to be short may be made on the calling thread, at once. Dropping the future takes the
    /// request out of the queue; a run that has begun is finished and its answer thrown away.
    ///
    /// With a deadline it must be polled within a Tokio runtime whose timer is enabled.
    ///
    /// # Errors
    /// [`ComputeError::InvalidInput`] before anything is queued; [`ComputeError::QueueFull`] at once when no more may
    /// wait; [`ComputeError::DeadlineExceeded`] when the deadline passes first; [`ComputeError::Backend`] with the
    /// backend's words; [`ComputeError::Panicked`] when it panicked; [`ComputeError::Closed`] after [`Graph::close`].
    pub async fn compute(
        &self,
        inputs: Vec<NamedTensor>,
        terms: impl Into<Terms>,
    ) -> Result<Vec<NamedTensor>, ComputeError> {
        self.compute_timed(inputs, terms).await.0
    }

    /// As [`Graph::compute`], and says when the run was that answered, or failed to; nothing where the request never
    /// came to one, or its end was not waited for.
    pub async fn compute_timed(
        &self,
        mut inputs: Vec<NamedTensor>,
        terms: impl Into<Terms>,
    ) -> (Result<Vec<NamedTensor>, ComputeError>, Option<RunTimes>) {
        if let Err(error) = self.inner.signature.check(&mut inputs) {
            return (Err(error), None);
        }
        self.inner.scheduler.compute(inputs, terms.into()).await
    }

    /// How many requests wait for a session, exactly.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.stats().queue_depth
    }

    /// What the graph is doing.
    #[must_use]
    pub fn stats(&self) -> GraphStats {
        self.inner.scheduler.stats()
    }

    /// How requests share runs, and what the trial at load has to say about it.
    #[must_use]
    pub fn batching(&self) -> BatchingState {
        self.inner.scheduler.batching()
    }

    /// Takes no more requests and answers those that wait with [`ComputeError::Closed`]; what runs is finished.
    /// Dropping the last handle does this too.
    pub fn close(&self) {
        self.inner.scheduler.close();
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("name", &self.name())
            .field("backend", &self.backend())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
