//! Raw bytes of a connection through hyper, the router and the routes: the connection always comes
//! to an end by itself, and every answer is one that the API has.
//!
//! The input: one byte, whose low bits say in pieces of which size the bytes arrive (0: all at
//! once) and whose highest whether the server asks for tokens; the bytes. The client then says no
//! more and waits: it is for the server to end it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use aegis_sandbox::{Call, Failure, Problem, Request as Prediction, Response as Answer};
use aegis_server::{NativePredictor, Predictor, ServerConfig};
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::Response,
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{Server, to_the_end};

/// A connection whose client says nothing more is over after this long: HTTP/2's keep-alive and
/// the longest timeout of [`ServerConfig`], a few times over.
const PATIENCE: Duration = Duration::from_secs(300);

/// Small enough for the fuzzer to get over it.
const MAX_BODY: usize = 256;

/// The server, its routes with somebody beside them who sees every answer, and what was seen.
struct Watched {
    server: Server,
    router: Router,
    seen: Arc<Mutex<Vec<Seen>>>,
}

static OPEN: LazyLock<Watched> =
    LazyLock::new(|| watch(Server::start(config()), Predictor::Native(Arc::new(Echo))));

static GUARDED: LazyLock<Watched> = LazyLock::new(|| {
    let nobody = Predictor::Native(Arc::new(NotReached));
    watch(Server::start_guarded(config()), nobody)
});

fn config() -> ServerConfig {
    ServerConfig {
        max_body_bytes: MAX_BODY,
        max_upload_bytes: 1 << 10,
        max_bodies_bytes: 2 << 10,
        ..ServerConfig::default()
    }
}

fn watch(server: Server, predictor: Predictor) -> Watched {
    let time = Duration::from_millis(1500);
    let name = "echo".parse().expect("a name");
    server.models.insert_unsandboxed(&name, predictor, 4, time);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seeing = Arc::clone(&seen);
    let router = server.inside.router().layer(from_fn(move |request, next| {
        see(Arc::clone(&seeing), request, next)
    }));
    Watched {
        server,
        router,
        seen,
    }
}

/// Any bytes on a connection.
pub fn request(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else {
        return;
    };
    let guarded = how & 0x80 != 0;
    let watched = if guarded { &*GUARDED } else { &*OPEN };
    let size = match how & 0x7f {
        0 => bytes.len().max(1),
        size => size.into(),
    };
    let wire = to_the_end(connection(watched, bytes.chunks(size)));
    let seen = std::mem::take(&mut *watched.seen.lock().expect("answers"));
    for answer in &seen {
        is_one_of_ours(answer);
        assert!(!guarded || is_for_all(answer), "{answer:?}");
    }
    is_http(&wire, bytes, seen.len());
    watched.server.is_as_it_began();
}

/// Sends the pieces and reads to the end; gives what came back.
async fn connection(watched: &Watched, pieces: std::slice::Chunks<'_, u8>) -> Vec<u8> {
    let Watched { server, router, .. } = watched;
    let (client, servers) = tokio::io::duplex(64 << 10);
    let (mut reader, mut writer) = tokio::io::split(client);
    let serving = server.inside.serve(router.clone(), servers);
    let sending = async {
        for piece in pieces {
            // A server that has said its last word need not listen.
            if writer.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        // Held until the server is done.
        writer
    };
    let mut wire = Vec::new();
    let all = async { tokio::join!(serving, sending, reader.read_to_end(&mut wire)) };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        panic!("the connection is still there after {PATIENCE:?}");
    }
    wire
}

/// An answer as the router gave it.
#[derive(Debug)]
struct Seen {
    method: Method,
    path: String,
    /// Whether a browser says that the request is a page's.
    of_a_page: bool,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

async fn see(seen: Arc<Mutex<Vec<Seen>>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let of_a_page = request.headers().contains_key(header::ORIGIN);
    let (parts, body) = next.run(request).await.into_parts();
    let body = body.collect().await.expect("bodies are whole").to_bytes();
    seen.lock().expect("answers").push(Seen {
        method,
        path,
        of_a_page,
        status: parts.status,
        headers: parts.headers.clone(),
        body: body.to_vec(),
    });
    Response::from_parts(parts, Body::from(body))
}

/// Whether somebody without a token may be answered so.
fn is_for_all(answer: &Seen) -> bool {
    let open = ["/health", "/livez", "/readyz", "/metrics"].contains(&answer.path.as_str());
    open || answer.status.is_client_error()
}

fn is_one_of_ours(answer: &Seen) {
    let Seen { status, .. } = answer;
    let id = answer.headers.get("x-request-id");
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    assert!((1..=128).contains(&id.len()), "{answer:?}");
    if status.is_success() {
        let page = answer.of_a_page && answer.path.starts_with("/v1/");
        assert!(!page, "a web page manages models: {answer:?}");
        return;
    }
    assert!(status.is_client_error() || status.is_server_error());
    assert_eq!(
        answer.headers.get(header::CONTENT_TYPE),
        Some(&header::HeaderValue::from_static("application/json")),
        "{answer:?}"
    );
    if answer.method == Method::HEAD && answer.body.is_empty() {
        return;
    }
    let shape: Value = serde_json::from_slice(&answer.body).expect("an error is JSON");
    let shape = shape.as_object().expect("an error is an object");
    for (key, value) in shape {
        let known = ["error", "code", "request_id", "field"].contains(&key.as_str());
        assert!(known && value.is_string(), "{answer:?}");
    }
    let text = |key: &str| shape.get(key).and_then(Value::as_str).unwrap_or_default();
    assert!(!text("error").is_empty(), "{answer:?}");
    assert!(text("error").len() < 16 << 10, "{answer:?}");
    assert_eq!(text("request_id"), id);
    let code = text("code");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(!code.is_empty() && code.chars().all(plain), "{answer:?}");
    // The host's own trouble has no place here; the handler's may be made up by the fuzzer.
    let handlers = ["handler_error", "response_too_large"].contains(&code);
    assert!(
        *status != StatusCode::INTERNAL_SERVER_ERROR || handlers,
        "{answer:?}"
    );
}

/// What came back is HTTP/1 if that was spoken; what hyper answers by itself is the client's fault.
fn is_http(wire: &[u8], sent: &[u8], answers: usize) {
    if wire.is_empty() || sent.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
        return;
    }
    let start = String::from_utf8_lossy(wire.get(..12).unwrap_or(wire)).into_owned();
    assert!(
        start.starts_with("HTTP/1.1 ") || start.starts_with("HTTP/1.0 "),
        "{start:?}"
    );
    if answers == 0 {
        let status = start.get(9..).unwrap_or_default();
        assert!(status.starts_with('4') || status == "100", "{start:?}");
    }
}

/// Answers what the request asks for, as a handler could: `type` is the answer's Content-Type,
/// `fail` a refusal, and every other parameter a header.
struct Echo;

impl NativePredictor for Echo {
    fn predict<'a>(
        &'a self,
        call: &'a Call,
        request: &'a Prediction,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + 'a>> {
        Box::pin(async move {
            assert_eq!(*call.request_id, *request.id);
            assert!(request.body.len() <= MAX_BODY);
            let forwarded = ServerConfig::default().forward_headers;
            for (name, _) in &request.headers {
                assert!(forwarded.contains(name), "{name} was let through");
            }
            let mut answer = Answer {
                content_type: request.content_type.clone().unwrap_or_default(),
                headers: Vec::new(),
                body: request.body.clone(),
            };
            for (key, value) in &request.query {
                match key.as_str() {
                    "identifier" | "version" => panic!("{key} is the host's"),
                    "type" => answer.content_type = value.clone(),
                    "fail" => return Err(failure(value)),
                    _ => answer.headers.push((key.clone(), value.clone())),
                }
            }
            Ok(answer)
        })
    }
}

/// What stands behind a door that nobody has the key to.
struct NotReached;

impl NativePredictor for NotReached {
    fn predict<'a>(
        &'a self,
        _call: &'a Call,
        _request: &'a Prediction,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send + 'a>> {
        panic!("a prediction without a token")
    }
}

fn failure(word: &str) -> Failure {
    let words = word.to_owned();
    match word.len() % 7 {
        0 => Failure::Internal(words),
        1 => Failure::InvalidInput(Problem {
            message: words.clone(),
            field: Some(words),
        }),
        2 => Failure::UnsupportedMediaType(words),
        3 => Failure::TooLarge(words),
        4 => Failure::Overloaded(words),
        5 => Failure::NotReady(words),
        _ => Failure::Timeout(words),
    }
}
