//! Who swaps versions: uploads one, makes it stable, deletes the one before.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::Kind;
use crate::{
    http::Connection,
    program::{distinct, upload},
};

/// A model's files, of which versions are made.
pub(super) struct Package {
    name: String,
    manifest: String,
    handler: (&'static str, Vec<u8>),
    network: (&'static str, Vec<u8>),
}

impl Package {
    pub(super) fn read(
        folder: &str,
        handler: &'static str,
        network: &'static str,
    ) -> anyhow::Result<Package> {
        let folder = Path::new(folder);
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path)
                .with_context(|| format!("{}; scripts/handlers.sh builds it", path.display()))
        };
        let name = folder.file_name().context("a folder without a name")?;
        Ok(Package {
            name: name.to_string_lossy().into_owned(),
            manifest: String::from_utf8(read("model.toml")?)?,
            handler: (handler, read(handler)?),
            network: (network, read(network)?),
        })
    }

    /// Uploads a version that no other is like; gives its number.
    pub(super) async fn upload(
        &self,
        address: SocketAddr,
        kind: Kind,
        serial: u64,
    ) -> anyhow::Result<u64> {
        #[derive(Deserialize)]
        struct Uploaded {
            version: u64,
        }
        let manifest = self.manifest.replace(
            "timeout_ms = 1500",
            &format!("timeout_ms = {}", 1500 + serial),
        );
        let handler = match kind {
            Kind::Manifest => self.handler.1.clone(),
            Kind::Handler => distinct(&self.handler.1, &serial.to_string()),
        };
        let files = [
            ("model.toml", manifest.into_bytes()),
            (self.handler.0, handler),
            (self.network.0, self.network.1.clone()),
        ];
        let mut connection = Connection::open(address).await?;
        let answer = connection.ask(&upload(&self.name, &files)).await?;
        if answer.status != 201 {
            let body = String::from_utf8_lossy(answer.body);
            bail!("an upload was answered {}: {body}", answer.status);
        }
        let Uploaded { version } = serde_json::from_slice(answer.body)?;
        Ok(version)
    }
}

/// Swaps versions of digits.
pub(super) struct Operator {
    address: SocketAddr,
    kind: Kind,
    package: Package,
}

/// Versions differ by this, whoever uploads them.
static SERIAL: AtomicU64 = AtomicU64::new(0);

impl Operator {
    pub(super) fn new(address: SocketAddr, kind: Kind) -> anyhow::Result<Operator> {
        Ok(Operator {
            address,
            kind,
            package: Package::read("models/digits", "digits.wasm", "digits.onnx")?,
        })
    }

    /// One swap.
    pub(super) async fn swap(&mut self) -> anyhow::Result<()> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let version = self.package.upload(self.address, self.kind, serial).await?;
        self.ask(
            "PUT",
            "/v1/models/digits/traffic",
            &format!("{{\"stable\":{version}}}"),
        )
        .await?;
        if version > 1 {
            let before = format!("/v1/models/digits/versions/{}", version - 1);
            self.ask("DELETE", &before, "").await?;
        }
        Ok(())
    }

    /// Swap after swap; gives how long each took.
    pub(super) async fn until(
        &mut self,
        until: Instant,
        pause_ms: u64,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut swaps = Vec::new();
        while Instant::now() < until {
            let begun = Instant::now();
            self.swap().await?;
            swaps.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        Ok(swaps)
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<()> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = Connection::open(self.address).await?;
        let answer = connection.ask(request.as_bytes()).await?;
        if !(200..300).contains(&answer.status) {
            let body = String::from_utf8_lossy(answer.body);
            bail!("{method} {path} was answered {}: {body}", answer.status);
        }
        Ok(())
    }
}
