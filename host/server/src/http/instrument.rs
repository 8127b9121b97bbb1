//! What every route has in common: a request id in and out, the `http_*` metrics, the request's
//! trace, and errors in one shape.

use std::{pin::pin, sync::Arc};

use aegis_telemetry::{EndpointMetrics, Span, Tracer};
use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::Response,
};

use super::{error::ApiError, request_id};

/// A caller gives its place in a trace, and is told the place of what was done for it.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a route is, to those who watch it.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) metrics: EndpointMetrics,
    pub(crate) endpoint: Arc<str>,
    /// Whether traces begin here. What asks how the server is comes every few seconds, and would
    /// be most of what there is to see.
    pub(crate) begins_traces: bool,
}

/// Runs `handle` for one request of a route.
pub(crate) async fn instrumented<F>(
    route: &Watched,
    tracer: &Tracer,
    mut request: Request,
    handle: impl FnOnce(Request, Arc<str>) -> F,
) -> Response
where
    F: Future<Output = Result<Response, ApiError>>,
{
    let guard = route.metrics.start();
    let id = request_id::of(request.headers());
    let mut span = tracer.request(request.headers(), route.begins_traces);
    if span.is_recorded() {
        describe(&mut span, route, &request, &id);
    }
    let trace = span.trace().clone();
    if trace.ids().is_some() {
        request.extensions_mut().insert(trace.clone());
    }
    let handled = pin!(handle(request, Arc::clone(&id)));
    let mut response = match trace.scope(handled).await {
        Ok(response) => response,
        Err(error) => error.into_response(&id),
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(request_id::REQUEST_ID, value);
    }
    if let Some(value) = trace.traceparent() {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    let status = response.status();
    span.number("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        // By OpenTelemetry's rule a caller's mistake is no error of the server's.
        span.fail("server_error");
    }
    guard.finish(status.as_u16());
    response
}

/// By OpenTelemetry's semantic conventions for HTTP.
fn describe(span: &mut Span, route: &Watched, request: &Request, id: &str) {
    span.word(
        "http.request.method",
        aegis_telemetry::method(request.method().as_str()),
    );
    span.text("http.route", &route.endpoint);
    span.text("aegis.request_id", id);
}
