//! A model without a handler: the body is an Open Inference Protocol request in JSON, and
//! so is the answer.
//!
//! `{"inputs":[{"name","shape","datatype","data"}]}` in, `{"outputs":[…]}` out, with `data`
//! flat or nested, row-major. FP16 and BF16 have no JSON form in the protocol; they, raw
//! tensors and the rest of `/v2` need a handler for now.

use std::time::{Duration, Instant};

use aegis_inference::{ComputeError, Graph, NamedTensor, Shape, Tensor, TensorType, Terms};
use aegis_registry::manifest::EffectiveLimits;
use aegis_sandbox::{
    Call, Failure, Fault, Limit, Outcome, Problem, Refusals, Request, Response, compute_traced,
};
use aegis_telemetry::Trace;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A graph that answers predictions by itself.
#[derive(Clone)]
pub struct DirectGraph {
    graph: Graph,
    timeout: Duration,
    tensor_bytes: usize,
    response_bytes: usize,
}

#[derive(Deserialize)]
struct Body {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    shape: Vec<u32>,
    datatype: String,
    data: Value,
}

#[derive(Serialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Serialize)]
struct Output {
    name: String,
    shape: Vec<u32>,
    datatype: &'static str,
    data: Value,
}

impl DirectGraph {
    pub(crate) fn new(graph: Graph, limits: &EffectiveLimits) -> DirectGraph {
        DirectGraph {
            graph,
            timeout: Duration::from_millis(limits.timeout_ms.into()),
            tensor_bytes: (limits.tensor_mib as usize) << 20,
            response_bytes: (limits.response_mib as usize) << 20,
        }
    }

    pub(crate) async fn predict(&self, call: &Call, request: &Request) -> Outcome<Response> {
        let mut refusals = Refusals::default();
        let mut span = call.trace.span("predict");
        let answer = self
            .answer(call, request, &mut refusals, span.trace())
            .await;
        if let Err(Ended::Fault(_)) = &answer {
            span.fail("response_too_large");
        }
        drop(span);
        let result = match answer {
            Ok(response) => Ok(Ok(response)),
            Err(Ended::Failure(failure)) => Ok(Err(failure)),
            Err(Ended::Fault(fault)) => {
                tracing::error!(request_id = %call.request_id, graph = self.graph.name(), "{fault}");
                refusals.ended_by(Limit::ResponseBytes);
                Err(fault)
            }
        };
        Outcome {
            result,
            signals: Default::default(),
            refusals,
            instantiate: None,
        }
    }

    async fn answer(
        &self,
        call: &Call,
        request: &Request,
        refusals: &mut Refusals,
        trace: &Trace,
    ) -> Result<Response, Ended> {
        let media_type = request
            .content_type
            .as_deref()
            .unwrap_or("application/json");
        if !media_type.trim_start().starts_with("application/json") {
            let message = format!("this model takes application/json, not {media_type}");
            return Err(Failure::UnsupportedMediaType(message).into());
        }
        let inputs = parse(&request.body)?;
        let own = Instant::now() + self.timeout;
        let deadline = call.deadline.map_or(own, |callers| callers.min(own));
        let terms = Terms {
            deadline: Some(deadline),
            priority: call.priority,
        };
        let outputs = compute_traced(&self.graph, inputs, terms, trace).await;
        let outputs = outputs.map_err(|error| {
            match error {
                ComputeError::QueueFull { .. } => refusals.add(Limit::Queue, 1),
                ComputeError::DeadlineExceeded => refusals.add(Limit::Timeout, 1),
                _ => {}
            }
            failure(error)
        })?;
        let bytes = outputs.iter().map(|output| output.tensor.byte_len()).sum();
        within("tensors", bytes, self.tensor_bytes)?;
        let outputs = outputs.iter().map(output).collect::<Result<_, _>>()?;
        let body = serde_json::to_vec(&Answer { outputs })
            .map_err(|error| Failure::Internal(error.to_string()))?;
        within("body", body.len(), self.response_bytes)?;
        Ok(Response {
            content_type: "application/json".to_owned(),
            headers: Vec::new(),
            body,
        })
    }
}

/// How a prediction ends without an answer.
enum Ended {
    Failure(Failure),
    Fault(Fault),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failure(failure)
    }
}

/// Holds a part of the response to its limit.
fn within(part: &'static str, bytes: usize, limit_bytes: usize) -> Result<(), Ended> {
    if bytes <= limit_bytes {
        return Ok(());
    }
    Err(Ended::Fault(Fault::ResponseTooLarge {
        part,
        bytes,
        limit_bytes,
    }))
}

fn invalid(message: impl Into<String>, field: Option<String>) -> Failure {
    Failure::InvalidInput(Problem {
        message: message.into(),
        field,
    })
}

fn parse(body: &[u8]) -> Result<Vec<NamedTensor>, Failure> {
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        invalid(
            format!(
                "the body is not an inference request: {error}; wanted is \
                 {{\"inputs\":[{{\"name\",\"shape\",\"datatype\",\"data\"}}]}}"
            ),
            None,
        )
    })?;
    body.inputs
        .into_iter()
        .enumerate()
        .map(|(index, input)| tensor(index, input))
        .collect()
}

fn tensor(index: usize, input: Input) -> Result<NamedTensor, Failure> {
    let at = |key: &str| Some(format!("/inputs/{index}/{key}"));
    let ty = match input.datatype.as_str() {
        "FP32" => TensorType::Fp32,
        "FP64" => TensorType::Fp64,
        "UINT8" => TensorType::U8,
        "INT32" => TensorType::I32,
        "INT64" => TensorType::I64,
        other => {
            return Err(invalid(
                format!(
                    "datatype `{other}` has no JSON form here; use FP32, FP64, UINT8, INT32 or INT64"
                ),
                at("datatype"),
            ));
        }
    };
    let shape =
        Shape::new(&input.shape).map_err(|error| invalid(error.to_string(), at("shape")))?;
    let mut bytes = Vec::new();
    flatten(&input.data, ty, &mut bytes).map_err(|message| invalid(message, at("data")))?;
    let tensor =
        Tensor::new(ty, shape, bytes).map_err(|error| invalid(error.to_string(), at("data")))?;
    Ok(NamedTensor::new(input.name, tensor))
}

/// Appends the numbers of `data`, flat or nested, in order.
fn flatten(data: &Value, ty: TensorType, bytes: &mut Vec<u8>) -> Result<(), String> {
    match data {
        Value::Array(values) => values
            .iter()
            .try_for_each(|value| flatten(value, ty, bytes)),
        Value::Number(number) => {
            let out_of_range = || format!("{number} does not fit {ty}");
            match ty {
                TensorType::Fp32 => {
                    let wide = number.as_f64().ok_or_else(out_of_range)?;
                    let narrow = wide as f32;
                    if !narrow.is_finite() {
                        return Err(out_of_range());
                    }
                    bytes.extend_from_slice(&narrow.to_le_bytes());
                }
                TensorType::Fp64 => bytes
                    .extend_from_slice(&number.as_f64().ok_or_else(out_of_range)?.to_le_bytes()),
                TensorType::U8 => bytes.push(
                    number
                        .as_u64()
                        .and_then(|wide| u8::try_from(wide).ok())
                        .ok_or_else(out_of_range)?,
                ),
                TensorType::I32 => bytes.extend_from_slice(
                    &number
                        .as_i64()
                        .and_then(|wide| i32::try_from(wide).ok())
                        .ok_or_else(out_of_range)?
                        .to_le_bytes(),
                ),
                TensorType::I64 => bytes
                    .extend_from_slice(&number.as_i64().ok_or_else(out_of_range)?.to_le_bytes()),
                _ => return Err(format!("{ty} has no JSON form")),
            }
            Ok(())
        }
        other => Err(format!("numbers are wanted, found {other}")),
    }
}

fn output(named: &NamedTensor) -> Result<Output, Failure> {
    let tensor = &named.tensor;
    let internal = |message: String| Failure::Internal(message);
    let (datatype, data) = match tensor.ty() {
        TensorType::Fp32 => ("FP32", numbers::<f32>(tensor)),
        TensorType::Fp64 => ("FP64", numbers::<f64>(tensor)),
        TensorType::U8 => ("UINT8", numbers::<u8>(tensor)),
        TensorType::I32 => ("INT32", numbers::<i32>(tensor)),
        TensorType::I64 => ("INT64", numbers::<i64>(tensor)),
        other => {
            return Err(internal(format!(
                "output `{}` is {other}, which has no JSON form; put a handler around the graph",
                named.name
            )));
        }
    };
    Ok(Output {
        name: named.name.to_string(),
        shape: tensor.shape().dims().to_vec(),
        datatype,
        data: data.map_err(internal)?,
    })
}

fn numbers<T: aegis_inference::Element + Serialize>(tensor: &Tensor) -> Result<Value, String> {
    let values = tensor.to_vec::<T>().map_err(|error| error.to_string())?;
    serde_json::to_value(values).map_err(|error| error.to_string())
}

fn failure(error: ComputeError) -> Failure {
    let message = error.to_string();
    match error {
        ComputeError::InvalidInput(_) => invalid(message, None),
        ComputeError::QueueFull { .. } => Failure::Overloaded(message),
        ComputeError::DeadlineExceeded => Failure::Timeout(message),
        _ => Failure::Internal(message),
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]
    use super::*;

    #[test]
    fn nested_and_flat_data_are_the_same_tensor() {
        let flat = br#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]}]}"#;
        let nested =
            br#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1,2],[3,4]]}]}"#;
        let (flat, nested) = (parse(flat).unwrap(), parse(nested).unwrap());
        assert_eq!(flat[0].tensor.bytes(), nested[0].tensor.bytes());
    }

    #[test]
    fn what_does_not_fit_says_where() {
        for (body, field) in [
            (
                r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP16","data":[1]}]}"#,
                "/inputs/0/datatype",
            ),
            (
                r#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1]}]}"#,
                "/inputs/0/data",
            ),
            (
                r#"{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[256]}]}"#,
                "/inputs/0/data",
            ),
            (
                r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":["a"]}]}"#,
                "/inputs/0/data",
            ),
        ] {
            let Failure::InvalidInput(problem) = parse(body.as_bytes()).unwrap_err() else {
                unreachable!("{body}");
            };
            assert_eq!(problem.field.as_deref(), Some(field), "{body}");
        }
    }
}
