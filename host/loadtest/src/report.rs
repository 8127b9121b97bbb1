//! What a load test found: one result a cell, with the figures of its row and what the plots are
//! made of.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    failure::Failures,
    objective::{Judgement, Objective, Verdict},
    plan::{Cell, Plan},
    replicas::{Replicas, ReplicasFrom},
};

/// How a cell came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It ran for its whole time.
    Whole,
    /// It was stopped (ctrl-c); the figures are of what was measured until then.
    Stopped,
    /// No request succeeded for too long; further cells are left out.
    GaveUp,
}

/// One point of the plots over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The end of the time that the point is of, in seconds since the measurement began.
    pub at_seconds: f64,
    /// Requests that ended, a second.
    pub rps: f64,
    /// Failures among them, a second.
    pub failures_per_second: f64,
    /// Their median, in milliseconds; none if none ended.
    pub p50_ms: Option<f64>,
    /// Their 95th percentile.
    pub p95_ms: Option<f64>,
    /// Their 99th percentile.
    pub p99_ms: Option<f64>,
    /// Replicas, where they are read or simulated.
    pub replicas: Option<u32>,
}

/// What a cell of the matrix found.
#[derive(Clone, Debug, Serialize)]
pub struct CellResult {
    /// When it began.
    #[serde(serialize_with = "rfc3339")]
    pub began: OffsetDateTime,
    /// What drove it.
    pub cell: Cell,
    /// How it ended.
    pub ended: Ended,
    /// How long it was measured, in seconds.
    pub measured_seconds: f64,
    /// Replicas, where they are read or simulated ([`Report::replicas_from`]).
    pub replicas: Option<Replicas>,
    /// Requests that fell into the measured time and ended, failed ones included.
    pub requests: u64,
    /// Requests a second.
    pub rps: f64,
    /// The median in milliseconds, of requests that were answered or timed out; none if none were.
    pub p50_ms: Option<f64>,
    /// Their 95th percentile.
    pub p95_ms: Option<f64>,
    /// Their 99th percentile.
    pub p99_ms: Option<f64>,
    /// Their longest.
    pub max_ms: Option<f64>,
    /// The share of the requests that failed, in percent.
    pub failure_percent: f64,
    /// Failures by kind.
    pub failures: Failures,
    /// Requests of ramp and warm-up, which count nowhere else.
    pub warm_up_requests: u64,
    /// How late the client itself was in sending, 99th percentile in milliseconds.
    pub lateness_p99_ms: Option<f64>,
    /// Requests that were due when as many were under way as may be.
    pub held_back: u64,
    /// The verdict and its reasons.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// What a reader should know before believing the figures.
    pub cautions: Vec<String>,
    /// Latencies and rates over time.
    pub series: Vec<Point>,
    /// The distribution of latencies: milliseconds, share at or below.
    pub distribution: Vec<(f64, f64)>,
}

/// What the whole load test found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked.
    pub url: String,
    /// The names of the bodies sent.
    pub bodies: Vec<String>,
    /// What it is judged by.
    pub objective: Objective,
    /// What was to be driven.
    pub plan: Plan,
    /// Where the replicas come from; none where there are none.
    pub replicas_from: Option<ReplicasFrom>,
    /// What was found, in the order of the plan's cells; fewer where it ended early.
    pub cells: Vec<CellResult>,
}

impl Report {
    /// The worst verdict; a fail where nothing was measured.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.cells.iter().map(|cell| cell.judgement.verdict);
        verdicts.max().unwrap_or(Verdict::Fail)
    }

    /// Whether the replicas are of a model and not of a cluster.
    #[must_use]
    pub fn simulated(&self) -> bool {
        self.replicas_from
            .as_ref()
            .is_some_and(ReplicasFrom::is_simulated)
    }

    /// Whether somebody stopped it.
    #[must_use]
    pub fn stopped(&self) -> bool {
        let stopped = |cell: &CellResult| cell.ended == Ended::Stopped;
        self.cells.len() < self.plan.cells().len() && !self.gave_up()
            || self.cells.iter().any(stopped)
    }

    /// Whether it ended for want of any success.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.cells.iter().any(|cell| cell.ended == Ended::GaveUp)
    }
}

/// As the seeds' rows have it, in UTC and saying so: `2024-01-15T10:00:00Z`.
pub(crate) fn timestamp(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0)
        .unwrap_or(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}

fn rfc3339<S: serde::Serializer>(at: &OffsetDateTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&timestamp(*at))
}
