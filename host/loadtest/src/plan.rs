//! What is to be driven: the matrix of load × workers and the timing of each of its cells, checked
//! once, here.

use std::{fmt, num::NonZeroU32, time::Duration};

use serde::Serialize;
use thiserror::Error;

pub use crate::load::{Load, Loads, Think};
use crate::span;

/// The users of the seeds' matrix.
pub const SEED_USERS: [u32; 5] = [25, 50, 100, 200, 400];
/// The workers of the seeds' matrix.
pub const SEED_WORKERS: [u32; 2] = [4, 8];
/// How long a cell of the seeds' matrix is measured.
pub const SEED_DURATION: Duration = Duration::from_secs(240);

/// More client threads than this only take turns.
const MAX_WORKERS: u32 = 1024;
/// A user is a task and a connection; this is beyond the ports that one machine has.
const MAX_USERS: u32 = 60_000;
/// Arrivals a second beyond which one client's clock is no use.
const MAX_RATE: f64 = 1_000_000.0;

/// What all cells share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// How long each cell is measured.
    #[serde(serialize_with = "span::seconds")]
    pub duration: Duration,
    /// Users arrive, or the rate rises, evenly during this time; not measured.
    #[serde(serialize_with = "span::seconds")]
    pub ramp_up: Duration,
    /// Full load before the measurement; not measured.
    #[serde(serialize_with = "span::seconds")]
    pub warm_up: Duration,
    /// Nothing is sent for this long between cells.
    #[serde(serialize_with = "span::seconds")]
    pub pause: Duration,
    /// How long a request may take, to the end of its answer.
    #[serde(serialize_with = "span::seconds")]
    pub timeout: Duration,
    /// A cell in which no request succeeds for this long is ended, and so is the matrix. Zero: never.
    #[serde(serialize_with = "span::seconds")]
    pub give_up: Duration,
}

/// How the client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Whether a connection is used again for the next request.
    pub keep_alive: bool,
    /// Connections are given up and made anew this often, so that a balancer of connections (a
    /// Kubernetes Service) can send some to pods that came later. Zero: never.
    #[serde(serialize_with = "span::seconds")]
    pub reconnect: Duration,
    /// The most requests that an open loop has under way; later ones wait, counted from when due.
    pub max_outstanding: u32,
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Who asks.
    pub load: Load,
    /// Client threads that drive the load, each with connections of its own.
    pub workers: u32,
}

impl fmt::Display for Cell {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.workers == 1 { "" } else { "s" };
        write!(to, "{}, {} worker{plural}", self.load, self.workers)
    }
}

/// A checked plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    cells: Vec<Cell>,
    timing: Timing,
    connections: Connections,
    seed: u64,
}

/// A plan that cannot be driven.
#[derive(Debug, Error, PartialEq)]
#[expect(missing_docs, reason = "each message says it")]
pub enum PlanError {
    #[error("no cells: give at least one number of users (or rate) and one of workers")]
    Empty,
    #[error("{0} users; a cell has 1 to {MAX_USERS}")]
    Users(u32),
    #[error("{0} workers; a cell has 1 to {MAX_WORKERS}")]
    Workers(u32),
    #[error(
        "{users} users on {workers} workers: some workers would have no user; \
         give at most as many workers as users"
    )]
    IdleWorkers { users: u32, workers: u32 },
    #[error("a rate of {0} a second; it is a number above 0, and at most {MAX_RATE}")]
    Rate(f64),
    #[error("users think from {min:?} to {max:?}, which is backwards; write the shorter first")]
    Think { min: Duration, max: Duration },
    #[error(
        "users who do not think have no rate of their own in an open loop; \
         give a think time above 0, or a rate"
    )]
    NoRate,
    #[error("measuring for {0:?}; give a duration of at least a second")]
    Duration(Duration),
    #[error("requests time out after {0:?}; give at least a millisecond")]
    Timeout(Duration),
    #[error(
        "giving up after {give_up:?} without a success would be before the first request times \
         out, after {timeout:?}; give more than that, or 0 for never"
    )]
    GiveUp {
        give_up: Duration,
        timeout: Duration,
    },
    #[error(
        "{outstanding} requests under way on {workers} workers: each worker needs at least one"
    )]
    Outstanding { outstanding: u32, workers: u32 },
}

impl Plan {
    /// The matrix of `loads` × `workers`, in that order.
    ///
    /// # Errors
    /// The first thing that makes no sense.
    pub fn new(
        loads: Loads,
        workers: &[u32],
        timing: Timing,
        connections: Connections,
        seed: u64,
    ) -> Result<Self, PlanError> {
        if timing.duration < Duration::from_secs(1) {
            return Err(PlanError::Duration(timing.duration));
        }
        if timing.timeout < Duration::from_millis(1) {
            return Err(PlanError::Timeout(timing.timeout));
        }
        if !timing.give_up.is_zero() && timing.give_up <= timing.timeout {
            return Err(PlanError::GiveUp {
                give_up: timing.give_up,
                timeout: timing.timeout,
            });
        }
        let mut cells = Vec::new();
        for load in checked(loads)? {
            for &workers in workers {
                cells.push(cell(load, workers, &connections)?);
            }
        }
        if cells.is_empty() {
            return Err(PlanError::Empty);
        }
        Ok(Self {
            cells,
            timing,
            connections,
            seed,
        })
    }

    /// The cells, in the order in which they are driven.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// What the cells share in time.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// How the client connects.
    #[must_use]
    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The seed of arrivals and think times.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The longest the whole may take.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let timing = &self.timing;
        let cell = timing.ramp_up + timing.warm_up + timing.duration + timing.timeout;
        let cells = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        cell.saturating_mul(cells)
            .saturating_add(timing.pause.saturating_mul(cells.saturating_sub(1)))
    }
}

/// The loads of the cells, one by one.
fn checked(loads: Loads) -> Result<Vec<Load>, PlanError> {
    match loads {
        Loads::Closed { users, think } => {
            let think = forwards(think)?;
            let load = |users| {
                Ok(Load::Closed {
                    users: some_users(users)?,
                    think,
                })
            };
            users.into_iter().map(load).collect()
        }
        Loads::OpenUsers {
            users,
            think,
            arrival,
        } => {
            let mean = forwards(think)?.mean().as_secs_f64();
            if mean <= 0.0 {
                return Err(PlanError::NoRate);
            }
            let load = |users| {
                let users = some_users(users)?;
                Ok(Load::Open {
                    rate: some_rate(f64::from(users) / mean)?,
                    arrival,
                    users: Some(users),
                })
            };
            users.into_iter().map(load).collect()
        }
        Loads::OpenRates { rates, arrival } => {
            let load = |rate| {
                let rate = some_rate(rate)?;
                Ok(Load::Open {
                    rate,
                    arrival,
                    users: None,
                })
            };
            rates.into_iter().map(load).collect()
        }
    }
}

fn cell(load: Load, workers: u32, connections: &Connections) -> Result<Cell, PlanError> {
    if !(1..=MAX_WORKERS).contains(&workers) {
        return Err(PlanError::Workers(workers));
    }
    match load {
        Load::Closed { users, .. } if users < workers => {
            Err(PlanError::IdleWorkers { users, workers })
        }
        Load::Open { .. } if connections.max_outstanding < workers => Err(PlanError::Outstanding {
            outstanding: connections.max_outstanding,
            workers,
        }),
        _ => Ok(Cell { load, workers }),
    }
}

fn forwards(think: Think) -> Result<Think, PlanError> {
    if think.min > think.max {
        let Think { min, max } = think;
        return Err(PlanError::Think { min, max });
    }
    Ok(think)
}

fn some_users(users: u32) -> Result<u32, PlanError> {
    NonZeroU32::new(users)
        .filter(|users| users.get() <= MAX_USERS)
        .map(NonZeroU32::get)
        .ok_or(PlanError::Users(users))
}

fn some_rate(rate: f64) -> Result<f64, PlanError> {
    if rate > 0.0 && rate <= MAX_RATE {
        Ok(rate)
    } else {
        Err(PlanError::Rate(rate))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::arrivals::Arrival;

    fn timing() -> Timing {
        Timing {
            duration: SEED_DURATION,
            ramp_up: Duration::ZERO,
            warm_up: Duration::from_secs(5),
            pause: Duration::ZERO,
            timeout: Duration::from_secs(10),
            give_up: Duration::from_secs(30),
        }
    }

    const CONNECTIONS: Connections = Connections {
        keep_alive: true,
        reconnect: Duration::ZERO,
        max_outstanding: 512,
    };

    fn think(min: u64, max: u64) -> Think {
        Think {
            min: Duration::from_secs(min),
            max: Duration::from_secs(max),
        }
    }

    /// A plan of one cell, on four workers.
    pub(crate) fn plan(load: Load) -> Plan {
        Plan {
            cells: vec![Cell { load, workers: 4 }],
            timing: timing(),
            connections: CONNECTIONS,
            seed: 1,
        }
    }

    fn closed(users: &[u32], workers: &[u32]) -> Result<Plan, PlanError> {
        let loads = Loads::Closed {
            users: users.to_vec(),
            think: think(1, 3),
        };
        Plan::new(loads, workers, timing(), CONNECTIONS, 1)
    }

    #[test]
    fn the_seeds_matrix_is_users_by_workers() {
        let cells: Vec<_> = closed(&SEED_USERS, &SEED_WORKERS)
            .iter()
            .flat_map(Plan::cells)
            .map(|cell| (cell.load.users(), cell.workers))
            .collect();
        assert_eq!(cells.len(), 10);
        assert_eq!(cells.first(), Some(&(Some(25), 4)));
        assert_eq!(cells.last(), Some(&(Some(400), 8)));
    }

    #[test]
    fn users_on_a_clock_of_their_own_ask_once_per_mean_thought() {
        let loads = Loads::OpenUsers {
            users: vec![100],
            think: think(1, 3),
            arrival: Arrival::Poisson,
        };
        let plan = Plan::new(loads, &[4], timing(), CONNECTIONS, 1);
        let load = plan.map(|plan| plan.cells().first().map(|cell| cell.load));
        let rate = Load::Open {
            rate: 50.0,
            arrival: Arrival::Poisson,
            users: Some(100),
        };
        assert_eq!(load, Ok(Some(rate)));
    }

    #[test]
    fn a_plan_that_cannot_be_driven_is_refused_with_its_figure() {
        let told = |plan: Result<Plan, PlanError>| {
            plan.map_err(|error| error.to_string())
                .err()
                .unwrap_or_default()
        };
        assert!(told(closed(&[], &[4])).contains("no cells"));
        assert!(told(closed(&[0], &[4])).contains("0 users"));
        assert!(told(closed(&[70_000], &[4])).contains("70000 users"));
        assert!(told(closed(&[25], &[0])).contains("0 workers"));
        assert!(told(closed(&[4], &[8])).contains("4 users on 8 workers"));
        let with = |loads, change: fn(&mut Timing)| {
            let mut timing = timing();
            change(&mut timing);
            told(Plan::new(loads, &[4], timing, CONNECTIONS, 1))
        };
        let rates = |rate| Loads::OpenRates {
            rates: vec![rate],
            arrival: Arrival::Fixed,
        };
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(with(rates(rate), |_| {}).contains("a rate of"), "{rate}");
        }
        assert!(with(rates(1.0), |timing| timing.duration = Duration::ZERO).contains("0ns"));
        let short = |timing: &mut Timing| timing.give_up = Duration::from_secs(10);
        assert!(with(rates(1.0), short).contains("giving up after 10s"));
        let idle = Loads::OpenUsers {
            users: vec![4],
            think: think(0, 0),
            arrival: Arrival::Fixed,
        };
        assert!(with(idle, |_| {}).contains("do not think"));
        let backwards = Loads::Closed {
            users: vec![4],
            think: think(3, 1),
        };
        assert!(with(backwards, |_| {}).contains("backwards"));
    }
}
