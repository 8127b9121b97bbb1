//! Listening, connections and the end: bounded while it serves, and polite when it stops.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aegis_inference::Runtime;
use aegis_telemetry::Telemetry;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};

use crate::{
    config::ServerConfig,
    first_bytes::FirstBytes,
    http::{App, router},
    models::Models,
};

/// A server that has its port and does not serve yet.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    local: SocketAddr,
}

/// Why a server cannot run.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The port is not to be had.
    #[error("cannot listen on {listen}: {source}; choose another address with --listen")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// How stopping went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Requests that were still being answered when the grace period ended.
    pub cut_off: usize,
}

/// How long accepting pauses after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Takes the port. Requests wait in the system's queue until [`Server::run`].
    pub async fn bind(
        config: ServerConfig,
        models: Models,
        telemetry: Arc<Telemetry>,
        runtime: Runtime,
    ) -> Result<Server, ServerError> {
        let listen_error = |source| ServerError::Listen {
            listen: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(listen_error)?;
        let local = listener.local_addr().map_err(listen_error)?;
        Ok(Server {
            app: Arc::new(App::new(models, config, telemetry, runtime)),
            listener,
            local,
        })
    }

    /// The address taken, with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop` ends, then drains: not ready at once, still accepting for the
    /// configured delay, then finishing what is in flight within the grace period.
    pub async fn run(self, stop: impl Future<Output = ()>) -> DrainReport {
        let Server { app, listener, .. } = self;
        let config = app.config.clone();
        let service = TowerToHyperService::new(router(&app));
        let builder = connection_builder(&config);
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(config.max_connections));
        let accepting = accept(&listener, &room, |stream, permit| {
            let connection = builder
                .serve_connection(
                    TokioIo::new(FirstBytes::new(stream, config.header_read_timeout)),
                    service.clone(),
                )
                .into_owned();
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended");
                }
                drop(permit);
            });
        });
        let stopped = async {
            stop.await;
            app.start_draining();
            tracing::info!("stopping: no longer ready");
            let end = Instant::now() + config.grace_period;
            tokio::time::sleep(config.drain_delay.min(config.grace_period)).await;
            end
        };
        let end = tokio::select! {
            () = accepting => Instant::now() + config.grace_period,
            end = stopped => end,
        };
        drop(listener);
        tracing::info!(
            in_flight = app.in_flight(),
            "stopping: finishing what is in flight"
        );
        let cut_off = match tokio::time::timeout_at(end, graceful.shutdown()).await {
            Ok(()) => 0,
            Err(_) => app.in_flight(),
        };
        DrainReport { cut_off }
    }
}

/// Accepts for ever. A connection is accepted only when there is room for it: the others
/// wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    mut serve: impl FnMut(TcpStream, tokio::sync::OwnedSemaphorePermit),
) {
    loop {
        let Ok(permit) = Arc::clone(room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and whole: waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                serve(stream, permit);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
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
