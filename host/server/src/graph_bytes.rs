//! Networks from handlers' own bytes, where the operator allows them
//! (`allow_graph_bytes`): written to a folder of their own and loaded by the same runtime as
//! a model's graphs.
//!
//! The folder holds nothing else, and no backend reads outside a network's folder, so that
//! weights in "external data" are never there. As at upload, a worker parses the network
//! first (`isolate_uploads`), within bounds, and only one that the worker survived is loaded
//! here. A parser here cannot be stopped: one that is at it when the request's time is over
//! goes on, in one of a few places, and what it loads is dropped.

use std::{fmt, fs, future::Future, io, pin::Pin, sync::Arc};

use aegis_inference::{Graph, GraphFiles, GraphSpec, Runtime};
use aegis_sandbox::{
    GraphBytes, GraphContent, GraphLoadFailure, GraphLoader, Sandbox, worker::Bounds,
};
use tempfile::TempDir;
use tokio::{sync::Semaphore, time::Instant};

use crate::graph_check::{self, GraphFault};

/// Networks parsed at once, over all handlers: parsing is native work outside admission, so
/// that hostile networks can hold up each other and no more than so many threads.
const PLACES: usize = 2;

/// What such a graph is called in logs and errors: names of a guest's choosing would make
/// series.
const NAME: &str = "from-bytes";

/// Loads networks from bytes.
pub(crate) struct BytesLoader {
    runtime: Runtime,
    /// Whose workers parse first.
    sandbox: Sandbox,
    /// What a worker may take, in bytes.
    worker_bytes: u64,
    places: Arc<Semaphore>,
}

impl BytesLoader {
    pub(crate) fn new(runtime: Runtime, sandbox: Sandbox, worker_bytes: u64) -> BytesLoader {
        BytesLoader {
            runtime,
            sandbox,
            worker_bytes,
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    async fn load_in_time(&self, bytes: GraphBytes) -> Result<Graph, GraphLoadFailure> {
        let deadline = Instant::from_std(bytes.deadline);
        let place = tokio::time::timeout_at(deadline, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| GraphLoadFailure::Timeout)?
            .map_err(|_| GraphLoadFailure::Broken("the host is closing".to_owned()))?;
        let (folder, spec) = apart(deadline, move || written(&bytes).map_err(unwritten)).await?;
        self.check(&spec, deadline).await?;
        let runtime = self.runtime.clone();
        apart(deadline, move || {
            // Kept until the files are read, whether or not anybody waits for it.
            let _kept = (place, folder);
            runtime.load(&spec).map_err(|error| refused(error.into()))
        })
        .await
    }

    /// Has a worker parse the network, if there are workers.
    async fn check(&self, spec: &GraphSpec, deadline: Instant) -> Result<(), GraphLoadFailure> {
        let Some(workers) = self.sandbox.workers() else {
            return Ok(());
        };
        let bounds = Bounds {
            time: deadline.saturating_duration_since(Instant::now()),
            memory_bytes: self.worker_bytes,
        };
        graph_check::in_worker(workers, &self.runtime, NAME, spec, bounds)
            .await
            .map(drop)
            .map_err(refused)
    }
}

/// Runs `work`, which blocks, on a thread of its own until the deadline.
async fn apart<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> Result<T, GraphLoadFailure> + Send + 'static,
) -> Result<T, GraphLoadFailure> {
    match tokio::time::timeout_at(deadline, tokio::task::spawn_blocking(work)).await {
        Err(_) => Err(GraphLoadFailure::Timeout),
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(GraphLoadFailure::Broken(
            "the backend panicked while it loaded the network".to_owned(),
        )),
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

/// The network as files of a folder of its own.
fn written(bytes: &GraphBytes) -> io::Result<(TempDir, GraphSpec)> {
    let folder = tempfile::tempdir()?;
    let files = match &bytes.content {
        GraphContent::Onnx(onnx) => {
            let path = folder.path().join("graph.onnx");
            fs::write(&path, onnx)?;
            GraphFiles::Onnx(path)
        }
        GraphContent::OpenVinoIr { xml, bin } => {
            let topology = folder.path().join("graph.xml");
            let weights = folder.path().join("graph.bin");
            fs::write(&topology, xml)?;
            fs::write(&weights, bin)?;
            GraphFiles::OpenVinoIr {
                xml: topology,
                bin: weights,
            }
        }
    };
    let mut spec = GraphSpec::new(NAME, files);
    spec.target = bytes.target;
    Ok((folder, spec))
}

fn unwritten(error: io::Error) -> GraphLoadFailure {
    tracing::error!(%error, "a network from a handler's bytes could not be written down");
    GraphLoadFailure::Broken("the host could not write the network down".to_owned())
}

/// What a guest is told of a network that does not load. The backends' words name files and
/// folders of the host's, which are none of a guest's business: the log has them.
fn refused(fault: GraphFault) -> GraphLoadFailure {
    tracing::warn!(error = %fault, "a network from a handler's bytes was not loaded");
    let words = match fault {
        GraphFault::Timeout { .. } => return GraphLoadFailure::Timeout,
        GraphFault::Host { .. } => {
            let words = "the host could not look at the network; the server's log has the reason";
            return GraphLoadFailure::Broken(words.to_owned());
        }
        GraphFault::ExternalData { message } | GraphFault::Malformed { message } => message,
        GraphFault::NotLoaded { .. } | GraphFault::Memory { .. } | GraphFault::Crashed { .. } => {
            "no backend takes this network; the server's log has their reasons".to_owned()
        }
    };
    GraphLoadFailure::Refused(words)
}
