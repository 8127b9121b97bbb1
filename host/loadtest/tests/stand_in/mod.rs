//! A small HTTP server that can also behave as no server should, on a free loopback port. Its thread
//! ends when it is dropped.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the server does with one request.
pub(crate) enum Does {
    /// Answers with this status and body after a while.
    Answers(Duration, u16, Vec<u8>),
    /// Keeps the connection and never answers.
    IsSilent,
    /// Sends a head and half of the body it promised, and closes.
    ClosesMidBody,
    /// Closes without a word.
    Closes,
    /// Sends something else than HTTP.
    Babbles,
}

/// A request as it came.
pub(crate) struct Asked {
    /// Counted from 0.
    pub(crate) number: usize,
    /// First line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn ok() -> Does {
    Does::Answers(Duration::ZERO, 200, b"{}".to_vec())
}

pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    _stop: DropGuard,
}

type Behaviour = dyn Fn(&Asked) -> Does + Send + Sync;

impl StandIn {
    /// On a thread of its own, so that a busy test does not slow it down.
    pub(crate) fn start(behaviour: impl Fn(&Asked) -> Does + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (asked, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        std::thread::spawn({
            let (stop, asked, connections) =
                (stop.clone(), Arc::clone(&asked), Arc::clone(&connections));
            move || {
                let executor = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                executor.block_on(stop.run_until_cancelled(async {
                    let listener = TcpListener::from_std(listener).unwrap();
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        connections.fetch_add(1, Ordering::Relaxed);
                        tokio::spawn(serve(stream, Arc::clone(&behaviour), Arc::clone(&asked)));
                    }
                }));
            }
        });
        Self {
            address,
            asked,
            connections,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, behaviour: Arc<Behaviour>, count: Arc<AtomicUsize>) {
    while let Some((head, body)) = request(&mut stream).await {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let written = match behaviour(&Asked { number, head, body }) {
            Does::IsSilent => std::future::pending().await,
            Does::Closes => return,
            Does::Babbles => stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await,
            Does::ClosesMidBody => {
                let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it";
                let _ = stream.write_all(half).await;
                return;
            }
            Does::Answers(after, status, body) => {
                tokio::time::sleep(after).await;
                let head = format!(
                    "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n\
                     location: /elsewhere\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(&[head.as_bytes(), &body].concat()).await
            }
        };
        if written.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())
        .unwrap_or(0);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}
