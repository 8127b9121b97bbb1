//! Which graphs have been checked already. Most uploads bring another handler or manifest and the network of the
//! version before; trying that again would take a process, the engine's start and the network's parsing, all
//! beside the requests that are being served.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};

use aegis_inference::{GraphSpec, Runtime};
use aegis_sandbox::worker::{Bounds, Workers};
use lru::LruCache;
use parking_lot::Mutex;

use super::{GraphFault, Task, in_worker};

/// Graphs that are remembered; a key is some 500 bytes.
const KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// Graphs that passed, with what was not well with them though they did. Only of graphs whose content is known, by
/// its digest, and only until the process ends: the next may have other engines. Failures are not remembered.
#[derive(Clone)]
pub(crate) struct Passed {
    warnings: Arc<Mutex<LruCache<String, Vec<String>>>>,
}

impl Passed {
    pub(crate) fn new() -> Passed {
        Passed {
            warnings: Arc::new(Mutex::new(LruCache::new(KEPT))),
        }
    }

    /// What [`in_worker`] found, or finds.
    pub(crate) async fn or_in_worker(
        &self,
        workers: &Workers,
        runtime: &Runtime,
        model: &str,
        spec: &GraphSpec,
        bounds: Bounds,
    ) -> Result<Vec<String>, GraphFault> {
        let key = key(runtime, spec, bounds);
        if let Some(warnings) = key.as_ref().and_then(|key| self.known(key)) {
            tracing::debug!(model, graph = spec.name, "the graph loaded before");
            return Ok(warnings);
        }
        let warnings = in_worker(workers, runtime, model, spec, bounds).await?;
        if let Some(key) = key {
            self.warnings.lock().put(key, warnings.clone());
        }
        Ok(warnings)
    }

    fn known(&self, key: &str) -> Option<Vec<String>> {
        self.warnings.lock().get(key).cloned()
    }
}

/// All that a check's outcome depends on: what the worker would be told, with the files' content in place of their
/// names, and what it may take.
fn key(runtime: &Runtime, spec: &GraphSpec, bounds: Bounds) -> Option<String> {
    let content = spec.content.as_ref()?;
    let task = Task::new(runtime.config(), spec);
    let task = Task {
        network: PathBuf::new(),
        bin: task.bin.map(|_| PathBuf::new()),
        external_data: task.external_data.map(|_| PathBuf::new()),
        ..task
    };
    let task = serde_json::to_string(&task).ok()?;
    Some(format!("{content} {bounds:?} {task}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::Duration;

    use aegis_inference::{BackendChoice, BackendKind, BatchingMode, GraphFiles, RuntimeConfig};

    use super::*;

    fn spec() -> GraphSpec {
        let files = GraphFiles::Onnx("one/net.onnx".into());
        GraphSpec {
            content: Some("sha256:1".to_owned()),
            ..GraphSpec::new("net".to_owned(), files)
        }
    }

    #[test]
    fn a_check_is_another_by_all_that_it_depends_on_and_by_nothing_else() {
        let runtime = Runtime::new(RuntimeConfig::default());
        let bounds = Bounds {
            time: Duration::from_secs(1),
            memory_bytes: 1 << 30,
        };
        let of = |spec: &GraphSpec| key(&runtime, spec, bounds).unwrap();
        let first = of(&spec());
        let mut elsewhere = spec();
        elsewhere.files = GraphFiles::Onnx("two/net.onnx".into());
        (elsewhere.sessions, elsewhere.queue_capacity) = (7, 7);
        assert_eq!(of(&elsewhere), first);

        let changes: [fn(&mut GraphSpec); 6] = [
            |spec| spec.content = Some("sha256:2".to_owned()),
            |spec| spec.backend = BackendChoice::Is(BackendKind::Embedded),
            |spec| spec.batching.mode = BatchingMode::On,
            |spec| spec.fallback = !spec.fallback,
            |spec| spec.external_data = Some("one/net.data".into()),
            |spec| {
                spec.files = GraphFiles::OpenVinoIr {
                    xml: "one/net.xml".into(),
                    bin: "one/net.bin".into(),
                }
            },
        ];
        for change in changes {
            let mut other = spec();
            change(&mut other);
            assert_ne!(of(&other), first, "{other:?}");
        }
        let less = Bounds {
            memory_bytes: 1 << 20,
            ..bounds
        };
        assert_ne!(key(&runtime, &spec(), less).unwrap(), first);
        let unknown = GraphSpec {
            content: None,
            ..spec()
        };
        assert_eq!(key(&runtime, &unknown, bounds), None);
    }
}
