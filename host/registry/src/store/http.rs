//! The HTTP client under the clouds' interfaces: hyper, with TLS by rustls and ring, as `kube` has it.
//! The interfaces' own client would be reqwest with TLS, which then every client in the program
//! would set up, the command line's to a server on loopback too.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderValue, USER_AGENT};
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client, connect::HttpConnector as Tcp};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use rustls::crypto::ring;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// How often a call was sent: the interfaces try again by themselves, and an answer does not say after how many attempts
/// it came. Goes along with a call as one of its extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent(Arc<AtomicU32>);

impl Sent {
    /// Whether it was more than once.
    pub(super) fn again(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

/// Makes such clients.
#[derive(Debug)]
pub(super) struct Connector {
    /// How long the head of an answer may take, the request's body included. What comes after it
    /// has bounds of its own (`watched`).
    pub(super) answer: Duration,
}

#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
    answer: Duration,
}

impl HttpConnector for Connector {
    /// Of the options none is read: whether a request is in the clear its URL says, and a URL is so
    /// only where an operator wrote it so, or for a machine's own metadata.
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT.min(self.answer)));
        tcp.set_nodelay(true);
        let connector = tls()?.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let answer = self.answer;
        Ok(HttpClient::new(Service { client, answer }))
    }
}

/// TLS that trusts whom the system trusts.
fn tls() -> object_store::Result<HttpsConnectorBuilder<hyper_rustls::builderstates::WantsSchemes>> {
    let builder = HttpsConnectorBuilder::new();
    match builder.with_provider_and_native_roots(ring::default_provider()) {
        Ok(builder) => Ok(builder),
        Err(error) => {
            // A store in the clear needs none; of the others the first request will fail.
            tracing::warn!(%error, "the system has no certificates; stores that speak TLS cannot be reached");
            let config =
                rustls::ClientConfig::builder_with_provider(ring::default_provider().into())
                    .with_safe_default_protocol_versions()
                    .map_err(|error| object_store::Error::Generic {
                        store: "http",
                        source: Box::new(error),
                    })?
                    .with_root_certificates(rustls::RootCertStore::empty())
                    .with_no_client_auth();
            Ok(HttpsConnectorBuilder::new().with_tls_config(config))
        }
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = HeaderValue::from_static(concat!("aegis/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(agent);
        if let Some(Sent(times)) = request.extensions().get() {
            times.fetch_add(1, Ordering::Relaxed);
        }
        match tokio::time::timeout(self.answer, self.client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer.map(|body| {
                HttpResponseBody::new(body.map_err(|error| HttpError::new(kind(&error), error)))
            })),
            Ok(Err(error)) => Err(HttpError::new(request_kind(&error), error)),
            Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
        }
    }
}

fn request_kind(error: &legacy::Error) -> HttpErrorKind {
    match error.is_connect() {
        true => HttpErrorKind::Connect,
        false => kind(error),
    }
}

/// What sort of failure it is: that decides whether a request is made again.
fn kind(error: &(dyn Error + 'static)) -> HttpErrorKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            if error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
                return HttpErrorKind::Request;
            }
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => HttpErrorKind::Interrupted,
                _ => HttpErrorKind::Unknown,
            };
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}
