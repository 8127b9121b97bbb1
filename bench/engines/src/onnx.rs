//! What the harness needs to read of ONNX files: a graph's true inputs and outputs, and `.pb` tensors.
//! Uses the protobuf types that tract generated; no engine runs here.

use anyhow::{Context, Result, bail};
use prost::{
    Message,
    encoding::{decode_varint, encode_varint},
};
use tract_onnx::pb::{
    ModelProto, TensorProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto,
};

use crate::tensor::{DType, Tensor, to_bytes};

/// One input or output as the model declares it.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    /// `None`: not a tensor, or of a type that wasi:nn lacks.
    pub dtype: Option<DType>,
    /// `None`: of unknown rank. An inner `None`: any size.
    pub shape: Option<Vec<Option<usize>>>,
}

/// What goes in and out of a model, in the model's order.
#[derive(Clone, Debug)]
pub struct Signature {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Operator types, without repeats, in the graph's order.
    pub operators: Vec<String>,
}

impl Signature {
    pub fn read(model: &[u8]) -> Result<Self> {
        let model = ModelProto::decode(model)?;
        let graph = model.graph.context("the model has no graph")?;
        let given = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
        let mut operators: Vec<String> = Vec::new();
        for node in &graph.node {
            if !operators.contains(&node.op_type) {
                operators.push(node.op_type.clone());
            }
        }
        Ok(Self {
            inputs: graph
                .input
                .iter()
                .filter(|input| !given(&input.name))
                .map(port)
                .collect(),
            outputs: graph.output.iter().map(port).collect(),
            operators,
        })
    }

    /// Whether everything that goes in and out is a tensor of a wasi:nn type.
    pub fn is_wasi_nn(&self) -> bool {
        self.inputs
            .iter()
            .chain(&self.outputs)
            .all(|port| port.dtype.is_some())
    }
}

fn port(info: &ValueInfoProto) -> Port {
    let value = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let tensor = value.map(|type_proto::Value::TensorType(tensor)| tensor);
    let size = |value: &Option<dimension::Value>| match value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(*size).ok(),
        _ => None,
    };
    Port {
        name: info.name.clone(),
        dtype: tensor.and_then(|tensor| DType::from_onnx(tensor.elem_type)),
        shape: tensor
            .and_then(|tensor| tensor.shape.as_ref())
            .map(|shape| shape.dim.iter().map(|dim| size(&dim.value)).collect()),
    }
}

/// Reads a serialized `TensorProto`, the form of the conformance cases' inputs and outputs.
pub fn read_tensor(file: &[u8]) -> Result<Tensor> {
    let proto = TensorProto::decode(file)?;
    let dtype = DType::from_onnx(proto.data_type)
        .with_context(|| format!("tensor type {}", proto.data_type))?;
    let shape = proto
        .dims
        .iter()
        .map(|&size| Ok(usize::try_from(size)?))
        .collect::<Result<Vec<_>>>()?;
    let bytes = if !proto.raw_data.is_empty() {
        proto.raw_data
    } else {
        match dtype {
            DType::F32 => to_bytes(&proto.float_data, f32::to_le_bytes),
            DType::F64 => to_bytes(&proto.double_data, f64::to_le_bytes),
            DType::I64 => to_bytes(&proto.int64_data, i64::to_le_bytes),
            DType::I32 => to_bytes(&proto.int32_data, i32::to_le_bytes),
            DType::U8 => to_bytes(&proto.int32_data, |value| [value as u8]),
            DType::F16 | DType::Bf16 => {
                to_bytes(&proto.int32_data, |value| (value as u16).to_le_bytes())
            }
        }
    };
    if bytes.len() != shape.iter().product::<usize>() * dtype.size() {
        bail!("{} bytes for shape {shape:?} of {dtype:?}", bytes.len());
    }
    Ok(Tensor {
        dtype,
        shape,
        bytes,
    })
}

/// Turns the inputs that real models hold as constants (shapes, axes, sizes: i64 of rank 0 or 1, and what Resize takes
/// beside its picture) into initializers. Returns the model and the inputs that are left.
///
/// Edits the bytes rather than decoding and encoding, since prost packs repeated numbers and rten refuses them packed.
pub fn bake_small_inputs(model: &[u8], inputs: &[Tensor]) -> Result<(Vec<u8>, Vec<Tensor>)> {
    const MODEL_GRAPH: u64 = 7;
    const GRAPH_INITIALIZER: u64 = 5;
    const GRAPH_INPUT: u64 = 11;
    let signature = Signature::read(model)?;
    let resizes = signature
        .operators
        .iter()
        .any(|operator| operator == "Resize");
    let small = |tensor: &Tensor| {
        tensor.shape.len() <= 1
            && (tensor.dtype == DType::I64 || (resizes && tensor.dtype == DType::F32))
    };
    let pairs = || signature.inputs.iter().zip(inputs);
    let baked: Vec<_> = pairs()
        .filter(|(_, tensor)| signature.inputs.len() > 1 && small(tensor))
        .collect();
    let is_baked = |name: &str| baked.iter().any(|(port, _)| port.name == name);

    let mut edited = Vec::new();
    for (number, field) in fields(model)? {
        if number != MODEL_GRAPH {
            edited.extend_from_slice(field.whole);
            continue;
        }
        let mut graph = Vec::new();
        for (number, field) in fields(field.content)? {
            if number != GRAPH_INPUT || !is_baked(&ValueInfoProto::decode(field.content)?.name) {
                graph.extend_from_slice(field.whole);
            }
        }
        for (port, tensor) in &baked {
            // TensorProto: 1 dims, 2 data_type, 8 name, 9 raw_data.
            let mut proto = Vec::new();
            for &size in &tensor.shape {
                proto.extend([1 << 3]);
                encode_varint(size as u64, &mut proto);
            }
            proto.extend([2 << 3, if tensor.dtype == DType::I64 { 7 } else { 1 }]);
            put(8, port.name.as_bytes(), &mut proto);
            put(9, &tensor.bytes, &mut proto);
            put(GRAPH_INITIALIZER, &proto, &mut graph);
        }
        put(MODEL_GRAPH, &graph, &mut edited);
    }
    let left = pairs()
        .filter(|(port, _)| !is_baked(&port.name))
        .map(|(_, tensor)| tensor.clone())
        .collect();
    Ok((edited, left))
}

/// A protobuf field: all its bytes, and what a length-delimited one holds.
struct Field<'a> {
    whole: &'a [u8],
    content: &'a [u8],
}

fn fields(message: &[u8]) -> Result<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let key = decode_varint(&mut rest)?;
        let length = match key & 7 {
            0 => {
                decode_varint(&mut rest)?;
                0
            }
            1 => 8,
            2 => usize::try_from(decode_varint(&mut rest)?)?,
            5 => 4,
            kind => bail!("wire type {kind} in an ONNX file"),
        };
        let (content, after) = rest
            .split_at_checked(length)
            .context("a field runs past the end")?;
        rest = after;
        fields.push((
            key >> 3,
            Field {
                whole: &start[..start.len() - rest.len()],
                content,
            },
        ));
    }
    Ok(fields)
}

fn put(number: u64, content: &[u8], out: &mut Vec<u8>) {
    encode_varint(number << 3 | 2, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}
