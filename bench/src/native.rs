//! The digits handler's work in native code, without a sandbox: what the sandboxed rows are
//! compared with.
//!
//! `examples/digits` compiled natively meets the SDK's fake host, whose graphs are plain
//! closures that cannot wait for a session. So its steps for JSON are written once more here,
//! in its order and with the same serde code: parse, check, tensor, compute, the most probable
//! digit, JSON.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_inference::{ComputeError, Graph, NamedTensor, Tensor};
use aegis_sandbox::{Call, Failure, Problem, Request, Response};
use aegis_server::NativePredictor;
use serde::{Deserialize, Serialize};

use crate::cases::most_probable;

/// The handler over one graph. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NativeDigits {
    graph: Graph,
    input: Arc<str>,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Body {
    pixels: Vec<f32>,
}

#[derive(Serialize)]
struct Answer {
    digit: usize,
    probabilities: Vec<f32>,
}

impl NativeDigits {
    pub(crate) fn new(graph: Graph, timeout: Duration) -> NativeDigits {
        NativeDigits {
            graph,
            input: Arc::from("input"),
            timeout,
        }
    }

    pub(crate) async fn answer(&self, call: &Call, request: &Request) -> Result<Response, Failure> {
        let json = request
            .content_type
            .as_deref()
            .is_some_and(|given| given.eq_ignore_ascii_case("application/json"));
        if !json {
            return Err(Failure::UnsupportedMediaType(
                "send application/json".to_owned(),
            ));
        }
        let Body { pixels } =
            serde_json::from_slice(&request.body).map_err(|error| invalid(error.to_string()))?;
        if pixels.len() != 64 {
            return Err(invalid(format!(
                "64 numbers wanted, {} given",
                pixels.len()
            )));
        }
        if let Some(pixel) = pixels.iter().find(|pixel| !(0.0..=16.0).contains(*pixel)) {
            return Err(invalid(format!("{pixel} is outside 0 to 16")));
        }
        let tensor =
            Tensor::from_slice(&[1, 64], &pixels).map_err(|error| invalid(error.to_string()))?;
        let own = Instant::now() + self.timeout;
        let deadline = call.deadline.map_or(own, |callers| callers.min(own));
        let outputs = self
            .graph
            .compute(
                vec![NamedTensor::new(Arc::clone(&self.input), tensor)],
                Some(deadline),
            )
            .await
            .map_err(refused)?;
        let probabilities = outputs
            .iter()
            .find(|output| &*output.name == "probabilities")
            .ok_or_else(|| Failure::Internal("there is no `probabilities`".to_owned()))?
            .tensor
            .to_vec::<f32>()
            .map_err(|error| Failure::Internal(error.to_string()))?;
        let mut body = Vec::with_capacity(256);
        serde_json::to_writer(
            &mut body,
            &Answer {
                digit: most_probable(&probabilities),
                probabilities,
            },
        )
        .map_err(|error| Failure::Internal(error.to_string()))?;
        Ok(Response {
            content_type: "application/json".to_owned(),
            headers: Vec::new(),
            body,
        })
    }
}

impl NativePredictor for NativeDigits {
    fn predict<'a>(
        &'a self,
        call: &'a Call,
        request: &'a Request,
    ) -> Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send + 'a>> {
        Box::pin(self.answer(call, request))
    }
}

fn invalid(message: String) -> Failure {
    Failure::InvalidInput(Problem {
        message,
        field: None,
    })
}

fn refused(error: ComputeError) -> Failure {
    match error {
        ComputeError::QueueFull { .. } => Failure::Overloaded(error.to_string()),
        ComputeError::DeadlineExceeded => Failure::Timeout(error.to_string()),
        other => Failure::Internal(other.to_string()),
    }
}
