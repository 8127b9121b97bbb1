//! How much is measured: the sizes of a run, and of a quick one.

use std::time::Duration;

/// The sizes of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Rounds of every comparison. In each round all sides have their turn, so that a machine
    /// that grows slower or faster does so for all of them.
    pub(crate) rounds: usize,
    /// Requests of one side in one round, in process and paced.
    pub(crate) paced_requests: usize,
    /// Requests that are made and not counted, of each side.
    pub(crate) warm_up_requests: usize,
    /// Time of one side in one round, at saturation in process.
    pub(crate) saturated: Duration,
    /// Time of one side in one round over HTTP, after its warm-up.
    pub(crate) load: Duration,
    /// Time of load that is made and not counted before.
    pub(crate) load_warm_up: Duration,
    /// Connections kept alive, of each HTTP comparison.
    pub(crate) connections: &'static [usize],
    /// Starts and uploads.
    pub(crate) starts: usize,
}

/// Time from one paced request to the next, at the least. Warm instances are made in less.
pub(crate) const PERIOD: Duration = Duration::from_micros(200);

impl Plan {
    pub(crate) fn new(quick: bool) -> Plan {
        if quick {
            return Plan {
                rounds: 1,
                paced_requests: 300,
                warm_up_requests: 50,
                saturated: Duration::from_millis(200),
                load: Duration::from_millis(250),
                load_warm_up: Duration::from_millis(50),
                connections: &[1, 32],
                starts: 1,
            };
        }
        Plan {
            rounds: 7,
            paced_requests: 2000,
            warm_up_requests: 2000,
            saturated: Duration::from_secs(1),
            load: Duration::from_secs(2),
            load_warm_up: Duration::from_millis(300),
            connections: &[1, 8, 32],
            starts: 9,
        }
    }
}
