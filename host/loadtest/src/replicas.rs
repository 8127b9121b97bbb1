//! Where the number of replicas comes from, and what is kept of it: first, most, last, and how often
//! it went up or down. It is watched while the load runs, or told by a model of the service once the
//! load is known; without either the columns stay empty. Nothing is invented, and what is of a model
//! says so wherever it is shown.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use thiserror::Error;
use tokio::task::JoinHandle;

/// Where a load test's replicas come from.
#[derive(Clone)]
pub enum Origin {
    /// A service that runs.
    Watched(Arc<dyn ReplicaSource>),
    /// A model of one, which is told the load of each cell when it has ended.
    Modelled(Arc<dyn ReplicaModel>),
}

impl Origin {
    /// As a report says it.
    #[must_use]
    pub fn told(&self) -> ReplicasFrom {
        match self {
            Self::Watched(_) => ReplicasFrom::Cluster,
            Self::Modelled(model) => ReplicasFrom::Simulated { by: model.about() },
        }
    }
}

/// Where the replicas of a report come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum ReplicasFrom {
    /// They were read while the load ran.
    Cluster,
    /// A model was given the load that was measured.
    Simulated {
        /// Which model.
        by: String,
    },
}

impl ReplicasFrom {
    /// Whether they are of a model.
    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        matches!(self, Self::Simulated { .. })
    }
}

impl fmt::Display for ReplicasFrom {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => to.write_str("read from the cluster"),
            Self::Simulated { by } => write!(
                to,
                "simulated, not read from a cluster: what {by} would have done under this load"
            ),
        }
    }
}

/// The load of one cell, a value for each second since it began, ramp and last answers included.
#[derive(Clone, Debug, PartialEq)]
pub struct Driven {
    /// What the values are.
    pub kind: DrivenKind,
    /// The values.
    pub each_second: Vec<f64>,
}

/// What a load counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrivenKind {
    /// Users who wait for their answers and think in between, this long on average: what they would
    /// ask of a faster service, the rate at which they asked this one does not tell.
    Users {
        /// The mean thought.
        think: Duration,
    },
    /// Requests that were begun, measured.
    Requests,
}

/// Tells how many replicas a service would have had under a load.
pub trait ReplicaModel: Send + Sync {
    /// What it is, for whoever reads the report.
    fn about(&self) -> String;

    /// The replicas at the end of each second of `driven`, and as many. Asked once a cell, after its
    /// end and off the executor, so it may compute.
    ///
    /// # Errors
    /// Where the model cannot tell; the columns then stay empty, with the reason.
    fn replicas(&self, driven: &Driven) -> Result<Vec<u32>, ReplicaError>;
}

/// A future of a reading.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<u32, ReplicaError>> + Send + 'a>>;

/// Tells how many replicas there are. Asked once before any load, where an error refuses the test,
/// and then every [`EVERY`] while a cell runs, where an error is a reading that is missing.
pub trait ReplicaSource: Send + Sync {
    /// How many replicas there are now. It is dropped after [`PATIENCE`].
    fn replicas(&self) -> Reading<'_>;
}

/// How often replicas are read. A Deployment changes at most every 15 s, when its HPA is synced.
pub const EVERY: Duration = Duration::from_secs(1);
/// The longest that a reading may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A number of replicas that could not be read. The message is for people, whole.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ReplicaError(pub String);

/// What is kept of the readings of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Replicas {
    /// The first reading.
    pub initial: u32,
    /// The largest.
    pub peak: u32,
    /// The last.
    pub last: u32,
    /// How often the number rose. A rise that goes on in the next reading is one.
    pub scale_ups: u32,
    /// How often it fell.
    pub scale_downs: u32,
    /// Readings that failed.
    pub unread: u32,
    #[serde(skip)]
    going: Going,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    Up,
    Nowhere,
    Down,
}

impl Replicas {
    /// From a first reading.
    #[must_use]
    pub const fn first(replicas: u32) -> Self {
        Self {
            initial: replicas,
            peak: replicas,
            last: replicas,
            scale_ups: 0,
            scale_downs: 0,
            unread: 0,
            going: Going::Nowhere,
        }
    }

    /// From readings, one after the other; none where there are none.
    #[must_use]
    pub fn of(readings: &[u32]) -> Option<Self> {
        let (first, later) = readings.split_first()?;
        let mut replicas = Self::first(*first);
        later.iter().for_each(|reading| replicas.read(*reading));
        Some(replicas)
    }

    /// One more reading. A Deployment's pods come and go one after the other, so that one decision to
    /// scale can be seen as several steps in successive readings; they count once.
    pub fn read(&mut self, replicas: u32) {
        let going = match replicas.cmp(&self.last) {
            std::cmp::Ordering::Greater => Going::Up,
            std::cmp::Ordering::Equal => Going::Nowhere,
            std::cmp::Ordering::Less => Going::Down,
        };
        match going {
            Going::Up if self.going != Going::Up => self.scale_ups += 1,
            Going::Down if self.going != Going::Down => self.scale_downs += 1,
            _ => {}
        }
        self.going = going;
        self.peak = self.peak.max(replicas);
        self.last = replicas;
    }
}

/// Reads a source beside the load; dropped, it stops.
pub(crate) struct Watch {
    kept: Arc<Mutex<Replicas>>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    pub(crate) fn start(source: Arc<dyn ReplicaSource>, first: u32) -> Self {
        let kept = Arc::new(Mutex::new(Replicas::first(first)));
        let task = tokio::spawn({
            let kept = Arc::clone(&kept);
            async move {
                let mut clock = tokio::time::interval(EVERY);
                clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    clock.tick().await;
                    let read = read(source.as_ref()).await;
                    let replicas = &mut *kept.lock();
                    match read {
                        Ok(count) => replicas.read(count),
                        Err(_) => replicas.unread += 1,
                    }
                }
            }
        });
        Self { kept, task }
    }

    pub(crate) fn replicas(&self) -> Replicas {
        *self.kept.lock()
    }
}

/// One reading, in bounded time.
pub(crate) async fn read(source: &dyn ReplicaSource) -> Result<u32, ReplicaError> {
    tokio::time::timeout(PATIENCE, source.replicas())
        .await
        .unwrap_or_else(|_| {
            Err(ReplicaError(format!(
                "the number of replicas was not told within {} s",
                PATIENCE.as_secs()
            )))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_in_steps_is_one_event_and_two_rises_apart_are_two() {
        let told = Replicas::of(&[3, 3, 4, 6, 6, 6, 9, 9, 8, 8, 7])
            .map(|r| (r.initial, r.peak, r.last, r.scale_ups, r.scale_downs));
        assert_eq!(told, Some((3, 9, 7, 2, 2)));
        assert_eq!(Replicas::of(&[]), None);
    }

    #[test]
    fn up_and_at_once_down_is_one_of_each() {
        let mut replicas = Replicas::first(3);
        for reading in [5, 3] {
            replicas.read(reading);
        }
        assert_eq!((replicas.scale_ups, replicas.scale_downs), (1, 1));
    }
}
