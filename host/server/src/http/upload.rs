//! `POST /v1/models/NAME/versions`: a package as multipart/form-data, each part's file name
//! its path in the package, streamed to disk.

use std::sync::Arc;

use aegis_registry::{ModelName, Package, Upload, manifest::EffectiveLimits};
use aegis_sandbox::PrepareReport;
use aegis_telemetry::{Limit, in_this_trace};
use axum::{
    Json,
    extract::{FromRequest, Multipart, Request, multipart::Field},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    app::App,
    audit,
    error::ApiError,
    manage::promote_flag,
    upload_body::{MAX_UNREAD, Unread},
};

#[derive(Serialize)]
struct Uploaded {
    name: String,
    version: u64,
    digest: String,
    /// False if a version of exactly this content was there already.
    created: bool,
    /// Whether this version answers requests now.
    serving: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<Handler>,
    /// The limits that hold for it.
    limits: EffectiveLimits,
    /// What the manifest asks for and does not get.
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Handler {
    compile_ms: f64,
    code_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<aegis_sandbox::SnapshotReport>,
}

impl From<PrepareReport> for Handler {
    fn from(report: PrepareReport) -> Handler {
        Handler {
            compile_ms: report.compile_ms,
            code_bytes: report.code_bytes,
            snapshot: report.snapshot,
        }
    }
}

/// Takes a package and answers 201 with its version, or 200 if that content was a version
/// already. What is refused for a limit is counted: under the model's name if there is such
/// a model, as anyone can make up another.
pub(crate) async fn upload(
    app: &App,
    name: ModelName,
    request: Request,
    id: &Arc<str>,
    entry: &mut audit::Entry,
) -> Result<Response, ApiError> {
    let taken = take(app, name.clone(), request, id, entry).await;
    taken.inspect_err(|error| {
        if let Some(limit) = error.limit {
            let known = app.models.status_of(&name).map(|_| name.as_str());
            app.telemetry.inference().upload_refused(known, limit);
            tracing::warn!(
                model = %name,
                request_id = %id,
                limit = limit.as_str(),
                code = error.code,
                "an upload was refused: {}",
                error.message
            );
        }
    })
}

async fn take(
    app: &App,
    name: ModelName,
    request: Request,
    id: &Arc<str>,
    entry: &mut audit::Entry,
) -> Result<Response, ApiError> {
    let promote = promote_flag(request.uri())?;
    let permit = Arc::clone(&app.uploads).try_acquire_owned().map_err(|_| {
        ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_uploads",
            format!(
                "{} uploads are under way, the most that are taken at once; try again later",
                app.config.max_concurrent_uploads
            ),
        )
        .for_limit(Limit::Uploads)
    })?;
    let package = receive(app, name, request).await?;
    // From here on the caller may go away: a version is checked and stored to the end.
    let (models, who) = (app.models.clone(), entry.name());
    let published = tokio::spawn(in_this_trace(async move {
        let _permit = permit;
        models.publish(package, promote, who).await
    }))
    .await
    .map_err(|error| {
        tracing::error!(%error, request_id = %id, "publishing failed");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "publishing the version failed; the log has the reason under this request id",
        )
    })??;
    let status = if published.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let record = &published.record;
    entry.version(record.version);
    let location = format!("/v1/models/{}/versions/{}", record.name, record.version);
    let body = Uploaded {
        name: record.name.to_string(),
        version: record.version.get(),
        digest: record.digest.to_string(),
        created: published.created,
        serving: published.serving,
        handler: published.handler.map(Handler::from),
        limits: published.limits,
        warnings: published.warnings,
    };
    Ok((status, [(header::LOCATION, location)], Json(body)).into_response())
}

/// Stages the parts of an upload, each as it comes, and checks that they are a package.
pub(crate) async fn receive(
    app: &App,
    name: ModelName,
    request: Request,
) -> Result<Package, ApiError> {
    let unread = Unread::default();
    let request = request.map(|body| unread.of(body));
    let mut multipart = Multipart::from_request(request, &())
        .await
        .map_err(|rejection| {
            ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_multipart",
                format!("a package is uploaded as multipart/form-data: {rejection}"),
            )
        })?;
    let mut upload = app.models.begin_upload(name).await?;
    loop {
        let next = in_time(app, multipart.next_field()).await?;
        let Some(field) = next.map_err(|error| cut_off(&unread, error))? else {
            return Ok(upload.finish().await?);
        };
        unread.read();
        receive_part(app, &mut upload, field, &unread).await?;
    }
}

async fn receive_part(
    app: &App,
    upload: &mut Upload,
    mut field: Field<'_>,
    unread: &Unread,
) -> Result<(), ApiError> {
    let Some(path) = field.file_name().map(str::to_owned) else {
        return Err(ApiError::bad_request(
            "part_without_file_name",
            format!(
                "part `{}` has no file name; each part's file name is its path in the package \
                 (curl -F 'file=@model.toml')",
                field.name().unwrap_or_default().escape_debug()
            ),
        ));
    };
    let mut part = upload.part(&path).await?;
    loop {
        let next = in_time(app, field.chunk()).await?;
        let Some(bytes) = next.map_err(|error| cut_off(unread, error))? else {
            break;
        };
        unread.read();
        part.write(bytes).await?;
    }
    part.finish().await?;
    Ok(())
}

async fn in_time<T>(app: &App, step: impl Future<Output = T>) -> Result<T, ApiError> {
    let idle = app.config.upload_idle_timeout;
    tokio::time::timeout(idle, step).await.map_err(|_| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "upload_stalled",
            format!(
                "nothing arrived for {} ms; nothing was stored, send the whole package again",
                idle.as_millis()
            ),
        )
    })
}

fn cut_off(unread: &Unread, error: axum::extract::multipart::MultipartError) -> ApiError {
    if unread.is_over() {
        return ApiError::bad_request(
            "upload_unreadable",
            format!(
                "{MAX_UNREAD} bytes came without a part or a piece of one: the boundary is not \
                 the one that the content type names, or the headers of a part are too long"
            ),
        );
    }
    ApiError::bad_request(
        "upload_incomplete",
        format!(
            "the upload ended or broke before its end ({}); nothing was stored, send the whole \
             package again",
            error.body_text()
        ),
    )
}
