//! A look at a network's file before any engine reads it. Native parsers are not
//! memory-safe and believe what a file says of itself; what is plainly hostile or broken is
//! refused here, by code that takes no memory on a file's word.
//!
//! It is no proof that an engine can read the file, nor that it is harmless: a server parses
//! uploads in a process of their own as well.

mod bounds;
#[cfg(test)]
mod handmade;
mod onnx;
mod openvino;
mod operands;
mod ports;
mod tensor;
mod wire;

use std::io::{BufReader, Cursor};
use std::path::Path;

use thiserror::Error;

pub(crate) use self::operands::{CallerSet, Operand, caller_set};
pub(crate) use self::ports::declared;
use crate::graph::{GraphFiles, GraphSpec};

/// What is wrong with a network's file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A tensor whose values would be read from another file.
    #[error("{0}")]
    ExternalData(String),
    /// Broken, or of a size that no network has.
    #[error("{0}")]
    Malformed(String),
}

/// The one file beside an ONNX file that its tensors may lie in.
#[derive(Debug, Clone, Copy)]
struct Weights<'a> {
    /// The folder of the ONNX file, from which it names others.
    folder: &'a Path,
    file: &'a Path,
    bytes: u64,
}

/// Looks at ONNX bytes that came without a file: their tensors must be in them.
///
/// # Errors
/// [`Refusal`].
pub fn onnx_bytes(bytes: &[u8]) -> Result<(), Refusal> {
    onnx::check(Cursor::new(bytes), bytes.len() as u64, None)
}

/// Looks at the files of a graph.
pub(crate) fn files(spec: &GraphSpec) -> Result<(), Refusal> {
    match &spec.files {
        GraphFiles::Onnx(path) => {
            let (file, bytes) = open(path)?;
            let weights = match &spec.external_data {
                Some(file) => Some(Weights {
                    folder: path.parent().unwrap_or(Path::new("")),
                    file,
                    bytes: open(file)?.1,
                }),
                None => None,
            };
            // Skipping goes in large steps, numbers are read byte by byte: a large buffer serves both.
            onnx::check(BufReader::with_capacity(64 << 10, file), bytes, weights)
        }
        GraphFiles::OpenVinoIr { xml, .. } => openvino::check(BufReader::new(open(xml)?.0)),
    }
}

fn open(path: &Path) -> Result<(std::fs::File, u64), Refusal> {
    let unreadable = |error: std::io::Error| {
        Refusal::Malformed(format!("cannot read {}: {error}", path.display()))
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    Ok((file, bytes))
}
