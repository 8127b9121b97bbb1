//! `/health`, `/livez`, `/readyz` and `/metrics`.
//!
//! Alive: the process answers. Ready: every required model is loaded and the server is
//! not draining. `/health` says the same as `/readyz` with the state of every model.

use std::sync::Arc;

use aegis_inference::BackendStatus;
use aegis_telemetry::PROMETHEUS_CONTENT_TYPE;
use axum::{
    Json,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use time::OffsetDateTime;

use crate::follow::StoreStatus;

use super::{app::App, error::ApiError, gzip};
use crate::models::CircuitStatus;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    models: Vec<Model>,
    backends: Vec<Backend>,
    /// Where models are kept. That it is away takes nothing from what is loaded, so it is not
    /// unready.
    store: StoreStatus,
}

#[derive(Serialize)]
struct Model {
    name: String,
    model_version: Option<u64>,
    loaded: bool,
    /// Why: see [`crate::models::ModelStatus::state`].
    state: &'static str,
    /// The backend of the model's first graph; `null` if it is not loaded or has none.
    backend: Option<&'static str>,
    graphs: Vec<Graph>,
    digest: Option<String>,
    /// Of each loaded version that has a breaker, the newest first.
    circuits: Vec<Circuit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Circuit {
    version: u64,
    state: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<CircuitStatus> for Circuit {
    fn from(status: CircuitStatus) -> Circuit {
        Circuit {
            version: status.version.get(),
            state: status.state,
            since: OffsetDateTime::now_utc() - status.lasts,
            why: status.why,
        }
    }
}

#[derive(Serialize)]
struct Graph {
    name: String,
    backend: &'static str,
}

#[derive(Clone, Serialize)]
pub(crate) struct Backend {
    name: &'static str,
    available: bool,
    version: Option<String>,
    detail: String,
}

impl From<BackendStatus> for Backend {
    fn from(status: BackendStatus) -> Backend {
        Backend {
            name: status.kind.name(),
            available: status.available,
            version: status.version,
            detail: status.detail,
        }
    }
}

pub(crate) async fn health(
    app: Arc<App>,
    _request: Request,
    _id: Arc<str>,
) -> Result<Response, ApiError> {
    let models = app
        .models
        .status()
        .into_iter()
        .map(|model| Model {
            backend: model.backends.first().map(|(_, backend)| *backend),
            graphs: model
                .backends
                .into_iter()
                .map(|(name, backend)| Graph { name, backend })
                .collect(),
            name: model.name.to_string(),
            model_version: model.stable.map(|version| version.get()),
            loaded: model.loaded,
            state: model.state,
            digest: model.digest.map(|digest| digest.to_string()),
            circuits: model.circuits.into_iter().map(Circuit::from).collect(),
            error: model.error,
        })
        .collect();
    let status = app.status();
    let body = Health {
        status: status.word(),
        models,
        backends: app.backends().await.to_vec(),
        store: app.models.store_status(),
    };
    Ok((status.code(), Json(body)).into_response())
}

pub(crate) async fn livez(
    _app: Arc<App>,
    _request: Request,
    _id: Arc<str>,
) -> Result<Response, ApiError> {
    Ok("ok\n".into_response())
}

pub(crate) async fn readyz(
    app: Arc<App>,
    _request: Request,
    _id: Arc<str>,
) -> Result<Response, ApiError> {
    let status = app.status();
    Ok((status.code(), format!("{}\n", status.word())).into_response())
}

pub(crate) async fn metrics(
    app: Arc<App>,
    request: Request,
    _id: Arc<str>,
) -> Result<Response, ApiError> {
    let packed = gzip::is_taken(request.headers());
    // With many models it takes milliseconds, and it reads files.
    let telemetry = Arc::clone(&app.telemetry);
    let written = tokio::task::spawn_blocking(move || {
        let text = telemetry.render().map_err(|error| error.to_string())?;
        if packed {
            return gzip::of(&text).map_err(|error| error.to_string());
        }
        Ok(text.into_bytes())
    });
    let written = written.await.map_err(|error| error.to_string());
    let body = written.and_then(|body| body).map_err(|error| {
        tracing::error!(%error, "metrics");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics_failed",
            "the metrics could not be rendered; the log has the reason",
        )
    })?;
    let headers = [
        (header::CONTENT_TYPE, PROMETHEUS_CONTENT_TYPE),
        (header::VARY, "accept-encoding"),
    ];
    let mut response = (headers, body).into_response();
    if packed {
        let coding = HeaderValue::from_static("gzip");
        response
            .headers_mut()
            .insert(header::CONTENT_ENCODING, coding);
    }
    Ok(response)
}

/// How the server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    Loading,
    /// Something that should be loaded is not.
    Degraded,
    Draining,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Ready => "ok",
            Status::Loading => "loading",
            Status::Degraded => "degraded",
            Status::Draining => "draining",
        }
    }

    fn code(self) -> StatusCode {
        match self {
            Status::Ready => StatusCode::OK,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
