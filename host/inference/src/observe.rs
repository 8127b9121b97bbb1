//! The hook through which metrics leave this crate. What becomes of them is the observer's business.

use std::time::{Duration, Instant};

use crate::graph::BackendKind;

/// One session run, answered or failed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RunReport<'a> {
    /// The graph's name.
    pub graph: &'a str,
    /// The backend that ran it.
    pub backend: BackendKind,
    /// How many requests the run answered.
    pub batch_size: usize,
    /// How long the longest-waiting request of the batch was queued; zero for a run in place.
    pub queue: Duration,
    /// How long the backend took.
    pub compute: Duration,
    /// Whether the run ended in tensors.
    pub succeeded: bool,
    /// Whether the run was made on the caller's own thread.
    pub in_place: bool,
}

/// When the run that answered one request was, for whoever traces the request. Times are measured anyway: who does
/// not ask pays nothing for them.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RunTimes {
    /// When the request joined the queue; for a run in place, when it began.
    pub queued: Instant,
    /// When the backend began.
    pub started: Instant,
    /// When it was done.
    pub ended: Instant,
    /// How many requests the run answered.
    pub batch_size: usize,
    /// Whether the run was made on the caller's own thread.
    pub in_place: bool,
}

/// Told of what the scheduler does. Called on the request's path and from several threads at once, with no lock held:
/// implementations are quick, do not block and do not panic.
pub trait Observer: Send + Sync {
    /// A request joined the queue of `graph`, which then held `depth`. For a gauge that is exact at any time, read
    /// [`crate::Graph::queue_depth`].
    fn queued(&self, graph: &str, depth: usize) {
        let _ = (graph, depth);
    }

    /// A session ran.
    fn ran(&self, report: RunReport<'_>) {
        let _ = report;
    }
}

/// The observer that looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
