//! What every route has in common: a request id in and out, the `http_*` metrics, and
//! errors in one shape.

use std::sync::Arc;

use aegis_telemetry::EndpointMetrics;
use axum::{extract::Request, http::HeaderValue, response::Response};

use super::{error::ApiError, request_id};

/// Runs `handle` for one request of the route that `metrics` belongs to.
pub(crate) async fn instrumented<F>(
    metrics: &EndpointMetrics,
    request: Request,
    handle: impl FnOnce(Request, Arc<str>) -> F,
) -> Response
where
    F: Future<Output = Result<Response, ApiError>>,
{
    let guard = metrics.start();
    let id = request_id::of(request.headers());
    let mut response = match handle(request, Arc::clone(&id)).await {
        Ok(response) => response,
        Err(error) => error.into_response(&id),
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(request_id::REQUEST_ID, value);
    }
    guard.finish(response.status().as_u16());
    response
}
