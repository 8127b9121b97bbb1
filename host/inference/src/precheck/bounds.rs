//! How large a network may say it is. Each is several times what the largest public networks
//! have, and small enough that an engine's own structures for it fit in memory.

use super::Refusal;

/// Messages and strings of one file. An engine makes an object of some hundred bytes of
/// each, and one takes two bytes of a file: without a bound a file of 1 GB is 100 GB of
/// objects. Transformers of 30,000 nodes have half a million.
const MAX_PARTS: u64 = 4 << 20;

/// Subgraphs within subgraphs, as `If` and `Loop` have them. Engines walk them by
/// recursion; exporters nest four or five.
const MAX_NESTED_GRAPHS: u32 = 16;

/// Types within types (a sequence of maps of tensors): three are in use.
const MAX_NESTED_TYPES: u32 = 16;

/// Dimensions of one tensor: those in use have six or seven.
const MAX_RANK: usize = 64;

/// Elements of one tensor, a terabyte of f32: more is a slip or a trap.
pub(super) const MAX_ELEMENTS: u64 = 1 << 38;

/// What has been met of a file so far.
#[derive(Debug, Default)]
pub(super) struct Met {
    parts: u64,
    graphs: u32,
    types: u32,
}

impl Met {
    /// One more message or string.
    pub(super) fn part(&mut self) -> Result<(), Refusal> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(Refusal::Malformed(format!(
                "it has more than {MAX_PARTS} messages and strings, which no network has"
            )));
        }
        Ok(())
    }

    /// One graph deeper.
    pub(super) fn enter_graph(&mut self) -> Result<(), Refusal> {
        self.graphs += 1;
        deeper(self.graphs, MAX_NESTED_GRAPHS, "graphs")
    }

    /// And out of it.
    pub(super) fn leave_graph(&mut self) {
        self.graphs = self.graphs.saturating_sub(1);
    }

    /// One type deeper.
    pub(super) fn enter_type(&mut self) -> Result<(), Refusal> {
        self.types += 1;
        deeper(self.types, MAX_NESTED_TYPES, "types")
    }

    /// And out of it.
    pub(super) fn leave_type(&mut self) {
        self.types = self.types.saturating_sub(1);
    }
}

fn deeper(depth: u32, most: u32, what: &str) -> Result<(), Refusal> {
    if depth > most {
        return Err(Refusal::Malformed(format!(
            "it has {what} within {what} more than {most} deep"
        )));
    }
    Ok(())
}

/// One more dimension, as it is on the wire. Bounded here so that nothing grows on a file's
/// word; whether the rank makes sense is seen when all are known.
pub(super) fn push_dim(dims: &mut Vec<i64>, dim: u64) -> Result<(), Refusal> {
    const MOST_KEPT: usize = 1024;
    if dims.len() == MOST_KEPT {
        return Err(Refusal::Malformed(format!(
            "a shape has more than {MOST_KEPT} dimensions"
        )));
    }
    dims.push(dim.cast_signed());
    Ok(())
}

/// The elements of a tensor of these dimensions, if that is a tensor's shape at all.
pub(super) fn elements(dims: &[i64], whose: impl Fn() -> String) -> Result<u64, Refusal> {
    if dims.len() > MAX_RANK {
        return Err(Refusal::Malformed(format!(
            "{} has {} dimensions: at most {MAX_RANK} make sense",
            whose(),
            dims.len()
        )));
    }
    let mut elements = 1_u64;
    let mut empty = false;
    for &dim in dims {
        let size = u64::try_from(dim)
            .map_err(|_| Refusal::Malformed(format!("{} has a dimension of {dim}", whose())))?;
        empty |= size == 0;
        // Zero does not excuse the rest: engines multiply in another order.
        elements = elements
            .checked_mul(size.max(1))
            .filter(|&elements| elements <= MAX_ELEMENTS)
            .ok_or_else(|| {
                Refusal::Malformed(format!(
                    "{} has the shape {dims:?}: more than {MAX_ELEMENTS} elements",
                    whose()
                ))
            })?;
    }
    Ok(if empty { 0 } else { elements })
}
