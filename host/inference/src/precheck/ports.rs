//! What an ONNX file says its network takes and gives. Engines tell it too, but not all of it: tract keeps neither all
//! names nor all types, and OpenVINO gives an input another name where it comes straight out again, and leaves out one
//! that it can do without.
//!
//! The file has passed [`super::files`].

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use super::wire::{Field, Kind, Wire};
use super::{Refusal, open};
use crate::graph::{Dim, Port, Signature};
use crate::tensor::TensorType;

/// The ports of an ONNX file's network, in its order.
pub(crate) fn declared(path: &Path) -> Result<Signature, Refusal> {
    let (file, bytes) = open(path)?;
    let mut wire = Wire::new(BufReader::with_capacity(64 << 10, file), bytes);
    let mut signature = Signature::default();
    // `ModelProto`
    each(&mut wire, |wire, field| match (field.number, field.kind) {
        (7, Kind::Bytes(bytes)) => {
            signature = within(wire, bytes, graph)?;
            Ok(())
        }
        _ => pass(wire, field),
    })?;
    Ok(signature)
}

/// `GraphProto`
fn graph<R: BufRead + Seek>(wire: &mut Wire<R>) -> Result<Signature, Refusal> {
    let (mut signature, mut weights) = (Signature::default(), HashSet::new());
    each(wire, |wire, field| {
        match (field.number, field.kind) {
            (5, Kind::Bytes(bytes)) => {
                weights.insert(within(wire, bytes, |wire| text_in(wire, 8))?);
            }
            (11, Kind::Bytes(bytes)) => signature.inputs.push(within(wire, bytes, port)?),
            (12, Kind::Bytes(bytes)) => signature.outputs.push(within(wire, bytes, port)?),
            _ => pass(wire, field)?,
        }
        Ok(())
    })?;
    // Older files list their weights among the inputs.
    signature
        .inputs
        .retain(|input| !weights.contains(&*input.name));
    Ok(signature)
}

/// `ValueInfoProto`
fn port<R: BufRead + Seek>(wire: &mut Wire<R>) -> Result<Port, Refusal> {
    let (mut name, mut declared) = (String::new(), (None, Vec::new()));
    each(wire, |wire, field| {
        match (field.number, field.kind) {
            (1, Kind::Bytes(bytes)) => name = wire.text(bytes, bytes)?,
            (2, Kind::Bytes(bytes)) => declared = within(wire, bytes, ty)?,
            _ => pass(wire, field)?,
        }
        Ok(())
    })?;
    let (ty, shape) = declared;
    Ok(Port {
        name: name.into(),
        ty,
        shape,
    })
}

/// `TypeProto`, of whose kinds only tensors are carried.
fn ty<R: BufRead + Seek>(wire: &mut Wire<R>) -> Result<(Option<TensorType>, Vec<Dim>), Refusal> {
    let (mut element, mut shape) = (None, Vec::new());
    each(wire, |wire, field| match (field.number, field.kind) {
        // `TypeProto.Tensor`
        (1, Kind::Bytes(bytes)) => within(wire, bytes, |wire| {
            each(wire, |wire, field| {
                match (field.number, field.kind) {
                    (1, Kind::Number(code)) => element = tensor_type(code),
                    (2, Kind::Bytes(bytes)) => shape = within(wire, bytes, dims)?,
                    _ => pass(wire, field)?,
                }
                Ok(())
            })
        }),
        _ => pass(wire, field),
    })?;
    Ok((element, shape))
}

/// `TensorShapeProto`
fn dims<R: BufRead + Seek>(wire: &mut Wire<R>) -> Result<Vec<Dim>, Refusal> {
    let mut dims = Vec::new();
    each(wire, |wire, field| match (field.number, field.kind) {
        (1, Kind::Bytes(bytes)) => {
            let mut dim = Dim::Dynamic;
            within(wire, bytes, |wire| {
                each(wire, |wire, field| match (field.number, field.kind) {
                    (1, Kind::Number(size)) => {
                        dim = u32::try_from(size).map_or(Dim::Dynamic, Dim::Fixed);
                        Ok(())
                    }
                    _ => pass(wire, field),
                })
            })?;
            dims.push(dim);
            Ok(())
        }
        _ => pass(wire, field),
    })?;
    Ok(dims)
}

/// `TensorProto.DataType`, of which these are carried.
fn tensor_type(code: u64) -> Option<TensorType> {
    Some(match code {
        1 => TensorType::Fp32,
        2 => TensorType::U8,
        6 => TensorType::I32,
        7 => TensorType::I64,
        10 => TensorType::Fp16,
        11 => TensorType::Fp64,
        16 => TensorType::Bf16,
        _ => return None,
    })
}

/// The string in field `number` of a message.
pub(super) fn text_in<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    number: u32,
) -> Result<String, Refusal> {
    let mut text = String::new();
    each(wire, |wire, field| match field.kind {
        Kind::Bytes(bytes) if field.number == number => {
            text = wire.text(bytes, bytes)?;
            Ok(())
        }
        _ => pass(wire, field),
    })?;
    Ok(text)
}

/// Hands every field of the message to `read`.
pub(super) fn each<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    mut read: impl FnMut(&mut Wire<R>, Field) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    while let Some(field) = wire.field()? {
        read(wire, field)?;
    }
    Ok(())
}

/// Reads the `bytes` bytes that a field has announced as a message.
pub(super) fn within<R: BufRead + Seek, T>(
    wire: &mut Wire<R>,
    bytes: u64,
    read: impl FnOnce(&mut Wire<R>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let outer = wire.enter(bytes);
    let read = read(wire)?;
    wire.leave(outer)?;
    Ok(read)
}

/// A field that says nothing of interest.
pub(super) fn pass<R: BufRead + Seek>(wire: &mut Wire<R>, field: Field) -> Result<(), Refusal> {
    match field.kind {
        Kind::Bytes(bytes) => wire.skip(bytes),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn network(name: &str) -> Signature {
        let networks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks");
        declared(&networks.join(name)).unwrap()
    }

    fn port(name: &str, ty: Option<TensorType>, shape: &[Dim]) -> Port {
        Port {
            name: name.into(),
            ty,
            shape: shape.to_vec(),
        }
    }

    #[test]
    fn names_types_and_dimensions_are_told_as_the_file_has_them() {
        let fp32 = Some(TensorType::Fp32);
        let signature = network("difference.onnx");
        let inputs = [
            port("left", fp32, &[Dim::Fixed(3)]),
            port("right", fp32, &[Dim::Fixed(3)]),
            port("offset", fp32, &[]),
        ];
        assert_eq!(signature.inputs, inputs);
        let outputs = ["difference", "sum"].map(|name| port(name, fp32, &[Dim::Fixed(3)]));
        assert_eq!(signature.outputs, outputs);
        assert_eq!(
            network("from-bool.onnx").inputs,
            [port("flag", None, &[Dim::Dynamic])]
        );
        let places = [port(
            "places",
            Some(TensorType::I64),
            &[Dim::Fixed(1), Dim::Dynamic],
        )];
        assert_eq!(network("nonzero.onnx").outputs, places);
    }
}
