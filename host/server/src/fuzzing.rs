//! The inside of a server, for the fuzz targets only: connections without a port, and an
//! upload's way in without what is done with it. Not part of the crate's interface.

use std::sync::Arc;

use aegis_inference::Runtime;
use aegis_registry::{ModelName, Package};
use aegis_telemetry::Telemetry;
use axum::{Router, extract::Request};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    access::{Authenticator, TokenFile, TokenFileError},
    config::ServerConfig,
    http::{Access, App, Routes, receive, router},
    listener::{Connections, Peer},
    models::Models,
};

/// A server that has no port.
pub struct Inside {
    app: Arc<App>,
    connections: Connections,
}

/// What a caller is told of a refused upload.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The stable code.
    pub code: &'static str,
    /// The reason.
    pub message: String,
}

impl Inside {
    /// What [`Server::bind`](crate::Server::bind) makes, but for the ports; as if management
    /// were on loopback.
    pub fn new(
        config: ServerConfig,
        models: Models,
        telemetry: Arc<Telemetry>,
        runtime: Runtime,
    ) -> Result<Inside, TokenFileError> {
        let tokens = match &config.tokens {
            Some(path) => Some(Arc::new(TokenFile::open(path)?) as Arc<dyn Authenticator>),
            None => None,
        };
        let connections = Connections::new(&config);
        let access = Access::new(tokens, false);
        let app = Arc::new(App::new(models, config, telemetry, runtime, access));
        Ok(Inside { app, connections })
    }

    /// All routes.
    pub fn router(&self) -> Router {
        let routes = Routes {
            predictions: true,
            management: true,
        };
        router(&self.app, routes)
    }

    /// Serves one connection to its end, as [`Server::run`](crate::Server::run) does.
    pub async fn serve<S>(&self, router: Router, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let dialogue = self.connections.dialogue(Peer::UNKNOWN, router);
        dialogue.over(stream).await;
    }

    /// Takes an upload's body as the upload route does, up to a complete and checked
    /// package.
    pub async fn receive(&self, name: ModelName, request: Request) -> Result<Package, Refused> {
        receive(&self.app, name, request)
            .await
            .map_err(|error| Refused {
                status: error.status.as_u16(),
                code: error.code,
                message: error.message,
            })
    }

    /// Whether no request is being answered, no upload under way and no body held.
    pub fn is_at_rest(&self) -> bool {
        let places = self.app.config.max_concurrent_uploads;
        self.app.in_flight() == 0
            && self.app.uploads.available_permits() == places
            && self.app.bodies.is_free()
    }
}
