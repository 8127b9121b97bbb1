//! Why a package cannot serve.

use std::path::PathBuf;

use aegis_sandbox::PrepareError;
use aegis_telemetry::Limit;
use thiserror::Error;

use super::limit_label;
use crate::graph_check::GraphFault;

/// Why a package cannot serve.
#[derive(Debug, Error)]
pub enum PackageLoadError {
    /// A network that is not served.
    #[error(transparent)]
    Graph(#[from] GraphFault),
    /// A handler that is refused.
    #[error(transparent)]
    Handler(#[from] PrepareError),
    /// A file of the package cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Several graphs and nothing that says which to run.
    #[error(
        "the model has no handler and {graphs} graphs; a model without a handler serves one graph directly"
    )]
    NoHandler {
        /// How many it has.
        graphs: usize,
    },
    /// More graphs than a model may have.
    #[error("the model has {graphs} graphs, and may have {limit} here (limits.graphs)")]
    TooManyGraphs {
        /// How many it has.
        graphs: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A graph whose files are too large.
    #[error(
        "the files of graph `{graph}` have {bytes} bytes, over the limit of {} MiB (limits.graph_mib)",
        limit_bytes >> 20
    )]
    GraphTooLarge {
        /// The graph.
        graph: String,
        /// Its files together, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// A sample that its own model does not answer as it should.
    #[error("the model was asked its own sample, `{file}`, and {problem}")]
    Sample {
        /// The sample's file.
        file: String,
        /// What came of it.
        problem: String,
    },
    /// The host's own trouble.
    #[error("loading failed: {0}")]
    Host(String),
}

impl PackageLoadError {
    /// The stable code of the error in HTTP answers.
    pub fn code(&self) -> &'static str {
        match self {
            PackageLoadError::Graph(fault) => fault.code(),
            PackageLoadError::Handler(error) => error.code(),
            PackageLoadError::NoHandler { .. } => "no_handler",
            PackageLoadError::TooManyGraphs { .. } => "too_many_graphs",
            PackageLoadError::GraphTooLarge { .. } => "graph_too_large",
            PackageLoadError::Sample { .. } => "sample_failed",
            PackageLoadError::Read { .. } | PackageLoadError::Host(_) => "host_error",
        }
    }

    /// The limit that the package went over, if that is why it cannot serve.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self {
            PackageLoadError::Handler(error) => error.limit().map(limit_label),
            PackageLoadError::Graph(GraphFault::Timeout { .. }) => Some(Limit::GraphLoadTime),
            PackageLoadError::Graph(GraphFault::Memory { .. }) => Some(Limit::GraphLoadMemory),
            PackageLoadError::TooManyGraphs { .. } => Some(Limit::Graphs),
            PackageLoadError::GraphTooLarge { .. } => Some(Limit::GraphBytes),
            _ => None,
        }
    }

    /// Whether the host is at fault rather than the package.
    pub fn is_hosts_fault(&self) -> bool {
        matches!(
            self,
            PackageLoadError::Read { .. }
                | PackageLoadError::Host(_)
                | PackageLoadError::Handler(PrepareError::Host { .. })
                | PackageLoadError::Graph(GraphFault::Host { .. })
        )
    }
}
