//! What is tuned: how requests share runs, and how many sessions compute on how many threads.

use std::fmt;

use serde::Serialize;

/// One choice of all that is tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// How requests share runs.
    pub batching: Batching,
    /// Copies of the graph that run side by side.
    pub sessions: u32,
    /// Threads that one run computes on.
    pub threads: u32,
}

/// How requests share runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// As a trial at load finds.
    Auto,
    /// Each request runs alone.
    Off,
    /// They share runs.
    On {
        /// The most rows of a run.
        max_batch_size: u32,
        /// How long the oldest request waits for others, in milliseconds.
        max_latency_ms: u32,
    },
}

impl Setting {
    /// The same with other batching.
    #[must_use]
    pub const fn batched(self, batching: Batching) -> Self {
        Self { batching, ..self }
    }

    /// The same with so many sessions of so many threads.
    #[must_use]
    pub const fn parallel(self, sessions: u32, threads: u32) -> Self {
        Self {
            sessions,
            threads,
            ..self
        }
    }
}

impl fmt::Display for Batching {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => to.write_str("automatic batching"),
            Self::Off => to.write_str("no batching"),
            Self::On {
                max_batch_size,
                max_latency_ms,
            } => write!(to, "batches of {max_batch_size}, wait {max_latency_ms} ms"),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let Self {
            batching,
            sessions,
            threads,
        } = self;
        write!(
            to,
            "{batching}, {sessions} session{} × {threads} thread{}",
            plural(*sessions),
            plural(*threads)
        )
    }
}
