//! The one shape of every error answer, and how each room's errors become it.
//!
//! `{"error": "what was wrong", "code": "stable_word", "request_id": "…"}`, with `field`
//! where the fault has a place. `error` is where the Open Inference Protocol has its text,
//! so the same body serves its clients.

use std::time::Duration;

use aegis_registry::{ErrorKind, RegistryError};
use aegis_sandbox::{Failure, Fault};
use aegis_telemetry::Limit;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{admission::Refusal, load::PackageLoadError, models::ModelsError};

/// An error on its way to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// Where the fault is: a JSON pointer or a name.
    pub(crate) field: Option<String>,
    /// The limit that this refuses something for: counted, not told.
    pub(crate) limit: Option<Limit>,
    /// When it is worth trying again; for a 429 or 503 that says nothing, a second.
    pub(crate) retry_after: Option<Duration>,
}

/// The most of a message that is sent, in bytes: it may quote what a caller or a component
/// named, at any length.
const MAX_MESSAGE: usize = 16 << 10;

/// When a caller that was turned away may come back, unless something better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Longer is not worth promising: much will have changed by then.
const LONGEST_RETRY_AFTER: u64 = 60;

#[derive(Serialize)]
struct Shape<'a> {
    error: &'a str,
    code: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            field: None,
            limit: None,
            retry_after: None,
        }
    }

    /// The same, refused for this limit.
    pub(crate) fn for_limit(mut self, limit: impl Into<Option<Limit>>) -> ApiError {
        self.limit = limit.into();
        self
    }

    /// The same, with a time after which it is worth trying again.
    pub(crate) fn retry_after(mut self, after: Duration) -> ApiError {
        self.retry_after = Some(after);
        self
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The answer. What the host itself got wrong is in the log under the request's id;
    /// the caller gets the id.
    pub(crate) fn into_response(self, request_id: &str) -> Response {
        let body = serde_json::to_vec(&Shape {
            error: self
                .message
                .get(..self.message.floor_char_boundary(MAX_MESSAGE))
                .unwrap_or_default(),
            code: self.code,
            request_id,
            field: self.field.as_deref(),
        })
        .unwrap_or_default();
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            Body::from(body),
        )
            .into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 11.6.1: a 401 names the scheme that is wanted.
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let after = self.retry_after.unwrap_or(RETRY_AFTER);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds(after)));
        }
        response
    }
}

/// Whole seconds, as the header has them (RFC 9110, 10.2.3): rounded up, so that nobody comes too early, and not
/// none at all.
fn seconds(after: Duration) -> u64 {
    let begun = u64::from(after.subsec_nanos() > 0);
    (after.as_secs().saturating_add(begun)).clamp(1, LONGEST_RETRY_AFTER)
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        let status = match error.kind() {
            ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!(%error, "registry");
        }
        let limit = (error.kind() == ErrorKind::TooLarge).then_some(Limit::PackageBytes);
        ApiError::new(status, error.code(), error.to_string()).for_limit(limit)
    }
}

impl From<PackageLoadError> for ApiError {
    fn from(error: PackageLoadError) -> Self {
        let status = if error.is_hosts_fault() {
            tracing::error!(%error, "loading a package");
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        ApiError::new(status, error.code(), error.to_string()).for_limit(error.limit())
    }
}

impl From<ModelsError> for ApiError {
    fn from(error: ModelsError) -> Self {
        match error {
            ModelsError::Registry(error) => error.into(),
            ModelsError::Package(error) => error.into(),
            ModelsError::StillLoading { .. } => {
                ApiError::new(StatusCode::GATEWAY_TIMEOUT, error.code(), error.to_string())
            }
            ModelsError::CircuitOpen { retry_after, .. } => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                error.code(),
                error.to_string(),
            )
            .retry_after(retry_after),
            ModelsError::NoStableVersion { .. } | ModelsError::NotLoaded { .. } => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                error.code(),
                error.to_string(),
            ),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::QueueFull {
                max_queue,
                retry_after,
            } => ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "overloaded",
                format!("{max_queue} requests for this model wait already; try again later"),
            )
            .for_limit(Limit::Queue)
            .retry_after(retry_after),
            Refusal::Deadline => ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "the request's time ran out while it waited for its turn",
            )
            .for_limit(Limit::Timeout),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::InvalidInput(problem) => ApiError {
                field: problem.field,
                ..ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid_input",
                    problem.message,
                )
            },
            Failure::UnsupportedMediaType(message) => ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                message,
            ),
            Failure::TooLarge(message) => {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "input_too_large", message)
            }
            Failure::Overloaded(message) => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message)
            }
            Failure::NotReady(message) => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
            }
            Failure::Timeout(message) => {
                ApiError::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
            }
            // The words are for the operator: they are in the log.
            Failure::Internal(_) => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "handler_error",
                "the model's handler reported an error of its own; the log has it under this request id",
            ),
        }
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let (status, code, message) = match &fault {
            Fault::Trap { .. } => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "handler_trap",
                "the model's handler crashed; the log has the backtrace under this request id"
                    .to_owned(),
            ),
            Fault::OutOfMemory { .. } => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "handler_out_of_memory",
                fault.to_string(),
            ),
            Fault::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "timeout", fault.to_string()),
            Fault::ResponseTooLarge { .. } => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "response_too_large",
                fault.to_string(),
            ),
            Fault::HostMemory { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_memory",
                fault.to_string(),
            ),
            Fault::NoFreeInstance { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_free_instance",
                fault.to_string(),
            ),
            Fault::NoSuchExport { .. } => (
                StatusCode::NOT_IMPLEMENTED,
                "not_exported",
                fault.to_string(),
            ),
        };
        ApiError::new(status, code, message)
    }
}
