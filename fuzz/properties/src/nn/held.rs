//! What a guest holds, and what of it counts.

use std::rc::Rc;

use aegis_inference::{MAX_RANK, TensorType};
use aegis_sandbox::fuzzing::{TENSOR_OVERHEAD, Usage};

/// The kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tensor,
    Graph,
    Context,
    Error,
}

/// A resource that the guest holds.
pub(super) enum Held {
    Tensor(Tensor),
    Graph(Network),
    Context(Network),
    Error,
}

/// Whose network a graph or context is of: the model's, or one that the guest brought as so many
/// bytes, which count until the last that holds it is gone.
pub(super) type Network = Option<Rc<usize>>;

impl Held {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Held::Tensor(_) => Kind::Tensor,
            Held::Graph(_) => Kind::Graph,
            Held::Context(_) => Kind::Context,
            Held::Error => Kind::Error,
        }
    }
}

/// A tensor as it was made.
pub(super) struct Tensor {
    pub(super) dims: Vec<u32>,
    pub(super) ty: TensorType,
    /// Nothing if the host could not use what it was given.
    pub(super) data: Option<Vec<u8>>,
}

/// What these count together.
pub(super) fn usage<'h>(all: impl Iterator<Item = &'h Held>) -> Usage {
    let mut usage = Usage::default();
    let mut networks: Vec<&Rc<usize>> = Vec::new();
    for held in all {
        match held {
            Held::Tensor(Tensor {
                data: Some(data), ..
            }) => {
                usage.tensors += 1;
                usage.tensor_bytes += data.len() + TENSOR_OVERHEAD;
            }
            Held::Graph(Some(own)) => networks.push(own),
            Held::Context(network) => {
                usage.contexts += 1;
                networks.extend(network);
            }
            _ => {}
        }
    }
    networks.sort_by_key(|own| Rc::as_ptr(own));
    networks.dedup_by_key(|own| Rc::as_ptr(own));
    usage.graphs = networks.len();
    usage.tensor_bytes += networks.into_iter().map(|own| **own).sum::<usize>();
    usage
}

/// Whether the bytes are what dimensions and type ask for, and the dimensions such that every
/// backend can compute with them: few enough, and addressable even where one of them is zero.
pub(super) fn makes_sense(dims: &[u32], ty: TensorType, data: &[u8]) -> bool {
    let nonzero = dims.iter().filter(|dim| **dim != 0);
    let elements = nonzero.fold(1_u128, |all, dim| all.saturating_mul((*dim).into()));
    let asked = match dims.contains(&0) {
        true => 0,
        false => elements.saturating_mul(ty.size() as u128),
    };
    let addressable = elements.saturating_mul(8) <= isize::MAX as u128;
    dims.len() <= MAX_RANK && addressable && asked == data.len() as u128
}
