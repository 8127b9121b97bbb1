//! The scheduler's promises, held against a session that does exactly as told. What real sessions add is in
//! `sessions.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use aegis_inference::backend::{Network, Session};
use aegis_inference::{
    BackendKind, ComputeError, Dim, Graph, IN_PLACE_BOUND, NamedTensor, Observer, Port, RunReport,
    Settings, Signature, Tensor, TensorType, Unobserved,
};
use tokio::task::JoinHandle;

/// A network whose sessions answer with their input. While the gate is held, no session finishes a run.
struct Told {
    signature: Signature,
    orders: Arc<Orders>,
}

/// What its sessions do, and what they did.
#[derive(Default)]
struct Orders {
    gated: Mutex<bool>,
    opened: Condvar,
    ran: Mutex<Vec<i32>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    sessions_made: AtomicUsize,
    refuse_new_sessions: AtomicBool,
    slowness: Mutex<Duration>,
}

/// A session that is asked this panics instead of answering.
const PANIC: i32 = -1;
/// A session that is asked this fails.
const FAIL: i32 = -2;

impl Network for Told {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, String> {
        if self.orders.refuse_new_sessions.load(Ordering::SeqCst) {
            return Err("no more memory".to_owned());
        }
        self.orders.sessions_made.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(ToldSession(Arc::clone(&self.orders))))
    }
}

struct ToldSession(Arc<Orders>);

impl Session for ToldSession {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError> {
        let orders = &self.0;
        let value = inputs[0].tensor.to_vec::<i32>().unwrap()[0];
        let now = orders.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        orders.most_at_once.fetch_max(now, Ordering::SeqCst);
        drop(
            orders
                .opened
                .wait_while(orders.gated.lock().unwrap(), |gated| *gated)
                .unwrap(),
        );
        std::thread::sleep(*orders.slowness.lock().unwrap());
        orders.at_once.fetch_sub(1, Ordering::SeqCst);
        orders.ran.lock().unwrap().push(value);
        match value {
            PANIC => panic!("told to"),
            FAIL => Err(ComputeError::Backend("told to fail".to_owned())),
            _ => Ok(inputs.to_vec()),
        }
    }
}

fn signature() -> Signature {
    Signature {
        inputs: vec![Port {
            name: "value".into(),
            ty: Some(TensorType::I32),
            shape: vec![Dim::Fixed(1)],
        }],
        outputs: vec![],
    }
}

/// Every run goes through the queue.
fn queued() -> Settings {
    Settings {
        in_place_bound: Duration::ZERO,
        ..Settings::default()
    }
}

fn start_observed(settings: Settings, observer: Arc<dyn Observer>) -> (Graph, Arc<Orders>) {
    let orders = Arc::new(Orders::default());
    let network = Told {
        signature: signature(),
        orders: Arc::clone(&orders),
    };
    let graph = Graph::start(
        "told",
        BackendKind::Embedded,
        Box::new(network),
        settings,
        observer,
    )
    .unwrap();
    orders.ran.lock().unwrap().clear();
    (graph, orders)
}

fn start(settings: Settings) -> (Graph, Arc<Orders>) {
    start_observed(settings, Arc::new(Unobserved))
}

fn value(value: i32) -> Vec<NamedTensor> {
    vec![NamedTensor::new(
        "value",
        Tensor::from_slice(&[1], &[value]).unwrap(),
    )]
}

type Answer = Result<Vec<NamedTensor>, ComputeError>;

fn ask(graph: &Graph, asked: i32, deadline: Option<Instant>) -> JoinHandle<Answer> {
    let graph = graph.clone();
    tokio::spawn(async move { graph.compute(value(asked), deadline).await })
}

fn number(answer: Answer) -> i32 {
    answer.unwrap()[0].tensor.to_vec::<i32>().unwrap()[0]
}

/// Waits until `true`: for states that other threads reach soon but not at once.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Holds every session in its run until dropped.
struct Gate<'a>(&'a Orders);

impl<'a> Gate<'a> {
    fn close(orders: &'a Orders) -> Self {
        *orders.gated.lock().unwrap() = true;
        Self(orders)
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        *self.0.gated.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

/// Occupies the one session behind the gate.
async fn occupy(graph: &Graph, orders: &Orders) -> JoinHandle<Answer> {
    let busy = ask(graph, 0, None);
    until("the session is busy", || {
        orders.at_once.load(Ordering::SeqCst) == 1
    })
    .await;
    busy
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_run_in_the_order_they_came() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let mut asked = Vec::new();
    for i in 1..=20 {
        asked.push(ask(&graph, i, None));
        until("it waits", || graph.queue_depth() == i as usize).await;
    }
    drop(gate);
    assert_eq!(number(busy.await.unwrap()), 0);
    for (i, asked) in (1..).zip(asked) {
        assert_eq!(
            number(asked.await.unwrap()),
            i,
            "every caller gets its own answer"
        );
    }
    assert_eq!(*orders.ran.lock().unwrap(), (0..=20).collect::<Vec<_>>());
    assert_eq!(graph.queue_depth(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_says_how_full() {
    let (graph, orders) = start(Settings {
        queue_capacity: 2,
        ..queued()
    });
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let waiting = [ask(&graph, 1, None), ask(&graph, 2, None)];
    until("both wait", || graph.queue_depth() == 2).await;
    let error = graph.compute(value(3), None).await.unwrap_err();
    assert!(
        matches!(&error, ComputeError::QueueFull { graph, waiting: 2, .. } if graph == "told"),
        "{error:?}"
    );
    assert_eq!(graph.queue_depth(), 2, "a refused request leaves no trace");
    drop(gate);
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    busy.await.unwrap().unwrap();
    assert_eq!(number(graph.compute(value(4), None).await), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_is_answered_without_running() {
    let (graph, orders) = start(queued());
    let error = graph
        .compute(value(1), Some(Instant::now()))
        .await
        .unwrap_err();
    assert_eq!(error, ComputeError::DeadlineExceeded);
    assert_eq!(graph.stats().runs, 0);
    assert!(orders.ran.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_in_the_queue_is_answered_then_and_never_runs() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let begin = Instant::now();
    let late = ask(&graph, 1, Some(begin + Duration::from_millis(30)));
    let in_time = ask(&graph, 2, Some(begin + Duration::from_secs(60)));
    assert_eq!(
        late.await.unwrap().unwrap_err(),
        ComputeError::DeadlineExceeded
    );
    assert!(begin.elapsed() >= Duration::from_millis(30));
    until("its place is free", || graph.queue_depth() == 1).await;
    drop(gate);
    busy.await.unwrap().unwrap();
    assert_eq!(number(in_time.await.unwrap()), 2);
    assert_eq!(*orders.ran.lock().unwrap(), [0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_during_the_run_does_not_wait_for_it() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let late = ask(&graph, 1, Some(Instant::now() + Duration::from_millis(30)));
    assert_eq!(
        late.await.unwrap().unwrap_err(),
        ComputeError::DeadlineExceeded
    );
    assert_eq!(orders.at_once.load(Ordering::SeqCst), 1, "the run goes on");
    drop(gate);
    assert_eq!(
        number(graph.compute(value(2), None).await),
        2,
        "and the graph serves after it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_the_queue_and_never_runs() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let gone = [ask(&graph, 1, None), ask(&graph, 2, None)];
    let stays = ask(&graph, 3, None);
    until("all wait", || graph.queue_depth() == 3).await;
    for gone in gone {
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    until("the gone have left", || graph.queue_depth() == 1).await;
    drop(gate);
    busy.await.unwrap().unwrap();
    assert_eq!(number(stays.await.unwrap()), 3);
    assert_eq!(*orders.ran.lock().unwrap(), [0, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_run_side_by_side_and_no_more_than_there_are() {
    let (graph, orders) = start(Settings {
        sessions: 3,
        ..queued()
    });
    let gate = Gate::close(&orders);
    let asked: Vec<_> = (1..=10).map(|i| ask(&graph, i, None)).collect();
    until("three run and seven wait", || {
        orders.at_once.load(Ordering::SeqCst) == 3 && graph.queue_depth() == 7
    })
    .await;
    assert_eq!(graph.stats().idle_sessions, 0);
    drop(gate);
    for (i, asked) in (1..).zip(asked) {
        assert_eq!(number(asked.await.unwrap()), i);
    }
    assert_eq!(orders.most_at_once.load(Ordering::SeqCst), 3);
    assert_eq!(graph.stats().idle_sessions, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_run_is_made_on_the_callers_thread() {
    let (graph, _orders) = start(Settings {
        in_place_bound: Duration::from_secs(1),
        ..Settings::default()
    });
    for i in 0..10 {
        assert_eq!(number(graph.compute(value(i), None).await), i);
    }
    let stats = graph.stats();
    assert_eq!((stats.runs, stats.in_place_runs), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_longer_than_the_bound_is_never_made_in_place() {
    let orders = Arc::new(Orders::default());
    *orders.slowness.lock().unwrap() = 2 * IN_PLACE_BOUND;
    let network = Told {
        signature: signature(),
        orders: Arc::clone(&orders),
    };
    let graph = Graph::start(
        "told",
        BackendKind::Embedded,
        Box::new(network),
        Settings::default(),
        Arc::new(Unobserved),
    )
    .unwrap();
    assert!(graph.stats().warm_up.unwrap() >= 2 * IN_PLACE_BOUND);
    assert_eq!(number(graph.compute(value(1), None).await), 1);
    assert_eq!(graph.stats().in_place_runs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_whose_runs_turn_long_leaves_the_callers_threads_and_returns() {
    let bound = Duration::from_millis(1);
    let (graph, orders) = start(Settings {
        in_place_bound: bound,
        ..Settings::default()
    });
    *orders.slowness.lock().unwrap() = 8 * bound;
    for i in 0..10 {
        graph.compute(value(i), None).await.unwrap();
    }
    let in_place = graph.stats().in_place_runs;
    assert!(in_place < 10, "a few long runs are enough, not {in_place}");
    *orders.slowness.lock().unwrap() = Duration::ZERO;
    for i in 0..1000 {
        graph.compute(value(i), None).await.unwrap();
    }
    assert!(
        graph.stats().in_place_runs > in_place,
        "short again, it comes back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_its_turn_even_if_runs_are_short() {
    let (graph, orders) = start(Settings {
        in_place_bound: Duration::from_secs(1),
        ..Settings::default()
    });
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let waiting: Vec<_> = (1..=5).map(|i| ask(&graph, i, None)).collect();
    until("all wait for the leased session", || {
        graph.queue_depth() == 5
    })
    .await;
    drop(gate);
    busy.await.unwrap().unwrap();
    for (i, waiting) in (1..).zip(waiting) {
        assert_eq!(
            number(waiting.await.unwrap()),
            i,
            "the caller that gives back wakes the session thread"
        );
    }
    assert_eq!(graph.stats().in_place_runs, 1);
}

/// Many callers, some that give up, few sessions, runs both in place and not: a lost wake-up would leave someone waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_forgotten_under_load() {
    let (graph, orders) = start(Settings {
        sessions: 2,
        queue_capacity: 10_000,
        in_place_bound: Duration::from_secs(1),
        ..Settings::default()
    });
    let asked: Vec<_> = (0..5_000)
        .map(|i| {
            let graph = graph.clone();
            tokio::spawn(async move {
                if i % 7 == 0 {
                    // Gives up after a moment, or is answered before.
                    let _ = tokio::time::timeout(
                        Duration::from_micros(50),
                        graph.compute(value(i), None),
                    )
                    .await;
                    return;
                }
                let deadline = (i % 5 == 0).then(|| Instant::now() + Duration::from_secs(60));
                assert_eq!(number(graph.compute(value(i), deadline).await), i);
            })
        })
        .collect();
    for asked in asked {
        tokio::time::timeout(Duration::from_secs(30), asked)
            .await
            .expect("forgotten")
            .unwrap();
    }
    assert_eq!(graph.queue_depth(), 0);
    assert!(orders.most_at_once.load(Ordering::SeqCst) <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_its_callers_alone() {
    let (graph, _orders) = start(Settings::default());
    let error = graph.compute(value(FAIL), None).await.unwrap_err();
    assert_eq!(error, ComputeError::Backend("told to fail".to_owned()));
    assert_eq!(number(graph.compute(value(1), None).await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_panics_is_replaced() {
    for in_place_bound in [Duration::ZERO, Duration::from_secs(1)] {
        let (graph, orders) = start(Settings {
            in_place_bound,
            ..Settings::default()
        });
        let made = orders.sessions_made.load(Ordering::SeqCst);
        for round in 1..=3 {
            let error = graph.compute(value(PANIC), None).await.unwrap_err();
            assert_eq!(
                error,
                ComputeError::Panicked("the backend panicked: told to".to_owned())
            );
            // Whoever asks meanwhile waits for the new session.
            assert_eq!(number(graph.compute(value(round), None).await), round);
            assert_eq!(
                orders.sessions_made.load(Ordering::SeqCst),
                made + round as usize
            );
        }
        assert_eq!(graph.stats().sessions, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_whose_last_session_cannot_be_replaced_says_so_to_everyone() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let busy = ask(&graph, PANIC, None);
    until("the session is busy", || {
        orders.at_once.load(Ordering::SeqCst) == 1
    })
    .await;
    let waiting = ask(&graph, 1, None);
    until("one waits", || graph.queue_depth() == 1).await;
    orders.refuse_new_sessions.store(true, Ordering::SeqCst);
    drop(gate);
    assert!(matches!(
        busy.await.unwrap(),
        Err(ComputeError::Panicked(_))
    ));
    let told = ComputeError::Backend(
        "the graph's last session panicked and could not be replaced: no more memory".to_owned(),
    );
    assert_eq!(waiting.await.unwrap().unwrap_err(), told);
    assert_eq!(graph.compute(value(2), None).await.unwrap_err(), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_leaves_the_others_serving() {
    let (graph, orders) = start(Settings {
        sessions: 2,
        ..queued()
    });
    orders.refuse_new_sessions.store(true, Ordering::SeqCst);
    graph.compute(value(PANIC), None).await.unwrap_err();
    for i in 0..10 {
        assert_eq!(number(graph.compute(value(i), None).await), i);
    }
    assert_eq!(graph.stats().sessions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_graph_tells_those_who_wait_and_those_who_come() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let waiting = ask(&graph, 1, None);
    until("one waits", || graph.queue_depth() == 1).await;
    graph.close();
    assert_eq!(waiting.await.unwrap().unwrap_err(), ComputeError::Closed);
    assert_eq!(
        graph.compute(value(2), None).await.unwrap_err(),
        ComputeError::Closed
    );
    drop(gate);
    assert_eq!(number(busy.await.unwrap()), 0, "what runs is finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_frees_sessions_and_threads() {
    let (graph, orders) = start(Settings {
        sessions: 3,
        ..queued()
    });
    let another = graph.clone();
    drop(graph);
    assert_eq!(number(another.compute(value(1), None).await), 1);
    drop(another);
    // Every session and the network hold one count; a thread that lived on would hold the network.
    until("all is freed", || Arc::strong_count(&orders) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_never_queues() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let wrong = vec![NamedTensor::new(
        "value",
        Tensor::from_slice(&[2], &[1, 2]).unwrap(),
    )];
    let error = graph.compute(wrong, None).await.unwrap_err();
    assert_eq!(
        error,
        ComputeError::InvalidInput("input `value` has shape [2]: the graph takes [1]".to_owned())
    );
    assert_eq!(graph.queue_depth(), 0);
    drop(gate);
    busy.await.unwrap().unwrap();
}

struct Run {
    backend: BackendKind,
    batch_size: usize,
    queue: Duration,
    succeeded: bool,
    in_place: bool,
}

#[derive(Default)]
struct Notes {
    depths: Mutex<Vec<usize>>,
    runs: Mutex<Vec<Run>>,
}

impl Observer for Notes {
    fn queued(&self, graph: &str, depth: usize) {
        assert_eq!(graph, "told");
        self.depths.lock().unwrap().push(depth);
    }

    fn ran(&self, report: RunReport<'_>) {
        self.runs.lock().unwrap().push(Run {
            backend: report.backend,
            batch_size: report.batch_size,
            queue: report.queue,
            succeeded: report.succeeded,
            in_place: report.in_place,
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_is_reported_with_its_wait() {
    let notes = Arc::new(Notes::default());
    let (graph, orders) = start_observed(queued(), Arc::clone(&notes) as Arc<dyn Observer>);
    let gate = Gate::close(&orders);
    let busy = occupy(&graph, &orders).await;
    let waiting = ask(&graph, FAIL, None);
    until("one waits", || graph.queue_depth() == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(gate);
    busy.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap_err();
    let runs = notes.runs.lock().unwrap();
    assert_eq!(runs.len(), 2, "the warm-up is not reported");
    let run = &runs[1];
    assert_eq!((run.backend, run.batch_size), (BackendKind::Embedded, 1));
    assert_eq!((run.succeeded, run.in_place), (false, false));
    assert!(run.queue >= Duration::from_millis(20), "{:?}", run.queue);
    assert_eq!(*notes.depths.lock().unwrap(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_can_learn_when_its_run_was() {
    let (graph, orders) = start(queued());
    let gate = Gate::close(&orders);
    let occupied = occupy(&graph, &orders).await;
    let asked = Instant::now();
    let timed = {
        let graph = graph.clone();
        tokio::spawn(async move { graph.compute_timed(value(2), None).await })
    };
    until("a request waits", || graph.queue_depth() == 1).await;
    std::thread::sleep(Duration::from_millis(5));
    *orders.slowness.lock().unwrap() = Duration::from_millis(3);
    drop(gate);
    number(occupied.await.unwrap());
    let (answer, times) = timed.await.unwrap();
    let times = times.unwrap();
    assert_eq!(number(answer), 2);
    assert!(asked <= times.queued && times.ended <= Instant::now());
    assert!(times.started >= times.queued + Duration::from_millis(5));
    assert!(times.ended >= times.started + Duration::from_millis(3));
    assert_eq!((times.batch_size, times.in_place), (1, false));
    // A run that failed was one as well; a request that never came to one has no times.
    let (failed, times) = graph.compute_timed(value(FAIL), None).await;
    assert!(failed.is_err() && times.is_some());
    let (late, times) = graph.compute_timed(value(1), Some(asked)).await;
    assert_eq!(late.unwrap_err(), ComputeError::DeadlineExceeded);
    assert!(times.is_none());
}

/// Session threads by their names, of which Linux keeps fifteen characters.
#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|comm| comm.trim() == name)
        .count()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_comes_for_a_session_when_there_is_work_for_it() {
    let orders = Arc::new(Orders::default());
    let network = Told {
        signature: signature(),
        orders: Arc::clone(&orders),
    };
    let settings = Settings {
        sessions: 3,
        ..queued()
    };
    let graph = Graph::start(
        "on-demand",
        BackendKind::Embedded,
        Box::new(network),
        settings,
        Arc::new(Unobserved),
    )
    .unwrap();
    // A thread gives itself its name.
    until("the first thread", || threads_named("nn on-demand") == 1).await;
    let gate = Gate::close(&orders);
    let waiting: Vec<_> = (0..6)
        .map(|of| {
            let graph = graph.clone();
            tokio::spawn(async move { graph.compute(value(of), None).await })
        })
        .collect();
    until("three at once", || {
        orders.at_once.load(Ordering::SeqCst) == 3
    })
    .await;
    assert_eq!(threads_named("nn on-demand"), 3);
    drop(gate);
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(threads_named("nn on-demand"), 3);
}

#[tokio::test]
async fn a_run_in_place_waited_for_nothing() {
    let (graph, _orders) = start(Settings {
        in_place_bound: Duration::from_secs(60),
        ..Settings::default()
    });
    let (answer, times) = graph.compute_timed(value(1), None).await;
    let times = times.unwrap();
    assert_eq!(number(answer), 1);
    assert!(times.in_place && times.queued == times.started);
}
