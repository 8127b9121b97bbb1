//! A loaded handler: takes requests, answers each from an instance of its own.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_inference::{Graph, Priority, Terms};
use aegis_telemetry::Trace;
use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle};
use wasmtime::component::InstancePre;

use crate::{
    bindings::{
        InferenceRequest, InferenceResponse,
        types::{Failure, Problem, Request, Response},
    },
    component::{Exports, SESSIONS},
    engine::Sandbox,
    fault::{Fault, classify, count_boundary},
    graph_loader::GraphLoader,
    guest_memory::GuestMemory,
    instance::{self, ExportIndices, GuestState, Ready, deadline_for},
    lane::{Overdue, Weight},
    limits::Limits,
    refusals::{Limit, Refusals},
    sessions::SessionStore,
    text::{cut, printable},
    warm::WarmPool,
};

/// Everything about a handler that is not its code.
#[derive(Clone, Debug)]
pub struct HandlerSpec {
    /// The model's name, for logs.
    pub model: String,
    /// The model's version, for logs.
    pub version: u64,
    /// The graphs that the handler may open, by name.
    pub graphs: BTreeMap<String, Graph>,
    /// What loads a network from the handler's own bytes; without it that is refused.
    pub graph_loader: Option<Arc<dyn GraphLoader>>,
    /// What the handler keeps between requests; without it nothing is kept.
    pub sessions: Option<Arc<SessionStore>>,
    /// What the handler reads through `wasi:config`.
    pub config: BTreeMap<String, String>,
    /// What an instance may use.
    pub limits: Limits,
    /// Whether an instance serves one request after another. State that the handler keeps
    /// then passes from caller to caller.
    pub reuse: bool,
}

/// What an instance shares with its siblings.
pub(crate) struct HandlerContext {
    pub(crate) model: String,
    pub(crate) version: u64,
    pub(crate) graphs: BTreeMap<String, Graph>,
    pub(crate) graph_loader: Option<Arc<dyn GraphLoader>>,
    pub(crate) sessions: Option<Arc<SessionStore>>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) memory: Arc<GuestMemory>,
    /// Where large instances are taken apart; nowhere else where they are not used for requests.
    pub(crate) lane: Option<tokio::runtime::Handle>,
}

/// A handler that can take requests. Cheap to clone; dropping the last clone ends its
/// warm instances.
#[derive(Clone)]
pub struct Handler {
    pub(crate) inner: Arc<HandlerInner>,
    _tender: Arc<Tender>,
}

pub(crate) struct HandlerInner {
    sandbox: Sandbox,
    pre: InstancePre<GuestState>,
    indices: ExportIndices,
    exports: Exports,
    reuse: bool,
    pub(crate) context: Arc<HandlerContext>,
    pub(crate) warm: Arc<WarmPool>,
    /// What its calls have used lately.
    weight: Arc<Weight>,
    made: AtomicU64,
    made_on_path: AtomicU64,
    make_nanos: AtomicU64,
}

/// Ends the task that tends the warm instances.
struct Tender(AbortHandle);

impl Drop for Tender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who asks, and until when.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request's id, for log lines.
    pub request_id: Arc<str>,
    /// When the caller stops waiting; the model's own limit holds as well.
    pub deadline: Option<Instant>,
    /// Before whom its networks run.
    pub priority: Priority,
    /// Where the call belongs in the request's trace.
    pub trace: Trace,
}

/// What a handler said beside its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// Safety flags raised, in order, as the guest wrote them.
    pub flags: Vec<String>,
    /// Named values recorded, in order.
    pub values: Vec<(String, f64)>,
}

/// How a call ended.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The handler's answer, or the handler's own refusal, or the end it came to.
    pub result: Result<Result<T, Failure>, Fault>,
    /// What was signalled before the end.
    pub signals: Signals,
    /// Which limits refused it something, whether or not the guest went on.
    pub refusals: Refusals,
    /// How long its instance took to make, ahead of the call or for it; nothing if the
    /// instance had served before, or there was none.
    pub instantiate: Option<Duration>,
}

/// Counters of a handler's instances since it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerStats {
    /// Instances made.
    pub made: u64,
    /// Those of them that a request had to wait for.
    pub made_on_path: u64,
    /// Time spent making them, in nanoseconds.
    pub make_nanos: u64,
    /// Instances ready now.
    pub ready: usize,
}

impl Handler {
    /// Must be called inside a tokio runtime: the warm instances' task is started there.
    pub(crate) fn new(
        sandbox: Sandbox,
        pre: InstancePre<GuestState>,
        exports: Exports,
        spec: HandlerSpec,
    ) -> Handler {
        let target = sandbox.inner.config.warm_instances;
        let warm = Arc::new(WarmPool::new(target, spec.reuse));
        let inner = Arc::new(HandlerInner {
            indices: ExportIndices::find(&pre),
            pre,
            exports,
            reuse: spec.reuse,
            context: Arc::new(HandlerContext {
                lane: sandbox.inner.lane.handle(),
                ..HandlerContext::new(spec, Arc::clone(&sandbox.inner.guest_memory))
            }),
            warm,
            weight: Arc::default(),
            sandbox,
            made: AtomicU64::new(0),
            made_on_path: AtomicU64::new(0),
            make_nanos: AtomicU64::new(0),
        });
        let idle = inner.sandbox.inner.config.warm_idle;
        let tender = tokio::spawn(WarmPool::tend(Arc::downgrade(&inner), idle)).abort_handle();
        Handler {
            inner,
            _tender: Arc::new(Tender(tender)),
        }
    }

    /// Which interfaces of the contract the handler exports.
    pub fn exports(&self) -> Exports {
        self.inner.exports
    }

    /// Whether the handler can keep anything between requests: whether it imports what it would
    /// do so by.
    pub fn keeps_sessions(&self) -> bool {
        let component = self.inner.pre.component().component_type();
        let engine = self.inner.pre.engine();
        let mut imports = component.imports(engine);
        imports.any(|(name, _)| name.starts_with(SESSIONS))
    }

    /// Counters since the handler was loaded.
    pub fn stats(&self) -> HandlerStats {
        HandlerStats {
            made: self.inner.made.load(Ordering::Relaxed),
            made_on_path: self.inner.made_on_path.load(Ordering::Relaxed),
            make_nanos: self.inner.make_nanos.load(Ordering::Relaxed),
            ready: self.inner.warm.ready(),
        }
    }

    /// Calls `predict`.
    pub async fn predict(&self, call: &Call, request: Arc<Request>) -> Outcome<Response> {
        let bytes = request.body.len();
        self.call(call, bytes, Predict(request)).await
    }

    /// Calls `infer`.
    pub async fn infer(
        &self,
        call: &Call,
        request: Arc<InferenceRequest>,
    ) -> Outcome<InferenceResponse> {
        let bytes = request.inputs.iter().map(|input| input.data.len()).sum();
        self.call(call, bytes, Infer(request)).await
    }

    /// One call with all that belongs to it: the instance is made and let go where the call
    /// runs, and so is an answer that is too large, so that what a guest piles up costs no
    /// thread that short requests wait for.
    async fn call<E: Export>(&self, call: &Call, bytes: usize, export: E) -> Outcome<E::Answer> {
        let (deadline, time) = deadline_for(self.inner.context.limits.timeout, call.deadline);
        let whole = {
            let inner = Arc::clone(&self.inner);
            let call = call.clone();
            Box::pin(async move {
                // Wherever it is polled: calls move between runtimes.
                let called = pin!(inner.call(&call, deadline, time, export));
                call.trace.scope(called).await
            })
        };
        let lane = &self.inner.sandbox.inner.lane;
        lane.run(Arc::clone(&self.inner.weight), bytes, deadline, whole)
            .await
            .unwrap_or_else(|Overdue| {
                self.inner
                    .no_instance(&call.request_id, Fault::Timeout { limit: time })
            })
    }
}

/// An export of the contract, with what it is called with.
trait Export: Send + 'static {
    type Answer: Send + 'static;

    fn call(
        &self,
        ready: &mut Ready,
    ) -> impl Future<Output = Result<Result<Self::Answer, Failure>, CallError>> + Send;

    /// How many bytes an answer's body or tensors have.
    fn bytes(answer: &Self::Answer) -> usize;

    /// What of an answer has more bytes than it may.
    fn over(answer: &Self::Answer, limit: usize) -> Option<Over>;
}

/// A part of an answer, its size and its limit, in bytes.
struct Over {
    part: &'static str,
    bytes: usize,
    limit: usize,
}

impl Over {
    fn find(part: &'static str, bytes: usize, limit: usize) -> Option<Over> {
        (bytes > limit).then_some(Over { part, bytes, limit })
    }
}

struct Predict(Arc<Request>);

impl Export for Predict {
    type Answer = Response;

    async fn call(&self, ready: &mut Ready) -> Result<Result<Response, Failure>, CallError> {
        let Some(predict) = &ready.predict else {
            return Err(CallError::NoExport("predict"));
        };
        predict
            .call_predict(&mut ready.store, &self.0)
            .await
            .map_err(CallError::Wasm)
    }

    fn bytes(response: &Response) -> usize {
        response.body.len()
    }

    fn over(response: &Response, limit: usize) -> Option<Over> {
        let headers = response.headers.iter();
        let head = response.content_type.len()
            + headers
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
        Over::find("body", Self::bytes(response), limit)
            .or_else(|| Over::find("headers", head, MAX_RESPONSE_HEAD))
    }
}

struct Infer(Arc<InferenceRequest>);

impl Export for Infer {
    type Answer = InferenceResponse;

    async fn call(
        &self,
        ready: &mut Ready,
    ) -> Result<Result<InferenceResponse, Failure>, CallError> {
        let Some(infer) = &ready.infer else {
            return Err(CallError::NoExport("infer"));
        };
        infer
            .call_infer(&mut ready.store, &self.0)
            .await
            .map_err(CallError::Wasm)
    }

    fn bytes(response: &InferenceResponse) -> usize {
        let tensors = response.outputs.iter().map(|output| output.data.len());
        tensors.sum()
    }

    fn over(response: &InferenceResponse, limit: usize) -> Option<Over> {
        Over::find("tensors", Self::bytes(response), limit)
    }
}

/// What a response may have of headers, in bytes, its content type included: as much as
/// usual clients and proxies read.
const MAX_RESPONSE_HEAD: usize = 32 << 10;

/// Whether an instance may serve again. One that answers, or says what is wrong with what a
/// caller sent, may; one that failed by itself may be full of what it kept, and would fail
/// every caller after.
fn is_well<T>(result: &Result<Result<T, Failure>, Fault>) -> bool {
    matches!(
        result,
        Ok(Ok(_)
            | Err(Failure::InvalidInput(_)
                | Failure::UnsupportedMediaType(_)
                | Failure::TooLarge(_)))
    )
}

/// The longest message of a failure that is kept, in bytes: it goes into the answer, or the
/// log.
const MAX_FAILURE: usize = 4 << 10;

/// A handler's failure with its texts cut to size.
fn bounded(failure: Failure) -> Failure {
    let cut = |text| cut(text, MAX_FAILURE);
    match failure {
        Failure::InvalidInput(problem) => Failure::InvalidInput(Problem {
            message: cut(problem.message),
            field: problem.field.map(cut),
        }),
        Failure::UnsupportedMediaType(message) => Failure::UnsupportedMediaType(cut(message)),
        Failure::TooLarge(message) => Failure::TooLarge(cut(message)),
        Failure::Overloaded(message) => Failure::Overloaded(cut(message)),
        Failure::NotReady(message) => Failure::NotReady(cut(message)),
        Failure::Timeout(message) => Failure::Timeout(cut(message)),
        // This one is logged.
        Failure::Internal(message) => Failure::Internal(printable(&cut(message)).into_owned()),
    }
}

enum CallError {
    NoExport(&'static str),
    Wasm(wasmtime::Error),
}

impl HandlerContext {
    /// `memory` is that of all guests beside which the handler's will run.
    pub(crate) fn new(spec: HandlerSpec, memory: Arc<GuestMemory>) -> HandlerContext {
        HandlerContext {
            lane: None,
            memory,
            model: spec.model,
            version: spec.version,
            graphs: spec.graphs,
            graph_loader: spec.graph_loader,
            sessions: spec.sessions,
            config: spec.config,
            limits: spec.limits,
        }
    }
}

impl HandlerInner {
    async fn call<E: Export>(
        &self,
        call: &Call,
        deadline: Instant,
        time: Duration,
        export: E,
    ) -> Outcome<E::Answer> {
        let request_id = &call.request_id;
        let mut span = call.trace.span("instantiate");
        let mut ready = match self.instance(deadline, time).await {
            Ok((ready, how)) => {
                span.word("aegis.instance", how);
                ready
            }
            Err(fault) => {
                span.fail(fault.word());
                return self.no_instance(request_id, fault);
            }
        };
        drop(span);
        let instantiate = ready.made_in.take();
        let mut span = call.trace.span("predict");
        let terms = Terms {
            deadline: Some(deadline),
            priority: call.priority,
        };
        ready.begin(request_id, terms, span.trace());
        // Compute keeps to the deadline and so does running wasm; the timer is for what
        // else a guest can wait for (clocks). It is only set when the call really waits.
        let ended = {
            let answer = pin!(export.call(&mut ready));
            tokio::time::timeout_at(deadline.into(), answer).await
        };
        let denied = ready.memory_denied();
        let mut refusals = ready.take_refusals();
        let limit = self.context.limits.response_bytes;
        if let Ok(Ok(Ok(answer))) = &ended {
            self.weight.answered(E::bytes(answer));
        }
        let result = match ended {
            Ok(Ok(Ok(answer))) => match E::over(&answer, limit) {
                None => Ok(Ok(answer)),
                Some(Over { part, bytes, limit }) => Err(Fault::ResponseTooLarge {
                    part,
                    bytes,
                    limit_bytes: limit,
                }),
            },
            Ok(Ok(Err(failure))) => Ok(Err(bounded(failure))),
            Ok(Err(CallError::NoExport(export))) => Err(Fault::NoSuchExport { export }),
            Ok(Err(CallError::Wasm(error))) => {
                count_boundary(&error, &mut refusals);
                let memory = self.context.limits.memory_bytes;
                Err(classify(&error, denied, memory, time))
            }
            Err(_) => Err(Fault::Timeout { limit: time }),
        };
        if let Err(fault) = &result {
            span.fail(fault.word());
        }
        drop(span);
        let signals = std::mem::take(&mut ready.store.data_mut().signals);
        if self.reuse && is_well(&result) && denied.is_none() && self.has_spare_slots() {
            self.warm.put_back(ready);
        } else {
            self.warm.retire(ready);
        }
        if !refusals.is_empty() {
            log_refusals(&self.context, request_id, &refusals);
        }
        if let Err(fault) = &result {
            log_fault(&self.context, request_id, fault);
            if let Some(limit) = fault.limit() {
                refusals.ended_by(limit);
            }
        }
        Outcome {
            result,
            signals,
            refusals,
            instantiate,
        }
    }

    /// A call that ended before it had an instance, or after it had a thread for the last time.
    fn no_instance<T>(&self, request_id: &Arc<str>, fault: Fault) -> Outcome<T> {
        log_fault(&self.context, request_id, &fault);
        let mut refusals = Refusals::default();
        if let Some(limit) = fault.limit() {
            refusals.ended_by(limit);
        }
        Outcome {
            result: Err(fault),
            signals: Signals::default(),
            refusals,
            instantiate: None,
        }
    }

    /// A ready instance, or one made now if a slot comes free before the deadline; and which.
    async fn instance(
        &self,
        deadline: Instant,
        time: Duration,
    ) -> Result<(Ready, &'static str), Fault> {
        if let Some(ready) = self.warm.take() {
            return Ok((ready, "ready"));
        }
        let slots = Arc::clone(&self.sandbox.inner.slots);
        let slot = match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => tokio::time::timeout_at(deadline.into(), slots.acquire_owned())
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or(Fault::NoFreeInstance {
                    slots: self.sandbox.inner.config.max_instances as usize,
                })?,
        };
        let made = pin!(self.make(slot));
        let ready = tokio::time::timeout_at(deadline.into(), made)
            .await
            .map_err(|_| Fault::Timeout { limit: time })??;
        self.made_on_path.fetch_add(1, Ordering::Relaxed);
        Ok((ready, "made"))
    }

    /// A slot for an instance made ahead: only while a quarter of the host's slots stays
    /// free, so that idle instances of many models never hold up a request.
    pub(crate) fn spare_slot(&self) -> Option<OwnedSemaphorePermit> {
        let slots = &self.sandbox.inner.slots;
        self.has_spare_slots()
            .then(|| Arc::clone(slots).try_acquire_owned().ok())
            .flatten()
    }

    /// Whether more than a quarter of the host's slots is free.
    fn has_spare_slots(&self) -> bool {
        let sandbox = &self.sandbox.inner;
        sandbox.slots.available_permits() > sandbox.config.max_instances as usize / 4
    }

    /// Makes one instance ahead of its call, in the lane if that takes long: a component's
    /// start function is the guest's code as well.
    pub(crate) async fn make_ahead(
        self: &Arc<HandlerInner>,
        slot: OwnedSemaphorePermit,
    ) -> Result<Ready, Fault> {
        let time = self.context.limits.init_timeout;
        let making = {
            let inner = Arc::clone(self);
            Box::pin(async move { inner.make(slot).await })
        };
        let lane = &self.sandbox.inner.lane;
        let weight = Arc::clone(&self.weight);
        lane.run(weight, 0, Instant::now() + time, making)
            .await
            .unwrap_or(Err(Fault::Timeout { limit: time }))
    }

    async fn make(&self, slot: OwnedSemaphorePermit) -> Result<Ready, Fault> {
        let start = Instant::now();
        let mut ready = instance::make(&self.pre, &self.indices, &self.context, slot)
            .await
            .map_err(|(error, denied)| {
                classify(
                    &error,
                    denied,
                    self.context.limits.memory_bytes,
                    self.context.limits.init_timeout,
                )
            })?;
        self.made.fetch_add(1, Ordering::Relaxed);
        let took = start.elapsed();
        ready.made_in = Some(took);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.make_nanos.fetch_add(nanos, Ordering::Relaxed);
        Ok(ready)
    }
}

/// One line for all that a request was refused. Output that was dropped has a line of its own.
fn log_refusals(context: &HandlerContext, request_id: &str, refusals: &Refusals) {
    if refusals.iter().all(|(limit, _)| limit == Limit::LogBytes) {
        return;
    }
    tracing::warn!(
        model = %context.model,
        version = context.version,
        request_id,
        limits = %refusals.words(),
        "the handler was refused what is over its limits"
    );
}

fn log_fault(context: &HandlerContext, request_id: &str, fault: &Fault) {
    let backtrace = match fault {
        Fault::Trap { backtrace, .. } => backtrace.as_str(),
        _ => "",
    };
    tracing::error!(
        model = %context.model,
        version = context.version,
        request_id,
        backtrace,
        "{fault}"
    );
}
