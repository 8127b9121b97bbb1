//! Instances made ahead of need, and taken apart behind the request: what keeps the cost
//! of a fresh instance off a request's path.
//!
//! A task per handler owns the work. It wakes some time after an instance came back used
//! (at once if few are left), drops what is used and makes what is missing, a batch at a
//! time. While requests outrun it, so that most find nothing ready, it works ever more
//! seldom: the processors are busy then, an instance made ahead costs what one made on the
//! path costs, and it is made on one core and used on another. On digits at 32 connections
//! and two cores, a task that always refilled gave some 22,000 requests a second and no
//! task at all 25,000 to 28,000, on a machine whose pace varies by a sixth.
//!
//! The slots of the pool are all handlers' together, so a handler keeps only what its requests
//! have shown to be of use: none when it is loaded, one after a request that found none, then
//! twice as many each time that happens, and none again once nobody has asked for a while.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{handler::HandlerInner, instance::Ready, lane::on_lane};

/// How long used instances gather before the task sees to them.
const TICK: Duration = Duration::from_millis(1);

/// The longest pause while requests outrun the task, as a power of two of [`TICK`]: 32 ms.
const LONGEST_PAUSE: u32 = 5;

/// Ready and used instances of one handler.
pub(crate) struct WarmPool {
    lists: Mutex<Lists>,
    /// Something came back used.
    used: Notify,
    /// Less than half of what is wanted is left.
    low: Notify,
    /// The most that are kept ready.
    most: usize,
    /// Instances come back to be used again, as many as were needed at once, and none are made ahead.
    reuse: bool,
    /// Requests since the last look that found an instance, and that did not.
    hits: AtomicU32,
    misses: AtomicU32,
}

#[derive(Default)]
struct Lists {
    ready: Vec<Ready>,
    used: Vec<Ready>,
    /// How many are to be kept ready.
    wanted: usize,
    /// The fewest that were ready since this was last looked at: so many too many.
    fewest: usize,
}

impl WarmPool {
    /// A pool that keeps up to `most` instances ready that are made ahead, or with `reuse` those that come back.
    pub(crate) fn new(most: usize, reuse: bool) -> WarmPool {
        WarmPool {
            lists: Mutex::new(Lists::default()),
            used: Notify::new(),
            low: Notify::new(),
            most,
            reuse,
            hits: AtomicU32::new(0),
            misses: AtomicU32::new(0),
        }
    }

    /// An instance, if one is ready.
    pub(crate) fn take(&self) -> Option<Ready> {
        let mut lists = self.lists.lock();
        let taken = lists.ready.pop();
        if taken.is_none() {
            lists.wanted = (lists.wanted * 2).max(1).min(self.most);
        }
        let left = lists.ready.len();
        lists.fewest = lists.fewest.min(left);
        let low = left * 2 < lists.wanted;
        drop(lists);
        let count = if taken.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        // Who found none brings back a used one, which wakes the task; a reused one would not.
        let wakes = if self.reuse {
            taken.is_none() && self.most > 0
        } else {
            low && taken.is_some()
        };
        if wakes {
            self.low.notify_one();
        }
        taken
    }

    /// Leaves a used instance to be dropped off the request's path; in the lane, where nobody
    /// waits for the thread, it is dropped at once.
    pub(crate) fn retire(&self, used: Ready) {
        // A large one goes to the lane when it is dropped, and holds memory until then.
        if !on_lane() && !used.is_large() {
            let mut lists = self.lists.lock();
            if lists.used.len() < self.most {
                lists.used.push(used);
                drop(lists);
                self.used.notify_one();
                return;
            }
            // The task is behind already.
        }
        drop(used);
        self.used.notify_one();
    }

    /// Puts back an instance whose model allows reuse, unless none are to be kept at all.
    pub(crate) fn put_back(&self, ready: Ready) {
        if self.most == 0 {
            return;
        }
        let mut lists = self.lists.lock();
        lists.ready.push(ready);
        let given_back = lists.wanted == 0;
        lists.wanted = lists.wanted.max(1);
        drop(lists);
        // The task has let go of all and sleeps: this one is to go in its time, too.
        if given_back {
            self.low.notify_one();
        }
    }

    /// How many are ready.
    pub(crate) fn ready(&self) -> usize {
        self.lists.lock().ready.len()
    }

    /// Keeps the pool of `handler` as full as is wanted, until the handler is gone. Nobody
    /// having asked for `idle`, and at most twice that, nothing is wanted.
    pub(crate) async fn tend(handler: Weak<HandlerInner>, idle: Duration) {
        let mut pause = 0;
        let Some(warm) = handler.upgrade().map(|inner| Arc::clone(&inner.warm)) else {
            return;
        };
        if warm.reuse {
            warm.tend_reused(idle).await;
        }
        loop {
            if tokio::time::timeout(idle, warm.woken()).await.is_err() {
                if warm.asked() == (0, 0) {
                    warm.give_back();
                    warm.woken().await;
                } else {
                    continue;
                }
            }
            if pause > 0 {
                tokio::time::sleep(TICK * 2u32.pow(pause)).await;
            } else {
                let _ = tokio::time::timeout(TICK, warm.low.notified()).await;
            }
            let Some(inner) = handler.upgrade() else {
                return;
            };
            let (hits, misses) = warm.asked();
            pause = next_pause(pause, hits, misses);
            warm.refill(&inner).await;
        }
    }

    /// Lets go of what was not needed for `idle`, of all where nobody asked, and of those that may not serve again.
    async fn tend_reused(&self, idle: Duration) -> ! {
        loop {
            self.woken().await;
            loop {
                let look = tokio::time::Instant::now() + idle;
                loop {
                    self.let_go_used().await;
                    let used = tokio::time::timeout_at(look, self.used.notified());
                    if used.await.is_err() {
                        break;
                    }
                }
                if self.asked() == (0, 0) {
                    self.give_back();
                    break;
                }
                self.let_go(self.not_needed()).await;
            }
        }
    }

    /// There is something to do.
    async fn woken(&self) {
        tokio::select! {
            () = self.used.notified() => {}
            () = self.low.notified() => {}
        }
    }

    /// The requests since the last look that found an instance, and those that did not.
    fn asked(&self) -> (u32, u32) {
        (
            self.hits.swap(0, Ordering::Relaxed),
            self.misses.swap(0, Ordering::Relaxed),
        )
    }

    /// Lets go of what is ready, and its slots.
    fn give_back(&self) {
        let mut lists = self.lists.lock();
        lists.wanted = 0;
        let gone = (
            std::mem::take(&mut lists.ready),
            std::mem::take(&mut lists.used),
        );
        drop(lists);
        drop(gone);
    }

    /// Those of the reused that nobody needed since this was last asked, the longest unused first.
    fn not_needed(&self) -> Vec<Ready> {
        let mut lists = self.lists.lock();
        let ready = lists.ready.len();
        let fewest = std::mem::replace(&mut lists.fewest, usize::MAX);
        lists.ready.drain(..fewest.min(ready)).collect()
    }

    /// Drops those that came back used.
    async fn let_go_used(&self) {
        let used = std::mem::take(&mut self.lists.lock().used);
        self.let_go(used).await;
    }

    /// Drops instances with a pause after each.
    async fn let_go(&self, instances: Vec<Ready>) {
        for instance in instances {
            drop(instance);
            // A request that waits for this thread goes first.
            tokio::task::yield_now().await;
        }
    }

    /// Whether one is to be made.
    fn missing(&self) -> bool {
        let lists = self.lists.lock();
        lists.ready.len() < lists.wanted
    }

    async fn refill(&self, handler: &Arc<HandlerInner>) {
        self.let_go_used().await;
        while self.missing() {
            // Without a slot to spare the requests come first.
            let Some(slot) = handler.spare_slot() else {
                return;
            };
            match handler.make_ahead(slot).await {
                Ok(ready) => self.lists.lock().ready.push(ready),
                Err(fault) => {
                    tracing::warn!(
                        model = %handler.context.model,
                        version = handler.context.version,
                        %fault,
                        "no instance could be made ahead"
                    );
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// How long to pause after a refill, as a power of two of [`TICK`], given the pause before
/// it and how requests have fared since.
fn next_pause(pause: u32, hits: u32, misses: u32) -> u32 {
    if misses > hits {
        (pause + 1).min(LONGEST_PAUSE)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::{Call, Handler, HandlerSpec, Limits, Request, Sandbox, SandboxConfig};

    /// Exports `predict` with the contract's types. Calling it traps, which ends a call as well
    /// as an answer does.
    const HANDLER: &str = r#"(component
        (import "aegis:inference/types@0.1.0" (instance $types
            (type $pairs (list (tuple string string)))
            (type $a (record (field "id" string) (field "content-type" (option string))
                (field "headers" $pairs) (field "query" $pairs) (field "body" (list u8))))
            (export "request" (type (eq $a)))
            (type $b (record (field "content-type" string) (field "headers" $pairs)
                (field "body" (list u8))))
            (export "response" (type (eq $b)))
            (type $c (record (field "message" string) (field "field" (option string))))
            (export "problem" (type $problem (eq $c)))
            (type $d (variant (case "invalid-input" $problem)
                (case "unsupported-media-type" string) (case "too-large" string)
                (case "overloaded" string) (case "not-ready" string)
                (case "timeout" string) (case "internal" string)))
            (export "failure" (type (eq $d)))))
        (alias export $types "request" (type $request))
        (alias export $types "response" (type $response))
        (alias export $types "failure" (type $failure))
        (core module $code
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
            (func (export "predict") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
                (result i32) unreachable))
        (core instance $code (instantiate $code))
        (func $predict (param "request" $request)
            (result (result $response (error $failure)))
            (canon lift (core func $code "predict")
                (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
        (instance $exports (export "predict" (func $predict)))
        (export "aegis:inference/predict@0.1.0" (instance $exports)))"#;

    const IDLE: Duration = Duration::from_secs(30);
    const SLOTS: u32 = 16;

    fn sandbox(folder: &tempfile::TempDir) -> Sandbox {
        Sandbox::new(SandboxConfig {
            max_instances: SLOTS,
            warm_idle: IDLE,
            ..SandboxConfig::new(folder.path())
        })
        .unwrap()
    }

    async fn load(sandbox: &Sandbox) -> Handler {
        load_as(sandbox, HANDLER, false).await
    }

    /// One that answers, with nothing, and whose instances come back.
    async fn load_reused(sandbox: &Sandbox) -> Handler {
        let answering = HANDLER.replace("unreachable", "i32.const 16");
        load_as(sandbox, &answering, true).await
    }

    async fn load_as(sandbox: &Sandbox, handler: &str, reuse: bool) -> Handler {
        let spec = HandlerSpec {
            model: "trap".to_owned(),
            version: 1,
            graphs: Default::default(),
            graph_loader: None,
            sessions: None,
            config: Default::default(),
            limits: Limits {
                // Paused time runs ahead of the clock that deadlines are taken from.
                timeout: Duration::from_secs(86_400),
                ..Limits::default()
            },
            reuse,
        };
        let bytes = wat::parse_str(handler).unwrap();
        sandbox.load(bytes, spec, Vec::new()).await.unwrap().0
    }

    /// Asks so often, and lets the task do its work.
    async fn ask(handler: &Handler, times: usize) {
        for _ in 0..times {
            let call = Call {
                request_id: "test".into(),
                deadline: None,
                priority: aegis_inference::Priority::default(),
                trace: Default::default(),
            };
            let request = Arc::new(Request {
                id: String::new(),
                content_type: None,
                headers: Vec::new(),
                query: Vec::new(),
                body: Vec::new(),
            });
            let ended = handler.predict(&call, request).await;
            assert!(
                matches!(ended.result, Ok(_) | Err(crate::Fault::Trap { .. })),
                "{ended:?}"
            );
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_nobody_asks_keeps_no_instances() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = sandbox(&folder);
        let handler = load(&sandbox).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(handler.stats().ready, 0, "nobody has asked");
        for _ in 0..2 {
            ask(&handler, 3).await;
            assert!((1..=8).contains(&handler.stats().ready));
            tokio::time::sleep(2 * IDLE).await;
            assert_eq!(handler.stats().ready, 0);
            assert_eq!(sandbox.free_slots(), SLOTS as usize);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_may_be_reused_is_until_nobody_asks() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = sandbox(&folder);
        let handler = load_reused(&sandbox).await;
        for round in 1..=3 {
            for _ in 0..5 {
                ask(&handler, 2).await;
            }
            assert_eq!((handler.stats().ready, handler.stats().made), (1, round));
            tokio::time::sleep(2 * IDLE).await;
            assert_eq!(handler.stats().ready, 0);
            assert_eq!(sandbox.free_slots(), SLOTS as usize);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_are_reused_as_are_needed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = sandbox(&folder);
        let handler = load_reused(&sandbox).await;
        let inner = &handler.inner;
        let mut at_once = Vec::new();
        for _ in 0..10 {
            let slot = inner.spare_slot().unwrap();
            at_once.push(inner.make_ahead(slot).await.unwrap());
        }
        for ready in at_once {
            inner.warm.put_back(ready);
        }
        ask(&handler, 3).await;
        assert_eq!(handler.stats().ready, 10);
        // Only one is needed at a time from here on, which is seen when it has been so for `IDLE`.
        for _ in 0..6 {
            tokio::time::sleep(IDLE / 2).await;
            ask(&handler, 3).await;
        }
        assert_eq!(handler.stats().ready, 1);
        assert_eq!(handler.stats().made, 10, "none had to be made again");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_back_after_the_others_are_gone_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = sandbox(&folder);
        let handler = load_reused(&sandbox).await;
        let inner = &handler.inner;
        ask(&handler, 1).await;
        let slot = inner.spare_slot().unwrap();
        let ready = inner.make_ahead(slot).await.unwrap();
        tokio::time::sleep(2 * IDLE).await;
        assert_eq!(handler.stats().ready, 0);
        inner.warm.put_back(ready);
        assert_eq!(handler.stats().ready, 1);
        tokio::time::sleep(2 * IDLE).await;
        assert_eq!(handler.stats().ready, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_is_asked_now_and_then_keeps_its_instances() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = sandbox(&folder);
        let handler = load(&sandbox).await;
        ask(&handler, 1).await;
        let on_path = handler.stats().made_on_path;
        for _ in 0..20 {
            tokio::time::sleep(IDLE / 2).await;
            ask(&handler, 1).await;
        }
        assert_eq!(handler.stats().made_on_path, on_path);
    }

    #[tokio::test(start_paused = true)]
    async fn handlers_that_were_loaded_first_leave_room_for_those_that_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = sandbox(&folder);
        let mut handlers = Vec::new();
        for _ in 0..3 * SLOTS {
            handlers.push(load(&sandbox).await);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(sandbox.free_slots(), SLOTS as usize);
        let last = handlers.last().unwrap();
        ask(last, 1).await;
        assert_eq!(
            last.stats().ready,
            1,
            "no more than one request has use for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn versions_that_come_and_go_leave_few_slots_with_what_they_touched() {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = sandbox(&folder);
        for _ in 0..3 * SLOTS {
            ask(&load(&sandbox).await, 2).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let metrics = sandbox.inner.serving.pooling_allocator_metrics().unwrap();
        assert_eq!(metrics.memories(), 0, "all versions are gone");
        // A quarter of the instances, and the few that were there at once; without a bound it
        // is all that the pool has, twice as many as instances.
        let warm = metrics.unused_warm_memories();
        assert!((1..=SLOTS / 2).contains(&warm), "{warm}");
    }

    #[test]
    fn the_task_backs_off_while_requests_outrun_it_and_no_longer() {
        let mut pause = 0;
        for expected in [1, 2, 3, 4, 5, 5] {
            pause = next_pause(pause, 8, 20);
            assert_eq!(pause, expected);
        }
        assert_eq!(next_pause(pause, 8, 3), 0);
        assert_eq!(next_pause(0, 0, 0), 0);
    }
}
