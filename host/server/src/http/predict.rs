//! `POST /predict?identifier=NAME[&version=N]`: one prediction, from the caller's bytes to the version that answers, and
//! its answer back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_inference::Priority;
use aegis_registry::{ErrorKind, Version};
use aegis_sandbox::Request as Prediction;
use aegis_telemetry::{CircuitState, Trace};
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
    response::Response,
};

use super::{
    app::App,
    attempt::{Asked, Counted, End, Run, count_refusal, refused_outcome},
    body,
    error::ApiError,
    instrument::TRACEPARENT,
    patience::patience,
    target::Target,
};
use crate::{
    access::Role,
    breaker::Passage,
    listener::Peer,
    models::{ModelsError, Routed},
    traffic::Part,
};

const MODEL: HeaderName = HeaderName::from_static("aegis-model");
const MODEL_VERSION: HeaderName = HeaderName::from_static("aegis-model-version");
const TRAFFIC: HeaderName = HeaderName::from_static("aegis-traffic");
const CIRCUIT: HeaderName = HeaderName::from_static("aegis-circuit");
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
    let (target, priority, patience) = match wish(&parts.uri, &parts.headers) {
        Ok(wish) => wish,
        Err(error) => {
            body::drain(body).await;
            return Err(error);
        }
    };
    let inquiry = Inquiry {
        app: &app,
        id: &id,
        trace: &trace,
        headers: &parts.headers,
        key: sticky_key(&app.config.sticky_headers, &parts.headers, &id),
        target,
        priority,
        start,
        time: patience.map_or(app.config.request_timeout, |time| {
            time.min(app.config.request_timeout)
        }),
    };
    let mut routed = match inquiry.route().await {
        Ok(routed) => routed,
        Err(error) => {
            body::drain(body).await;
            let version = error.version();
            let mut response = not_resolved(error).into_response(&id);
            if let Some(version) = version {
                let headers = response.headers_mut();
                headers.insert(MODEL_VERSION, HeaderValue::from(version.get()));
            }
            return Ok(response);
        }
    };
    trace.is_about(routed.version.name.as_str(), routed.version.version.get());
    let answer = inquiry.answer(&mut routed, body).await;
    let mut response = answer.unwrap_or_else(|error| error.into_response(&id));
    name_version(&mut response, &routed);
    Ok(response)
}

/// What a request asks for.
fn wish(uri: &Uri, headers: &HeaderMap) -> Result<(Target, Priority, Option<Duration>), ApiError> {
    Ok((Target::read(uri)?, priority(headers)?, patience(headers)?))
}

/// A model that is there and does not load is the host's trouble at this hour, not the
/// caller's.
fn not_resolved(error: ModelsError) -> ApiError {
    match error {
        ModelsError::Registry(error)
            if !matches!(error.kind(), ErrorKind::Internal | ErrorKind::Unavailable) =>
        {
            error.into()
        }
        ModelsError::Registry(_) | ModelsError::Package(_) => ApiError::new(
            axum::http::StatusCode::SERVICE_UNAVAILABLE,
            "not_loaded",
            format!("the model is not loaded: {error}"),
        ),
        error => error.into(),
    }
}

/// A request whose body is still to come.
struct Inquiry<'a> {
    app: &'a App,
    id: &'a Arc<str>,
    trace: &'a Trace,
    headers: &'a HeaderMap,
    /// What the caller is known by.
    key: &'a [u8],
    target: Target,
    priority: Priority,
    start: Instant,
    /// After which nobody waits for an answer any more, whatever the version's own time.
    time: Duration,
}

impl Inquiry<'_> {
    async fn route(&self) -> Result<Routed, ModelsError> {
        let Target { name, version, .. } = &self.target;
        self.app
            .models
            .route(name, *version, self.key, self.deadline())
            .await
    }

    fn deadline(&self) -> Instant {
        self.start + self.time
    }

    /// The answer of the version that the request was sent to, or of another if that does not let it in any more.
    async fn answer(self, routed: &mut Routed, body: Body) -> Result<Response, ApiError> {
        let mut counted = Counted::new(&routed.version, self.trace);
        let limit = self.app.config.max_body_bytes;
        let (body, _held) = body::read(
            self.headers,
            body,
            limit.min(routed.version.request_bytes),
            self.time,
            &self.app.bodies,
        )
        .await
        .inspect_err(|error| {
            count_refusal(&routed.version, error);
            self.trace.ended(refused_outcome(error));
            counted.end(refused_outcome(error));
        })?;
        let passage = match self.let_in(routed, body.len()).await {
            Ok(passage) => passage,
            Err(error) => {
                counted.waive();
                return Err(error);
            }
        };
        counted.arrives(&routed.version);
        let asked = Asked {
            app: self.app,
            id: self.id,
            trace: self.trace,
            priority: self.priority,
            deadline: self.deadline().min(Instant::now() + routed.version.timeout),
            prediction: Arc::new(Prediction {
                id: self.id.to_string(),
                content_type: text(self.headers.get(header::CONTENT_TYPE)),
                headers: forwarded(self.headers, &self.app.config.forward_headers, self.trace),
                query: self.target.rest,
                body,
            }),
        };
        let shadow = routed.shadow.take();
        let dealt = matches!(routed.part, Part::Stable | Part::Canary);
        let mut run = asked
            .of(&routed.version, dealt, passage, shadow, counted)
            .await;
        if run.end == End::Failed
            && let Some((stand_in, second)) = run_again(&asked, routed).await
        {
            (*routed, run) = (stand_in, second);
        }
        self.trace.ended(run.outcome);
        run.answer
    }

    /// Leave to go in, now that the body is there: a caller who sends it slowly would keep a probe's place from all
    /// others. Whoever lost its place to another probe meanwhile goes where it would be sent now.
    async fn let_in(
        &self,
        routed: &mut Routed,
        body_bytes: usize,
    ) -> Result<Option<Passage>, ApiError> {
        if let Ok(passage) = routed.admit() {
            return Ok(passage);
        }
        *routed = self.route().await.map_err(not_resolved)?;
        if body_bytes > routed.version.request_bytes {
            return Err(body::too_large(routed.version.request_bytes));
        }
        routed
            .admit()
            .map_err(|open| not_resolved(routed.refusal(open)))
    }
}

/// Has the next in line answer a request that a version failed: where that version's manifest says that this is safe,
/// and while there is as much time as the next one takes lately.
async fn run_again(asked: &Asked<'_>, failed: &Routed) -> Option<(Routed, Run)> {
    let (stand_in, passage) = asked.app.models.stand_in(failed, asked.deadline).await?;
    let version = &stand_in.version;
    let left = asked.deadline.saturating_duration_since(Instant::now());
    if left <= version.admission.service() || asked.prediction.body.len() > version.request_bytes {
        return None;
    }
    tracing::warn!(
        model = %version.name,
        version = failed.version.version.get(),
        request_id = %asked.id,
        "the version failed: the request runs again on version {}",
        version.version
    );
    let mut counted = Counted::new(version, asked.trace);
    counted.arrives(version);
    let run = asked.of(version, false, passage, None, counted).await;
    (run.end != End::Refused).then_some((stand_in, run))
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

/// Says who answered, in what part, and whose breakers had a say in it.
fn name_version(response: &mut Response, routed: &Routed) {
    let (version, headers) = (&routed.version, response.headers_mut());
    if let Ok(name) = HeaderValue::from_str(version.name.as_str()) {
        headers.insert(MODEL, name);
    }
    headers.insert(MODEL_VERSION, HeaderValue::from(version.version.get()));
    headers.insert(TRAFFIC, HeaderValue::from_static(routed.part.name()));
    if let Some(circuits) = circuits(&routed.circuits) {
        headers.insert(CIRCUIT, circuits);
    }
}

/// `2 open, 1 half-open`; nothing where all are closed.
fn circuits(circuits: &[(Version, CircuitState)]) -> Option<HeaderValue> {
    if circuits.is_empty() {
        return None;
    }
    let words: Vec<_> = circuits
        .iter()
        .map(|(version, state)| format!("{version} {}", state.name()))
        .collect();
    HeaderValue::try_from(words.join(", ")).ok()
}
