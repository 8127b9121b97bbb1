//! One instance: its store, the state that host functions see, and how one is made.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_inference::{Priority, Terms};
use aegis_telemetry::Trace;
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{
    Store, UpdateDeadline,
    component::{InstancePre, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{
    bindings::exports::aegis::inference::{infer, predict},
    fault::DeadlinePassed,
    guest_memory::Share,
    handler::{HandlerContext, Signals},
    host::{log::GuestLog, nn::Usage},
    lane::on_lane,
    limits::{Denied, MemoryLimiter},
    refusals::{Limit, Refusals},
};

/// Random bytes that one call may ask for: they are made on the executor's thread, some 5 ns
/// each, and a guest that wants more may call again.
const RANDOM_BYTES: u64 = 128 << 10;

/// What host functions see of the instance that calls them.
pub(crate) struct GuestState {
    pub(crate) handler: Arc<HandlerContext>,
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimiter,
    pub(crate) deadline: Instant,
    /// Before whom its networks run.
    pub(crate) priority: Priority,
    /// Where the call that it serves belongs.
    pub(crate) trace: Trace,
    /// What the instance holds of `wasi:nn`.
    pub(crate) nn: Usage,
    /// What tensors take of the memory of all guests.
    pub(crate) tensor_share: Share,
    pub(crate) refusals: Refusals,
    pub(crate) signals: Signals,
    pub(crate) log: Arc<GuestLog>,
    /// Made when a guest first touches WASI: most handlers never do, and the random
    /// generators in it are not free.
    wasi: Option<WasiCtx>,
    fixed_seed: Option<u128>,
}

impl GuestState {
    pub(crate) fn new(handler: Arc<HandlerContext>) -> GuestState {
        let limits = &handler.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        GuestState {
            memory: MemoryLimiter::new(limits, handler.memory.share()),
            tensor_share: handler.memory.share(),
            log: Arc::new(GuestLog::new(limits.log_bytes)),
            table,
            // Far enough for instantiation; a call sets its own.
            deadline: Instant::now() + limits.init_timeout,
            priority: Priority::default(),
            trace: Trace::default(),
            nn: Usage::default(),
            refusals: Refusals::default(),
            signals: Signals::default(),
            wasi: None,
            fixed_seed: None,
            handler,
        }
    }

    /// Hash maps and the like get `seed` instead of a random one.
    pub(crate) fn fix_insecure_seed(&mut self, seed: u128) {
        self.fixed_seed = Some(seed);
    }

    fn make_wasi(&self) -> WasiCtx {
        let mut builder = WasiCtx::builder();
        builder
            .stdout(self.log.stream(Arc::clone(&self.handler), "stdout"))
            .stderr(self.log.stream(Arc::clone(&self.handler), "stderr"))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES);
        if let Some(seed) = self.fixed_seed {
            builder.insecure_random_seed(seed);
        }
        builder.build()
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        if self.wasi.is_none() {
            self.wasi = Some(self.make_wasi());
        }
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(|| WasiCtx::builder().build()),
            table: &mut self.table,
        }
    }
}

/// Where a component's exports are, found once when it is loaded.
#[derive(Clone)]
pub(crate) struct ExportIndices {
    pub(crate) predict: Option<predict::GuestIndices>,
    pub(crate) infer: Option<infer::GuestIndices>,
}

impl ExportIndices {
    pub(crate) fn find(pre: &InstancePre<GuestState>) -> ExportIndices {
        ExportIndices {
            predict: predict::GuestIndices::new(pre).ok(),
            infer: infer::GuestIndices::new(pre).ok(),
        }
    }
}

/// Marks the error of an export that has the contract's name and not its types.
#[derive(Clone, Copy, Debug, Error)]
#[error("an export has other parameters or results than the contract")]
pub(crate) struct WrongTypes;

/// An instance that can take a call.
pub(crate) struct Ready {
    pub(crate) store: Store<GuestState>,
    pub(crate) predict: Option<predict::Guest>,
    pub(crate) infer: Option<infer::Guest>,
    /// How long it took to make; taken by the first call that it serves.
    pub(crate) made_in: Option<Duration>,
    /// The slot of the pool that the instance takes, given back when it is dropped. Last,
    /// so that the store has left its slot when the permit says so.
    slot: Option<OwnedSemaphorePermit>,
}

/// An instance that holds more than this, in WebAssembly memory and in tensors, is taken apart
/// in the lane: giving pages back takes some 10 ms for 100 MiB, and what is under it well
/// under the millisecond that a guest may hold a thread anyway.
const LARGE: usize = 4 << 20;

/// Makes an instance: everything that a call needs and that can be done before it comes.
pub(crate) async fn make(
    pre: &InstancePre<GuestState>,
    indices: &ExportIndices,
    handler: &Arc<HandlerContext>,
    slot: OwnedSemaphorePermit,
) -> Result<Ready, (wasmtime::Error, Option<Denied>)> {
    let mut store = new_store(pre.engine(), GuestState::new(Arc::clone(handler)));
    let made = async {
        let instance = pre.instantiate_async(&mut store).await?;
        let predict = indices
            .predict
            .as_ref()
            .map(|indices| indices.load(&mut store, &instance))
            .transpose()
            .map_err(|error| error.context(WrongTypes))?;
        let infer = indices
            .infer
            .as_ref()
            .map(|indices| indices.load(&mut store, &instance))
            .transpose()
            .map_err(|error| error.context(WrongTypes))?;
        Ok((predict, infer))
    }
    .await;
    match made {
        Ok((predict, infer)) => Ok(Ready {
            store,
            predict,
            infer,
            made_in: None,
            slot: Some(slot),
        }),
        Err(error) => Err((error, store.data().memory.denied())),
    }
}

/// A store that holds its guest to its memory and its deadline.
pub(crate) fn new_store(engine: &wasmtime::Engine, state: GuestState) -> Store<GuestState> {
    let limits = &state.handler.limits;
    let (call_bytes, handles) = (limits.call_bytes(), limits.handles);
    let mut store = Store::new(engine, state);
    // What strings and lists of one call may take in the host; more is a trap.
    store.set_hostcall_fuel(call_bytes);
    // Handles are in two tables: the host's, whose limit is met first as it is asked first,
    // and wasmtime's, where those are as well that a guest makes of its own resources.
    // A handle lent for the time of a call counts there once more.
    store.set_max_component_handles(handles.saturating_mul(2));
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|context| {
        if Instant::now() >= context.data().deadline {
            Err(DeadlinePassed.into())
        } else {
            // Others get their turn on this thread once a tick.
            Ok(UpdateDeadline::Yield(1))
        }
    });
    store
}

impl Ready {
    /// Whether taking it apart takes so long that it is not for an executor's thread.
    pub(crate) fn is_large(&self) -> bool {
        let state = self.store.data();
        state.memory.used().saturating_add(state.nn.bytes()) > LARGE
    }

    /// Starts a call: from here on log lines carry `request_id`, `terms` hold, and what is
    /// computed belongs to `trace`.
    pub(crate) fn begin(&mut self, request_id: &Arc<str>, terms: Terms, trace: &Trace) {
        // An instance made ahead has slept through many ticks.
        self.store.set_epoch_deadline(1);
        let state = self.store.data_mut();
        if let Some(deadline) = terms.deadline {
            state.deadline = deadline;
        }
        state.priority = terms.priority;
        state.trace = trace.clone();
        state.log.begin(request_id);
    }

    /// What the guest was refused since it was last asked.
    pub(crate) fn take_refusals(&mut self) -> Refusals {
        let state = self.store.data_mut();
        let mut refusals = std::mem::take(&mut state.refusals);
        state.memory.report(&mut refusals);
        if state.log.was_cut() {
            refusals.add(Limit::LogBytes, 1);
        }
        refusals
    }

    /// Whether the guest was refused memory.
    pub(crate) fn memory_denied(&self) -> Option<Denied> {
        self.store.data().memory.denied()
    }
}

impl Drop for Ready {
    /// However a call ends, also by its caller going away, a large instance is not taken apart
    /// on the executor.
    fn drop(&mut self) {
        if on_lane() || !self.is_large() {
            return;
        }
        let handler = &self.store.data().handler;
        let Some(lane) = handler.lane.clone() else {
            return;
        };
        let empty = Store::new(self.store.engine(), GuestState::new(Arc::clone(handler)));
        let large = std::mem::replace(&mut self.store, empty);
        let slot = self.slot.take();
        lane.spawn(async move {
            drop(large);
            drop(slot);
        });
    }
}

/// The deadline of a call that starts now: the handler's limit, or the caller's deadline
/// if that is sooner. Also gives the time that the call has.
pub(crate) fn deadline_for(limit: Duration, callers: Option<Instant>) -> (Instant, Duration) {
    let now = Instant::now();
    let own = now + limit;
    match callers {
        Some(callers) if callers < own => (callers, callers.saturating_duration_since(now)),
        _ => (own, limit),
    }
}
