//! Runs one graph on the request's tensors by `wasi:nn`'s bare bindings, and answers all that it gives: what the
//! conformance tests of `host/sandbox` send each of ONNX's node cases through. The parameter `graph` names the graph.
//! What `wasi:nn` answers with an error is told in its own words.

use aegis_guest::{
    __private::bindings::host::wasi::nn::{errors::Error, graph, tensor::Tensor},
    Context, Datatype, Failure, InferenceRequest, InferenceResponse, NamedTensor, Parameter,
    TensorType,
};

fn infer(_: &Context, request: InferenceRequest) -> Result<InferenceResponse, Failure> {
    let Some(Parameter::Text(name)) = request.parameter("graph") else {
        return Err(Failure::invalid_field("graph", "a graph's name is wanted"));
    };
    let graph = graph::load_by_name(name).map_err(|error| said(&error))?;
    let context = graph
        .init_execution_context()
        .map_err(|error| said(&error))?;
    let inputs = request
        .inputs
        .iter()
        .map(|input| Ok((input.name.clone(), given(input)?)))
        .collect::<Result<_, Failure>>()?;
    let outputs = context.compute(inputs).map_err(|error| said(&error))?;
    let outputs = outputs.iter().map(|(name, tensor)| answered(name, tensor));
    Ok(InferenceResponse::new(outputs.collect()))
}

aegis_guest::handler! { infer: infer }

fn said(error: &Error) -> Failure {
    Failure::internal(format!("{:?}: {}", error.code(), error.data()))
}

fn given(input: &NamedTensor) -> Result<Tensor, Failure> {
    let ty = match input.datatype {
        Datatype::Fp16 => TensorType::Fp16,
        Datatype::Fp32 => TensorType::Fp32,
        Datatype::Fp64 => TensorType::Fp64,
        Datatype::Bf16 => TensorType::Bf16,
        Datatype::Uint8 => TensorType::U8,
        Datatype::Int32 => TensorType::I32,
        Datatype::Int64 => TensorType::I64,
        other => {
            return Err(Failure::invalid_field(
                &input.name,
                format!("wasi:nn has no {other:?}"),
            ));
        }
    };
    let dims = input.shape.iter().map(|dim| u32::try_from(*dim));
    let dims: Vec<u32> = dims
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::invalid_field(&input.name, "a dimension is over 32 bits"))?;
    Ok(Tensor::new(&dims, ty, &input.data))
}

fn answered(name: &str, tensor: &Tensor) -> NamedTensor {
    NamedTensor {
        name: name.to_owned(),
        datatype: match tensor.ty() {
            TensorType::Fp16 => Datatype::Fp16,
            TensorType::Fp32 => Datatype::Fp32,
            TensorType::Fp64 => Datatype::Fp64,
            TensorType::Bf16 => Datatype::Bf16,
            TensorType::U8 => Datatype::Uint8,
            TensorType::I32 => Datatype::Int32,
            TensorType::I64 => Datatype::Int64,
        },
        shape: tensor.dimensions().into_iter().map(u64::from).collect(),
        data: tensor.data(),
    }
}
