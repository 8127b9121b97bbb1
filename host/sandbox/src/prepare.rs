//! From a component's bytes to native code in the cache, at upload, with every reason for
//! which an upload is refused; and from the cache to a [`Handler`], at load.

use std::{collections::BTreeMap, time::Instant};

use aegis_telemetry::doing_in_this_trace;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use wasmtime::{
    Engine,
    component::{Component, InstancePre},
};

use crate::{
    code_cache::CodeId,
    component::Exports,
    engine::Sandbox,
    fault::{Fault, TrapReason, classify},
    handler::{Handler, HandlerContext, HandlerSpec},
    instance::{self, ExportIndices, GuestState},
    limits::Limits,
    make::{Made, make},
    parts,
    refusals::Limit,
    text::cut,
    worker::compile,
};

/// The longest words of wasmtime that an error quotes, in bytes.
const MAX_MESSAGE: usize = 2 << 10;

/// What `lifecycle.init` may use beside what it always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum InitGrant {
    /// `wasi:random`: what is drawn is frozen into every instance.
    SecureRandom,
    /// `wasi:clocks`: so is the time that is read.
    WallClock,
}

/// What shapes a handler's preparation, beside its bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PrepareSpec {
    /// The model's name, for logs.
    pub model: String,
    /// The limits that `init` and the first instance run under.
    pub limits: Limits,
    /// What `init` reads through `wasi:config`.
    pub config: BTreeMap<String, String>,
    /// What `init` may use beside the usual.
    pub init_grants: Vec<InitGrant>,
}

/// What preparation did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PrepareReport {
    /// Time to compile to native code, in milliseconds, when it was made.
    pub compile_ms: f64,
    /// Size of the native code, in bytes.
    pub code_bytes: u64,
    /// The snapshot, if the handler exports `lifecycle`.
    pub snapshot: Option<SnapshotReport>,
    /// Whether the code was there already.
    #[serde(skip)]
    pub cached: bool,
}

/// What running `lifecycle.init` once gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// Time `init` ran for, in milliseconds: what no request pays.
    pub init_ms: f64,
    /// Size of the component as uploaded, in bytes.
    pub before_bytes: u64,
    /// Size with its initialised memory, in bytes.
    pub after_bytes: u64,
}

/// Why a component is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrepareError {
    /// Not WebAssembly at all.
    #[error(
        "the handler is not WebAssembly but {found}; a WASI component is wanted (cargo build --target wasm32-wasip2)"
    )]
    NotWasm {
        /// What it looks like.
        found: String,
    },
    /// A core module.
    #[error(
        "the handler is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Not valid WebAssembly.
    #[error("the handler is not valid WebAssembly: {message}")]
    Invalid {
        /// The validator's words, with the offset.
        message: String,
    },
    /// A component for something else.
    #[error(
        "the handler exports neither aegis:inference/predict@0.1.0 nor aegis:inference/infer@0.1.0; it exports {}",
        if found.is_empty() { "nothing".to_owned() } else { list(found) }
    )]
    MissingExport {
        /// What it does export.
        found: Vec<String>,
    },
    /// Imports that no handler is granted.
    #[error("the handler imports what is not granted here: {}", list(names))]
    DeniedImports {
        /// The imports, sorted.
        names: Vec<String>,
    },
    /// An interface of ours with other types or functions than ours.
    #[error("the handler does not fit this host's interfaces: {message}")]
    Incompatible {
        /// The linker's words.
        message: String,
    },
    /// A memory that begins over the limit.
    #[error(
        "the handler begins with {} MiB of memory, over its limit of {} MiB (limits.memory_mib)",
        bytes.div_ceil(1 << 20), limit_bytes >> 20
    )]
    InitialMemory {
        /// What its largest memory begins with.
        bytes: u64,
        /// The limit.
        limit_bytes: usize,
    },
    /// A table that begins over the limit.
    #[error(
        "the handler begins with a table of {elements} elements, over its limit of {limit} (limits.table_elements)"
    )]
    InitialTable {
        /// What its largest table begins with.
        elements: u64,
        /// The limit.
        limit: usize,
    },
    /// More memories, tables or core instances than it may have.
    #[error("the handler is made of too many parts: {message}")]
    TooManyParts {
        /// Of which, and how many it may have.
        message: String,
    },
    /// Compilation failed.
    #[error("the handler does not compile: {message}")]
    Compile {
        /// The compiler's words.
        message: String,
    },
    /// Compilation took longer than it may.
    #[error("the handler is not compiled within its {limit_ms} ms ([limits] compile_ms)")]
    CompileTimeout {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// Compilation, or what `init` made of its memory, took more than it may.
    #[error(
        "preparing the handler takes more than its {limit_mib} MiB of memory ([limits] compile_mib)"
    )]
    CompileMemory {
        /// The limit, in MiB.
        limit_mib: u64,
    },
    /// The compiler itself broke on it.
    #[error("the compiler crashed on the handler: {how}")]
    CompileCrashed {
        /// How it ended.
        how: String,
    },
    /// `init` did not come to its end.
    #[error("lifecycle.init failed: {message}{}", quoted(stderr))]
    InitFailed {
        /// What happened.
        message: String,
        /// What the guest wrote, most of the time its panic message.
        stderr: String,
        /// The limit that it went over, if that is why.
        limit: Option<Limit>,
    },
    /// No instance of it can be made.
    #[error("the handler cannot be started: {message}{}", quoted(stderr))]
    StartFailed {
        /// What happened.
        message: String,
        /// What the guest wrote.
        stderr: String,
        /// The limit that it went over, if that is why.
        limit: Option<Limit>,
    },
    /// The host's own trouble: the disk, the system.
    #[error("the handler could not be prepared: {message}")]
    Host {
        /// What went wrong.
        message: String,
    },
}

impl PrepareError {
    /// The stable code of the error in HTTP answers.
    pub fn code(&self) -> &'static str {
        match self {
            PrepareError::NotWasm { .. } => "not_wasm",
            PrepareError::CoreModule => "core_module",
            PrepareError::Invalid { .. } => "invalid_component",
            PrepareError::MissingExport { .. } => "missing_export",
            PrepareError::DeniedImports { .. } => "denied_imports",
            PrepareError::Incompatible { .. } => "incompatible_interface",
            PrepareError::InitialMemory { .. } => "initial_memory_too_large",
            PrepareError::InitialTable { .. } => "initial_table_too_large",
            PrepareError::TooManyParts { .. } => "too_many_parts",
            PrepareError::Compile { .. } => "compile_failed",
            PrepareError::CompileTimeout { .. } => "compile_timeout",
            PrepareError::CompileMemory { .. } => "compile_memory",
            PrepareError::CompileCrashed { .. } => "compile_crashed",
            PrepareError::InitFailed { .. } => "init_failed",
            PrepareError::StartFailed { .. } => "start_failed",
            PrepareError::Host { .. } => "host_error",
        }
    }

    /// The limit that the component went over, if that is why it is refused.
    pub fn limit(&self) -> Option<Limit> {
        match self {
            PrepareError::InitialMemory { .. } => Some(Limit::Memory),
            PrepareError::InitialTable { .. } => Some(Limit::TableElements),
            PrepareError::TooManyParts { .. } => Some(Limit::Parts),
            PrepareError::CompileTimeout { .. } => Some(Limit::CompileTime),
            PrepareError::CompileMemory { .. } => Some(Limit::CompileMemory),
            PrepareError::InitFailed { limit, .. } | PrepareError::StartFailed { limit, .. } => {
                *limit
            }
            _ => None,
        }
    }
}

/// Names for a message: as many as one reads, and no longer than one reads. A component may
/// have a million, of any length.
fn list(names: &[String]) -> String {
    const MOST: usize = 20;
    let mut words: Vec<_> = names
        .iter()
        .take(MOST)
        .map(|name| cut(name.clone(), 200))
        .collect();
    if names.len() > MOST {
        words.push(format!("and {} more", names.len() - MOST));
    }
    words.join(", ")
}

fn quoted(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!("; the handler wrote: {stderr}")
    }
}

/// What a component is prepared to: its code, mapped, and what is known of it.
struct Prepared {
    id: CodeId,
    component: Component,
    exports: Exports,
    report: PrepareReport,
}

impl Sandbox {
    /// Checks, initialises and compiles a component, unless this host has done so before
    /// for the same bytes and, if it has an `init`, the same config and grants; then makes one instance of it to see that it
    /// starts.
    pub async fn prepare(
        &self,
        bytes: Vec<u8>,
        spec: PrepareSpec,
    ) -> Result<PrepareReport, PrepareError> {
        let prepared = self.prepared(bytes, &spec).await?;
        let started = match self.link(&prepared.component, &spec.limits) {
            Ok(pre) => self.try_start(&pre, spec).await,
            Err(error) => Err(error),
        };
        if started.is_err() && !prepared.report.cached {
            // Of a refused upload nothing is kept.
            let (sandbox, id) = (self.clone(), prepared.id);
            blocking(move || {
                sandbox.inner.cache.remove(&id);
                Ok(())
            })
            .await?;
        }
        started.map(|()| prepared.report)
    }

    /// Loads a component as a handler that can take requests, preparing it first if this
    /// host has not.
    pub async fn load(
        &self,
        bytes: Vec<u8>,
        spec: HandlerSpec,
        init_grants: Vec<InitGrant>,
    ) -> Result<(Handler, PrepareReport), PrepareError> {
        let prepare = PrepareSpec {
            model: spec.model.clone(),
            limits: spec.limits.clone(),
            config: spec.config.clone(),
            init_grants,
        };
        let prepared = self.prepared(bytes, &prepare).await?;
        let pre = self.link(&prepared.component, &spec.limits)?;
        Ok((
            Handler::new(self.clone(), pre, prepared.exports, spec),
            prepared.report,
        ))
    }

    async fn prepared(&self, bytes: Vec<u8>, spec: &PrepareSpec) -> Result<Prepared, PrepareError> {
        let inputs = snapshot_inputs(spec);
        let sandbox = self.clone();
        let (bytes, ids, cached) = blocking(move || {
            let inner = &sandbox.inner;
            let ids = CodeIds::new(&inner.serving, &bytes, &inputs);
            let load = |id: &CodeId| {
                let (component, report) = inner.cache.load(&inner.serving, id)?;
                Some((id.clone(), component, report))
            };
            let cached = load(&ids.alone).or_else(|| load(&ids.initialised));
            Ok((bytes, ids, cached))
        })
        .await?;
        if let Some((id, component, report)) = cached {
            let report = PrepareReport {
                cached: true,
                ..report
            };
            // The limits may be others than those it was prepared under.
            let resources = component.resources_required();
            parts::check_sizes(
                resources
                    .as_ref()
                    .and_then(|all| all.max_initial_memory_size)
                    .unwrap_or(0),
                resources
                    .as_ref()
                    .and_then(|all| all.max_initial_table_size)
                    .unwrap_or(0),
                &spec.limits,
            )?;
            return Ok(self.prepared_as(id, component, report));
        }
        let made = self.make(bytes, spec).await?;
        log_output(&spec.model, &made.facts.output);
        let sandbox = self.clone();
        let limits = spec.limits.clone();
        let (id, component, report) = blocking(move || {
            let id = ids.of(&made.facts.report);
            let (component, report) = sandbox.keep(&id, made, &limits)?;
            Ok((id, component, report))
        })
        .await?;
        Ok(self.prepared_as(id, component, report))
    }

    async fn make(&self, bytes: Vec<u8>, spec: &PrepareSpec) -> Result<Made, PrepareError> {
        let inner = &self.inner;
        match &inner.workers {
            Some(workers) => compile::in_worker(workers, &inner.config, &bytes, spec).await,
            None => make(&inner.serving, &inner.building, bytes, spec).await,
        }
    }

    /// Puts native code under this host's MAC and into the cache, and maps it from there.
    fn keep(
        &self,
        id: &CodeId,
        made: Made,
        limits: &Limits,
    ) -> Result<(Component, PrepareReport), PrepareError> {
        let host = |message: String| PrepareError::Host { message };
        let Made { code, facts } = made;
        let inner = &self.inner;
        inner
            .cache
            .store(id, &code, &facts.report)
            .map_err(|error| host(format!("compiled code cannot be stored: {error}")))?;
        let (component, _) = inner
            .cache
            .open_entry(&inner.serving, id)
            .ok_or_else(|| host("compiled code cannot be read back".to_owned()))?
            // The pool's own bounds are looked at here.
            .map_err(|error| {
                inner.cache.remove(id);
                parts::too_many(&error, limits).unwrap_or_else(|| host(format!("{error:#}")))
            })?;
        Ok((component, facts.report))
    }

    fn prepared_as(&self, id: CodeId, component: Component, report: PrepareReport) -> Prepared {
        let ty = component.component_type();
        let exports = Exports::among(ty.exports(&self.inner.serving).map(|(name, _)| name));
        Prepared {
            id,
            component,
            exports,
            report,
        }
    }

    /// Resolves the imports; here an interface with the right name and the wrong types is
    /// found out, and a component that is made of too many parts.
    fn link(
        &self,
        component: &Component,
        limits: &Limits,
    ) -> Result<InstancePre<GuestState>, PrepareError> {
        self.inner
            .linker
            .instantiate_pre(component)
            .map_err(|error| {
                parts::too_many(&error, limits).unwrap_or_else(|| PrepareError::Incompatible {
                    message: format!("{error:#}"),
                })
            })
    }

    /// Makes one instance and lets it go.
    async fn try_start(
        &self,
        pre: &InstancePre<GuestState>,
        spec: PrepareSpec,
    ) -> Result<(), PrepareError> {
        let limits = spec.limits.clone();
        let init_timeout = limits.init_timeout;
        let context = std::sync::Arc::new(HandlerContext::new(
            HandlerSpec {
                model: spec.model,
                version: 0,
                graphs: BTreeMap::new(),
                graph_loader: None,
                sessions: None,
                config: spec.config,
                limits: spec.limits,
                reuse: false,
            },
            std::sync::Arc::clone(&self.inner.guest_memory),
        ));
        let slot = std::sync::Arc::clone(&self.inner.slots)
            .acquire_owned()
            .await
            .map_err(|_| PrepareError::Host {
                message: "the host is closing".to_owned(),
            })?;
        let indices = ExportIndices::find(pre);
        let making = {
            let pre = pre.clone();
            async move {
                instance::make(&pre, &indices, &context, slot)
                    .await
                    .map(drop)
            }
        };
        let making = self.inner.lane.run(
            Default::default(),
            0,
            Instant::now() + init_timeout,
            Box::pin(async move { tokio::time::timeout(init_timeout, making).await.ok() }),
        );
        let made = making.await.ok().flatten();
        let (message, limit) = match made {
            Some(Ok(())) => return Ok(()),
            Some(Err((error, _))) if error.is::<instance::WrongTypes>() => {
                return Err(PrepareError::Incompatible {
                    message: format!("{error:#}"),
                });
            }
            Some(Err((error, denied))) => {
                if let Some(refused) = parts::too_many(&error, &limits) {
                    return Err(refused);
                }
                let fault = classify(&error, denied, limits.memory_bytes, init_timeout);
                let limit = fault.limit().map(in_init);
                let message = match fault {
                    Fault::Trap {
                        reason: TrapReason::Other,
                        ..
                    } => cut(format!("{error:#}"), MAX_MESSAGE),
                    Fault::Trap { message, .. } => format!("it trapped: {message}"),
                    Fault::Timeout { limit } => format!("no end within {} ms", limit.as_millis()),
                    fault => fault.to_string(),
                };
                (message, limit)
            }
            None => (
                format!("no end within {} ms", init_timeout.as_millis()),
                Some(Limit::InitTimeout),
            ),
        };
        Err(PrepareError::StartFailed {
            message,
            stderr: String::new(),
            limit,
        })
    }
}

/// Time at upload is another limit than a request's.
pub(crate) fn in_init(limit: Limit) -> Limit {
    match limit {
        Limit::Timeout => Limit::InitTimeout,
        other => other,
    }
}

/// What an `init` that succeeded wrote: most write nothing.
fn log_output(model: &str, output: &str) {
    for line in output.lines() {
        tracing::info!(target: "aegis::guest", model, "init: {line}");
    }
}

/// What a snapshot depends on beside the component's bytes, as bytes to be hashed.
fn snapshot_inputs(spec: &PrepareSpec) -> Vec<u8> {
    let mut grants = spec.init_grants.clone();
    grants.sort_unstable();
    format!("{:?}\0{grants:?}", spec.config).into_bytes()
}

/// Under which of two names the code of a component is, before it is known whether it has an `init`.
struct CodeIds {
    /// Of one without: its code is the same whatever its config, so that a version which differs in
    /// that or in its networks has it at once, on every replica.
    alone: CodeId,
    /// Of one with: what `init` read is in it.
    initialised: CodeId,
}

impl CodeIds {
    fn new(engine: &Engine, bytes: &[u8], inputs: &[u8]) -> CodeIds {
        let component = Sha256::digest(bytes);
        CodeIds {
            alone: CodeId::new(engine, &component, &[]),
            initialised: CodeId::new(engine, &component, inputs),
        }
    }

    /// The name that code goes by with whose making this is the report.
    fn of(self, made: &PrepareReport) -> CodeId {
        match made.snapshot {
            Some(_) => self.initialised,
            None => self.alone,
        }
    }
}

/// Runs `work`, which computes or reads files, off the executor's threads. A panic in it,
/// as in a dependency fed by hostile bytes, is an error like any other.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(doing_in_this_trace(work))
        .await
        .unwrap_or_else(|error| {
            Err(PrepareError::Host {
                message: format!("a task failed: {error}"),
            })
        })
}
