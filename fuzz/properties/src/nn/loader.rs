//! What stands where the server has its backends, behind the seam for networks from a guest's bytes.

use std::pin::Pin;

use aegis_inference::Graph;
use aegis_sandbox::{GraphBytes, GraphContent, GraphLoadFailure, GraphLoader};

/// A network for some bytes, and each failure for others.
#[derive(Debug)]
pub(super) struct Loader(pub(super) Graph);

impl GraphLoader for Loader {
    fn load(
        &self,
        bytes: GraphBytes,
    ) -> Pin<Box<dyn Future<Output = Result<Graph, GraphLoadFailure>> + Send + '_>> {
        let (GraphContent::Onnx(first) | GraphContent::OpenVinoIr { bin: first, .. }) =
            bytes.content;
        Box::pin(async move {
            match first.last().copied().unwrap_or_default() % 8 {
                0 => Err(GraphLoadFailure::Refused("no network".to_owned())),
                1 => Err(GraphLoadFailure::Timeout),
                2 => Err(GraphLoadFailure::Broken("broken".to_owned())),
                _ => Ok(self.0.clone()),
            }
        })
    }
}
