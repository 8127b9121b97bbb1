//! `aegis serve`: from checked settings to a running server, and its end.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use aegis_registry::{Registry, TrustedKeys, UploadLimits, manifest::Limits};
use aegis_server::{
    Models, Runtime, RuntimeConfig, Sandbox, SandboxConfig, Server, ServerConfig, access::Role,
};
use aegis_telemetry::{OtlpConfig, RuntimeName, Sampler, Telemetry};
use anyhow::Context as _;
use tokio::{
    io::AsyncReadExt as _,
    signal::unix::{SignalKind, signal},
};

use super::{package::Folder, predict::guess, worker};
use crate::{
    client::print,
    machine,
    settings::{Management, ServeArgs, ServeSettings},
};

/// Exit status when requests were cut off by the end of the grace period.
const CUT_OFF: u8 = 3;

/// How long the end of the process waits for native runs that nobody waits for any more.
const SESSIONS_END: Duration = Duration::from_secs(2);
/// How long the end waits for a collector to take the last of the telemetry.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// How long a thread that did what blocks waits for more of it. A load or an upload leaves megabytes with the allocator of
/// the thread that did it, which go back when that ends; another one is started in some 50 µs.
const BLOCKING_IDLE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let resolved = args.resolve(std::env::vars_os())?;
    for warning in &resolved.warnings {
        writeln!(std::io::stderr(), "aegis: {warning}")?;
    }
    if args.print_config {
        std::io::stdout().write_all(resolved.to_toml().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    crate::allocator::set_up();
    let settings = resolved.settings;
    aegis_telemetry::init_logs(settings.log_format, &settings.log_filter)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if settings.worker_threads > 0 {
        builder.worker_threads(settings.worker_threads);
    }
    builder.enable_all().thread_keep_alive(BLOCKING_IDLE);
    let ended = builder.build()?.block_on(serve(settings));
    if !aegis_server::sessions_ended(SESSIONS_END) {
        tracing::warn!("a network still runs at the end of the process");
    }
    ended
}

async fn serve(settings: ServeSettings) -> anyhow::Result<ExitCode> {
    let config = server_config(&settings);
    let registry = registry(&settings).await?;
    let sandbox = Sandbox::new(sandbox_config(&settings))?;
    let runtime = Runtime::new(RuntimeConfig {
        onnxruntime: settings.onnxruntime.clone(),
        openvino: settings.openvino.clone(),
        search: settings.runtimes.clone(),
        threads: (settings.inference_threads > 0).then_some(settings.inference_threads),
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tracing::info!(
        cores,
        worker_threads = tokio::runtime::Handle::current().metrics().num_workers(),
        inference_threads = runtime.threads(),
        "processors are shared out"
    );
    if runtime.threads() > cores {
        tracing::warn!(
            "networks may compute on {} threads (inference_threads), and there are {cores} cores: runs will be set aside \
             for one another",
            runtime.threads()
        );
    }
    let telemetry = Arc::new(telemetry(&settings)?);
    let executor = tokio::runtime::Handle::current();
    let _executor = telemetry.runtime(RuntimeName::Executor, executor);
    let _lane = sandbox
        .lane()
        .map(|lane| telemetry.runtime(RuntimeName::Lane, lane));
    let models = Models::new(
        registry.clone(),
        sandbox,
        runtime.clone(),
        Arc::clone(&telemetry),
        &config,
    );
    let server = Server::bind(config, models.clone(), Arc::clone(&telemetry), runtime).await?;
    let address = server.local_addr();
    tracing::info!("listening on http://{address}");
    if let Some(admin) = server.admin_addr() {
        tracing::info!("management on http://{admin}");
    }
    let with_token = server.asks(Role::Predict);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (failed, start_failed) = tokio::sync::oneshot::channel();
    let starting = tokio::spawn(async move {
        if let Err(error) = start(&registry, &models, &settings.models, address, with_token).await {
            let _ = failed.send(error);
        }
    });
    let mut startup_error = None;
    let report = server
        .run(async {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM"),
                _ = interrupt.recv() => tracing::info!("SIGINT"),
                Ok(error) = start_failed => startup_error = Some(error),
            }
        })
        .await;
    starting.abort();
    let _ = tokio::task::spawn_blocking(move || telemetry.stop_export(LAST_EXPORT)).await;
    if let Some(error) = startup_error {
        return Err(error);
    }
    if report.cut_off > 0 {
        tracing::warn!(requests = report.cut_off, "stopped; requests were cut off");
        return Ok(ExitCode::from(CUT_OFF));
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The models' place: the data folder, or what the settings say. What is laid out of a place
/// elsewhere is in the data folder all the same.
async fn registry(settings: &ServeSettings) -> anyhow::Result<Registry> {
    let registry = match &settings.store {
        None => Registry::open_local(&settings.data)
            .await
            .with_context(|| format!("the data folder {}", settings.data.display()))?,
        Some(place) => {
            tracing::info!("models are kept in {place}");
            let variables: Vec<_> = std::env::vars_os()
                .filter_map(|(key, value)| {
                    Some((key.into_string().ok()?, value.into_string().ok()?))
                })
                .collect();
            Registry::open_at(
                place,
                settings.data.join("work"),
                &variables,
                settings.store_timeout,
            )
            .await
            .with_context(|| format!("the store {place}"))?
        }
    };
    let registry = registry.with_local_bytes(settings.local_models.bytes());
    if settings.trusted_keys.is_empty() {
        return Ok(registry);
    }
    let keys = TrustedKeys::read(&settings.trusted_keys).context("trusted_keys")?;
    for signer in keys.signers() {
        tracing::info!(
            key = signer.key,
            "packages signed by {} are taken",
            signer.name
        );
    }
    Ok(registry.with_trusted_keys(keys))
}

/// Publishes the packages named in the settings, loads what the registry has, and says how
/// to try it.
async fn start(
    registry: &Registry,
    models: &Models,
    folders: &[PathBuf],
    address: SocketAddr,
    with_token: bool,
) -> anyhow::Result<()> {
    let mut packages = Vec::new();
    for folder in folders {
        packages.extend(Folder::find(folder)?);
    }
    for package in &packages {
        publish(registry, models, package)
            .await
            .with_context(|| format!("serving {}", package.display()))?;
    }
    models.start().await?;
    print(&ready_lines(models, &packages, address, with_token))
}

/// Makes the package in `path` the version that answers, as `aegis push --promote` would. A
/// package that was there already costs no new version.
async fn publish(registry: &Registry, models: &Models, path: &Path) -> anyhow::Result<()> {
    let folder = Folder::read(path)?;
    let mut upload = registry
        .begin_upload(folder.manifest.name.clone(), UploadLimits::default())
        .await?;
    for (name, file) in folder.files() {
        let mut file = tokio::fs::File::open(file).await?;
        let mut part = upload.part(&name).await?;
        loop {
            let mut bytes = bytes::BytesMut::with_capacity(256 << 10);
            if file.read_buf(&mut bytes).await? == 0 {
                break;
            }
            part.write(bytes.freeze()).await?;
        }
        part.finish().await?;
    }
    let package = upload.finish().await?;
    models
        .publish(package, true, Some("serve".to_owned()))
        .await?;
    Ok(())
}

/// What to read when the server is ready: its models, and for packages with a `samples`
/// folder a line to try for each of its first samples.
fn ready_lines(
    models: &Models,
    packages: &[PathBuf],
    address: SocketAddr,
    with_token: bool,
) -> String {
    let mut lines = vec![format!("ready on http://{address}")];
    for model in models.status() {
        let backends: Vec<_> = model.backends.iter().map(|(_, backend)| *backend).collect();
        let version = model
            .stable
            .map_or_else(|| "-".to_owned(), |version| version.to_string());
        let state = match &model.error {
            Some(error) => format!("not loaded: {error}"),
            None if !model.loaded => "loaded when it is asked for".to_owned(),
            None => backends.join(", "),
        };
        lines.push(format!("  {} version {version} ({state})", model.name));
    }
    let tries: Vec<String> = packages
        .iter()
        .flat_map(|package| tries(package, address, with_token))
        .collect();
    if !tries.is_empty() {
        lines.push("try:".to_owned());
        lines.extend(tries);
    }
    lines.join("\n")
}

/// How many samples of each package are shown.
const SAMPLES: usize = 2;

fn tries(package: &Path, address: SocketAddr, with_token: bool) -> Vec<String> {
    let token = if with_token {
        "-H \"authorization: Bearer $AEGIS_TOKEN\" "
    } else {
        ""
    };
    let Ok(folder) = Folder::read(package) else {
        return Vec::new();
    };
    folder
        .samples()
        .iter()
        .take(SAMPLES)
        .map(|sample| {
            let body = std::fs::read(sample).unwrap_or_default();
            format!(
                "  curl {token}-H 'content-type: {}' --data-binary @{} 'http://{address}/predict?identifier={}'",
                guess(Some(sample), &body),
                sample.display(),
                folder.manifest.name
            )
        })
        .collect()
}

/// The instruments, and where what they tell is sent.
fn telemetry(settings: &ServeSettings) -> anyhow::Result<Telemetry> {
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(Telemetry::new()?);
    };
    tracing::info!(
        protocol = ?settings.otlp_protocol,
        sampler = %settings.trace_sampler,
        "metrics and traces go to {endpoint}"
    );
    let config = OtlpConfig {
        endpoint: endpoint.clone(),
        protocol: settings.otlp_protocol,
        headers: settings.otlp_headers.clone(),
        timeout: settings.otlp_timeout,
        interval: settings.otlp_interval,
        service_name: settings.otlp_service_name.clone(),
        sampler: Sampler::new(settings.trace_sampler, settings.trace_ratio),
    };
    Ok(Telemetry::with_otlp(config)?)
}

fn server_config(settings: &ServeSettings) -> ServerConfig {
    ServerConfig {
        listen: settings.listen,
        management: settings.management == Management::On,
        admin_listen: settings.admin_listen,
        tokens: settings.tokens.clone(),
        ceilings: ceilings(settings),
        allow_graph_bytes: settings.allow_graph_bytes,
        memory_budget: Some(settings.memory_budget.bytes()).filter(|bytes| *bytes > 0),
        prewarm_model: settings.prewarm_model,
        store_poll: settings.store_poll,
        readiness_check_model: settings.readiness_check_model,
        max_body_bytes: settings.max_body.bytes() as usize,
        max_bodies_bytes: settings.max_bodies.bytes() as usize,
        max_upload_bytes: settings.max_upload.bytes(),
        max_concurrent_uploads: settings.max_concurrent_uploads,
        request_timeout: settings.request_timeout,
        upload_idle_timeout: settings.upload_idle_timeout,
        header_read_timeout: settings.header_read_timeout,
        max_header_bytes: settings.max_header.bytes() as usize,
        max_connections: settings.max_connections,
        grace_period: settings.grace_period,
        drain_delay: settings.drain_delay,
        forward_headers: settings.forward_headers.clone(),
        sticky_headers: settings.sticky_headers.clone(),
        give_back: Some(crate::allocator::give_back),
    }
}

/// The operator's ceilings. Three have settings of their own beside `ceilings`; the lower holds.
pub(crate) fn ceilings(settings: &ServeSettings) -> Limits {
    let lower = |ceiling: Option<u32>, setting: usize| {
        let setting = u32::try_from(setting).unwrap_or(u32::MAX);
        Some(ceiling.map_or(setting, |ceiling| ceiling.min(setting)))
    };
    let given = settings.ceilings;
    Limits {
        memory_mib: lower(
            given.memory_mib,
            (settings.max_memory.bytes() >> 20) as usize,
        ),
        max_concurrency: lower(given.max_concurrency, settings.predict_max_concurrency),
        max_queue: lower(given.max_queue, settings.predict_max_queue),
        ..given
    }
}

/// What all guests may hold together: what is set, or three quarters of what there is.
fn guest_memory(settings: &ServeSettings) -> usize {
    let bytes = match settings.guest_memory.bytes() {
        0 => machine::memory().map_or(u64::MAX, |bytes| bytes / 4 * 3),
        set => set,
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn sandbox_config(settings: &ServeSettings) -> SandboxConfig {
    SandboxConfig {
        cache_dir: settings.data.join("code"),
        max_instances: u32::try_from(settings.max_instances).unwrap_or(u32::MAX),
        max_memory_bytes: settings.max_memory.bytes() as usize,
        guest_memory_bytes: guest_memory(settings),
        warm_instances: settings.warm_instances,
        warm_idle: settings.warm_idle,
        max_stack_bytes: settings.max_stack.bytes() as usize,
        cache_bytes: settings.code_cache.bytes(),
        worker: settings.isolate_uploads.then(worker::command),
    }
}
