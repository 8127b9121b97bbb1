//! The server of the HTTP rows, a process of its own: the real server with every network twice,
//! sandboxed under its name, and natively under its name and `-native`.
//!
//! Both are in one process and run the very same sessions, so memory, code and the sessions'
//! state are the same for both. It is set up as `aegis serve` does by default, but for the
//! number of requests of one model that run at once.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aegis_registry::{ModelName, Registry, UploadLimits};
use aegis_sandbox::{Sandbox, SandboxConfig};
use aegis_server::{Models, Predictor, Server, ServerConfig};
use aegis_telemetry::{LogFormat, Telemetry};
use anyhow::Context as _;

use crate::{
    bare,
    fixture::{FILES, MAX_CONCURRENCY, TIMEOUT_MS},
    native::NativeDigits,
};

/// What to serve.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The folder for everything the server keeps.
    #[arg(long)]
    data: PathBuf,
    /// A package; its folder's name is the model's.
    #[arg(long)]
    package: Vec<PathBuf>,
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
}

/// What a model's native twin is called.
pub(crate) fn native_name(name: &str) -> String {
    format!("{name}-native")
}

/// Serves until standard input ends, and prints the port once it is ready.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // What `aegis serve` logs by default costs what it costs there.
    aegis_telemetry::init_logs(LogFormat::Text, "info")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let runtime = bare::runtime(args.onnxruntime.clone())?;
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        ..ServerConfig::default()
    };
    let registry = Registry::open_local(&args.data).await?;
    let sandbox = Sandbox::new(SandboxConfig::new(args.data.join("code")))?;
    let telemetry = Arc::new(Telemetry::new()?);
    let models = Models::new(
        registry.clone(),
        sandbox,
        runtime.clone(),
        Arc::clone(&telemetry),
        &config,
    );
    for package in &args.package {
        publish(&registry, &models, package)
            .await
            .with_context(|| package.display().to_string())?;
    }
    models.start().await?;
    let server = Server::bind(config, models, telemetry, runtime).await?;
    writeln!(std::io::stdout(), "{}", server.local_addr().port())?;
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // The benchmark closes it, or has died and so has closed it.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    server
        .run(async {
            let _ = end.await;
        })
        .await;
    Ok(())
}

async fn publish(registry: &Registry, models: &Models, folder: &Path) -> anyhow::Result<()> {
    let name: ModelName = folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .parse()?;
    let mut upload = registry
        .begin_upload(name.clone(), UploadLimits::default())
        .await?;
    for file in FILES {
        let bytes = tokio::fs::read(folder.join(file)).await?;
        let mut part = upload.part(file).await?;
        part.write(bytes.into()).await?;
        part.finish().await?;
    }
    models.publish(upload.finish().await?, true, None).await?;
    let graphs = models.graphs(&name);
    let graph = graphs.first().context("the model has no graph")?;
    let timeout = Duration::from_millis(TIMEOUT_MS);
    models.insert_unsandboxed(
        &native_name(name.as_str()).parse()?,
        Predictor::Native(Arc::new(NativeDigits::new(graph.clone(), timeout))),
        MAX_CONCURRENCY,
        timeout,
    );
    Ok(())
}
