//! `POST /predict?identifier=NAME[&version=N]`: one prediction, from the caller's bytes to
//! the handler's.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_inference::Priority;
use aegis_registry::{ErrorKind, ModelName, RegistryError, Version};
use aegis_sandbox::{Call, Failure, Fault, Outcome as Ended, Request as Prediction, Signals};
use aegis_telemetry::{Outcome, Trace, TrapReason};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    response::Response,
};

use super::{app::App, body, error::ApiError, instrument::TRACEPARENT};
use crate::{
    access::Role,
    listener::Peer,
    load::limit_label,
    models::{ModelsError, Routed},
    traffic::{Part, shadow},
    version::LoadedVersion,
};

const MODEL: HeaderName = HeaderName::from_static("aegis-model");
const MODEL_VERSION: HeaderName = HeaderName::from_static("aegis-model-version");
const TRAFFIC: HeaderName = HeaderName::from_static("aegis-traffic");
const PRIORITY: HeaderName = HeaderName::from_static("aegis-priority");

/// Answers one prediction request.
pub(crate) async fn predict(
    app: Arc<App>,
    request: Request,
    id: Arc<str>,
) -> Result<Response, ApiError> {
    let start = Instant::now();
    let (mut parts, body) = request.into_parts();
    let trace: Trace = parts.extensions.remove().unwrap_or_default();
    if let Err(denied) = app.access.admit(Role::Predict, &parts.headers) {
        let peer = parts.extensions.get().copied().unwrap_or(Peer::UNKNOWN);
        app.access.note_refused_prediction(&denied, peer, &id);
        body::drain(body).await;
        return Err(denied.error);
    }
    let target = match Target::read(&parts.uri) {
        Ok(target) => target,
        Err(error) => {
            body::drain(body).await;
            return Err(error);
        }
    };
    let priority = match priority(&parts.headers) {
        Ok(priority) => priority,
        Err(error) => {
            body::drain(body).await;
            return Err(error);
        }
    };
    let deadline = start + app.config.request_timeout;
    let key = sticky_key(&app.config.sticky_headers, &parts.headers, &id);
    let routed = app
        .models
        .route(&target.name, target.version, key, deadline)
        .await;
    let Routed {
        version,
        part,
        shadow,
    } = match routed {
        Ok(routed) => routed,
        Err(error) => {
            body::drain(body).await;
            return Err(not_resolved(error));
        }
    };
    trace.is_about(version.name.as_str(), version.version.get());
    let asked = Asked {
        target,
        headers: &parts.headers,
        body,
        id: &id,
        trace: &trace,
        priority,
        start,
        shadow,
    };
    let answer = answer(&app, &version, asked).await;
    let mut response = answer.unwrap_or_else(|error| error.into_response(&id));
    name_version(&mut response, &version, part);
    Ok(response)
}

/// A model that is there and does not load is the host's trouble at this hour, not the
/// caller's.
fn not_resolved(error: ModelsError) -> ApiError {
    match error {
        ModelsError::Registry(error) if error.kind() != ErrorKind::Internal => error.into(),
        ModelsError::Registry(_) | ModelsError::Package(_) => ApiError::new(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "not_loaded",
            format!("the model is not loaded: {error}"),
        ),
        error => error.into(),
    }
}

/// A request whose version is known.
struct Asked<'a> {
    target: Target,
    headers: &'a HeaderMap,
    body: Body,
    id: &'a Arc<str>,
    trace: &'a Trace,
    priority: Priority,
    start: Instant,
    /// Who gets a copy.
    shadow: Option<Arc<LoadedVersion>>,
}

/// What a caller is known by: the value of the first header there of those that the operator names, else its request's
/// id, so that every request is on its own.
fn sticky_key<'a>(names: &[String], headers: &'a HeaderMap, id: &'a str) -> &'a [u8] {
    names
        .iter()
        .find_map(|name| headers.get(name))
        .map_or(id.as_bytes(), HeaderValue::as_bytes)
}

/// Before whom the caller wants its networks to run.
fn priority(headers: &HeaderMap) -> Result<Priority, ApiError> {
    let Some(word) = headers.get(PRIORITY) else {
        return Ok(Priority::default());
    };
    let known = |priority: &Priority| {
        word.as_bytes()
            .eq_ignore_ascii_case(priority.name().as_bytes())
    };
    Priority::ALL.into_iter().find(known).ok_or_else(|| {
        let names = Priority::ALL.map(Priority::name).join(", ");
        ApiError::bad_request(
            "invalid_priority",
            format!("the header {PRIORITY} takes one of {names}"),
        )
    })
}

async fn answer(
    app: &App,
    version: &LoadedVersion,
    asked: Asked<'_>,
) -> Result<Response, ApiError> {
    let Asked {
        target,
        headers,
        body,
        id,
        trace,
        priority,
        start,
        shadow,
    } = asked;
    let limit = app.config.max_body_bytes.min(version.request_bytes);
    let mut counted = Counted::new(version, trace);
    let time = app.config.request_timeout;
    let (body, _held) = body::read(headers, body, limit, time, &app.bodies)
        .await
        .inspect_err(|error| {
            count_refusal(version, error);
            counted.end(refused_outcome(error), None);
        })?;
    let arrived = Instant::now();
    let deadline = (start + app.config.request_timeout).min(arrived + version.timeout);
    let mut span = trace.span("admission");
    let admitted = version.admission.enter(deadline).await;
    let _permit = admitted.map_err(|refusal| {
        let error = ApiError::from(refusal);
        span.fail(error.code);
        count_refusal(version, &error);
        counted.end(refused_outcome(&error), Some(arrived.elapsed()));
        error
    })?;
    drop(span);
    let call = Call {
        request_id: Arc::clone(id),
        deadline: Some(deadline),
        priority,
        trace: trace.clone(),
    };
    let prediction = Arc::new(Prediction {
        id: id.to_string(),
        content_type: text(headers.get(header::CONTENT_TYPE)),
        headers: forwarded(headers, &app.config.forward_headers, trace),
        query: target.rest,
        body,
    });
    let copy = shadow.map(|shadow| shadow::send(shadow, &call, &prediction, app.bodies.hold()));
    let Ended {
        result,
        signals,
        refusals,
        instantiate,
    } = version.predictor.predict(&call, prediction).await;
    if let Some(copy) = copy {
        copy.compare_with(&result);
    }
    if let Some(took) = instantiate {
        version.metrics.instantiated(took);
    }
    for (limit, times) in refusals.iter() {
        version.metrics.refused(limit_label(limit), times);
    }
    report(version, id, &signals);
    let (outcome, answer) = match result {
        Ok(Ok(response)) => match to_http(response, app, version, id) {
            Ok(response) => (Outcome::Ok, Ok(response)),
            Err(error) if error.code == "no_room" => {
                count_refusal(version, &error);
                (Outcome::Overloaded, Err(error))
            }
            Err(error) => (Outcome::HandlerError, Err(error)),
        },
        Ok(Err(failure)) => {
            if let Failure::Internal(message) = &failure {
                tracing::error!(
                    model = %version.name,
                    version = version.version.get(),
                    request_id = %id,
                    "the handler reported: {message}"
                );
            }
            let outcome = failure_outcome(&failure);
            let mut error = ApiError::from(failure);
            if outcome == Outcome::Overloaded {
                error = error.retry_after(version.admission.retry_after());
            }
            (outcome, Err(error))
        }
        Err(fault) => {
            if let Some(reason) = trap_reason(&fault) {
                version.metrics.trap(reason);
            }
            (fault_outcome(&fault), Err(ApiError::from(fault)))
        }
    };
    counted.end(outcome, Some(arrived.elapsed()));
    answer
}

/// Which model a request is for, and the query that is left for the handler.
#[derive(Debug, PartialEq)]
struct Target {
    name: ModelName,
    version: Option<Version>,
    rest: Vec<(String, String)>,
}

impl Target {
    fn read(uri: &Uri) -> Result<Target, ApiError> {
        let mut name = None;
        let mut version = None;
        let mut rest = Vec::new();
        let query = uri.query().unwrap_or_default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*key {
                "identifier" => &mut name,
                "version" => &mut version,
                _ => {
                    rest.push((key.into_owned(), value.into_owned()));
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                return Err(ApiError::bad_request(
                    "repeated_parameter",
                    format!("query parameter `{key}` is given twice; give it once"),
                ));
            }
        }
        let Some(name) = name else {
            return Err(ApiError::bad_request(
                "missing_identifier",
                "the query parameter `identifier` names the model: POST /predict?identifier=NAME",
            ));
        };
        Ok(Target {
            name: name.parse().map_err(RegistryError::from)?,
            version: version
                .map(|version| version.parse())
                .transpose()
                .map_err(RegistryError::from)?,
            rest,
        })
    }
}

fn text(value: Option<&HeaderValue>) -> Option<String> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The headers that the operator lets a handler see. Of the trace it sees its own place, not the
/// caller's, if there is one.
fn forwarded(headers: &HeaderMap, names: &[String], trace: &Trace) -> Vec<(String, String)> {
    let mut forwarded = Vec::new();
    for name in names {
        if *name == TRACEPARENT.as_str()
            && let Some(ids) = trace.ids()
        {
            forwarded.push((name.clone(), ids.traceparent()));
            continue;
        }
        for value in headers.get_all(name) {
            if let Some(value) = text(Some(value)) {
                forwarded.push((name.clone(), value));
            }
        }
    }
    forwarded
}

/// The most headers of a handler that are sent. Their bytes are bounded in the sandbox;
/// usual clients read a hundred headers, those of the host among them.
const MAX_HEADERS: usize = 64;

/// The handler's response as HTTP. A content type that cannot be sent, or more headers than
/// are sent, is the handler's error; a header that may not be is left out, with a line in
/// the log.
fn to_http(
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
    ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, code, message)
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
        super::request_id::REQUEST_ID,
        TRACEPARENT,
    ];
    let name_str = name.as_str();
    !HOSTS.contains(name)
        && name_str != "keep-alive"
        && !name_str.starts_with("proxy-")
        && !name_str.starts_with("aegis-")
}

fn name_version(response: &mut Response, version: &LoadedVersion, part: Part) {
    let headers = response.headers_mut();
    if let Ok(name) = HeaderValue::from_str(version.name.as_str()) {
        headers.insert(MODEL, name);
    }
    headers.insert(MODEL_VERSION, HeaderValue::from(version.version.get()));
    headers.insert(TRAFFIC, HeaderValue::from_static(part.name()));
}

/// Safety flags into metrics, and what was signalled into the log.
fn report(version: &LoadedVersion, id: &str, signals: &Signals) {
    for flag in &signals.flags {
        version.metrics.safety_flag(flag);
    }
    if !signals.flags.is_empty() {
        tracing::info!(
            model = %version.name,
            version = version.version.get(),
            request_id = %id,
            flags = ?signals.flags,
            "safety flags"
        );
    }
    if !signals.values.is_empty() {
        tracing::debug!(
            model = %version.name,
            version = version.version.get(),
            request_id = %id,
            values = ?signals.values,
            "values"
        );
    }
}

/// Counts the limit that turned a request away before its handler saw it.
fn count_refusal(version: &LoadedVersion, error: &ApiError) {
    if let Some(limit) = error.limit {
        version.metrics.refused(limit, 1);
    }
}

/// Counts a request's outcome once, and tells its trace; cancelled if its caller goes away first.
struct Counted<'a> {
    version: &'a LoadedVersion,
    trace: &'a Trace,
    ended: bool,
}

impl<'a> Counted<'a> {
    fn new(version: &'a LoadedVersion, trace: &'a Trace) -> Counted<'a> {
        Counted {
            version,
            trace,
            ended: false,
        }
    }

    fn end(&mut self, outcome: Outcome, latency: Option<Duration>) {
        self.ended = true;
        self.trace.ended(outcome);
        self.version
            .metrics
            .request(outcome, latency.unwrap_or_default());
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Outcome::Cancelled, None);
        }
    }
}

fn refused_outcome(error: &ApiError) -> Outcome {
    match error.code {
        "body_too_large" => Outcome::TooLarge,
        "overloaded" | "no_room" => Outcome::Overloaded,
        "timeout" | "request_timeout" => Outcome::Timeout,
        "incomplete_body" => Outcome::Cancelled,
        _ => Outcome::Rejected,
    }
}

fn failure_outcome(failure: &Failure) -> Outcome {
    match failure {
        Failure::InvalidInput(_) => Outcome::InvalidInput,
        Failure::UnsupportedMediaType(_) => Outcome::UnsupportedMediaType,
        Failure::TooLarge(_) => Outcome::TooLarge,
        Failure::Overloaded(_) => Outcome::Overloaded,
        Failure::NotReady(_) => Outcome::NotReady,
        Failure::Timeout(_) => Outcome::Timeout,
        Failure::Internal(_) => Outcome::HandlerError,
    }
}

fn fault_outcome(fault: &Fault) -> Outcome {
    match fault {
        Fault::Trap { .. } => Outcome::Trap,
        Fault::OutOfMemory { .. } => Outcome::OutOfMemory,
        Fault::Timeout { .. } => Outcome::Timeout,
        Fault::NoFreeInstance { .. } | Fault::HostMemory { .. } => Outcome::Overloaded,
        Fault::ResponseTooLarge { .. } | Fault::NoSuchExport { .. } => Outcome::HandlerError,
    }
}

/// The sandbox's word for a trap as the metrics'.
fn trap_reason(fault: &Fault) -> Option<TrapReason> {
    let word = match fault {
        Fault::Trap { reason, .. } => reason.as_str(),
        Fault::OutOfMemory { .. } => TrapReason::MemoryLimit.as_str(),
        Fault::Timeout { .. } => TrapReason::TimeLimit.as_str(),
        _ => return None,
    };
    let known = TrapReason::ALL.iter().find(|known| known.as_str() == word);
    Some(*known.unwrap_or(&TrapReason::Other))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> Result<Target, ApiError> {
        Target::read(&format!("/predict?{query}").parse().unwrap())
    }

    #[test]
    fn the_hosts_parameters_are_taken_and_the_rest_is_the_handlers() {
        let target = read("a=1&identifier=digits&version=3&b=%20x").unwrap();
        assert_eq!(target.name.as_str(), "digits");
        assert_eq!(target.version, Some(Version::new(3).unwrap()));
        let rest = [("a", "1"), ("b", " x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(target.rest, rest);
    }

    #[test]
    fn a_target_that_makes_no_sense_has_its_own_code() {
        for (query, code) in [
            ("", "missing_identifier"),
            ("identifier=", "invalid_model_name"),
            ("identifier=../etc", "invalid_model_name"),
            ("identifier=a&identifier=b", "repeated_parameter"),
            ("identifier=a&version=0", "invalid_version"),
            ("identifier=a&version=latest", "invalid_version"),
        ] {
            assert_eq!(read(query).unwrap_err().code, code, "{query}");
        }
    }

    #[test]
    fn every_trap_reason_of_the_sandbox_is_one_of_the_metrics() {
        for reason in aegis_sandbox::TrapReason::ALL {
            assert!(
                TrapReason::ALL
                    .iter()
                    .any(|known| known.as_str() == reason.as_str()),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn every_limit_of_the_sandbox_is_one_of_the_metrics() {
        for limit in aegis_sandbox::Limit::ALL {
            assert_eq!(limit_label(*limit).as_str(), limit.as_str());
        }
    }

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

    proptest! {
        #[test]
        fn no_query_makes_the_reader_panic(query in "[ -~]{0,80}") {
            if let Ok(uri) = format!("/predict?{query}").parse::<Uri>() {
                let _ = Target::read(&uri);
            }
        }
    }
}
