//! The load test: looks first whether there is something to test, then drives the cells of the plan
//! one after the other, and can be stopped at any time with what was measured so far.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{
    cell,
    objective::Objective,
    plan::{Cell, Plan},
    probe::{ProbeError, Probed, probe},
    replicas::{Origin, ReplicaError, read},
    report::{CellResult, Ended, Report},
    target::Target,
};

/// A load test, ready to run.
pub struct LoadTest {
    /// What is driven.
    pub plan: Plan,
    /// What is asked.
    pub target: Arc<Target>,
    /// What it is judged by.
    pub objective: Objective,
    /// Where replicas come from, if from anywhere.
    pub replicas: Option<Origin>,
}

/// A load test that did not come to a result.
#[derive(Debug, Error)]
pub enum RunError {
    /// No server to load, or one that refuses what it is asked.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Replicas were to be read and cannot be.
    #[error(transparent)]
    Replicas(#[from] ReplicaError),
    /// A worker did not start.
    #[error("worker {index} did not start: {reason}; try fewer --workers")]
    Start {
        /// Which.
        index: u32,
        /// Why.
        reason: std::io::Error,
    },
    /// A worker panicked: the figures would be of less than was asked.
    #[error(
        "a worker ended before its time, by a fault of the load test; nothing it measured is kept"
    )]
    WorkerDied,
}

/// What a cell is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Ramp and warm-up: not measured.
    WarmUp,
    /// Measured.
    Measuring,
    /// Nothing more is sent; the last answers are waited for.
    LastAnswers,
}

/// How a cell is getting on, once a second.
#[derive(Clone, Debug)]
pub struct Tick {
    /// The cell.
    pub cell: Cell,
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// What it is doing.
    pub phase: Phase,
    /// Since it began.
    pub elapsed: Duration,
    /// How long it sends, ramp and warm-up included.
    pub whole: Duration,
    /// Requests that ended in the last second.
    pub rps: f64,
    /// Requests under way.
    pub under_way: usize,
    /// P95 of the measured requests so far, in milliseconds.
    pub p95_ms: Option<f64>,
    /// Measured requests so far.
    pub requests: u64,
    /// Failures so far, of ramp and warm-up too.
    pub failed: u64,
    /// Replicas, where they are read.
    pub replicas: Option<u32>,
}

/// Is told how the test gets on.
pub trait Watcher {
    /// The first requests failed in a way that load may show more of.
    fn troubled(&mut self, _first: Probed) {}
    /// Once a second.
    fn tick(&mut self, _tick: &Tick) {}
    /// A cell has ended.
    fn cell(&mut self, _result: &CellResult) {}
    /// Nothing is sent for this long before the next cell.
    fn pause(&mut self, _pause: Duration) {}
}

impl LoadTest {
    /// Runs it. When `stop` is cancelled it ends at once: requests under way are dropped, and what was
    /// measured until then is the result.
    ///
    /// Takes at most [`Plan::longest`], and somewhat more for the first requests.
    ///
    /// # Errors
    /// No server, one that refuses, replicas that cannot be read: all before any load. Workers that
    /// do not start or die.
    pub async fn run(
        &self,
        watcher: &mut dyn Watcher,
        stop: &CancellationToken,
    ) -> Result<Report, RunError> {
        let mut report = Report {
            url: self.target.url().to_owned(),
            bodies: self.target.bodies().map(|body| body.name.clone()).collect(),
            objective: self.objective,
            plan: self.plan.clone(),
            replicas_from: self.replicas.as_ref().map(Origin::told),
            cells: Vec::new(),
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(report),
            looked = self.look() => match looked? {
                Probed::Well => {}
                troubled => watcher.troubled(troubled),
            },
        }
        for index in 0..self.plan.cells().len() {
            let pause = self.plan.timing().pause;
            if index > 0 && !pause.is_zero() {
                watcher.pause(pause);
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
            let Some(result) = cell::drive(self, index, watcher, stop).await? else {
                break;
            };
            watcher.cell(&result);
            let ended = result.ended;
            report.cells.push(result);
            if ended != Ended::Whole {
                break;
            }
        }
        Ok(report)
    }

    async fn look(&self) -> Result<Probed, RunError> {
        if let Some(Origin::Watched(source)) = &self.replicas {
            read(source.as_ref()).await?;
        }
        Ok(probe(&self.target, self.plan.timing().timeout).await?)
    }
}
