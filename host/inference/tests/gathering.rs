//! Where callers and runs want the same processor, runs wait for the callers: they are larger for it, and fewer.
//!
//! On one processor of its own choosing, so that it says the same on any machine.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_inference::backend::{Network, Session};
use aegis_inference::{
    BackendKind, Batching, BatchingMode, ComputeError, Dim, Graph, GraphStats, NamedTensor, Port,
    Settings, Signature, Tensor, TensorType, Unobserved,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a run computes, whatever it is of, and a caller before it asks.
const WORK: Duration = Duration::from_micros(50);
const ROUNDS: i32 = 100;

/// Answers with its input.
struct Echo(Signature);

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
        busy();
        Ok(inputs.to_vec())
    }
}

fn busy() {
    let begun = Instant::now();
    while begun.elapsed() < WORK {
        std::hint::spin_loop();
    }
}

fn port() -> Port {
    Port {
        name: "value".into(),
        ty: Some(TensorType::I32),
        shape: vec![Dim::Dynamic],
    }
}

/// Keeps this thread, and those that it will start, on one of the processors that it may use.
fn on_one_processor() {
    let may = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|cpu| may.is_set(*cpu)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
}

/// What the graph has done once so many callers have each had their answers, and had to work for every question.
fn asked_by(callers: i32) -> GraphStats {
    on_one_processor();
    let graph = Graph::start(
        "echo",
        BackendKind::Embedded,
        Box::new(Echo(Signature {
            inputs: vec![port()],
            outputs: vec![port()],
        })),
        Settings {
            in_place_bound: Duration::ZERO,
            batching: Batching {
                mode: BatchingMode::On,
                ..Batching::default()
            },
            ..Settings::default()
        },
        Arc::new(Unobserved),
    )
    .unwrap();
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    executor.block_on(async {
        let callers: Vec<_> = (0..callers)
            .map(|caller| {
                let graph = graph.clone();
                tokio::spawn(async move {
                    for round in 0..ROUNDS {
                        busy();
                        let value = caller * ROUNDS + round;
                        let asked = Tensor::from_slice(&[1], &[value]).unwrap();
                        let asked = vec![NamedTensor::new("value", asked)];
                        let answer = graph.compute(asked, None).await.unwrap();
                        assert_eq!(answer[0].tensor.to_vec::<i32>().unwrap(), [value]);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
    graph.stats()
}

#[test]
fn a_run_begins_when_the_callers_have_asked_who_want_its_processor() {
    let stats = asked_by(16);
    // Nearly all sixteen in each; where a run begins with the first of them it is a few.
    assert!(stats.answered >= 8 * stats.runs, "{stats:?}");
}

#[test]
fn a_lone_caller_has_its_runs_to_itself() {
    let stats = asked_by(1);
    assert_eq!(stats.answered, stats.runs);
}
