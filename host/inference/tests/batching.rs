//! The promises of shared runs, held against a network whose answers are easily told: nobody gets another's rows, and
//! nobody pays for another's fault.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use aegis_inference::backend::{Network, Session};
use aegis_inference::{
    BackendKind, Batching, BatchingMode, ComputeError, Dim, Graph, NamedTensor, Port, Priority,
    Settings, Signature, Tensor, TensorType, Terms, Unobserved,
};
use proptest::prelude::*;
use tokio::task::JoinHandle;

/// A row that begins with this makes the run it is in fail.
const FAIL: i32 = -1;
/// And with this, panic.
const PANIC: i32 = -2;

/// Takes `a` [rows, any], `b` [2, rows, 3] and a scalar `s`; answers `x` [rows, 2] and `y` [2, rows], which tell for each
/// row what it was.
struct Tells {
    signature: Signature,
    orders: Arc<Orders>,
}

#[derive(Default)]
struct Orders {
    gated: Mutex<bool>,
    opened: Condvar,
    /// How many rows each run had.
    runs: Mutex<Vec<u32>>,
    /// The first number of each run.
    first: Mutex<Vec<i32>>,
    inside: AtomicUsize,
    slowness: Mutex<Duration>,
    /// Answers are off by the number of neighbours, as a dynamically quantised network's are.
    depends: AtomicBool,
    /// `y` has no rows.
    sums_up: AtomicBool,
    refuses: AtomicBool,
}

fn port(name: &str, shape: &[Dim]) -> Port {
    Port {
        name: name.into(),
        ty: Some(TensorType::I32),
        shape: shape.to_vec(),
    }
}

const ANY: Dim = Dim::Dynamic;

fn signature() -> Signature {
    Signature {
        inputs: vec![
            port("a", &[ANY, ANY]),
            port("b", &[Dim::Fixed(2), ANY, Dim::Fixed(3)]),
            port("s", &[]),
        ],
        outputs: vec![
            port("x", &[ANY, Dim::Fixed(2)]),
            port("y", &[Dim::Fixed(2), ANY]),
        ],
    }
}

impl Network for Tells {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(TellsSession(Arc::clone(&self.orders))))
    }
}

struct TellsSession(Arc<Orders>);

impl Session for TellsSession {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError> {
        let orders = &self.0;
        if orders.refuses.load(Ordering::SeqCst) {
            return Err(ComputeError::Backend("not this".to_owned()));
        }
        orders.inside.fetch_add(1, Ordering::SeqCst);
        let gated = orders.gated.lock().unwrap();
        drop(orders.opened.wait_while(gated, |gated| *gated).unwrap());
        std::thread::sleep(*orders.slowness.lock().unwrap());
        orders.inside.fetch_sub(1, Ordering::SeqCst);
        let mut outputs = told(inputs);
        let a = inputs[0].tensor.to_vec::<i32>().unwrap();
        let (rows, width) = (
            inputs[0].tensor.shape().dims()[0],
            inputs[0].tensor.shape().dims()[1],
        );
        orders.runs.lock().unwrap().push(rows);
        orders.first.lock().unwrap().push(a[0]);
        for row in a.chunks(width as usize) {
            match row[0] {
                FAIL => return Err(ComputeError::Backend("told to fail".to_owned())),
                PANIC => panic!("told to"),
                _ => {}
            }
        }
        if orders.depends.load(Ordering::SeqCst) {
            let x = outputs[0].tensor.to_vec::<i32>().unwrap();
            let off: Vec<i32> = x.iter().map(|x| x + rows as i32).collect();
            outputs[0].tensor = Tensor::from_slice(&[rows, 2], &off).unwrap();
        }
        if orders.sums_up.load(Ordering::SeqCst) {
            outputs[1].tensor = Tensor::from_slice(&[2, 1], &[rows as i32, 0]).unwrap();
        }
        Ok(outputs)
    }
}

/// What is to be answered, row by row.
fn told(inputs: &[NamedTensor]) -> Vec<NamedTensor> {
    let a = inputs[0].tensor.to_vec::<i32>().unwrap();
    let b = inputs[1].tensor.to_vec::<i32>().unwrap();
    let s = inputs[2].tensor.to_vec::<i32>().unwrap()[0];
    let dims = inputs[0].tensor.shape().dims();
    let (rows, width) = (dims[0] as usize, dims[1] as usize);
    assert_eq!(inputs[1].tensor.shape().dims(), [2, rows as u32, 3]);
    let part = |half: usize, row: usize| b[(half * rows + row) * 3..][..3].iter().sum::<i32>();
    let mut x = Vec::new();
    let mut y = vec![0; 2 * rows];
    for row in 0..rows {
        let sum: i32 = a[row * width..][..width].iter().sum();
        x.extend([sum * 10 + s, a[row * width]]);
        y[row] = part(0, row) + s;
        y[rows + row] = part(1, row);
    }
    vec![
        NamedTensor::new("x", Tensor::from_slice(&[rows as u32, 2], &x).unwrap()),
        NamedTensor::new("y", Tensor::from_slice(&[2, rows as u32], &y).unwrap()),
    ]
}

/// A request whose rows are told from all others by `id`.
fn request(id: i32, rows: u32, width: u32, shared: i32) -> Vec<NamedTensor> {
    let a: Vec<i32> = (0..rows * width)
        .map(|at| if at % width == 0 { id } else { at as i32 })
        .collect();
    let b: Vec<i32> = (0..2 * rows * 3).map(|at| id * 7 + at as i32).collect();
    vec![
        NamedTensor::new("a", Tensor::from_slice(&[rows, width], &a).unwrap()),
        NamedTensor::new("b", Tensor::from_slice(&[2, rows, 3], &b).unwrap()),
        NamedTensor::new("s", Tensor::from_slice(&[], &[shared]).unwrap()),
    ]
}

fn start(settings: &Settings, orders: &Arc<Orders>) -> Graph {
    let network = Tells {
        signature: signature(),
        orders: Arc::clone(orders),
    };
    let graph = Graph::start(
        "tells",
        BackendKind::Embedded,
        Box::new(network),
        settings.clone(),
        Arc::new(Unobserved),
    )
    .unwrap();
    orders.runs.lock().unwrap().clear();
    orders.first.lock().unwrap().clear();
    graph
}

/// All through the queue, in batches of at most so many rows.
fn batches_of(max_rows: u32) -> Settings {
    Settings {
        in_place_bound: Duration::ZERO,
        queue_capacity: 1000,
        batching: Batching {
            mode: BatchingMode::On,
            max_rows,
            ..Batching::default()
        },
        ..Settings::default()
    }
}

fn with(settings: Settings, change: impl FnOnce(&mut Batching)) -> Settings {
    let mut settings = settings;
    change(&mut settings.batching);
    settings
}

type Answer = Result<Vec<NamedTensor>, ComputeError>;

fn ask(graph: &Graph, inputs: Vec<NamedTensor>, terms: Terms) -> JoinHandle<Answer> {
    let graph = graph.clone();
    tokio::spawn(async move { graph.compute(inputs, terms).await })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Holds the only session in a run of a request of its own, so that what is asked meanwhile waits.
struct Held<'a> {
    orders: &'a Orders,
    busy: JoinHandle<Answer>,
}

impl<'a> Held<'a> {
    async fn new(graph: &Graph, orders: &'a Orders) -> Self {
        *orders.gated.lock().unwrap() = true;
        // Of another width than all others, so that it runs alone.
        let busy = ask(graph, request(0, 1, 9, 0), Terms::default());
        until("the session is busy", || {
            orders.inside.load(Ordering::SeqCst) == 1
        })
        .await;
        Self { orders, busy }
    }

    async fn let_go(self) {
        *self.orders.gated.lock().unwrap() = false;
        self.orders.opened.notify_all();
        self.busy.await.unwrap().unwrap();
    }
}

/// Asks one after the other while the session is held, so that they wait in this order.
async fn all_waiting(
    graph: &Graph,
    requests: &[(Vec<NamedTensor>, Terms)],
) -> Vec<JoinHandle<Answer>> {
    let mut asked = Vec::new();
    for (inputs, terms) in requests {
        let depth = graph.queue_depth();
        asked.push(ask(graph, inputs.clone(), *terms));
        until("it waits", || graph.queue_depth() == depth + 1).await;
    }
    asked
}

/// Has them wait for the only session, and then sees each answered with its own.
async fn answered_in_company(
    graph: &Graph,
    orders: &Orders,
    requests: &[(Vec<NamedTensor>, Terms)],
) {
    let held = Held::new(graph, orders).await;
    let asked = all_waiting(graph, requests).await;
    held.let_go().await;
    for (asked, (inputs, _)) in asked.into_iter().zip(requests) {
        assert_eq!(asked.await.unwrap().unwrap(), told(inputs));
    }
}

fn of_priority(priority: Priority) -> Terms {
    Terms {
        deadline: None,
        priority,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_during_a_run_shares_the_next() {
    let orders = Arc::default();
    let graph = start(&batches_of(8), &orders);
    let requests: Vec<_> = (1..=12)
        .map(|id| (request(id, 1, 4, 0), Terms::default()))
        .collect();
    answered_in_company(&graph, &orders, &requests).await;
    assert_eq!(*orders.runs.lock().unwrap(), [1, 8, 4]);
    assert_eq!(graph.stats().runs, 3);
    assert_eq!(graph.stats().answered, 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_that_agree_in_all_but_their_rows_share_a_run() {
    let orders = Arc::default();
    let graph = start(&batches_of(8), &orders);
    // Of another width, and with another shared value.
    let kinds = [(4, 0), (5, 0), (4, 1), (4, 0), (4, 1), (5, 0)];
    let requests: Vec<_> = (1..)
        .zip(kinds)
        .map(|(id, (width, shared))| (request(id, 1, width, shared), Terms::default()))
        .collect();
    answered_in_company(&graph, &orders, &requests).await;
    assert_eq!(*orders.runs.lock().unwrap(), [1, 2, 2, 2]);
    assert_eq!(
        *orders.first.lock().unwrap(),
        [0, 1, 2, 3],
        "the oldest leads"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_more_rows_than_a_run_takes_is_cut_and_joined_again() {
    let orders = Arc::default();
    let graph = start(&batches_of(4), &orders);
    let held = Held::new(&graph, &orders).await;
    let requests = [
        (request(1, 10, 4, 0), Terms::default()),
        (request(2, 2, 4, 0), Terms::default()),
    ];
    let asked = all_waiting(&graph, &requests).await;
    assert_eq!(graph.queue_depth(), 2, "it counts as one");
    held.let_go().await;
    for (asked, (inputs, _)) in asked.into_iter().zip(&requests) {
        assert_eq!(asked.await.unwrap().unwrap(), told(inputs));
    }
    // What is left of it shares its run with the next.
    assert_eq!(*orders.runs.lock().unwrap(), [1, 4, 4, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_cut_only_where_somebody_set_how_many_rows_a_run_has() {
    let orders: Arc<Orders> = Arc::default();
    // A run takes as long for one row as for all, so that more of them gain.
    *orders.slowness.lock().unwrap() = Duration::from_millis(1);
    let settings = with(batches_of(4), |batching| batching.mode = BatchingMode::Auto);
    let graph = start(&settings, &orders);
    assert_eq!(graph.batching().max_rows, 4);
    let inputs = request(1, 10, 4, 0);
    assert_eq!(
        graph.compute(inputs.clone(), None).await.unwrap(),
        told(&inputs)
    );
    assert_eq!(*orders.runs.lock().unwrap(), [10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_request_does_not_wait_unless_asked_to() {
    let orders = Arc::default();
    let graph = start(&batches_of(8), &orders);
    let begun = Instant::now();
    for id in 1..=20 {
        graph.compute(request(id, 1, 4, 0), None).await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(*orders.runs.lock().unwrap(), [1; 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_run_is_made_in_place_while_many_share_those_of_the_queue() {
    let orders = Arc::default();
    let settings = Settings {
        in_place_bound: Duration::from_secs(1),
        ..batches_of(8)
    };
    let graph = start(&settings, &orders);
    let lone = async |times: u64| {
        let before = graph.stats().in_place_runs;
        for id in 1..=times {
            let answer = graph.compute(request(id as i32, 1, 4, 0), None).await;
            answer.unwrap();
        }
        graph.stats().in_place_runs - before
    };
    assert_eq!(lone(10).await, 10);
    let requests: Vec<_> = (1..=8)
        .map(|id| (request(id, 1, 4, 0), Terms::default()))
        .collect();
    for _ in 0..10 {
        answered_in_company(&graph, &orders, &requests).await;
    }
    assert_eq!(lone(1).await, 0, "more may come");
    // A fourteenth is left of what is remembered.
    lone(20).await;
    assert_eq!(lone(10).await, 10, "nobody came");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_waits_for_company_as_long_as_it_is_told_and_no_longer_than_needed() {
    let orders = Arc::default();
    let wait = Duration::from_millis(300);
    let graph = start(
        &with(batches_of(3), |batching| batching.max_wait = wait),
        &orders,
    );
    let begun = Instant::now();
    graph.compute(request(1, 1, 4, 0), None).await.unwrap();
    assert!(begun.elapsed() >= wait);
    let begun = Instant::now();
    let asked: Vec<_> = (2..=4)
        .map(|id| ask(&graph, request(id, 1, 4, 0), Terms::default()))
        .collect();
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < wait, "a full batch goes at once");
    // One that would be late goes in time.
    let deadline = Instant::now() + wait / 2;
    graph
        .compute(request(5, 1, 4, 0), Some(deadline))
        .await
        .unwrap();
    assert_eq!(*orders.runs.lock().unwrap(), [1, 3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn preferred_sizes_are_run_where_there_is_a_choice() {
    let orders = Arc::default();
    let settings = with(batches_of(8), |batching| {
        batching.preferred_rows = vec![4, 2]
    });
    let graph = start(&settings, &orders);
    let held = Held::new(&graph, &orders).await;
    let requests: Vec<_> = (1..=7)
        .map(|id| (request(id, 1, 4, 0), Terms::default()))
        .collect();
    let asked = all_waiting(&graph, &requests).await;
    held.let_go().await;
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(*orders.runs.lock().unwrap(), [1, 4, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_row_is_its_callers_alone() {
    for bad in [FAIL, PANIC] {
        let orders = Arc::default();
        let graph = start(&batches_of(8), &orders);
        let held = Held::new(&graph, &orders).await;
        let requests: Vec<_> = [1, 2, bad, 4]
            .map(|id| (request(id, 1, 4, 0), Terms::default()))
            .to_vec();
        let asked = all_waiting(&graph, &requests).await;
        held.let_go().await;
        for (asked, (inputs, _)) in asked.into_iter().zip(&requests) {
            let answer = asked.await.unwrap();
            match inputs[0].tensor.to_vec::<i32>().unwrap()[0] {
                FAIL => assert_eq!(
                    answer,
                    Err(ComputeError::Backend("told to fail".to_owned()))
                ),
                PANIC => assert!(
                    matches!(answer, Err(ComputeError::Panicked(_))),
                    "{answer:?}"
                ),
                _ => assert_eq!(answer.unwrap(), told(inputs)),
            }
        }
        assert_eq!(*orders.runs.lock().unwrap(), [1, 4, 1, 1, 1, 1]);
        // And the graph is whole.
        assert_eq!(
            graph.compute(request(5, 1, 4, 0), None).await.unwrap(),
            told(&request(5, 1, 4, 0))
        );
        assert_eq!(graph.stats().sessions, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_went_away_or_is_late_takes_no_part() {
    let orders = Arc::default();
    let graph = start(&batches_of(8), &orders);
    let held = Held::new(&graph, &orders).await;
    let soon = Terms::from(Some(Instant::now() + Duration::from_millis(50)));
    let requests = [
        (request(1, 6, 4, 0), Terms::default()),
        (request(2, 1, 4, 0), soon),
        (request(3, 1, 4, 0), Terms::default()),
        (request(4, 20, 4, 0), Terms::default()),
    ];
    let asked = all_waiting(&graph, &requests).await;
    asked[0].abort();
    asked[3].abort();
    until("late or gone", || graph.queue_depth() == 1).await;
    held.let_go().await;
    let mut asked = asked.into_iter();
    assert!(asked.next().unwrap().await.unwrap_err().is_cancelled());
    assert_eq!(
        asked.next().unwrap().await.unwrap(),
        Err(ComputeError::DeadlineExceeded)
    );
    assert!(asked.next().unwrap().await.unwrap().is_ok());
    assert_eq!(*orders.runs.lock().unwrap(), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_urgent_go_first_and_nobody_waits_for_ever() {
    let orders = Arc::default();
    let graph = start(&batches_of(1), &orders);
    let held = Held::new(&graph, &orders).await;
    let mut requests = vec![
        (request(100, 1, 4, 0), of_priority(Priority::Low)),
        (request(50, 1, 4, 0), of_priority(Priority::Normal)),
    ];
    requests.extend((1..=20).map(|id| (request(id, 1, 4, 0), of_priority(Priority::High))));
    let asked = all_waiting(&graph, &requests).await;
    held.let_go().await;
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    let order = orders.first.lock().unwrap().clone();
    assert_eq!(order[1..=8], [1, 2, 3, 4, 5, 6, 7, 8], "the urgent first");
    let place = |id| order.iter().position(|first| *first == id).unwrap();
    assert!(place(50) < 12 && place(100) < 14, "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_bytes_have_a_bound() {
    let orders = Arc::default();
    let graph = start(
        &Settings {
            queue_bytes: 200,
            ..batches_of(8)
        },
        &orders,
    );
    let held = Held::new(&graph, &orders).await;
    let one = request(1, 2, 4, 0);
    let bytes: usize = one.iter().map(|input| input.tensor.byte_len()).sum();
    assert!((100..200).contains(&(bytes + 50)));
    let asked = all_waiting(&graph, &[(one, Terms::default())]).await;
    assert_eq!(graph.stats().queue_bytes, bytes);
    let refused = graph.compute(request(2, 4, 4, 0), None).await;
    assert!(
        matches!(refused, Err(ComputeError::QueueFull { .. })),
        "{refused:?}"
    );
    held.let_go().await;
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(graph.stats().queue_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_depend_on_their_company_are_found_at_load() {
    let orders: Arc<Orders> = Arc::default();
    orders.depends.store(true, Ordering::SeqCst);
    let graph = start(
        &with(batches_of(8), |batching| batching.mode = BatchingMode::Auto),
        &orders,
    );
    let state = graph.batching();
    assert_eq!(state.max_rows, 1);
    let warning = state.warning.unwrap();
    assert!(warning.contains("`x` moves by"), "{warning}");
    // Who insists is warned.
    let state = start(&batches_of(8), &orders).batching();
    assert_eq!(state.max_rows, 8);
    assert!(
        state
            .warning
            .unwrap()
            .contains("depend on who shares the run")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_without_rows_keeps_requests_apart() {
    let orders: Arc<Orders> = Arc::default();
    orders.sums_up.store(true, Ordering::SeqCst);
    let state = start(&batches_of(8), &orders).batching();
    assert_eq!(state.max_rows, 1);
    let warning = state.warning.unwrap();
    assert!(
        warning.contains("`y` has shape [2, 1] for one row and [2, 1] for 3"),
        "{warning}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_is_batched_only_where_it_is_asked_for() {
    let orders: Arc<Orders> = Arc::default();
    orders.refuses.store(true, Ordering::SeqCst);
    let auto = start(
        &with(batches_of(8), |batching| batching.mode = BatchingMode::Auto),
        &orders,
    );
    assert_eq!(auto.batching().max_rows, 1);
    // `y` has its rows along axis 1, which nobody said.
    assert_eq!(start(&batches_of(8), &orders).batching().max_rows, 1);
    let said = with(batches_of(8), |batching| {
        batching.axes = vec![("y".to_owned(), Some(1))]
    });
    let graph = start(&said, &orders);
    assert_eq!(graph.batching().max_rows, 8);
    assert!(
        graph
            .batching()
            .warning
            .unwrap()
            .contains("could not be tried")
    );
    orders.refuses.store(false, Ordering::SeqCst);
    let inputs = request(3, 2, 4, 1);
    assert_eq!(
        graph.compute(inputs.clone(), None).await.unwrap(),
        told(&inputs)
    );
}

/// One request of a mix.
#[derive(Debug, Clone)]
struct Asked {
    rows: u32,
    width: u32,
    shared: i32,
    priority: Priority,
    fate: Fate,
    pause_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Plain,
    Fails,
    Panics,
    GoesAway,
    IsLate,
}

prop_compose! {
    fn asked()(
        rows in prop_oneof![4 => 1_u32..4, 1 => 4_u32..12],
        width in 1_u32..3,
        shared in 0..2,
        priority in prop::sample::select(&Priority::ALL[..]),
        fate in prop_oneof![
            8 => Just(Fate::Plain), 1 => Just(Fate::Fails), 1 => Just(Fate::Panics),
            1 => Just(Fate::GoesAway), 1 => Just(Fate::IsLate),
        ],
        pause_us in prop_oneof![Just(0), 0_u64..300],
    ) -> Asked {
        Asked { rows, width, shared, priority, fate, pause_us }
    }
}

fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str() != Some("told to") {
                before(info);
            }
        }));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever mix of shapes, rows, priorities, cancellations, deadlines and failures: each caller gets what it would
    /// get alone, and nobody is forgotten.
    #[test]
    fn every_caller_gets_what_it_gets_alone(
        mix in prop::collection::vec(asked(), 1..40),
        sessions in 1_usize..4,
        max_rows in 1_u32..7,
        wait_us in prop_oneof![Just(0_u64), 0_u64..2000],
        preferred in prop::collection::vec(1_u32..8, 0..3),
        slowness_us in prop_oneof![Just(0_u64), 0_u64..300],
        in_place in any::<bool>(),
    ) {
        quiet_panics();
        let orders: Arc<Orders> = Arc::default();
        let mut settings = with(batches_of(max_rows), |batching| {
            batching.max_wait = Duration::from_micros(wait_us);
            batching.preferred_rows = preferred;
        });
        settings.sessions = sessions;
        if in_place {
            settings.in_place_bound = Duration::from_secs(1);
        }
        let graph = start(&settings, &orders);
        *orders.slowness.lock().unwrap() = Duration::from_micros(slowness_us);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut callers = Vec::new();
            for (id, asked) in (1..).zip(mix) {
                let first = match asked.fate { Fate::Fails => FAIL, Fate::Panics => PANIC, _ => id };
                let inputs = request(first, asked.rows, asked.width, asked.shared);
                let late = asked.fate == Fate::IsLate;
                let deadline = late.then(|| Instant::now() + Duration::from_micros(asked.pause_us));
                let caller = ask(&graph, inputs.clone(), Terms { deadline, priority: asked.priority });
                if asked.pause_us > 0 {
                    tokio::time::sleep(Duration::from_micros(asked.pause_us)).await;
                }
                if asked.fate == Fate::GoesAway {
                    caller.abort();
                }
                callers.push((asked.fate, inputs, caller));
            }
            for (fate, inputs, caller) in callers {
                let answer = tokio::time::timeout(Duration::from_secs(30), caller).await.unwrap();
                let right = || told(&inputs);
                match (fate, answer) {
                    (Fate::GoesAway, Err(gone)) => assert!(gone.is_cancelled()),
                    (Fate::IsLate, Ok(Err(error))) => assert_eq!(error, ComputeError::DeadlineExceeded),
                    (Fate::Fails, Ok(answer)) => assert_eq!(answer, Err(ComputeError::Backend("told to fail".to_owned()))),
                    (Fate::Panics, Ok(answer)) => assert!(matches!(answer, Err(ComputeError::Panicked(_))), "{answer:?}"),
                    (_, Ok(answer)) => assert_eq!(answer.unwrap(), right()),
                    (_, Err(error)) => panic!("{error}"),
                }
            }
        });
        let stats = graph.stats();
        prop_assert_eq!((stats.queue_depth, stats.queue_bytes), (0, 0));
        let most = orders.runs.lock().unwrap().iter().copied().max().unwrap_or_default();
        prop_assert!(most <= max_rows || max_rows == 1, "{most} rows in one run");
    }
}
