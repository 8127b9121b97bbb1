//! One place to listen: its socket, its loop that accepts, and what is made of an accepted
//! connection. What is served there, and when it ends, is left to `serve.rs`.

use std::{
    convert::Infallible,
    fmt, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::util::MapRequest;

use crate::{config::ServerConfig, first_bytes::FirstBytes, serve::ServerError};

/// How long accepting pauses after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a request comes from; an extension of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Peer {
    /// Of a request that came through no listener.
    pub(crate) const UNKNOWN: Peer =
        Peer(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)));
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What listens to IPv6 and IPv4 sees `::ffff:1.2.3.4`.
        SocketAddr::new(self.0.ip().to_canonical(), self.0.port()).fmt(f)
    }
}

/// A port that was taken.
pub(crate) struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    acceptor: Acceptor,
}

impl Listener {
    /// Takes the port that the setting `--{flag}` names. Connections wait in the system's queue
    /// until they are served.
    pub(crate) async fn bind(
        flag: &'static str,
        listen: SocketAddr,
    ) -> Result<Listener, ServerError> {
        let error = |source| ServerError::Listen {
            flag,
            listen,
            source,
        };
        let socket = TcpListener::bind(listen).await.map_err(error)?;
        let local = socket.local_addr().map_err(error)?;
        Ok(Listener {
            socket,
            local,
            acceptor: Acceptor::Plain,
        })
    }

    /// The address taken, with the port that the system chose if 0 was asked for.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Accepts for ever and serves `router`. A connection is accepted only when there is room
    /// for it: the others wait in the system's queue. Each listener has room of its own, so
    /// that a crowd at one does not shut the other.
    pub(crate) async fn serve(&self, router: Router, connections: &Connections) -> Infallible {
        let room = Arc::new(Semaphore::new(connections.at_once));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                // Nobody closes it.
                return std::future::pending().await;
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    // Answers are small and whole: waiting to fill a packet only delays them.
                    let _ = stream.set_nodelay(true);
                    let (acceptor, router) = (self.acceptor, router.clone());
                    connections.spawn(acceptor, stream, Peer(peer), router, permit);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// What stands between an accepted connection and HTTP. This is the place for TLS: a variant
/// with its configuration, whose `accept` shakes hands, and a stream that is either.
#[derive(Clone, Copy, Debug)]
enum Acceptor {
    /// Nothing.
    Plain,
}

impl Acceptor {
    /// What HTTP is spoken over. Runs in the connection's own task, so a slow handshake holds
    /// up nobody else; the time it may take is to be bounded here.
    async fn accept(
        self,
        stream: TcpStream,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        match self {
            Acceptor::Plain => Ok(stream),
        }
    }
}

/// How connections are spoken with, and all that are open, on whichever listener.
pub(crate) struct Connections {
    builder: Arc<auto::Builder<TokioExecutor>>,
    open: GracefulShutdown,
    at_once: usize,
    first_bytes: Duration,
}

impl Connections {
    pub(crate) fn new(config: &ServerConfig) -> Connections {
        Connections {
            builder: Arc::new(connection_builder(config)),
            open: GracefulShutdown::new(),
            at_once: config.max_connections,
            first_bytes: config.header_read_timeout,
        }
    }

    /// Asks every open connection to end after the request it is at, and waits until they did.
    pub(crate) async fn shutdown(self) {
        self.open.shutdown().await;
    }

    fn spawn(
        &self,
        acceptor: Acceptor,
        stream: TcpStream,
        peer: Peer,
        router: Router,
        permit: OwnedSemaphorePermit,
    ) {
        let dialogue = self.dialogue(peer, router);
        tokio::spawn(async move {
            match acceptor.accept(stream).await {
                Ok(stream) => dialogue.over(stream).await,
                Err(error) => tracing::debug!(%error, "connection not begun"),
            }
            drop(permit);
        });
    }

    /// One connection's, whatever it will be held over.
    pub(crate) fn dialogue(&self, peer: Peer, router: Router) -> Dialogue {
        Dialogue {
            builder: Arc::clone(&self.builder),
            watcher: self.open.watcher(),
            first_bytes: self.first_bytes,
            peer,
            router,
        }
    }
}

/// What is said on one connection.
pub(crate) struct Dialogue {
    builder: Arc<auto::Builder<TokioExecutor>>,
    watcher: Watcher,
    first_bytes: Duration,
    peer: Peer,
    router: Router,
}

impl Dialogue {
    /// Speaks HTTP to the connection's end.
    pub(crate) async fn over(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let peer = self.peer;
        let named = MapRequest::new(self.router, move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request
        });
        let service = TowerToHyperService::new(named);
        let stream = TokioIo::new(FirstBytes::new(stream, self.first_bytes));
        let connection = self.builder.serve_connection(stream, service);
        if let Err(error) = self.watcher.watch(connection.into_owned()).await {
            tracing::debug!(%error, "connection ended");
        }
    }
}

fn connection_builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        // hyper answers 431 when headers do not fit its buffer, which is at least 8 KiB.
        .max_buf_size(config.max_header_bytes.max(8 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(256);
    builder
}
