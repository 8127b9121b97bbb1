//! A handler's response as HTTP: what it may say of headers, and what is done with those that it may not.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};

use super::{app::App, error::ApiError, instrument::TRACEPARENT, request_id::REQUEST_ID};
use crate::version::LoadedVersion;

/// The most headers of a handler that are sent. Their bytes are bounded in the sandbox;
/// usual clients read a hundred headers, those of the host among them.
const MAX_HEADERS: usize = 64;

/// The handler's response as HTTP. A content type that cannot be sent, or more headers than
/// are sent, is the handler's error; a header that may not be is left out, with a line in
/// the log.
pub(crate) fn to_http(
    response: aegis_sandbox::Response,
    app: &App,
    version: &LoadedVersion,
    id: &str,
) -> Result<Response, ApiError> {
    let headers = response.headers.len();
    if headers > MAX_HEADERS {
        let message = format!(
            "the handler's response has {headers} headers, and {MAX_HEADERS} are sent at most"
        );
        return Err(unsendable(version, id, "response_too_large", message));
    }
    let content_type = HeaderValue::try_from(response.content_type).map_err(|_| {
        let message = "the model's handler answered with a content type that cannot be sent";
        unsendable(version, id, "handler_error", message.to_owned())
    })?;
    let mut http = Response::new(app.bodies.answer(response.body)?);
    http.headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    for (name, value) in response.headers {
        match (HeaderName::try_from(&name), HeaderValue::try_from(value)) {
            (Ok(parsed), Ok(value)) if may_set(&parsed) => {
                http.headers_mut().append(parsed, value);
            }
            _ => tracing::warn!(
                model = %version.name,
                version = version.version.get(),
                request_id = %id,
                header = %name.escape_debug(),
                "a header that the handler set is not sent"
            ),
        }
    }
    Ok(http)
}

fn unsendable(version: &LoadedVersion, id: &str, code: &'static str, message: String) -> ApiError {
    tracing::error!(
        model = %version.name,
        version = version.version.get(),
        request_id = %id,
        "{message}"
    );
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code, message)
}

/// Whether a handler may set this header: not those that frame the message (RFC 9110,
/// 7.6.1), and not those that the host answers for.
fn may_set(name: &HeaderName) -> bool {
    const HOSTS: [HeaderName; 12] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::DATE,
        header::SERVER,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::SET_COOKIE,
        REQUEST_ID,
        TRACEPARENT,
    ];
    let name_str = name.as_str();
    !HOSTS.contains(name)
        && name_str != "keep-alive"
        && !name_str.starts_with("proxy-")
        && !name_str.starts_with("aegis-")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_handler_cannot_set_what_the_host_answers_for() {
        for name in [
            "content-length",
            "transfer-encoding",
            "x-request-id",
            "traceparent",
            "aegis-model",
            "proxy-authenticate",
            "set-cookie",
        ] {
            assert!(!may_set(&name.parse().unwrap()), "{name}");
        }
        assert!(may_set(&"cache-control".parse().unwrap()));
    }
}
