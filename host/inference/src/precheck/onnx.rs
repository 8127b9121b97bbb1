//! A walk over an ONNX file: every graph, node, attribute and tensor of it, within bounds.
//! Field numbers are those of `onnx.proto`.
//!
//! A message that occurs twice where one is meant is refused: parsers join the halves, and
//! each half could look harmless.

use std::io::{BufRead, Seek};

use super::bounds::{Met, elements, push_dim};
use super::wire::{Field, Kind, Wire};
use super::{Refusal, Weights, tensor};

/// Checks a whole file of `bytes` bytes.
pub(super) fn check<R: BufRead + Seek>(
    source: R,
    bytes: u64,
    weights: Option<Weights<'_>>,
) -> Result<(), Refusal> {
    let mut walk = Walk {
        wire: Wire::new(source, bytes),
        met: Met::default(),
        weights,
    };
    let mut graph = Once::new("graph");
    while let Some(field) = walk.wire.field()? {
        match (field.number, field.kind) {
            (7, Kind::Bytes(bytes)) => {
                graph.again(&walk.wire)?;
                walk.within(bytes, Walk::graph)?;
            }
            (20, Kind::Bytes(bytes)) => walk.within(bytes, Walk::training)?,
            (25, Kind::Bytes(bytes)) => walk.within(bytes, Walk::function)?,
            (7 | 20 | 25, _) => return Err(walk.other_kind(field)),
            _ => walk.pass(field)?,
        }
    }
    if !graph.met {
        return Err(Refusal::Malformed(
            "it has no graph: this is no ONNX file".to_owned(),
        ));
    }
    Ok(())
}

struct Walk<'a, R> {
    wire: Wire<R>,
    met: Met,
    weights: Option<Weights<'a>>,
}

impl<R: BufRead + Seek> Walk<'_, R> {
    /// Reads the `bytes` bytes that a field has announced as a message.
    fn within(
        &mut self,
        bytes: u64,
        read: impl FnOnce(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.met.part()?;
        let outer = self.wire.enter(bytes);
        read(self)?;
        self.wire.leave(outer)
    }

    /// A field that says nothing of interest.
    fn pass(&mut self, field: Field) -> Result<(), Refusal> {
        if let Kind::Bytes(bytes) = field.kind {
            self.met.part()?;
            self.wire.skip(bytes)?;
        }
        Ok(())
    }

    fn other_kind(&self, field: Field) -> Refusal {
        self.wire.wrong(&format!(
            "field {} is of another kind than ONNX has it",
            field.number
        ))
    }

    fn training(&mut self) -> Result<(), Refusal> {
        let (mut initialization, mut algorithm) =
            (Once::new("initialization"), Once::new("algorithm"));
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (1, Kind::Bytes(bytes)) => {
                    initialization.again(&self.wire)?;
                    self.within(bytes, Self::graph)?;
                }
                (2, Kind::Bytes(bytes)) => {
                    algorithm.again(&self.wire)?;
                    self.within(bytes, Self::graph)?;
                }
                (1 | 2, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        Ok(())
    }

    fn graph(&mut self) -> Result<(), Refusal> {
        self.met.enter_graph()?;
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (1, Kind::Bytes(bytes)) => self.within(bytes, Self::node)?,
                (5, Kind::Bytes(bytes)) => self.within(bytes, Self::tensor)?,
                (11..=13, Kind::Bytes(bytes)) => self.within(bytes, Self::value_info)?,
                (15, Kind::Bytes(bytes)) => self.within(bytes, Self::sparse)?,
                (1 | 5 | 11..=13 | 15, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        self.met.leave_graph();
        Ok(())
    }

    fn function(&mut self) -> Result<(), Refusal> {
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (7, Kind::Bytes(bytes)) => self.within(bytes, Self::node)?,
                (11, Kind::Bytes(bytes)) => self.within(bytes, Self::attribute)?,
                (12, Kind::Bytes(bytes)) => self.within(bytes, Self::value_info)?,
                (7 | 11 | 12, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        Ok(())
    }

    fn node(&mut self) -> Result<(), Refusal> {
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (5, Kind::Bytes(bytes)) => self.within(bytes, Self::attribute)?,
                (5, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        Ok(())
    }

    fn attribute(&mut self) -> Result<(), Refusal> {
        let mut tensor = Once::new("tensor of an attribute");
        let mut graph = Once::new("graph of an attribute");
        let mut sparse = Once::new("sparse tensor of an attribute");
        let mut ty = Once::new("type of an attribute");
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (5, Kind::Bytes(bytes)) => {
                    tensor.again(&self.wire)?;
                    self.within(bytes, Self::tensor)?;
                }
                (6, Kind::Bytes(bytes)) => {
                    graph.again(&self.wire)?;
                    self.within(bytes, Self::graph)?;
                }
                (22, Kind::Bytes(bytes)) => {
                    sparse.again(&self.wire)?;
                    self.within(bytes, Self::sparse)?;
                }
                (14, Kind::Bytes(bytes)) => {
                    ty.again(&self.wire)?;
                    self.within(bytes, Self::ty)?;
                }
                (10, Kind::Bytes(bytes)) => self.within(bytes, Self::tensor)?,
                (11, Kind::Bytes(bytes)) => self.within(bytes, Self::graph)?,
                (23, Kind::Bytes(bytes)) => self.within(bytes, Self::sparse)?,
                (15, Kind::Bytes(bytes)) => self.within(bytes, Self::ty)?,
                (5 | 6 | 10 | 11 | 14 | 15 | 22 | 23, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        Ok(())
    }

    fn tensor(&mut self) -> Result<(), Refusal> {
        tensor::check(&mut self.wire, &mut self.met, self.weights)
    }

    /// `SparseTensorProto`: values and indices are tensors, the shape is another.
    fn sparse(&mut self) -> Result<(), Refusal> {
        let (mut values, mut indices) = (Once::new("values"), Once::new("indices"));
        let mut dims = Vec::new();
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (1, Kind::Bytes(bytes)) => {
                    values.again(&self.wire)?;
                    self.within(bytes, Self::tensor)?;
                }
                (2, Kind::Bytes(bytes)) => {
                    indices.again(&self.wire)?;
                    self.within(bytes, Self::tensor)?;
                }
                (3, Kind::Number(dim)) => push_dim(&mut dims, dim)?,
                (3, Kind::Bytes(bytes)) => self.within(bytes, |walk| {
                    while walk.wire.has_more() {
                        let dim = walk.wire.varint()?;
                        push_dim(&mut dims, dim)?;
                    }
                    Ok(())
                })?,
                (1..=3, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        // Engines make them dense.
        elements(&dims, || "a sparse tensor".to_owned()).map(drop)
    }

    fn value_info(&mut self) -> Result<(), Refusal> {
        let mut ty = Once::new("type");
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (2, Kind::Bytes(bytes)) => {
                    ty.again(&self.wire)?;
                    self.within(bytes, Self::ty)?;
                }
                (2, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        Ok(())
    }

    /// `TypeProto`: a tensor, sparse or not, or something of other types.
    fn ty(&mut self) -> Result<(), Refusal> {
        self.met.enter_type()?;
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (1 | 8, Kind::Bytes(bytes)) => self.within(bytes, Self::tensor_type)?,
                (4 | 9, Kind::Bytes(bytes)) => self.within(bytes, |walk| walk.inner_type(1))?,
                (5, Kind::Bytes(bytes)) => self.within(bytes, |walk| walk.inner_type(2))?,
                (1 | 4 | 5 | 8 | 9, _) => return Err(self.other_kind(field)),
                _ => self.pass(field)?,
            }
        }
        self.met.leave_type();
        Ok(())
    }

    /// The type in field `number` of a sequence, an optional or a map.
    fn inner_type(&mut self, number: u32) -> Result<(), Refusal> {
        while let Some(field) = self.wire.field()? {
            match field.kind {
                Kind::Bytes(bytes) if field.number == number => self.within(bytes, Self::ty)?,
                _ => self.pass(field)?,
            }
        }
        Ok(())
    }

    fn tensor_type(&mut self) -> Result<(), Refusal> {
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (2, Kind::Bytes(bytes)) => self.within(bytes, Self::shape)?,
                _ => self.pass(field)?,
            }
        }
        Ok(())
    }

    /// `TensorShapeProto`. Dimensions that are open or negative (some exporters' open) say
    /// nothing; those that are numbers must make a tensor.
    fn shape(&mut self) -> Result<(), Refusal> {
        let mut dims = Vec::new();
        while let Some(field) = self.wire.field()? {
            match (field.number, field.kind) {
                (1, Kind::Bytes(bytes)) => self.within(bytes, |walk| {
                    while let Some(field) = walk.wire.field()? {
                        match (field.number, field.kind) {
                            (1, Kind::Number(dim)) if dim.cast_signed() >= 0 => {
                                push_dim(&mut dims, dim)?;
                            }
                            _ => walk.pass(field)?,
                        }
                    }
                    Ok(())
                })?,
                _ => self.pass(field)?,
            }
        }
        elements(&dims, || "a declared input, output or value".to_owned()).map(drop)
    }
}

/// A field that may occur once.
struct Once {
    what: &'static str,
    met: bool,
}

impl Once {
    fn new(what: &'static str) -> Once {
        Once { what, met: false }
    }

    fn again<R: BufRead + Seek>(&mut self, wire: &Wire<R>) -> Result<(), Refusal> {
        if self.met {
            return Err(wire.wrong(&format!("the {} is there twice", self.what)));
        }
        self.met = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
