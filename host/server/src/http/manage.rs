//! `/v1/models…`: list, show, compare, delete, and which version answers; `/v1/gc`.
//!
//! Reached without a token on loopback only. A browser reaches loopback too, on behalf of any
//! page, so a request that names an `Origin` is refused: no page manages models. That holds
//! with tokens too, though no page could guess one: nothing needs it otherwise, and a rule
//! without exceptions cannot be got wrong.

use std::{sync::Arc, time::Duration};

use aegis_registry::{
    Canary, Model, ModelName, Registry, RegistryError, RolloutPlan, Shadow, SignatureState, Signer,
    Traffic, TrafficEdit, Version, VersionRecord, Weight,
};
use axum::{
    Json, RequestExt,
    body::Body,
    extract::{Path, Request},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    app::App,
    audit,
    body::{self, SharedBody},
    error::ApiError,
    upload, web_page,
};
use crate::{access::Role, canary::rule::MIN_REQUESTS, listener::Peer, models::ModelStatus};

/// How many models are looked at together: their signatures are in the store.
const AT_ONCE: usize = 16;

/// The largest JSON body of a management call.
const MAX_BODY: usize = 64 << 10;

#[derive(Serialize)]
struct Listing {
    models: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    description: Option<String>,
    traffic: Traffic,
    loaded: bool,
    loaded_versions: Vec<u64>,
    graphs: Vec<ShownGraph>,
    versions: Vec<ShownVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct ShownGraph {
    name: String,
    backend: &'static str,
}

#[derive(Serialize)]
struct ShownVersion {
    version: u64,
    digest: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: time::OffsetDateTime,
    created_by: Option<String>,
    bytes: u64,
    signature: ShownSignature,
    files: Vec<aegis_registry::FileRecord>,
}

/// Whose signature a version has.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum ShownSignature {
    /// It has none, and need not.
    Unsigned,
    /// It has one, and no keys are trusted here.
    NotChecked,
    /// It has one of a key that is trusted here.
    Verified(Signer),
    /// It is not served.
    Refused { reason: String },
    /// The store does not say.
    Unknown { reason: String },
}

/// What is to become of a model's traffic rule. What is left out stays; `null` takes away.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TrafficWish {
    stable: Option<Version>,
    #[serde(deserialize_with = "given")]
    canary: Option<Option<CanaryWish>>,
    #[serde(deserialize_with = "given")]
    fallback: Option<Option<Version>>,
    #[serde(deserialize_with = "given")]
    shadow: Option<Option<Shadow>>,
}

/// A canary with a share that stays, or one that goes on by itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CanaryWish {
    version: Version,
    weight: Option<Weight>,
    steps: Option<Vec<Weight>>,
    every_s: Option<u64>,
    min_requests: Option<u64>,
}

impl TrafficWish {
    fn edit(self) -> Result<TrafficEdit, String> {
        let mut edit = TrafficEdit::default();
        edit.stable = self.stable;
        (edit.fallback, edit.shadow) = (self.fallback, self.shadow);
        match self.canary {
            None => {}
            Some(None) => edit.canary = Some(None),
            Some(Some(wish)) => wish.into_edit(&mut edit)?,
        }
        if edit == TrafficEdit::default() {
            return Err("nothing is to be changed".to_owned());
        }
        Ok(edit)
    }
}

impl CanaryWish {
    fn into_edit(self, edit: &mut TrafficEdit) -> Result<(), String> {
        let version = self.version;
        match (self.weight, self.steps) {
            (Some(weight), None) if self.every_s.or(self.min_requests).is_none() => {
                edit.canary = Some(Some(Canary { version, weight }));
            }
            (None, Some(steps)) => {
                edit.rollout = Some(RolloutPlan {
                    version,
                    steps,
                    every_s: self.every_s.unwrap_or(EVERY_S),
                    min_requests: self.min_requests.unwrap_or(MIN_REQUESTS),
                });
            }
            _ => return Err("a canary has a `weight`, or `steps` by which it goes on".to_owned()),
        }
        Ok(())
    }
}

/// How long a step of a rollout lasts unless its wish says so, in seconds.
const EVERY_S: u64 = 120;

/// Tells `null` from what is left out.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What a change of a rule looks like.
const TRAFFIC_FORM: &str = "wanted is one or more of {\"stable\": N, \"canary\": {\"version\": N, \"weight\": PERCENT} \
     or {\"version\": N, \"steps\": [PERCENT, ...], \"every_s\": N, \"min_requests\": N}, \"shadow\": {\"version\": N, \"weight\": PERCENT}, \"fallback\": N}, null to have none";

/// What a management route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    List,
    Show,
    ShowVersion,
    Upload,
    SetTraffic,
    Rollback,
    DeleteVersion,
    Delete,
    Diff,
    Collect,
}

impl Action {
    /// The word for it in the audit trail.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Show => "show",
            Action::ShowVersion => "show_version",
            Action::Upload => "upload",
            Action::SetTraffic => "set_traffic",
            Action::Rollback => "rollback",
            Action::DeleteVersion => "delete_version",
            Action::Delete => "delete_model",
            Action::Diff => "diff",
            Action::Collect => "collect_garbage",
        }
    }
}

/// The parameters of a management route's path; which are there, the route says.
#[derive(Default, Deserialize)]
struct Names {
    #[serde(default)]
    model: String,
    #[serde(default)]
    version: String,
}

/// One management call, written down when it ends.
pub(crate) async fn manage(
    action: Action,
    app: Arc<App>,
    request: Request,
    id: Arc<str>,
) -> Result<Response, ApiError> {
    let peer = request.extensions().get().copied();
    let mut entry = audit::Entry::begin(action, peer.unwrap_or(Peer::UNKNOWN), &id);
    // Whatever is refused, and wherever: a client that is still sending must get to read why.
    let (parts, body) = request.into_parts();
    let body = SharedBody::new(body);
    let request = Request::from_parts(parts, Body::from_stream(body.clone()));
    let answer = act(action, &app, request, &id, &mut entry).await;
    match &answer {
        Ok(response) => entry.end(response.status(), "ok"),
        Err(error) => {
            entry.end(error.status, error.code);
            body.drain().await;
        }
    }
    answer
}

async fn act(
    action: Action,
    app: &App,
    mut request: Request,
    id: &Arc<str>,
    entry: &mut audit::Entry,
) -> Result<Response, ApiError> {
    let names = match action {
        Action::List | Action::Collect => Ok(Path(Names::default())),
        _ => request.extract_parts::<Path<Names>>().await,
    };
    match &names {
        Ok(Path(names)) => {
            entry.model(&names.model);
            entry.version(&names.version);
        }
        // Escapes that are no UTF-8: as they were sent.
        Err(_) => entry.model(request.uri().path()),
    }
    match app.access.admit(Role::Manage, request.headers()) {
        Ok(who) => entry.who = who,
        Err(denied) => {
            entry.who = denied.who;
            return Err(denied.error);
        }
    }
    web_page::refuse(&request, app.access.asks(Role::Manage))?;
    match action {
        Action::List => return list(app).await,
        Action::Collect => return collect(app, request.uri()).await,
        _ => {}
    }
    let Path(names) =
        names.map_err(|rejection| ApiError::bad_request("invalid_path", rejection.body_text()))?;
    let model = name(&names.model)?;
    match action {
        Action::List => list(app).await,
        Action::Collect => collect(app, request.uri()).await,
        Action::Diff => diff(app, &model, request.uri()).await,
        Action::Show => show(app, &model).await,
        Action::ShowVersion => show_version(app, &model, number(&names.version)?).await,
        Action::Upload => upload::upload(app, model, request, id, entry).await,
        Action::SetTraffic => set_traffic(app, &model, request, entry).await,
        Action::Rollback => {
            let who = entry.name();
            app.models.rollback(&model, who.as_deref()).await?;
            show(app, &model).await
        }
        Action::DeleteVersion => {
            let version = number(&names.version)?;
            let who = entry.name();
            app.models
                .delete_version(&model, version, who.as_deref())
                .await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Action::Delete => {
            let who = entry.name();
            app.models.delete_model(&model, who.as_deref()).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}

fn name(given: &str) -> Result<ModelName, ApiError> {
    given
        .parse()
        .map_err(|error| RegistryError::InvalidName(error).into())
}

fn number(given: &str) -> Result<Version, ApiError> {
    given
        .parse()
        .map_err(|error| RegistryError::InvalidVersion(error).into())
}

async fn list(app: &App) -> Result<Response, ApiError> {
    let listed = app.models.list().await?;
    let looks = listed.into_iter().map(|model| shown(app, model));
    let looks: Vec<_> = looks.collect();
    let models = stream::iter(looks).buffered(AT_ONCE).collect().await;
    Ok(Json(Listing { models }).into_response())
}

async fn show(app: &App, name: &ModelName) -> Result<Response, ApiError> {
    let model = app.models.show(name).await?;
    Ok(Json(shown(app, model).await).into_response())
}

async fn show_version(app: &App, name: &ModelName, version: Version) -> Result<Response, ApiError> {
    let model = app.models.show(name).await?;
    let record = model
        .versions
        .iter()
        .find(|record| record.version == version)
        .ok_or_else(|| RegistryError::VersionNotFound {
            name: name.clone(),
            version,
        })?;
    Ok(Json(shown_version(app, record).await).into_response())
}

/// `?from=N&to=M`: what is different in version M.
async fn diff(app: &App, name: &ModelName, uri: &Uri) -> Result<Response, ApiError> {
    let (mut from, mut to) = (None, None);
    for (key, value) in parameters(uri) {
        match &*key {
            "from" => from = Some(number(&value)?),
            "to" => to = Some(number(&value)?),
            other => return Err(unknown(other, "a diff has `from` and `to`")),
        }
    }
    let (Some(from), Some(to)) = (from, to) else {
        return Err(ApiError::bad_request(
            "invalid_parameter",
            "a diff wants two versions: ?from=N&to=M",
        ));
    };
    Ok(Json(app.models.diff(name, from, to).await?).into_response())
}

/// `?dry_run=true`: what would be collected; and `?grace_s=N`: how young what nobody needs may be
/// and stay.
async fn collect(app: &App, uri: &Uri) -> Result<Response, ApiError> {
    let (mut dry_run, mut grace) = (false, Registry::GRACE);
    for (key, value) in parameters(uri) {
        match (&*key, &*value) {
            ("dry_run", "true" | "1" | "") => dry_run = true,
            ("dry_run", "false" | "0") => dry_run = false,
            ("grace_s", seconds) => {
                let seconds = seconds.parse().map_err(|_| {
                    let words = format!(
                        "grace_s is a number of seconds, not `{}`",
                        seconds.escape_debug()
                    );
                    ApiError::bad_request("invalid_parameter", words)
                })?;
                grace = Duration::from_secs(seconds);
            }
            ("dry_run", other) => {
                let words = format!("dry_run is true or false, not `{}`", other.escape_debug());
                return Err(ApiError::bad_request("invalid_parameter", words));
            }
            (other, _) => return Err(unknown(other, "a collection has `dry_run` and `grace_s`")),
        }
    }
    let collected = app.models.collect(grace, dry_run).await?;
    Ok(Json(collected).into_response())
}

fn parameters(uri: &Uri) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

fn unknown(parameter: &str, right: &str) -> ApiError {
    let words = format!(
        "there is no parameter `{}`; {right}",
        parameter.escape_debug()
    );
    ApiError::bad_request("unknown_parameter", words)
}

async fn set_traffic(
    app: &App,
    name: &ModelName,
    request: Request,
    entry: &mut audit::Entry,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let (bytes, _held) = body::read(
        &parts.headers,
        body,
        MAX_BODY,
        app.config.request_timeout,
        &app.bodies,
    )
    .await?;
    is_json(&parts.headers)?;
    let invalid = |problem: String| {
        let words = format!("{problem}; {TRAFFIC_FORM}");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_traffic", words)
    };
    let wish: TrafficWish = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("the body is not a traffic rule: {error}")))?;
    let edit = wish.edit().map_err(invalid)?;
    if let Some(version) = edit.versions().next() {
        entry.version(version);
    }
    let who = entry.name();
    app.models
        .change_traffic(name, edit, who.as_deref())
        .await?;
    show(app, name).await
}

fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/json");
    if given.trim_start().starts_with("application/json") {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("application/json is wanted here, not {given}"),
    ))
}

/// The query parameter `promote` of an upload.
pub(crate) fn promote_flag(uri: &Uri) -> Result<bool, ApiError> {
    let query = uri.query().unwrap_or_default();
    let mut promote = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        promote = match (&*key, &*value) {
            ("promote", "true" | "1" | "") => true,
            ("promote", "false" | "0") => false,
            ("promote", other) => {
                return Err(ApiError::bad_request(
                    "invalid_parameter",
                    format!("promote is true or false, not `{}`", other.escape_debug()),
                ));
            }
            (other, _) => {
                return Err(ApiError::bad_request(
                    "unknown_parameter",
                    format!(
                        "an upload has no parameter `{}`; it has `promote`",
                        other.escape_debug()
                    ),
                ));
            }
        };
    }
    Ok(promote)
}

async fn shown(app: &App, model: Model) -> Shown {
    let mut versions = Vec::with_capacity(model.versions.len());
    for record in &model.versions {
        versions.push(shown_version(app, record).await);
    }
    let status = app.models.status_of(&model.name);
    let stable = model.traffic.stable;
    let description = model
        .versions
        .iter()
        .find(|record| Some(record.version) == stable)
        .and_then(|record| record.manifest.description.clone());
    let ModelStatus {
        loaded,
        loaded_versions,
        backends,
        error,
        ..
    } = status.unwrap_or_else(|| ModelStatus {
        name: model.name.clone(),
        stable,
        loaded: false,
        state: "unloaded",
        digest: None,
        backends: Vec::new(),
        loaded_versions: Vec::new(),
        circuits: Vec::new(),
        error: None,
    });
    Shown {
        name: model.name.to_string(),
        description,
        traffic: model.traffic,
        loaded,
        loaded_versions: loaded_versions.into_iter().map(Version::get).collect(),
        graphs: backends
            .into_iter()
            .map(|(name, backend)| ShownGraph { name, backend })
            .collect(),
        versions,
        error,
    }
}

async fn shown_version(app: &App, record: &VersionRecord) -> ShownVersion {
    let signature = match app.models.signature(record).await {
        Ok(SignatureState::Unsigned) => ShownSignature::Unsigned,
        Ok(SignatureState::Verified(signer)) => ShownSignature::Verified(signer),
        Ok(SignatureState::Refused(error)) => ShownSignature::Refused {
            reason: error.to_string(),
        },
        Ok(_) => ShownSignature::NotChecked,
        Err(error) => ShownSignature::Unknown {
            reason: error.to_string(),
        },
    };
    ShownVersion {
        signature,
        version: record.version.get(),
        digest: record.digest.to_string(),
        created_at: record.created_at,
        created_by: record.created_by.clone(),
        bytes: record.total_bytes(),
        files: record.files.clone(),
    }
}
