//! The scheduler under a model checker: Shuttle runs its threads one at a time and picks whose step is next, thousands of
//! times over. A wake-up that is lost in any of these orders is a deadlock, which it finds; an answer that goes astray
//! is seen by its caller.
//!
//! `cargo test --workspace --features aegis-inference/shuttle --test shuttle`; the feature puts Shuttle's locks and
//! threads in the place of the real ones.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use aegis_inference::backend::{Network, Session};
use aegis_inference::{
    BackendKind, Batching, BatchingMode, ComputeError, Dim, Graph, NamedTensor, Port, Settings,
    Signature, Tensor, TensorType, Unobserved,
};
use shuttle::future::block_on;
use shuttle::thread;

/// How many orders each model is run in, half of them by chance and half as PCT has it (Burckhardt and others, 2010:
/// few changes of thread, at any steps). `AEGIS_SHUTTLE_ORDERS` says otherwise.
fn orders() -> usize {
    std::env::var("AEGIS_SHUTTLE_ORDERS").map_or(2_000, |orders| orders.parse().unwrap())
}

fn check(model: fn()) {
    let half = orders() / 2;
    shuttle::check_random(model, half);
    shuttle::check_pct(model, half, 3);
}

/// A network that answers with its input; what it fails on, it fails on for the whole run.
struct Echo(Signature);

/// A run with this row panics.
const PANIC: i32 = -1;
/// A run with this row fails.
const FAIL: i32 = -2;

impl Echo {
    fn new() -> Self {
        let port = Port {
            name: "value".into(),
            ty: Some(TensorType::I32),
            shape: vec![Dim::Dynamic],
        };
        Self(Signature {
            inputs: vec![port.clone()],
            outputs: vec![port],
        })
    }
}

impl Network for Echo {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn session(&self) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(EchoSession))
    }
}

struct EchoSession;

impl Session for EchoSession {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ComputeError> {
        let rows = inputs[0].tensor.to_vec::<i32>().unwrap();
        // Others may go meanwhile.
        thread::yield_now();
        if rows.contains(&PANIC) {
            panic!("told to");
        }
        if rows.contains(&FAIL) {
            return Err(ComputeError::Backend("told to fail".to_owned()));
        }
        Ok(inputs.to_vec())
    }
}

fn graph(sessions: usize, in_place: bool) -> Graph {
    let settings = Settings {
        sessions,
        in_place_bound: if in_place {
            Duration::from_secs(3600)
        } else {
            Duration::ZERO
        },
        batching: Batching {
            mode: BatchingMode::On,
            max_rows: 3,
            ..Batching::default()
        },
        ..Settings::default()
    };
    let network = Box::new(Echo::new());
    Graph::start(
        "echo",
        BackendKind::Embedded,
        network,
        settings,
        Arc::new(Unobserved),
    )
    .unwrap()
}

fn rows(values: &[i32]) -> Vec<NamedTensor> {
    let dims = [u32::try_from(values.len()).unwrap()];
    vec![NamedTensor::new(
        "value",
        Tensor::from_slice(&dims, values).unwrap(),
    )]
}

/// Asks and holds the answer against what it would be alone.
fn ask(graph: &Graph, values: &[i32]) {
    let answer = block_on(graph.compute(rows(values), None));
    if values.contains(&PANIC) {
        assert!(
            matches!(answer, Err(ComputeError::Panicked(_))),
            "{answer:?}"
        );
    } else if values.contains(&FAIL) {
        assert!(
            matches!(answer, Err(ComputeError::Backend(_))),
            "{answer:?}"
        );
    } else {
        assert_eq!(answer.unwrap()[0].tensor.to_vec::<i32>().unwrap(), values);
    }
}

/// Callers side by side, each with the requests that are given it. All have their answers, and the graph's threads end.
fn callers(graph: &Graph, requests: &[&'static [&'static [i32]]]) {
    let callers: Vec<_> = requests
        .iter()
        .map(|requests| {
            let (graph, requests) = (graph.clone(), *requests);
            thread::spawn(move || {
                for values in requests {
                    ask(&graph, values);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn no_wake_up_is_lost_and_rows_go_home() {
    check(|| {
        callers(
            &graph(2, false),
            &[&[&[1], &[2]], &[&[3, 4], &[5]], &[&[6], &[7, 8, 9, 10, 11]]],
        );
    });
}

#[test]
fn runs_in_place_and_runs_of_threads_give_way_to_each_other() {
    check(|| {
        callers(
            &graph(1, true),
            &[&[&[1], &[2]], &[&[3], &[4]], &[&[5], &[6]]],
        );
    });
}

#[test]
fn the_guilty_alone_are_told() {
    check(|| {
        callers(
            &graph(1, false),
            &[&[&[1], &[2]], &[&[FAIL], &[3]], &[&[4, 5]]],
        );
    });
}

#[test]
fn a_session_that_panics_is_replaced_whoever_waits() {
    check(|| {
        callers(&graph(2, false), &[&[&[1], &[2]], &[&[PANIC], &[3]]]);
    });
}

#[test]
fn who_goes_away_takes_nothing_along() {
    check(|| {
        let graph = graph(1, false);
        let leaves = thread::spawn({
            let graph = graph.clone();
            move || {
                for value in [1, 2] {
                    // Asked once, and not waited for.
                    let answer = pin!(graph.compute(rows(&[value]), None));
                    let _ = answer.poll(&mut Context::from_waker(Waker::noop()));
                }
            }
        });
        callers(&graph, &[&[&[3], &[4]], &[&[5]]]);
        leaves.join().unwrap();
        assert_eq!(graph.stats().queue_depth, 0);
    });
}

#[test]
fn a_graph_that_closes_answers_all_who_wait() {
    check(|| {
        let graph = graph(2, false);
        let callers: Vec<_> = (0..3)
            .map(|value| {
                let graph = graph.clone();
                thread::spawn(move || {
                    let answer = block_on(graph.compute(rows(&[value]), None));
                    match answer {
                        Ok(answer) => {
                            assert_eq!(answer[0].tensor.to_vec::<i32>().unwrap(), [value]);
                        }
                        Err(error) => assert_eq!(error, ComputeError::Closed),
                    }
                })
            })
            .collect();
        graph.close();
        for caller in callers {
            caller.join().unwrap();
        }
    });
}
