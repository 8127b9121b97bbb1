//! Networks from handlers' own bytes, where the operator allows them
//! (`allow_graph_bytes`): written to a folder of their own and loaded by the same runtime as
//! a model's graphs.
//!
//! The folder holds nothing else, and no backend reads outside a network's folder, so that
//! weights in "external data" are never there. A parser cannot be stopped: one that is at it
//! when the request's time is over goes on, in one of a few places, and what it loads is
//! dropped.

use std::{fmt, fs, future::Future, pin::Pin, sync::Arc};

use aegis_inference::{Graph, GraphFiles, GraphSpec, LoadError, Runtime};
use aegis_sandbox::{GraphBytes, GraphContent, GraphLoadFailure, GraphLoader};
use tokio::sync::Semaphore;

/// Networks parsed at once, over all handlers: parsing is native work outside admission, so
/// that hostile networks can hold up each other and no more than so many threads.
const PLACES: usize = 2;

/// What such a graph is called in logs and errors: names of a guest's choosing would make
/// series.
const NAME: &str = "from-bytes";

/// Loads networks from bytes.
pub(crate) struct BytesLoader {
    runtime: Runtime,
    places: Arc<Semaphore>,
}

impl BytesLoader {
    pub(crate) fn new(runtime: Runtime) -> BytesLoader {
        BytesLoader {
            runtime,
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    async fn load_in_time(&self, bytes: GraphBytes) -> Result<Graph, GraphLoadFailure> {
        let deadline = tokio::time::Instant::from_std(bytes.deadline);
        let place = tokio::time::timeout_at(deadline, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| GraphLoadFailure::Timeout)?
            .map_err(|_| GraphLoadFailure::Broken("the host is closing".to_owned()))?;
        let runtime = self.runtime.clone();
        let parsing = tokio::task::spawn_blocking(move || {
            let _place = place;
            load(&runtime, &bytes)
        });
        match tokio::time::timeout_at(deadline, parsing).await {
            Err(_) => Err(GraphLoadFailure::Timeout),
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) => Err(GraphLoadFailure::Broken(
                "the backend panicked while it loaded the network".to_owned(),
            )),
        }
    }
}

impl GraphLoader for BytesLoader {
    fn load(
        &self,
        bytes: GraphBytes,
    ) -> Pin<Box<dyn Future<Output = Result<Graph, GraphLoadFailure>> + Send + '_>> {
        Box::pin(self.load_in_time(bytes))
    }
}

impl fmt::Debug for BytesLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesLoader").finish_non_exhaustive()
    }
}

fn load(runtime: &Runtime, bytes: &GraphBytes) -> Result<Graph, GraphLoadFailure> {
    let host = |error: std::io::Error| {
        tracing::error!(%error, "a network from a handler's bytes could not be written down");
        GraphLoadFailure::Broken("the host could not write the network down".to_owned())
    };
    let folder = tempfile::tempdir().map_err(host)?;
    let files = match &bytes.content {
        GraphContent::Onnx(onnx) => {
            let path = folder.path().join("graph.onnx");
            fs::write(&path, onnx).map_err(host)?;
            GraphFiles::Onnx(path)
        }
        GraphContent::OpenVinoIr { xml, bin } => {
            let topology = folder.path().join("graph.xml");
            let weights = folder.path().join("graph.bin");
            fs::write(&topology, xml).map_err(host)?;
            fs::write(&weights, bin).map_err(host)?;
            GraphFiles::OpenVinoIr {
                xml: topology,
                bin: weights,
            }
        }
    };
    let mut spec = GraphSpec::new(NAME, files);
    spec.target = bytes.target;
    runtime.load(&spec).map_err(|error| match error {
        // The backends' words name files and folders of the host's, which are none of a
        // guest's business.
        LoadError::Backend { .. } | LoadError::NoBackend { .. } => {
            tracing::warn!(%error, "a network from a handler's bytes was not loaded");
            let words = "no backend takes this network; the server's log has their reasons";
            GraphLoadFailure::Refused(words.to_owned())
        }
        other => GraphLoadFailure::Refused(other.to_string()),
    })
}
