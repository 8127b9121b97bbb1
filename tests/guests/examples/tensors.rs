//! `infer` only. Without parameters it gives its tensors back; with `graph` it runs that
//! graph on them and answers the outputs that are wanted.

use aegis_guest::{Context, Failure, InferenceRequest, InferenceResponse, Parameter};

fn infer(ctx: &Context, request: InferenceRequest) -> Result<InferenceResponse, Failure> {
    let Some(Parameter::Text(graph)) = request.parameter("graph") else {
        let wanted = |name: &str| request.wants(name);
        let outputs = request
            .inputs
            .iter()
            .filter(|tensor| wanted(&tensor.name))
            .cloned();
        return Ok(InferenceResponse {
            outputs: outputs.collect(),
            parameters: request.parameters.clone(),
        });
    };
    let mut inputs = Vec::new();
    for tensor in &request.inputs {
        inputs.push((tensor.name.as_str(), tensor.to_graph()?));
    }
    let outputs = ctx.graph(graph)?.run(&inputs)?;
    let wanted = outputs.names().filter(|name| request.wants(name));
    let outputs = wanted
        .map(|name| outputs.named(name))
        .collect::<Result<_, _>>()?;
    Ok(InferenceResponse::new(outputs))
}

aegis_guest::handler! { infer: infer }
