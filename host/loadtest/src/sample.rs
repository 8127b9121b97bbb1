//! The seeds' example as a result, for the tests of what is written.

use std::time::Duration;

use time::macros::datetime;

use crate::{
    failure::Failures,
    objective::Objective,
    plan::{Cell, Load, Think},
    replicas::Replicas,
    report::{CellResult, Ended, Point},
};

/// The seeds' bands.
#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
pub(crate) fn objective() -> Objective {
    Objective::new(350.0, 400.0, 0.5).unwrap()
}

pub(crate) fn cell() -> CellResult {
    let think = Think {
        min: Duration::from_secs(1),
        max: Duration::from_secs(3),
    };
    let mut replicas = Replicas::first(3);
    for reading in [4, 4, 6, 6, 5] {
        replicas.read(reading);
    }
    // The seeds' row counts no scale-down though it ends below its peak.
    replicas.scale_downs = 0;
    let point = |at: u32| Point {
        at_seconds: f64::from(at),
        rps: 40.0,
        failures_per_second: 0.0,
        p50_ms: Some(245.0),
        p95_ms: Some(312.0),
        p99_ms: at.is_multiple_of(2).then_some(458.0),
        replicas: Some(3 + at / 100),
    };
    CellResult {
        began: datetime!(2024-01-15 10:00:00 UTC),
        cell: Cell {
            load: Load::Closed { users: 100, think },
            workers: 4,
        },
        ended: Ended::Whole,
        measured_seconds: 240.0,
        replicas: Some(replicas),
        requests: 9650,
        rps: 9650.0 / 240.0,
        p50_ms: Some(245.0),
        p95_ms: Some(312.0),
        p99_ms: Some(458.0),
        max_ms: Some(1203.0),
        failure_percent: 0.0,
        failures: Failures::default(),
        warm_up_requests: 200,
        lateness_p99_ms: Some(1.0),
        held_back: 0,
        judgement: objective().judge(Some(312.0), 0.0),
        cautions: Vec::new(),
        series: (1..=240).map(point).collect(),
        distribution: vec![
            (120.0, 0.1),
            (245.0, 0.5),
            (312.0, 0.95),
            (458.0, 0.99),
            (1203.0, 1.0),
        ],
    }
}
