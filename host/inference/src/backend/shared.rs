//! The networks that are open, by what is in them: a graph of the same content that would be opened in the same way has
//! the one that is there, weights and all, and only its queue and sessions are its own. So a version that changes how
//! requests are batched costs no second load.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Backend, Network};
use crate::graph::{BackendKind, GraphSpec};

/// Kept alive by the graphs that have them.
#[derive(Default)]
pub(crate) struct OpenNetworks {
    places: Mutex<HashMap<Key, Arc<Place>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    backend: BackendKind,
    content: String,
    /// As [`Backend::opened_with`] has it.
    opened_with: String,
}

/// Locked while its network is being opened: who wants the same waits for it.
#[derive(Default)]
struct Place(Mutex<Option<Weak<dyn Network>>>);

impl Place {
    fn is_empty(&self) -> bool {
        let network = self.0.lock();
        network.as_ref().is_none_or(|weak| weak.strong_count() == 0)
    }
}

impl OpenNetworks {
    /// The network, opened unless it is open.
    ///
    /// # Errors
    /// The backend's own words.
    pub(crate) fn open(
        &self,
        kind: BackendKind,
        backend: &dyn Backend,
        spec: &GraphSpec,
    ) -> Result<Arc<dyn Network>, String> {
        let Some(place) = self.place(kind, backend, spec) else {
            return backend.open(spec).map(Arc::from);
        };
        let mut here = place.0.lock();
        if let Some(network) = here.as_ref().and_then(Weak::upgrade) {
            tracing::debug!(graph = spec.name, backend = %kind, "the network is open already");
            return Ok(network);
        }
        let network: Arc<dyn Network> = backend.open(spec)?.into();
        *here = Some(Arc::downgrade(&network));
        Ok(network)
    }

    fn place(
        &self,
        backend: BackendKind,
        engine: &dyn Backend,
        spec: &GraphSpec,
    ) -> Option<Arc<Place>> {
        let key = Key {
            backend,
            content: spec.content.clone()?,
            opened_with: engine.opened_with(spec)?,
        };
        let mut places = self.places.lock();
        // One that somebody else holds is in use, or about to be.
        places.retain(|_, place| Arc::strong_count(place) > 1 || !place.is_empty());
        Some(Arc::clone(places.entry(key).or_default()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::backend::Session;
    use crate::graph::{GraphFiles, Signature, Target};
    use crate::runtime::BackendStatus;

    /// Counts what it opens.
    #[derive(Default)]
    struct Counting {
        opened: AtomicUsize,
        refuses: bool,
    }

    struct Opened(Signature);

    impl Network for Opened {
        fn signature(&self) -> &Signature {
            &self.0
        }

        fn session(&self) -> Result<Box<dyn Session>, String> {
            Err("never asked".to_owned())
        }
    }

    impl Backend for Counting {
        fn status(&self) -> BackendStatus {
            BackendStatus {
                kind: BackendKind::Embedded,
                available: true,
                version: None,
                detail: String::new(),
            }
        }

        fn opened_with(&self, spec: &GraphSpec) -> Option<String> {
            (spec.target == Target::Cpu).then(|| spec.intra_op_threads.to_string())
        }

        fn open(&self, _: &GraphSpec) -> Result<Box<dyn Network>, String> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(20));
            if self.refuses {
                return Err("refused".to_owned());
            }
            Ok(Box::new(Opened(Signature::default())))
        }
    }

    fn spec(content: Option<&str>) -> GraphSpec {
        GraphSpec {
            content: content.map(str::to_owned),
            ..GraphSpec::new("g", GraphFiles::Onnx("g.onnx".into()))
        }
    }

    fn open(networks: &OpenNetworks, backend: &Counting, spec: &GraphSpec) -> Arc<dyn Network> {
        networks.open(BackendKind::Embedded, backend, spec).unwrap()
    }

    #[test]
    fn graphs_of_one_content_have_one_network_and_it_goes_with_the_last() {
        let (networks, backend) = (OpenNetworks::default(), Counting::default());
        let batched = GraphSpec {
            sessions: 7,
            ..spec(Some("a"))
        };
        let first = open(&networks, &backend, &spec(Some("a")));
        let second = open(&networks, &backend, &batched);
        assert!(Arc::ptr_eq(&first, &second));
        drop(first);
        let third = open(&networks, &backend, &spec(Some("a")));
        assert_eq!(backend.opened.load(Ordering::Relaxed), 1);
        drop((second, third));
        open(&networks, &backend, &spec(Some("a")));
        assert_eq!(backend.opened.load(Ordering::Relaxed), 2);
        open(&networks, &backend, &spec(Some("b")));
        assert_eq!(
            networks.places.lock().len(),
            1,
            "those that went are forgotten"
        );
    }

    #[test]
    fn what_is_opened_otherwise_or_of_unknown_content_is_opened_anew() {
        let (networks, backend) = (OpenNetworks::default(), Counting::default());
        let threads = GraphSpec {
            intra_op_threads: 2,
            ..spec(Some("a"))
        };
        let own = GraphSpec {
            target: Target::Gpu,
            ..spec(Some("a"))
        };
        let specs = [spec(Some("a")), spec(Some("b")), threads, own.clone(), own];
        let unknown = [spec(None), spec(None)];
        let all = specs.iter().chain(&unknown);
        let open: Vec<_> = all.map(|spec| open(&networks, &backend, spec)).collect();
        assert_eq!(backend.opened.load(Ordering::Relaxed), open.len());
    }

    #[test]
    fn those_that_come_together_open_once() {
        let (networks, backend) = (OpenNetworks::default(), Counting::default());
        let together = Barrier::new(4);
        let networks: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        open(&networks, &backend, &spec(Some("a")))
                    })
                })
                .collect();
            threads.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert_eq!(backend.opened.load(Ordering::Relaxed), 1);
        assert!(networks.windows(2).all(|two| Arc::ptr_eq(&two[0], &two[1])));
    }

    #[test]
    fn what_was_refused_is_tried_again() {
        let networks = OpenNetworks::default();
        let backend = Counting {
            refuses: true,
            ..Counting::default()
        };
        for tries in 1..=2 {
            let refused = networks.open(BackendKind::Embedded, &backend, &spec(Some("a")));
            assert_eq!(refused.err().unwrap(), "refused");
            assert_eq!(backend.opened.load(Ordering::Relaxed), tries);
        }
    }
}
