//! A guest and, beside it, what it must hold by what it was answered: the two may never differ.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use aegis_inference::{Dim, Graph, MAX_RANK, TensorType};
use aegis_sandbox::{
    GraphLoader, HandlerSpec, Limits,
    fuzzing::{self, Handle, TENSOR_OVERHEAD, Trapped, Usage},
};

use super::{CONTEXTS, GRAPH_BYTES, GRAPHS, HANDLES, TENSOR_BYTES, TENSORS};
use super::{
    held::{Held, Kind, Tensor, makes_sense, usage},
    loader::Loader,
};

/// Whether a program goes on.
pub(super) enum Next {
    GoOn,
    Trapped,
}

pub(super) struct Guest {
    host: fuzzing::Guest,
    graph: Graph,
    held: BTreeMap<Handle, Held>,
    may_load: bool,
}

impl Guest {
    /// A guest with this graph of its model, that may load networks from bytes or not.
    pub(super) fn new(graph: &Graph, may_load: bool) -> Guest {
        let limits = Limits {
            tensor_bytes: TENSOR_BYTES,
            handles: HANDLES,
            tensors: TENSORS,
            contexts: CONTEXTS,
            graphs: GRAPHS,
            graph_bytes: GRAPH_BYTES,
            ..Limits::default()
        };
        let host = fuzzing::Guest::new(HandlerSpec {
            model: "fuzz".to_owned(),
            version: 1,
            graphs: BTreeMap::from([("digits".to_owned(), graph.clone())]),
            graph_loader: may_load.then(|| Arc::new(Loader(graph.clone())) as Arc<dyn GraphLoader>),
            sessions: None,
            config: BTreeMap::new(),
            limits,
            reuse: false,
        });
        Guest {
            host,
            graph: graph.clone(),
            held: BTreeMap::new(),
            may_load,
        }
    }

    /// The handles of this kind that the guest holds.
    pub(super) fn held(&self, kind: Kind) -> Vec<Handle> {
        let of_kind = |(handle, held): (&Handle, &Held)| (held.kind() == kind).then_some(*handle);
        self.held.iter().filter_map(of_kind).collect()
    }

    /// What the guest's holdings count.
    fn usage(&self) -> Usage {
        usage(self.held.values())
    }

    /// What is counted is what is held, and no more than may be.
    pub(super) fn accounts_balance(&self) {
        let usage = self.usage();
        assert_eq!(self.host.usage(), usage, "miscounted");
        assert!(usage.tensor_bytes <= TENSOR_BYTES, "{usage:?}");
        assert!(usage.tensors <= TENSORS, "{usage:?}");
        assert!(usage.contexts <= CONTEXTS, "{usage:?}");
        assert!(usage.graphs <= GRAPHS, "{usage:?}");
        assert!(self.held.len() <= HANDLES, "{} handles", self.held.len());
    }

    /// Lets go of all that is held; then nothing may be left.
    pub(super) fn drop_everything(mut self) {
        for (handle, held) in std::mem::take(&mut self.held) {
            let dropped = match held {
                Held::Tensor(_) => self.host.drop_tensor(handle),
                Held::Graph(_) => self.host.drop_graph(handle),
                Held::Context(_) => self.host.drop_context(handle),
                Held::Error => self.host.drop_error(handle),
            };
            dropped.expect("what is held can be dropped");
        }
        self.accounts_balance();
        assert!(self.host.holds_nothing(), "the host kept something");
    }

    pub(super) fn tensor(&mut self, dims: Vec<u32>, ty: TensorType, data: Vec<u8>) -> Next {
        match self.host.tensor(dims.clone(), ty, data.clone()) {
            Ok(handle) => {
                let kept = self.host.tensor_data(handle).expect("a tensor just made");
                let usage = self.usage();
                let usable = makes_sense(&dims, ty, &data)
                    && usage.tensor_bytes + data.len() + TENSOR_OVERHEAD <= TENSOR_BYTES
                    && usage.tensors < TENSORS;
                let data = usable.then_some(data);
                let wanted = data.as_deref().unwrap_or_default();
                assert!(kept == wanted, "{dims:?} {ty} keeps {} bytes", kept.len());
                self.took(handle, Held::Tensor(Tensor { dims, ty, data }))
            }
            Err(trapped) => self.was_full(&trapped, 1),
        }
    }

    pub(super) fn read_tensor(&mut self, handle: Handle) -> Next {
        let dims = self.host.dimensions(handle);
        let ty = self.host.ty(handle);
        let data = self.host.tensor_data(handle);
        match (self.held.get(&handle), dims, ty, data) {
            (Some(Held::Tensor(tensor)), Ok(dims), Ok(ty), Ok(data)) => {
                // What cannot be used is kept short.
                let most = tensor.dims.len().min(MAX_RANK);
                assert_eq!(Some(dims.as_slice()), tensor.dims.get(..most));
                assert_eq!(ty, tensor.ty);
                assert_eq!(data, tensor.data.clone().unwrap_or_default());
                Next::GoOn
            }
            (held, Err(_), Err(_), Err(_)) => not_held(held, Kind::Tensor),
            _ => panic!("tensor {handle} is half there"),
        }
    }

    pub(super) fn drop_tensor(&mut self, handle: Handle) -> Next {
        let dropped = self.host.drop_tensor(handle);
        self.let_go(handle, Kind::Tensor, dropped)
    }

    pub(super) async fn load(&mut self, parts: Vec<Vec<u8>>, encoding: u8, target: u8) -> Next {
        let bytes: usize = parts.iter().map(Vec::len).sum();
        match self.host.load(parts, encoding, target).await {
            Ok(Ok(graph)) => {
                assert!(self.may_load, "a network was loaded from bytes");
                assert!(bytes <= GRAPH_BYTES, "{bytes} bytes were loaded");
                self.took(graph, Held::Graph(Some(Rc::new(bytes))))
            }
            Ok(Err(error)) if self.may_load => self.refused(
                error,
                &[
                    "InvalidArgument",
                    "InvalidEncoding",
                    "RuntimeError",
                    "Timeout",
                    "TooLarge",
                    "Unknown",
                    "UnsupportedOperation",
                ],
            ),
            Ok(Err(error)) => self.refused(error, &["Security"]),
            Err(trapped) => self.was_full(&trapped, 1),
        }
    }

    pub(super) fn load_by_name(&mut self, name: String) -> Next {
        match self.host.load_by_name(name.clone()) {
            Ok(Ok(graph)) => {
                assert_eq!(name, "digits");
                self.took(graph, Held::Graph(None))
            }
            Ok(Err(error)) => {
                assert_ne!(name, "digits");
                self.refused(error, &["NotFound"])
            }
            Err(trapped) => self.was_full(&trapped, 1),
        }
    }

    pub(super) fn context(&mut self, graph: Handle) -> Next {
        let network = match self.held.get(&graph) {
            Some(Held::Graph(network)) => Some(network.clone()),
            _ => None,
        };
        match (self.host.context(graph), network) {
            (Ok(Ok(context)), Some(network)) => self.took(context, Held::Context(network)),
            (Ok(Ok(_)), None) => panic!("a context of what is no graph"),
            // The bound is looked at before the handle.
            (Ok(Err(error)), _) => {
                assert_eq!(self.usage().contexts, CONTEXTS);
                self.refused(error, &["TooLarge"])
            }
            (Err(trapped), Some(_)) => self.was_full(&trapped, 1),
            (Err(_), None) => Next::Trapped,
        }
    }

    pub(super) fn drop_graph(&mut self, handle: Handle) -> Next {
        let dropped = self.host.drop_graph(handle);
        self.let_go(handle, Kind::Graph, dropped)
    }

    pub(super) async fn compute(&mut self, context: Handle, inputs: Vec<(String, Handle)>) -> Next {
        let distinct: BTreeSet<_> = inputs.iter().map(|(_, handle)| handle).collect();
        let all_held = matches!(self.held.get(&context), Some(Held::Context(_)))
            && distinct.len() == inputs.len()
            && distinct
                .iter()
                .all(|handle| matches!(self.held.get(handle), Some(Held::Tensor(_))));
        let computed = self.host.compute(context, inputs.clone()).await;
        if !all_held {
            assert!(computed.is_err(), "a handle that is not held was taken");
            return Next::Trapped;
        }
        // They are the host's now, whatever became of the call.
        let given: Vec<_> = inputs
            .into_iter()
            .filter_map(|(name, handle)| match self.held.remove(&handle) {
                Some(Held::Tensor(tensor)) => Some((name, tensor)),
                _ => None,
            })
            .collect();
        match computed {
            Ok(Ok(outputs)) => {
                let rows = self.rows(&given).expect("only what fits is computed");
                self.take_outputs(outputs, rows)
            }
            Ok(Err(error)) => {
                let unusable = given.iter().any(|(_, tensor)| tensor.data.is_none());
                let codes: &[&str] = match self.rows(&given) {
                    _ if unusable => &["InvalidArgument", "TooLarge"],
                    // A batch of nothing is the engine's to refuse; the answer may be over the
                    // budget.
                    Some(_) => &["RuntimeError", "TooLarge"],
                    None => &["InvalidArgument"],
                };
                self.refused(error, codes)
            }
            Err(trapped) => self.was_full(&trapped, self.graph.signature().outputs.len()),
        }
    }

    /// How many rows these inputs have if they are what the graph takes.
    fn rows(&self, given: &[(String, Tensor)]) -> Option<u32> {
        let [port] = self.graph.signature().inputs.as_slice() else {
            panic!("digits has one input");
        };
        let [(name, tensor)] = given else {
            return None;
        };
        let dim_fits = |(port, given): (&Dim, &u32)| match port {
            Dim::Fixed(wanted) => wanted == given,
            Dim::Dynamic => true,
        };
        let fits = **name == *port.name
            && port.ty == Some(tensor.ty)
            && port.shape.len() == tensor.dims.len()
            && port.shape.iter().zip(&tensor.dims).all(dim_fits);
        tensor.dims.first().copied().filter(|_| fits)
    }

    fn take_outputs(&mut self, outputs: Vec<(String, Handle)>, rows: u32) -> Next {
        let signature = self.graph.signature();
        let names: Vec<_> = signature.outputs.iter().map(|port| &*port.name).collect();
        let given: Vec<_> = outputs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(given, names);
        for (_, handle) in outputs {
            let dims = self.host.dimensions(handle).expect("an output");
            let ty = self.host.ty(handle).expect("an output");
            let data = self.host.tensor_data(handle).expect("an output");
            assert_eq!(
                (dims.as_slice(), ty),
                ([rows, 10].as_slice(), TensorType::Fp32)
            );
            assert!(
                makes_sense(&dims, ty, &data),
                "{dims:?} in {} bytes",
                data.len()
            );
            let data = Some(data);
            self.took(handle, Held::Tensor(Tensor { dims, ty, data }));
        }
        Next::GoOn
    }

    pub(super) fn drop_context(&mut self, handle: Handle) -> Next {
        let dropped = self.host.drop_context(handle);
        self.let_go(handle, Kind::Context, dropped)
    }

    pub(super) fn read_error(&mut self, handle: Handle) -> Next {
        match (self.host.error_code(handle), self.host.error_data(handle)) {
            (Ok(_), Ok(words)) => {
                assert!(matches!(self.held.get(&handle), Some(Held::Error)));
                assert!(!words.is_empty() && words.len() < 16 << 10, "{words}");
                Next::GoOn
            }
            (Err(_), Err(_)) => not_held(self.held.get(&handle), Kind::Error),
            _ => panic!("error {handle} is half there"),
        }
    }

    pub(super) fn drop_error(&mut self, handle: Handle) -> Next {
        let dropped = self.host.drop_error(handle);
        self.let_go(handle, Kind::Error, dropped)
    }

    fn took(&mut self, handle: Handle, held: Held) -> Next {
        let before = self.held.insert(handle, held);
        assert!(before.is_none(), "handle {handle} was given out twice");
        Next::GoOn
    }

    fn refused(&mut self, error: Handle, codes: &[&str]) -> Next {
        let code = self.host.error_code(error).expect("an error just made");
        let words = self.host.error_data(error).expect("an error just made");
        assert!(codes.contains(&code.as_str()), "{code}: {words}");
        self.took(error, Held::Error)
    }

    fn let_go(&mut self, handle: Handle, kind: Kind, dropped: Result<(), Trapped>) -> Next {
        match dropped {
            Ok(()) => {
                let held = self.held.remove(&handle);
                assert_eq!(held.map(|held| held.kind()), Some(kind));
                Next::GoOn
            }
            Err(_) => not_held(self.held.get(&handle), kind),
        }
    }

    /// A trap though all handles were right: there is no room for `more`.
    fn was_full(&self, trapped: &Trapped, more: usize) -> Next {
        let held = self.held.len();
        assert!(
            held + more > HANDLES,
            "trapped while {held} handles are held: {trapped:?}"
        );
        Next::Trapped
    }
}

/// A trap for a handle that is not held, or is of another kind.
fn not_held(held: Option<&Held>, wanted: Kind) -> Next {
    let kind = held.map(Held::kind);
    assert_ne!(kind, Some(wanted), "a handle that is held was not taken");
    Next::Trapped
}
