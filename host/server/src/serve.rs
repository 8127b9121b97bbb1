//! A server's life: it takes its ports, serves until it is told to stop, and drains.

use std::{io, net::SocketAddr, sync::Arc};

use aegis_inference::Runtime;
use aegis_telemetry::Telemetry;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    access::{Authenticator, Role, TokenFile, TokenFileError},
    canary::driver::drive,
    config::ServerConfig,
    http::{Access, App, Routes, router},
    listener::{Connections, Listener},
    models::Models,
};

/// A server that has its ports and does not serve yet.
pub struct Server {
    app: Arc<App>,
    main: Listener,
    /// The management routes' own, if they have one.
    admin: Option<Listener>,
    tokens: Option<Arc<TokenFile>>,
}

/// Why a server cannot run.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The port is not to be had.
    #[error("cannot listen on {listen}: {source}; choose another address with --{flag}")]
    Listen {
        /// The setting that named it.
        flag: &'static str,
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The tokens file cannot be used.
    #[error("the tokens file {0}")]
    Tokens(#[from] TokenFileError),
}

/// How stopping went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Requests that were still being answered when the grace period ended.
    pub cut_off: usize,
}

impl Server {
    /// Takes the ports. Requests wait in the system's queue until [`Server::run`].
    pub async fn bind(
        config: ServerConfig,
        models: Models,
        telemetry: Arc<Telemetry>,
        runtime: Runtime,
    ) -> Result<Server, ServerError> {
        let tokens = match &config.tokens {
            Some(path) => Some(Arc::new(TokenFile::open(path)?)),
            None => None,
        };
        let main = Listener::bind("listen", config.listen).await?;
        let admin = match config.admin_listen.filter(|_| config.management) {
            Some(listen) => Some(Listener::bind("admin-listen", listen).await?),
            None => None,
        };
        let managed_at = admin.as_ref().unwrap_or(&main).local_addr();
        let authenticator = tokens
            .clone()
            .map(|tokens| tokens as Arc<dyn Authenticator>);
        let access = Access::new(authenticator, !managed_at.ip().is_loopback());
        Ok(Server {
            app: Arc::new(App::new(models, config, telemetry, runtime, access)),
            main,
            admin,
            tokens,
        })
    }

    /// The address taken, with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.main.local_addr()
    }

    /// The address taken for the management routes alone, if they have one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Listener::local_addr)
    }

    /// Whether a token is asked of those who want what `role` allows.
    pub fn asks(&self, role: Role) -> bool {
        self.app.access.asks(role)
    }

    /// Serves until `stop` ends, then drains: not ready at once, still accepting for the
    /// configured delay, then finishing what is in flight within the grace period.
    pub async fn run(self, stop: impl Future<Output = ()>) -> DrainReport {
        let Server {
            app,
            main,
            admin,
            tokens,
        } = self;
        let connections = Connections::new(&app.config);
        let routes = Routes {
            predictions: true,
            management: app.config.management && admin.is_none(),
        };
        let main_served = main.serve(router(&app, routes), &connections);
        let admin_served = async {
            let Some(admin) = &admin else {
                return std::future::pending().await;
            };
            let routes = Routes {
                predictions: false,
                management: true,
            };
            admin.serve(router(&app, routes), &connections).await
        };
        let tokens_watched = async {
            match tokens {
                Some(tokens) => tokens.watch().await,
                None => std::future::pending().await,
            }
        };
        let (models, poll) = (app.models.clone(), app.config.store_poll);
        // A task of its own: loading what others promoted must not hold up connections.
        let following = tokio::spawn(async move { models.follow(poll).await });
        let driving = tokio::spawn(drive(app.models.clone()));
        let stopped = async {
            stop.await;
            app.start_draining();
            tracing::info!("stopping: no longer ready");
            let end = Instant::now() + app.config.grace_period;
            tokio::time::sleep(app.config.drain_delay.min(app.config.grace_period)).await;
            end
        };
        let end = tokio::select! {
            never = main_served => match never {},
            never = admin_served => match never {},
            never = tokens_watched => match never {},
            end = stopped => end,
        };
        following.abort();
        driving.abort();
        drop((main, admin));
        tracing::info!(
            in_flight = app.in_flight(),
            "stopping: finishing what is in flight"
        );
        let cut_off = match tokio::time::timeout_at(end, connections.shutdown()).await {
            Ok(()) => 0,
            Err(_) => app.in_flight(),
        };
        DrainReport { cut_off }
    }
}
