//! What can go wrong between a caller and a backend, in words a caller or an operator can act on.

use std::fmt;

use thiserror::Error;

use crate::graph::BackendKind;
use crate::precheck::Refusal;

/// Why a request was not answered with tensors.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// The caller's tensors do not fit the graph's signature. The caller's mistake.
    #[error("{0}")]
    InvalidInput(String),
    /// Every session is busy and the queue is at its bound. Worth trying again later.
    #[error(
        "the queue of graph `{graph}` is full ({waiting} requests wait already): try again later"
    )]
    QueueFull {
        /// The graph.
        graph: String,
        /// How many requests wait.
        waiting: usize,
    },
    /// The deadline passed before there was an answer.
    #[error("the deadline passed before the graph answered")]
    DeadlineExceeded,
    /// The backend failed; its own words.
    #[error("{0}")]
    Backend(String),
    /// The backend panicked during the run; the graph goes on with what the panic left whole.
    #[error("{0}")]
    Panicked(String),
    /// The graph was closed.
    #[error("the graph has been closed")]
    Closed,
}

/// One backend that was tried for a graph, and its own words on why it did not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which backend.
    pub backend: BackendKind,
    /// Its words.
    pub words: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.backend, self.words)
    }
}

/// Why a graph could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A setting of the graph cannot be right, whatever the backend.
    #[error("graph `{graph}`: {problem}")]
    Settings {
        /// The graph.
        graph: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A file cannot be read.
    #[error("graph `{graph}`: cannot read {file}: {problem}")]
    File {
        /// The graph.
        graph: String,
        /// The file.
        file: String,
        /// The system's words.
        problem: String,
    },
    /// No backend was let near the file.
    #[error("graph `{graph}` was refused: {refusal}")]
    Refused {
        /// The graph.
        graph: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The one backend that was asked for did not take the graph.
    #[error("graph `{graph}` was not loaded by {attempt}")]
    Backend {
        /// The graph.
        graph: String,
        /// The backend and its words.
        attempt: Attempt,
    },
    /// `auto` found no backend that takes the graph.
    #[error("graph `{graph}` was loaded by no backend: {}", list(attempts))]
    NoBackend {
        /// The graph.
        graph: String,
        /// Every backend in the order tried, and its words.
        attempts: Vec<Attempt>,
    },
}

fn list(attempts: &[Attempt]) -> String {
    let words: Vec<String> = attempts.iter().map(Attempt::to_string).collect();
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_auto_load_repeats_the_words_of_every_backend() {
        let error = LoadError::NoBackend {
            graph: "digits".to_owned(),
            attempts: vec![
                Attempt {
                    backend: BackendKind::OnnxRuntime,
                    words: "no library".to_owned(),
                },
                Attempt {
                    backend: BackendKind::Embedded,
                    words: "unknown operator Frob".to_owned(),
                },
            ],
        };
        assert_eq!(
            error.to_string(),
            "graph `digits` was loaded by no backend: onnxruntime: no library; embedded: unknown operator Frob"
        );
    }
}
