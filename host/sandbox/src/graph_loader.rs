//! The seam through which a network reaches a backend from a handler's own bytes, where the
//! operator allows it. The sandbox checks and counts the bytes; the server behind the seam
//! knows the backends.

use std::{fmt, future::Future, pin::Pin, time::Instant};

use aegis_inference::{Graph, Target};
use thiserror::Error;

/// A network as a handler gave it.
#[derive(Debug)]
pub struct GraphBytes {
    /// The files.
    pub content: GraphContent,
    /// The device asked for.
    pub target: Target,
    /// When the handler's time is over; a network that is not there by then is not wanted.
    pub deadline: Instant,
}

/// The files of a network.
#[derive(PartialEq, Eq)]
pub enum GraphContent {
    /// An ONNX file that holds its weights.
    Onnx(Vec<u8>),
    /// OpenVINO's intermediate representation.
    OpenVinoIr {
        /// The topology.
        xml: Vec<u8>,
        /// The weights.
        bin: Vec<u8>,
    },
}

/// Sizes, and never the bytes.
impl fmt::Debug for GraphContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GraphContent::Onnx(bytes) => write!(f, "Onnx({} bytes)", bytes.len()),
            GraphContent::OpenVinoIr { xml, bin } => {
                write!(f, "OpenVinoIr({} and {} bytes)", xml.len(), bin.len())
            }
        }
    }
}

/// Why a network was not loaded from bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GraphLoadFailure {
    /// The bytes are no network, or one that no backend takes.
    #[error("{0}")]
    Refused(String),
    /// It was not loaded before the deadline.
    #[error("the network was not loaded before the request's deadline")]
    Timeout,
    /// The backend panicked, or the host failed.
    #[error("{0}")]
    Broken(String),
}

/// Loads networks from bytes. Called once for each `load` of a guest, which waits for it.
pub trait GraphLoader: fmt::Debug + Send + Sync {
    /// Loads a network; must not hold the executor's thread.
    fn load(
        &self,
        bytes: GraphBytes,
    ) -> Pin<Box<dyn Future<Output = Result<Graph, GraphLoadFailure>> + Send + '_>>;
}
