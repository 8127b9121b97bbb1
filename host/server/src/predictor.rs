//! What answers a prediction: a sandboxed handler, a graph served directly, or (for
//! measuring what the sandbox costs) native code in its place.

use std::{future::Future, pin::Pin, sync::Arc};

use aegis_sandbox::{Call, Failure, Handler, Outcome, Request, Response};

use crate::direct::DirectGraph;

/// What answers a model version's predictions.
#[derive(Clone)]
pub enum Predictor {
    /// The version's handler, in its sandbox.
    Handler(Handler),
    /// No handler: tensors in JSON, in and out.
    Direct(DirectGraph),
    /// Native code: the reference that the benchmark measures the sandbox against.
    Native(Arc<dyn NativePredictor>),
}

/// Code that answers in the host itself, without a sandbox.
pub trait NativePredictor: Send + Sync {
    /// Answers one request.
    fn predict<'a>(
        &'a self,
        call: &'a Call,
        request: &'a Request,
    ) -> Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send + 'a>>;
}

impl Predictor {
    /// Answers one request.
    pub(crate) async fn predict(&self, call: &Call, request: Arc<Request>) -> Outcome<Response> {
        let result = match self {
            Predictor::Handler(handler) => return handler.predict(call, request).await,
            Predictor::Direct(graph) => return graph.predict(call, &request).await,
            Predictor::Native(native) => native.predict(call, &request).await,
        };
        Outcome {
            result: Ok(result),
            signals: Default::default(),
            refusals: Default::default(),
            instantiate: None,
        }
    }
}
