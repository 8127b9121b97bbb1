//! Runs `lifecycle.init` once and keeps the memory it leaves behind as a new component.
//!
//! wizer does the work: it instruments the component so that its memory and globals can be
//! read, we instantiate and run it here on the build engine, and it writes a component
//! whose data is the state found. What could not be kept is refused: open resource
//! handles, and whatever needs an import that would freeze a secret or a clock.

use std::{sync::Arc, time::Instant};

use wasmtime::{
    Engine,
    component::{Component, Instance},
};
use wasmtime_wizer::Wizer;

use crate::{
    fault::{Fault, classify},
    guest_memory::GuestMemory,
    handler::{HandlerContext, HandlerSpec},
    host::{self, deny::Denied, log::GuestLog},
    instance::{self, GuestState},
    limits::Limits,
    make::{self, Stopwatch},
    parts,
    prepare::{PrepareError, PrepareSpec, SnapshotReport, in_init},
    refusals::Limit,
};

/// As wizer wants it: the version comes last.
const INIT: &str = "aegis:inference/lifecycle.init@0.1.0";

/// A component as `init` left it.
pub(crate) struct Taken {
    pub(crate) component: Vec<u8>,
    pub(crate) report: SnapshotReport,
    /// The last few KiB that `init` wrote.
    pub(crate) output: String,
}

/// The component of `bytes` as `init` leaves it. `compiling` is stopped while `init` runs.
pub(crate) async fn take(
    engine: &Engine,
    bytes: Vec<u8>,
    spec: &PrepareSpec,
    compiling: &Arc<Stopwatch>,
) -> Result<Taken, PrepareError> {
    let engine = engine.clone();
    let spec = spec.clone();
    let compiling = Arc::clone(compiling);
    let runtime = tokio::runtime::Handle::current();
    // On a thread of its own: wizer compiles, copies and rewrites megabytes between its
    // awaits, and panics where a component surprises it.
    make::apart(move || runtime.block_on(run(&engine, &bytes, &spec, &compiling))).await
}

async fn run(
    engine: &Engine,
    bytes: &[u8],
    spec: &PrepareSpec,
    compiling: &Stopwatch,
) -> Result<Taken, PrepareError> {
    let context = Arc::new(HandlerContext::new(
        HandlerSpec {
            model: spec.model.clone(),
            version: 0,
            graphs: Default::default(),
            graph_loader: None,
            sessions: None,
            config: spec.config.clone(),
            limits: spec.limits.clone(),
            reuse: false,
        },
        GuestMemory::unbounded(),
    ));
    let mut state = GuestState::new(context);
    state.fix_insecure_seed(seed_of(bytes));
    let log = Arc::clone(&state.log);
    let mut store = instance::new_store(engine, state);
    let mut wizer = Wizer::new();
    wizer.init_func(INIT);
    let limit = spec.limits.init_timeout;
    let mut started = Instant::now();
    let (begin, began) = tokio::sync::oneshot::channel();
    let taking = wizer.run_component(&mut store, bytes, async |store, component| {
        compiling.stop();
        started = Instant::now();
        let _ = begin.send(());
        store.data_mut().deadline = started + limit;
        store.set_epoch_deadline(1);
        instantiate(engine, store, component, spec).await
    });
    // A guest that computes is held by its deadline; this is for one that waits.
    let waiting = async {
        match began.await {
            Ok(()) => tokio::time::sleep(limit).await,
            Err(_) => std::future::pending().await,
        }
    };
    let snapshot = tokio::select! {
        biased;
        taken = taking => Some(taken),
        () = waiting => None,
    };
    let init = started.elapsed();
    compiling.go_on();
    let after = match snapshot {
        Some(Ok((after, _))) => after,
        Some(Err(error)) => return Err(failed(&error, &store, &log, &spec.limits)),
        None => {
            return Err(PrepareError::InitFailed {
                message: format!("no end within {} ms", limit.as_millis()),
                stderr: log.tail(),
                limit: Some(Limit::InitTimeout),
            });
        }
    };
    if !store.data().table.is_empty() {
        return Err(PrepareError::InitFailed {
            message: "it left resource handles open, and a snapshot cannot keep them (printing in \
                      init opens standard output: return an error instead, or log in predict)"
                .to_owned(),
            stderr: log.tail(),
            limit: None,
        });
    }
    let report = SnapshotReport {
        init_ms: init.as_secs_f64() * 1e3,
        before_bytes: bytes.len() as u64,
        after_bytes: after.len() as u64,
    };
    Ok(Taken {
        component: after,
        report,
        output: log.tail(),
    })
}

async fn instantiate(
    engine: &Engine,
    store: &mut wasmtime::Store<GuestState>,
    component: &Component,
    spec: &PrepareSpec,
) -> wasmtime::Result<Instance> {
    host::init_linker(engine, component, &spec.init_grants)?
        .instantiate_async(store, component)
        .await
}

fn failed(
    error: &wasmtime::Error,
    store: &wasmtime::Store<GuestState>,
    log: &GuestLog,
    limits: &Limits,
) -> PrepareError {
    if let Some(refused) = parts::too_many(error, limits) {
        return refused;
    }
    let no_memory = store.data().memory.denied();
    let mut limit = None;
    let message = if let Some(Denied(import)) = error.downcast_ref() {
        format!(
            "it uses {import}, which is not granted during init since what it gives would be \
             frozen into every instance; use it in predict, or ask for it in the manifest \
             ([sandbox] init_grants)"
        )
    } else {
        let fault = classify(error, no_memory, limits.memory_bytes, limits.init_timeout);
        limit = fault.limit().map(in_init);
        match fault {
            Fault::Trap { message, .. } => format!("it trapped: {message}"),
            Fault::Timeout { limit } => format!("no end within {} ms", limit.as_millis()),
            fault => fault.to_string(),
        }
    };
    PrepareError::InitFailed {
        message,
        stderr: log.tail(),
        limit,
    }
}

/// The seed for hash maps in the snapshot: fixed for the same component, so that the same
/// upload gives the same snapshot, and different between components.
fn seed_of(bytes: &[u8]) -> u128 {
    use sha2::{Digest, Sha256};
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let mut seed = [0; 16];
    seed.copy_from_slice(digest.split_at(16).0);
    u128::from_le_bytes(seed)
}
