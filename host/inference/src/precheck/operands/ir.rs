//! An IR's layers and the edges between them, as nodes and names: a layer is a node, and its outputs have one name
//! between them. A `Const` is a constant, a `Parameter` an input.
//!
//! Ports are listed in the order of a layer's inputs, whatever their numbers are, and layers may come in any order, but
//! OpenVINO writes them in that of their values; where they are not, a constant may pass for a caller's value.

use std::collections::HashMap;
use std::io::BufRead;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use super::super::Refusal;
use super::{GraphOf, Model, Node};

/// Bodies within bodies, as in ONNX.
const MAX_NESTED_BODIES: usize = 16;

/// Elements within elements: each body takes three.
const MAX_NESTED_ELEMENTS: usize = 4 * MAX_NESTED_BODIES;

/// Layers and edges of a network, or of a body in it.
#[derive(Default)]
struct Body {
    layers: Vec<Layer>,
    /// From the layer and port that an edge leads to, to the layer that it comes from; none if several lead there.
    edges: HashMap<(String, String), Option<String>>,
}

#[derive(Default)]
struct Layer {
    id: String,
    name: String,
    ty: String,
    inputs: Vec<String>,
    bodies: Vec<GraphOf>,
}

/// Reads a whole file.
pub(super) fn model(source: impl BufRead) -> Result<Model, Refusal> {
    let mut reader = Reader::from_reader(source);
    let mut buffer = Vec::new();
    // What is open: the elements, and of those the bodies.
    let mut elements: Vec<Vec<u8>> = Vec::new();
    let mut bodies = vec![Body::default()];
    let mut closed = 0;
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).map_err(broken)?;
        let (element, is_empty) = match event {
            Event::Start(element) => (element, false),
            Event::Empty(element) => (element, true),
            Event::End(_) => {
                if elements.pop().is_some_and(|name| is_body(&name)) {
                    close(&mut bodies, &mut closed);
                }
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        let name = element.name().as_ref().to_vec();
        let within = elements.last().map_or(&[][..], Vec::as_slice);
        if is_body(&name) {
            bodies.push(Body::default());
        } else if let Some(body) = bodies.last_mut() {
            read(body, within, &name, &element)?;
        }
        if bodies.len() > MAX_NESTED_BODIES || elements.len() > MAX_NESTED_ELEMENTS {
            return Err(Refusal::Malformed(format!(
                "it has bodies within bodies more than {MAX_NESTED_BODIES} deep"
            )));
        }
        match is_empty {
            true if is_body(&name) => close(&mut bodies, &mut closed),
            true => {}
            false => elements.push(name),
        }
    }
    let graph = bodies.pop().unwrap_or_default().graph(None);
    Ok(Model {
        graph,
        functions: Vec::new(),
    })
}

/// The elements with layers and edges of their own: a loop's, and an `If`'s.
fn is_body(element: &[u8]) -> bool {
    matches!(element, b"body" | b"then_body" | b"else_body")
}

/// Gives a body that is read to the layer that it belongs to.
fn close(bodies: &mut Vec<Body>, closed: &mut usize) {
    let Some(body) = bodies.pop() else {
        return;
    };
    let around = bodies.last_mut().and_then(|body| body.layers.last_mut());
    if let Some(layer) = around {
        *closed += 1;
        layer.bodies.push(body.graph(Some(*closed)));
    }
}

/// One element that is no body.
fn read(
    body: &mut Body,
    within: &[u8],
    name: &[u8],
    element: &BytesStart<'_>,
) -> Result<(), Refusal> {
    match name {
        b"layer" => body.layers.push(Layer {
            id: attribute(element, "id")?,
            name: attribute(element, "name")?,
            ty: attribute(element, "type")?,
            ..Layer::default()
        }),
        b"port" if within == b"input" => {
            if let Some(layer) = body.layers.last_mut() {
                layer.inputs.push(attribute(element, "id")?);
            }
        }
        b"edge" => {
            let to = (
                attribute(element, "to-layer")?,
                attribute(element, "to-port")?,
            );
            let from = attribute(element, "from-layer")?;
            body.edges
                .entry(to)
                .and_modify(|known| *known = None)
                .or_insert(Some(from));
        }
        _ => {}
    }
    Ok(())
}

impl Body {
    /// The body as a graph; the network itself has no `number` among the bodies. Layers are counted in each body anew, so
    /// that their names must not be those of another.
    fn graph(self, number: Option<usize>) -> GraphOf {
        let value = |layer: &str| match number {
            Some(number) => format!("layer {layer} of body {number}"),
            None => format!("layer {layer}"),
        };
        let edges = self.edges;
        let node = |layer: Layer| Node {
            inputs: layer
                .inputs
                .into_iter()
                .map(|port| match edges.get(&(layer.id.clone(), port)) {
                    Some(Some(from)) => value(from),
                    // Not left out, as ONNX has it, and no constant.
                    _ => "no layer".to_owned(),
                })
                .collect(),
            outputs: vec![value(&layer.id)],
            name: layer.name,
            op: match layer.ty.as_str() {
                "Const" => "Constant".to_owned(),
                _ => layer.ty,
            },
            domain: String::new(),
            graphs: layer.bodies,
        };
        GraphOf {
            nodes: self.layers.into_iter().map(node).collect(),
            ..GraphOf::default()
        }
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<String, Refusal> {
    let Some(attribute) = element.try_get_attribute(name).map_err(broken)? else {
        return Ok(String::new());
    };
    let value = attribute.normalized_value(XmlVersion::Implicit1_0);
    Ok(value.map_err(broken)?.into_owned())
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::Malformed(format!("it is no XML that can be read: {error}"))
}
