//! A server without a port, for the properties that go through its routes; and time that passes
//! only when everybody waits, so that what ends by a timeout ends at once.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aegis_registry::Registry;
use aegis_server::{
    Models, Runtime, RuntimeConfig, Sandbox, SandboxConfig, ServerConfig, fuzzing::Inside,
};
use aegis_telemetry::Telemetry;
use tempfile::TempDir;

/// A server with a registry of its own.
pub(crate) struct Server {
    pub(crate) inside: Inside,
    pub(crate) models: Models,
    folder: TempDir,
    /// What is on disk when nothing is under way.
    at_rest: BTreeSet<PathBuf>,
}

impl Server {
    pub(crate) fn start(config: ServerConfig) -> Server {
        Server::start_in(tempfile::tempdir().expect("a temporary folder"), config)
    }

    /// A server that asks everybody for a token, which nobody has.
    pub(crate) fn start_guarded(config: ServerConfig) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokens = folder.path().join("tokens");
        let line = format!("manage,predict nobody sha256:{}\n", "5a".repeat(32));
        fs::write(&tokens, line).expect("a tokens file");
        let tokens = Some(tokens);
        Server::start_in(folder, ServerConfig { tokens, ..config })
    }

    fn start_in(folder: TempDir, config: ServerConfig) -> Server {
        // Deep down, so that a path that climbs out is still seen.
        let deep = folder.path().join("a/b/c/d");
        fs::create_dir_all(&deep).expect("a folder");
        let starting = tokio::runtime::Runtime::new().expect("a runtime");
        let (inside, models) = starting.block_on(async {
            let registry = Registry::open_local(deep.join("registry"))
                .await
                .expect("a registry");
            let sandbox = Sandbox::new(SandboxConfig {
                max_instances: 1,
                max_memory_bytes: 1 << 20,
                warm_instances: 0,
                ..SandboxConfig::new(deep.join("code"))
            })
            .expect("a sandbox");
            let runtime = Runtime::new(RuntimeConfig::default());
            let telemetry = Arc::new(Telemetry::new().expect("telemetry"));
            let models = Models::new(
                registry,
                sandbox,
                runtime.clone(),
                Arc::clone(&telemetry),
                &config,
            );
            models.start().await.expect("an empty registry");
            let inside =
                Inside::new(config, models.clone(), telemetry, runtime).expect("a tokens file");
            (inside, models)
        });
        drop(starting);
        let at_rest = tree(folder.path());
        Server {
            inside,
            models,
            folder,
            at_rest,
        }
    }

    /// Sees that nothing is under way and that nothing was left on disk, wherever.
    pub(crate) fn is_as_it_began(&self) {
        assert!(self.inside.is_at_rest(), "something is still under way");
        let now = tree(self.folder.path());
        let left: Vec<_> = now.symmetric_difference(&self.at_rest).collect();
        assert!(left.is_empty(), "left on disk, or lost: {left:?}");
    }
}

/// Runs `work` to its end in a runtime of its own, and what it set going in the background too.
pub(crate) fn to_the_end<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(work)
}

/// Every path under `folder`.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}
