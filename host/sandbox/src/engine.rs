//! The wasmtime engines, their settings with a reason each, and the [`Sandbox`] that owns
//! them.
//!
//! There are two engines. The serving engine allocates instances from a pool, so that a
//! fresh one costs microseconds. The build engine allocates on demand and runs
//! `lifecycle.init` once at upload: a slow or greedy start-up takes nothing from the pool.

use std::{io, path::PathBuf, sync::Arc, thread, time::Duration};

use thiserror::Error;
use tokio::sync::Semaphore;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker,
};

use crate::{
    code_cache::CodeCache,
    guest_memory::GuestMemory,
    host,
    instance::GuestState,
    lane::Lane,
    prepare::PrepareError,
    sessions::{LetGo, SessionBounds, SessionStore},
    worker::{WorkerCommand, Workers},
};

/// How often running guests are interrupted to check their deadline and let others run.
///
/// A guest that loops holds its thread this long at a time. Shorter gives neighbours
/// better latency beside a busy guest and costs one wake-up of one thread per tick.
pub(crate) const EPOCH_TICK: Duration = Duration::from_millis(1);

/// What a guest's fiber has beside WebAssembly's part of the stack, in bytes: it is for
/// host functions, among them quick networks that run in place. With the default of 512 KiB
/// for WebAssembly the fiber has what a thread of Rust's standard library gets.
const HOST_STACK: usize = 1536 << 10;

/// Core instances, memories and tables of one component. A Rust component has 1 to 4 core
/// instances, one memory and 2 or 3 tables; what tools for other languages join together
/// has more.
const CORE_INSTANCES_PER_COMPONENT: u32 = 24;
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 12;

/// How a [`Sandbox`] is set up.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Folder of compiled code. Created if absent.
    pub cache_dir: PathBuf,
    /// How many instances there can be at once, of all handlers together, those made
    /// ahead included.
    pub max_instances: u32,
    /// The largest linear memory that any manifest may be given, in bytes (at most 4 GiB).
    pub max_memory_bytes: usize,
    /// WebAssembly memory and tensors of all instances together, in bytes.
    pub guest_memory_bytes: usize,
    /// Instances kept ready for each handler.
    pub warm_instances: usize,
    /// How long a handler that nobody asks keeps its ready instances.
    pub warm_idle: Duration,
    /// What WebAssembly may use of its stack, in bytes, before it traps.
    pub max_stack_bytes: usize,
    /// Compiled code kept on disk, in bytes: beyond it the least recently used goes.
    pub cache_bytes: u64,
    /// The program that prepares components in a process of its own. `None`: this process
    /// does, and only the time that takes has a bound.
    pub worker: Option<WorkerCommand>,
}

impl SandboxConfig {
    /// The defaults, with compiled code in `cache_dir`.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        SandboxConfig {
            cache_dir: cache_dir.into(),
            max_instances: 256,
            max_memory_bytes: 1 << 30,
            guest_memory_bytes: usize::MAX,
            warm_instances: 8,
            warm_idle: Duration::from_secs(30),
            max_stack_bytes: 512 << 10,
            cache_bytes: 4 << 30,
            worker: None,
        }
    }
}

/// Why a sandbox cannot be set up.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// wasmtime refused the settings, usually for want of address space.
    #[error(
        "the WebAssembly engine does not start with room for {max_instances} instances: {message}; \
         fewer instances or a higher limit on address space (ulimit -v) would help"
    )]
    Engine {
        /// The room asked for.
        max_instances: u32,
        /// wasmtime's words.
        message: String,
    },
    /// The folder of compiled code cannot be used.
    #[error("the code cache in {}: {source}; it must be a folder that this user can write", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No thread for the clock that interrupts guests.
    #[error("no thread for the guests' clock: {0}")]
    Clock(io::Error),
    /// No threads for guests that compute long.
    #[error("no threads for guests that compute long: {0}")]
    Lane(io::Error),
}

/// Prepares, loads and runs handlers. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) inner: Arc<SandboxInner>,
}

pub(crate) struct SandboxInner {
    pub(crate) config: SandboxConfig,
    pub(crate) serving: Engine,
    pub(crate) building: Engine,
    pub(crate) linker: Linker<GuestState>,
    pub(crate) cache: CodeCache,
    /// One permit for each instance that the pool has room for.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) workers: Option<Workers>,
    /// What all instances may hold together.
    pub(crate) guest_memory: Arc<GuestMemory>,
    /// Where guests go that compute long.
    pub(crate) lane: Lane,
}

impl Sandbox {
    /// Starts the engines and the thread that interrupts guests. Called on the executor that
    /// will serve, it counts that executor's threads; see [`Lane`].
    pub fn new(config: SandboxConfig) -> Result<Sandbox, SandboxError> {
        let engine_error = |error: wasmtime::Error| SandboxError::Engine {
            max_instances: config.max_instances,
            message: format!("{error:#}"),
        };
        let mut serving_config = common_config(&config);
        serving_config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&config)));
        let serving = Engine::new(&serving_config).map_err(engine_error)?;
        let building = Engine::new(&common_config(&config)).map_err(engine_error)?;
        let linker = host::serving_linker(&serving).map_err(engine_error)?;
        let cache = CodeCache::open(&config.cache_dir, config.cache_bytes).map_err(|source| {
            SandboxError::Cache {
                path: config.cache_dir.clone(),
                source,
            }
        })?;
        start_clock(&[&serving, &building]).map_err(SandboxError::Clock)?;
        let workers = config
            .worker
            .clone()
            .map(|command| Workers::new(command, config.cache_dir.clone()));
        Ok(Sandbox {
            inner: Arc::new(SandboxInner {
                workers,
                slots: Arc::new(Semaphore::new(config.max_instances as usize)),
                guest_memory: GuestMemory::new(config.guest_memory_bytes),
                lane: Lane::here().map_err(SandboxError::Lane)?,
                config,
                serving,
                building,
                linker,
                cache,
            }),
        })
    }

    /// Instances that could still be made, of those the pool has room for.
    pub fn free_slots(&self) -> usize {
        self.inner.slots.available_permits()
    }

    /// An empty store of what one version's handler keeps between requests, in the memory of all
    /// guests. `told` learns of what it lets go.
    pub fn session_store(
        &self,
        bounds: SessionBounds,
        told: impl Fn(LetGo) + Send + Sync + 'static,
    ) -> Arc<SessionStore> {
        SessionStore::new(bounds, &self.inner.guest_memory, told)
    }

    /// The runtime in which calls that compute long go on, for those who watch it.
    pub fn lane(&self) -> Option<tokio::runtime::Handle> {
        self.inner.lane.handle()
    }

    /// The processes that uploads are compiled and parsed in, if they are.
    pub fn workers(&self) -> Option<&Workers> {
        self.inner.workers.as_ref()
    }
}

/// The engine of a process that only prepares: its code is the serving engine's, whose pool
/// it does not need.
pub(crate) fn preparing_engine(config: &SandboxConfig) -> Result<Engine, PrepareError> {
    let host = |message: String| PrepareError::Host { message };
    let engine = Engine::new(&common_config(config)).map_err(|error| host(format!("{error:#}")))?;
    start_clock(&[&engine]).map_err(|error| host(error.to_string()))?;
    Ok(engine)
}

/// What both engines share. Compiled code is the serving engine's only; the build engine
/// compiles an instrumented copy for itself.
fn common_config(sandbox: &SandboxConfig) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Deadlines: compiled code checks a counter at loops and calls. Fuel would count
        // every instruction and cost several times as much.
        .epoch_interruption(true)
        .async_stack_size(sandbox.max_stack_bytes + HOST_STACK)
        .max_wasm_stack(sandbox.max_stack_bytes)
        // 4 GiB of address space and a guard behind it for each memory: 32-bit addresses
        // cannot leave it, so loads and stores need no bounds check.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        // A memory starts as a copy-on-write mapping of its image: a snapshot of any size
        // costs only the pages that are written.
        .memory_init_cow(true)
        // A snapshot's image may be sparse; up to this size it is mapped all the same and
        // never copied byte by byte.
        .memory_guaranteed_dense_image_size(256 << 20)
        // The log of a trap shows where it was, to a depth that fits a log line.
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20))
        // Off, as the pool is not laid out for them: memories over 4 GiB, shared memories.
        .wasm_memory64(false);
    config
}

fn pool(config: &SandboxConfig) -> PoolingAllocationConfig {
    let instances = config.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool
        // The unit of the pool is an instance of a component. What a component is made of
        // is bounded per component; most need far less than their bound, so the totals are
        // four memories and so on for every second instance.
        .total_component_instances(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT / 2))
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT / 2))
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT / 2))
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .table_elements(65_536)
        // One fiber runs a guest at a time: instantiating and calling do not overlap.
        .total_stacks(instances)
        // Manifests ask for less; this is the operator's ceiling. Address space only.
        .max_memory_size(config.max_memory_bytes)
        // A slot that ran a component before keeps its mapping for the next instance of the
        // same component, and more than this many idle ones are not gathered: what a slot
        // holds beyond its component's image stays when that component goes, so every slot of
        // the pool would fill, one version after another. An instance that takes another's
        // slot costs an mmap and its page faults: where every one did, with 24 models in turn,
        // the server did a tenth less, and with these so many as before.
        .max_unused_warm_slots(warm_slots(instances))
        // Reset a used memory by writing back the pages that were touched, found by one
        // ioctl, rather than by madvise, which gives pages back and takes a fault for each
        // on the next request (and a shoot-down of the other cores' TLBs now). Measured in
        // design section 3: 8,000-11,000 requests a second without, 30,000 with.
        .pagemap_scan(Enabled::Auto)
        // What a guest touched beyond this goes back all the same: a slot keeps it for good,
        // and greedy guests fill one slot after another.
        .linear_memory_keep_resident(4 << 20)
        .table_keep_resident(1 << 20)
        // Fiber stacks hold host data only and are never readable by a guest, so they are
        // not zeroed (the default) and stay resident.
        .async_stack_keep_resident(config.max_stack_bytes + HOST_STACK);
    pool
}

/// Memories that keep what they touched while nothing runs in them, for a pool of so many instances.
fn warm_slots(instances: u32) -> u32 {
    instances.div_ceil(4)
}

/// Ticks the engines' epochs until they are gone.
fn start_clock(engines: &[&Engine]) -> io::Result<()> {
    let engines: Vec<_> = engines.iter().map(|engine| engine.weak()).collect();
    thread::Builder::new()
        .name("aegis-epoch".to_owned())
        .spawn(move || {
            loop {
                thread::sleep(EPOCH_TICK);
                let mut alive = false;
                for engine in engines.iter().filter_map(wasmtime::EngineWeak::upgrade) {
                    engine.increment_epoch();
                    alive = true;
                }
                if !alive {
                    return;
                }
            }
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    #[tokio::test]
    async fn a_workers_code_is_the_serving_engines() {
        let dir = tempfile::tempdir().unwrap();
        let config = SandboxConfig {
            max_instances: 2,
            max_stack_bytes: 300 << 10,
            ..SandboxConfig::new(dir.path())
        };
        let hash = |engine: &Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let sandbox = Sandbox::new(config.clone()).unwrap();
        let preparing = preparing_engine(&config).unwrap();
        assert_eq!(hash(&sandbox.inner.serving), hash(&preparing));
    }
}
