//! A model's inputs and outputs as its file declares them: tract's own graph keeps neither all names nor all types.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{ModelProto, ValueInfoProto};

use crate::graph::{Dim, Port, Signature};
use crate::tensor::TensorType;

/// Reads the ports, in the model's order.
pub(super) fn signature(model: &ModelProto) -> Result<Signature, String> {
    let graph = model.graph.as_ref().ok_or("the file holds no graph")?;
    // Older files list their weights among the inputs.
    let weights: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|weight| weight.name.as_str())
        .collect();
    Ok(Signature {
        inputs: graph
            .input
            .iter()
            .filter(|input| !weights.contains(input.name.as_str()))
            .map(port)
            .collect(),
        outputs: graph.output.iter().map(port).collect(),
    })
}

fn port(info: &ValueInfoProto) -> Port {
    let tensor = info
        .r#type
        .as_ref()
        .and_then(|ty| ty.value.as_ref())
        .map(|value| match value {
            TypeValue::TensorType(tensor) => tensor,
        });
    Port {
        name: info.name.as_str().into(),
        ty: tensor.and_then(|tensor| tensor_type(tensor.elem_type)),
        shape: tensor
            .and_then(|tensor| tensor.shape.as_ref())
            .map(|shape| {
                shape
                    .dim
                    .iter()
                    .map(|dim| dim_of(dim.value.as_ref()))
                    .collect()
            })
            .unwrap_or_default(),
    }
}

fn dim_of(value: Option<&DimValue>) -> Dim {
    match value {
        Some(DimValue::DimValue(size)) => u32::try_from(*size).map_or(Dim::Dynamic, Dim::Fixed),
        Some(DimValue::DimParam(_)) | None => Dim::Dynamic,
    }
}

fn tensor_type(code: i32) -> Option<TensorType> {
    Some(match DataType::try_from(code).ok()? {
        DataType::Float16 => TensorType::Fp16,
        DataType::Float => TensorType::Fp32,
        DataType::Double => TensorType::Fp64,
        DataType::Bfloat16 => TensorType::Bf16,
        DataType::Uint8 => TensorType::U8,
        DataType::Int32 => TensorType::I32,
        DataType::Int64 => TensorType::I64,
        _ => return None,
    })
}
