//! The wire between servers and a store that is spoken to over HTTP: all goes through, until a test orders otherwise.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use reqwest::Client;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::Server;

/// What becomes of a request to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The connection ends, and the store has not heard of it.
    Lost,
    /// The store does it, and the connection ends before the answer.
    AnswerLost,
    /// As `Lost`, and the connection ends by a reset: who asked cannot know whether anybody has heard of it.
    Reset,
    /// As `AnswerLost`, by a reset.
    AnswerReset,
    /// 500, and the store has not heard of it.
    Refused,
    /// Nothing happens until other orders come, and then the connection ends.
    Silence,
    /// Nothing happens for longer than anybody waits, and the store has not heard of it.
    Stalled,
    /// The store does it, and its answer does not come.
    AnswerStalled,
    /// The store does it, and its answer stops in the middle.
    StopsHalfway,
    /// The store does it, and its answer ends in the middle of what it announces.
    EndsHalfway,
}

impl Fate {
    /// Whether it makes a difference for who only reads.
    fn meets_reads(self) -> bool {
        use Fate::{EndsHalfway, Lost, Reset, Stalled, StopsHalfway};
        [Lost, Reset, Stalled, StopsHalfway, EndsHalfway].contains(&self)
    }
}

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(600);

/// What a test wants done.
#[derive(Default)]
enum Orders {
    #[default]
    AllPass,
    All(Fate),
    /// The request after so many others; who asked is killed at the moment.
    One {
        before: usize,
        fate: Fate,
        victim: Option<Arc<Server>>,
    },
}

/// A store's door. Ended with this value.
pub(crate) struct StoreWire {
    address: String,
    store: String,
    client: Client,
    orders: Arc<Mutex<Orders>>,
    asked: Arc<AtomicUsize>,
    _door: JoinSet<()>,
}

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

fn whole(bytes: Bytes) -> UnsyncBoxBody<Bytes, io::Error> {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn ended() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl StoreWire {
    /// Stands before the store that these variables lead to.
    pub(crate) async fn before(variables: &[(String, String)]) -> StoreWire {
        let (_, store) = variables.iter().find(|(name, _)| name == ENDPOINT).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (orders, client) = (Arc::default(), Client::new());
        let asked = Arc::default();
        let door = Door {
            store: store.clone(),
            client: client.clone(),
            orders: Arc::clone(&orders),
            asked: Arc::clone(&asked),
        };
        let mut task = JoinSet::new();
        task.spawn(door.keep(listener));
        StoreWire {
            address,
            store: store.clone(),
            client,
            orders,
            asked,
            _door: task,
        }
    }

    /// The same variables, leading here.
    pub(crate) fn variables(&self, of_store: Vec<(String, String)>) -> Vec<(String, String)> {
        let here = |(name, value): (String, String)| {
            let value = match name == ENDPOINT {
                true => self.address.clone(),
                false => value,
            };
            (name, value)
        };
        of_store.into_iter().map(here).collect()
    }

    /// What the store itself has under a key, or what it lists: whatever is ordered, this goes through.
    pub(crate) async fn object(&self, key: &str) -> String {
        let request = self.client.get(format!("{}/models/{key}", self.store));
        // moto wants a signature, and does not look whether it is one.
        let answer = request.header(AUTHORIZATION, SIGNED).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    /// How many requests have come.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Every request from now on.
    pub(crate) fn all(&self, fate: Fate) {
        *self.orders.lock().unwrap() = Orders::All(fate);
    }

    /// One request from now on, after so many others, and those after it pass again. With a victim, that is killed when
    /// the request comes or, where the store is to do it, when it is done. Where what the store does makes the
    /// difference, only requests that change it count.
    pub(crate) fn one(&self, before: usize, fate: Fate, victim: Option<Arc<Server>>) {
        *self.orders.lock().unwrap() = Orders::One {
            before,
            fate,
            victim,
        };
    }

    /// All goes through again. Whether what was ordered of one request came to pass.
    pub(crate) fn restore(&self) -> bool {
        let orders = std::mem::take(&mut *self.orders.lock().unwrap());
        !matches!(orders, Orders::One { .. })
    }
}

const ENDPOINT: &str = "AWS_ENDPOINT_URL";

const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

#[derive(Clone)]
struct Door {
    store: String,
    client: Client,
    orders: Arc<Mutex<Orders>>,
    asked: Arc<AtomicUsize>,
}

impl Door {
    async fn keep(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            let door = self.clone();
            connections.spawn(async move {
                // The same connection once more, as hyper keeps the first to itself.
                let connection = connection.into_std().unwrap();
                let twin = TcpStream::from_std(connection.try_clone().unwrap()).unwrap();
                let connection = TcpStream::from_std(connection).unwrap();
                let answer = service_fn(|request| door.answer(request, &twin));
                let connection = TokioIo::new(connection);
                // Its end by an error is what is ordered, or what its other end did.
                let _ = http1::Builder::new()
                    .serve_connection(connection, answer)
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
    }

    /// What is ordered for this request, and who dies of it.
    fn ordered(&self, method: &Method) -> (Option<Fate>, Option<Arc<Server>>) {
        let reads = [Method::GET, Method::HEAD].contains(method);
        let mut orders = self.orders.lock().unwrap();
        match &mut *orders {
            Orders::AllPass => (None, None),
            Orders::All(fate) => (Some(*fate), None),
            Orders::One { fate, .. } if reads && !fate.meets_reads() => (None, None),
            Orders::One { before: 0, .. } => match std::mem::take(&mut *orders) {
                Orders::One { fate, victim, .. } => (Some(fate), victim),
                _ => (None, None),
            },
            Orders::One { before, .. } => {
                *before -= 1;
                (None, None)
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, on: &TcpStream) -> io::Result<Answer> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (fate, victim) = self.ordered(request.method());
        let kill = || victim.iter().for_each(|victim| victim.kill());
        if let Some(Fate::Reset | Fate::AnswerReset) = fate {
            on.set_zero_linger()?;
        }
        match fate {
            None => self.pass_on(request).await,
            Some(Fate::Lost | Fate::Reset) => {
                kill();
                Err(ended())
            }
            Some(Fate::AnswerLost | Fate::AnswerReset) => {
                self.pass_on(request).await?;
                kill();
                Err(ended())
            }
            Some(Fate::Refused) => {
                let mut answer = Response::new(whole(Bytes::new()));
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                Ok(answer)
            }
            Some(Fate::Stalled | Fate::AnswerStalled) => {
                if fate == Some(Fate::AnswerStalled) {
                    self.pass_on(request).await?;
                }
                tokio::time::sleep(FOR_EVER).await;
                Err(ended())
            }
            Some(Fate::StopsHalfway) => {
                let never = async {
                    tokio::time::sleep(FOR_EVER).await;
                    Err(ended())
                };
                half(self.pass_on(request).await?, never).await
            }
            Some(Fate::EndsHalfway) => {
                half(self.pass_on(request).await?, async { Err(ended()) }).await
            }
            Some(Fate::Silence) => {
                while matches!(*self.orders.lock().unwrap(), Orders::All(Fate::Silence)) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(ended())
            }
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        headers.remove(HOST);
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let passed_on = self
            .client
            .request(head.method, format!("{}{}", self.store, head.uri))
            .headers(headers)
            .body(body);
        let theirs = passed_on.send().await.map_err(io::Error::other)?;
        let (status, mut headers) = (theirs.status(), theirs.headers().clone());
        headers.remove(CONNECTION);
        headers.remove(TRANSFER_ENCODING);
        let body = theirs.bytes().await.map_err(io::Error::other)?;
        let mut answer = Response::new(whole(body));
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }
}

/// An answer's first half, and then what becomes of the rest. An empty one announces something.
async fn half(
    answer: Answer,
    rest: impl Future<Output = io::Result<Frame<Bytes>>> + Send + 'static,
) -> io::Result<Answer> {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    let announced = body.len().max(2);
    head.headers.insert(CONTENT_LENGTH, announced.into());
    let first = body.slice(..body.len() / 2);
    let pieces = stream::iter([Ok(Frame::data(first))]).chain(stream::once(rest));
    Ok(Response::from_parts(
        head,
        StreamBody::new(pieces).boxed_unsync(),
    ))
}
