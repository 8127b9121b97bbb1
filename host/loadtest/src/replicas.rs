//! Where the number of replicas is read from, and what is kept of the readings: first, most, last,
//! and how often it went up or down. Without a source the columns stay empty; nothing is invented.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use thiserror::Error;
use tokio::task::JoinHandle;

/// What the driver has just seen: a source that models the service rather than watching one (the
/// simulator) goes by this.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// Since the cell began, ramp included.
    pub elapsed: Duration,
    /// Requests that ended in the last second.
    pub requests_per_second: f64,
    /// Requests under way.
    pub under_way: usize,
    /// P95 of those that ended in the last second, in milliseconds.
    pub p95_ms: Option<f64>,
}

/// A future of a reading.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<u32, ReplicaError>> + Send + 'a>>;

/// Tells how many replicas there are. Asked once before any load, where an error refuses the test,
/// and then every [`EVERY`] while a cell runs, where an error is a reading that is missing.
pub trait ReplicaSource: Send + Sync {
    /// How many replicas there are now. It is dropped after [`PATIENCE`].
    fn replicas(&self, observed: Observed) -> Reading<'_>;
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
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

struct Kept {
    observed: Observed,
    replicas: Replicas,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    pub(crate) fn start(source: Arc<dyn ReplicaSource>, first: u32) -> Self {
        let kept = Arc::new(Mutex::new(Kept {
            observed: Observed::default(),
            replicas: Replicas::first(first),
        }));
        let task = tokio::spawn({
            let kept = Arc::clone(&kept);
            async move {
                let mut clock = tokio::time::interval(EVERY);
                clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    clock.tick().await;
                    let observed = kept.lock().observed;
                    let read = read(source.as_ref(), observed).await;
                    let replicas = &mut kept.lock().replicas;
                    match read {
                        Ok(count) => replicas.read(count),
                        Err(_) => replicas.unread += 1,
                    }
                }
            }
        });
        Self { kept, task }
    }

    pub(crate) fn observe(&self, observed: Observed) {
        self.kept.lock().observed = observed;
    }

    pub(crate) fn replicas(&self) -> Replicas {
        self.kept.lock().replicas
    }
}

/// One reading, in bounded time.
pub(crate) async fn read(
    source: &dyn ReplicaSource,
    observed: Observed,
) -> Result<u32, ReplicaError> {
    tokio::time::timeout(PATIENCE, source.replicas(observed))
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
        let mut replicas = Replicas::first(3);
        for reading in [3, 4, 6, 6, 6, 9, 9, 8, 8, 7] {
            replicas.read(reading);
        }
        let Replicas {
            initial,
            peak,
            last,
            scale_ups,
            scale_downs,
            ..
        } = replicas;
        assert_eq!(
            (initial, peak, last, scale_ups, scale_downs),
            (3, 9, 7, 2, 2)
        );
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
