//! What every route works with, and the router that binds paths to routes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use aegis_inference::Runtime;
use aegis_telemetry::{Telemetry, UNMATCHED_ENDPOINT};
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    response::Response,
    routing::{get, post, put},
};
use tokio::sync::{OnceCell, Semaphore};

use super::{
    access::Access,
    body,
    body_room::BodyRoom,
    error::ApiError,
    health::{self, Backend, Status},
    instrument::{Watched, instrumented},
    manage::{Action, manage},
    predict,
};
use crate::{config::ServerConfig, models::Models};

/// What the routes share.
pub(crate) struct App {
    pub(crate) models: Models,
    pub(crate) config: ServerConfig,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) access: Access,
    runtime: Runtime,
    backends: OnceCell<Vec<Backend>>,
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) bodies: BodyRoom,
    draining: AtomicBool,
    in_flight: AtomicUsize,
}

impl App {
    pub(crate) fn new(
        models: Models,
        config: ServerConfig,
        telemetry: Arc<Telemetry>,
        runtime: Runtime,
        access: Access,
    ) -> App {
        App {
            uploads: Arc::new(Semaphore::new(config.max_concurrent_uploads)),
            bodies: BodyRoom::new(config.max_bodies_bytes),
            runtime,
            backends: OnceCell::new(),
            models,
            config,
            telemetry,
            access,
            draining: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Which backends there are. Found out when first asked, off the executor's threads:
    /// it loads every native library there is, which a server that uses one need not wait
    /// for.
    pub(crate) async fn backends(&self) -> &[Backend] {
        self.backends
            .get_or_init(|| async {
                let runtime = self.runtime.clone();
                let found = tokio::task::spawn_blocking(move || runtime.backends()).await;
                found
                    .unwrap_or_default()
                    .into_iter()
                    .map(Backend::from)
                    .collect()
            })
            .await
    }

    /// From here on the server is not ready.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Requests being answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> Status {
        if self.draining.load(Ordering::Acquire) {
            Status::Draining
        } else if !self.models.started() {
            Status::Loading
        } else if self.config.readiness_check_model
            && self.config.prewarm_model
            && !self.models.all_loaded()
        {
            Status::Degraded
        } else {
            Status::Ready
        }
    }
}

/// A request being answered.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> InFlight<'a> {
        count.fetch_add(1, Ordering::AcqRel);
        InFlight(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The statuses whose series exist at zero from the start, by route.
const PREDICT_STATUSES: &[u16] = &[200, 400, 401, 403, 404, 413, 415, 422, 429, 500, 503, 504];
const MANAGE_STATUSES: &[u16] = &[200, 400, 401, 403, 404, 422, 500];

/// Routes with which no trace begins: those that ask how the server is, and those that are none.
const UNTRACED: [&str; 5] = [
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    UNMATCHED_ENDPOINT,
];

/// Which groups of routes a listener has, beside those that say how the server is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routes {
    pub(crate) predictions: bool,
    pub(crate) management: bool,
}

/// Binds the routes.
pub(crate) fn router(app: &Arc<App>, routes: Routes) -> Router {
    let plain = &[200];
    let health = &[200, 503];
    let mut router = Router::new()
        .route(
            "/health",
            get(route(app, "GET", "/health", health, health::health)),
        )
        .route(
            "/livez",
            get(route(app, "GET", "/livez", plain, health::livez)),
        )
        .route(
            "/readyz",
            get(route(app, "GET", "/readyz", health, health::readyz)),
        )
        .route(
            "/metrics",
            get(route(app, "GET", "/metrics", plain, health::metrics)),
        );
    if routes.predictions {
        let predict = route(app, "POST", "/predict", PREDICT_STATUSES, predict::predict);
        router = router.route("/predict", post(predict));
    }
    if routes.management {
        router = management(app, router);
    }
    router
        .fallback(route(app, "OTHER", UNMATCHED_ENDPOINT, &[404], not_found))
        .method_not_allowed_fallback(route(
            app,
            "OTHER",
            UNMATCHED_ENDPOINT,
            &[404],
            method_not_allowed,
        ))
        // Each route holds its own bodies to its own bounds.
        .layer(DefaultBodyLimit::disable())
}

fn management(app: &Arc<App>, router: Router) -> Router {
    const MODELS: &str = "/v1/models";
    const MODEL: &str = "/v1/models/{model}";
    const VERSIONS: &str = "/v1/models/{model}/versions";
    const VERSION: &str = "/v1/models/{model}/versions/{version}";
    const TRAFFIC: &str = "/v1/models/{model}/traffic";
    const ROLLBACK: &str = "/v1/models/{model}/rollback";
    const DIFF: &str = "/v1/models/{model}/diff";
    const GC: &str = "/v1/gc";
    let on = |method, endpoint, action| {
        route(
            app,
            method,
            endpoint,
            MANAGE_STATUSES,
            move |app, request, id| manage(action, app, request, id),
        )
    };
    router
        .route(MODELS, get(on("GET", MODELS, Action::List)))
        .route(
            MODEL,
            get(on("GET", MODEL, Action::Show)).delete(on("DELETE", MODEL, Action::Delete)),
        )
        .route(VERSIONS, post(on("POST", VERSIONS, Action::Upload)))
        .route(
            VERSION,
            get(on("GET", VERSION, Action::ShowVersion)).delete(on(
                "DELETE",
                VERSION,
                Action::DeleteVersion,
            )),
        )
        .route(TRAFFIC, put(on("PUT", TRAFFIC, Action::SetTraffic)))
        .route(ROLLBACK, post(on("POST", ROLLBACK, Action::Rollback)))
        .route(DIFF, get(on("GET", DIFF, Action::Diff)))
        .route(GC, post(on("POST", GC, Action::Collect)))
}

/// A route's handler: `handle` with what all routes have in common around it.
fn route<F, Fut>(
    app: &Arc<App>,
    method: &str,
    endpoint: &str,
    statuses: &[u16],
    handle: F,
) -> impl Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Clone + Send + Sync + 'static
where
    F: Fn(Arc<App>, Request, Arc<str>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let watched = Watched {
        metrics: app.telemetry.http().endpoint(method, endpoint, statuses),
        endpoint: endpoint.into(),
        begins_traces: !UNTRACED.contains(&endpoint),
    };
    let app = Arc::clone(app);
    move |request| {
        let (app, watched, handle) = (Arc::clone(&app), watched.clone(), handle.clone());
        Box::pin(async move {
            let _in_flight = InFlight::new(&app.in_flight);
            let shared = Arc::clone(&app);
            let tracer = app.telemetry.tracer();
            instrumented(&watched, tracer, request, move |request, id| {
                handle(shared, request, id)
            })
            .await
        })
    }
}

async fn not_found(_app: Arc<App>, request: Request, _id: Arc<str>) -> Result<Response, ApiError> {
    let message = format!(
        "there is nothing at {}; predictions are at POST /predict?identifier=NAME",
        request.uri().path().escape_debug()
    );
    body::drain(request.into_body()).await;
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        "no_such_route",
        message,
    ))
}

async fn method_not_allowed(
    _app: Arc<App>,
    request: Request,
    _id: Arc<str>,
) -> Result<Response, ApiError> {
    let message = format!(
        "{} does not take {}; the header Allow names what it takes",
        request.uri().path().escape_debug(),
        request.method()
    );
    body::drain(request.into_body()).await;
    Err(ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        message,
    ))
}
