//! An ONNX file's nodes and names. Field numbers are those of `onnx.proto`.

use std::io::{BufRead, Seek};

use super::super::Refusal;
use super::super::ports::{each, pass, text_in, within};
use super::super::wire::{Kind, Wire};
use super::{Function, GraphOf, Model, Node};

/// Reads a whole file of `bytes` bytes.
pub(super) fn model<R: BufRead + Seek>(source: R, bytes: u64) -> Result<Model, Refusal> {
    let mut wire = Wire::new(source, bytes);
    let mut model = Model::default();
    each(&mut wire, |wire, field| {
        match (field.number, field.kind) {
            (7, Kind::Bytes(bytes)) => model.graph = within(wire, bytes, graph)?,
            (25, Kind::Bytes(bytes)) => model.functions.push(within(wire, bytes, function)?),
            _ => pass(wire, field)?,
        }
        Ok(())
    })?;
    Ok(model)
}

fn graph<R: BufRead + Seek>(wire: &mut Wire<R>) -> Result<GraphOf, Refusal> {
    let mut graph = GraphOf::default();
    each(wire, |wire, field| {
        match (field.number, field.kind) {
            (1, Kind::Bytes(bytes)) => graph.nodes.push(within(wire, bytes, node)?),
            (5, Kind::Bytes(bytes)) => {
                let name = within(wire, bytes, |wire| text_in(wire, 8))?;
                graph.initializers.push(name);
            }
            (11, Kind::Bytes(bytes)) => {
                let name = within(wire, bytes, |wire| text_in(wire, 1))?;
                graph.inputs.push(name);
            }
            _ => pass(wire, field)?,
        }
        Ok(())
    })?;
    Ok(graph)
}

fn function<R: BufRead + Seek>(wire: &mut Wire<R>) -> Result<Function, Refusal> {
    let (mut name, mut body) = (String::new(), GraphOf::default());
    each(wire, |wire, field| {
        match (field.number, field.kind) {
            (1, Kind::Bytes(bytes)) => name = wire.text(bytes, bytes)?,
            (4, Kind::Bytes(bytes)) => body.inputs.push(wire.text(bytes, bytes)?),
            (7, Kind::Bytes(bytes)) => body.nodes.push(within(wire, bytes, node)?),
            _ => pass(wire, field)?,
        }
        Ok(())
    })?;
    Ok(Function { name, body })
}

fn node<R: BufRead + Seek>(wire: &mut Wire<R>) -> Result<Node, Refusal> {
    let mut node = Node::default();
    each(wire, |wire, field| {
        match (field.number, field.kind) {
            (1, Kind::Bytes(bytes)) => node.inputs.push(wire.text(bytes, bytes)?),
            (2, Kind::Bytes(bytes)) => node.outputs.push(wire.text(bytes, bytes)?),
            (3, Kind::Bytes(bytes)) => node.name = wire.text(bytes, bytes)?,
            (4, Kind::Bytes(bytes)) => node.op = wire.text(bytes, bytes)?,
            (5, Kind::Bytes(bytes)) => within(wire, bytes, |wire| {
                each(wire, |wire, field| {
                    match (field.number, field.kind) {
                        (6 | 11, Kind::Bytes(bytes)) => {
                            node.graphs.push(within(wire, bytes, graph)?);
                        }
                        _ => pass(wire, field)?,
                    }
                    Ok(())
                })
            })?,
            (7, Kind::Bytes(bytes)) => node.domain = wire.text(bytes, bytes)?,
            _ => pass(wire, field)?,
        }
        Ok(())
    })?;
    Ok(node)
}
