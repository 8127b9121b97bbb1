//! The circuit breaker of one loaded version: while too many of its requests go badly, it gets
//! none. What "too many" means is [`Policy`]'s, what has been seen lately is in [`Window`], and
//! what happens from the moment it opens until it is closed again is told in `story.rs`. Where the
//! requests go instead is for others to decide.
//!
//! A closed breaker costs a request one atomic load on the way in and one short lock on the way
//! out; no task runs and nothing is allocated. A task is there only from trip to recovery.

mod kept;
mod of_version;
pub(crate) mod policy;
mod story;
#[cfg(test)]
mod tests;
mod why;
mod window;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use aegis_telemetry::CircuitState;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc, time::Instant};

pub(crate) use kept::{Kept, Unwell};
pub(crate) use of_version::of_version;
pub(crate) use policy::{Policy, PolicyError};
pub(crate) use why::{Cause, Why};
use window::Window;

/// Watches one version and says whether it may have a request.
pub(crate) struct Breaker {
    policy: Policy,
    /// How often it has opened or closed: even while it is closed. Changes under the lock of
    /// `inner` only; outside of it, a request is let in by this alone, and its outcome counts only
    /// if this has not changed since.
    era: AtomicU64,
    inner: Mutex<Inner>,
    on_change: OnChange,
    /// Where the story's task runs, as the request that trips the breaker may end on any thread.
    runtime: Handle,
}

type OnChange = Box<dyn Fn(CircuitState, Option<&Why>) + Send + Sync>;

struct Inner {
    phase: Phase,
    /// Of the phase.
    since: Instant,
    window: Window,
    /// Why it is not closed.
    why: Option<Why>,
    /// While it is not closed: where the story hears how a probe went. It ends when this is
    /// dropped, so at the latest with the breaker. One place is enough, as one probe is out at a
    /// time.
    probes: Option<mpsc::Sender<Probed>>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probed {
    Well,
    Unwell,
}

/// How a request ended, as far as it says something about the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was answered.
    Success {
        /// In this time.
        took: Duration,
    },
    /// It was not, and not by the caller's fault.
    Failure {
        /// After this time.
        took: Duration,
    },
    /// Nothing can be told: the caller was at fault, or went away.
    NotCounted,
}

/// A request's leave to go to the version. Dropped without [`Passage::end`], as when the caller
/// goes away, it counts for nothing, and a probe's place is free again.
#[must_use]
pub(crate) struct Passage {
    breaker: Arc<Breaker>,
    through: Through,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    /// As everyone, in this era.
    Closed { era: u64 },
    /// As the one that finds out whether the version is well again.
    Probe,
}

/// The version gets no requests now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the version's circuit breaker is open; try again in {retry_after:?}")]
pub(crate) struct Open {
    /// When it is worth trying again: at the next probe, or while one is under way, after as long
    /// as the breaker opens for at first.
    pub(crate) retry_after: Duration,
}

/// How a breaker stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) state: CircuitState,
    /// For how long it has been in this state.
    pub(crate) since: Duration,
    /// Why it is not closed.
    pub(crate) why: Option<Why>,
}

impl Breaker {
    /// A closed breaker, or one that goes on where its version's last one was. `on_change` is told of every new state, and
    /// why it is not closed, in order, beginning with this one; it is called under the breaker's lock, so it must be quick
    /// and not ask the breaker anything.
    ///
    /// To be called within a tokio runtime, where the task of an open breaker will run.
    pub(crate) fn new(
        policy: Policy,
        before: Option<Unwell>,
        on_change: impl Fn(CircuitState, Option<&Why>) + Send + Sync + 'static,
    ) -> Arc<Breaker> {
        let now = Instant::now();
        let mut inner = Inner {
            phase: Phase::Closed,
            since: now,
            window: Window::new(&policy, now),
            why: None,
            probes: None,
        };
        let story = before.map(|Unwell { until, since, why }| {
            let (probes, probed) = mpsc::channel(1);
            inner.phase = Phase::Open { until };
            (inner.since, inner.why, inner.probes) = (since, why, Some(probes));
            (probed, until)
        });
        on_change(inner.phase.state(), inner.why.as_ref());
        let breaker = Arc::new(Breaker {
            inner: Mutex::new(inner),
            policy,
            era: AtomicU64::new(story.is_some().into()),
            on_change: Box::new(on_change),
            runtime: Handle::current(),
        });
        if let Some((probed, until)) = story {
            breaker.tell(probed, until);
        }
        breaker
    }

    /// Begins the story of a breaker that has just opened.
    fn tell(self: &Arc<Self>, probed: mpsc::Receiver<Probed>, until: Instant) {
        self.runtime
            .spawn(story::run(Arc::downgrade(self), probed, until));
    }

    /// Whether it would let a request in now, without taking a probe's place.
    pub(crate) fn lets_in(&self) -> Result<(), Open> {
        if self.era.load(Ordering::Acquire).is_multiple_of(2) {
            return Ok(());
        }
        self.inner.lock().phase.lets_in(&self.policy)
    }

    /// Whether callers are refused, rather than sent all the same, while it is open and no other version can answer.
    pub(crate) fn refuses_alone(&self) -> bool {
        self.policy.refuses_alone()
    }

    /// Asks for leave to send a request to the version.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Passage, Open> {
        let era = self.era.load(Ordering::Acquire);
        if era.is_multiple_of(2) {
            return Ok(self.passage(Through::Closed { era }));
        }
        let mut inner = self.inner.lock();
        inner.phase.lets_in(&self.policy)?;
        match &mut inner.phase {
            Phase::HalfOpen { probing } => {
                *probing = true;
                Ok(self.passage(Through::Probe))
            }
            Phase::Closed | Phase::Open { .. } => {
                let era = self.era.load(Ordering::Relaxed);
                Ok(self.passage(Through::Closed { era }))
            }
        }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> CircuitState {
        self.inner.lock().phase.state()
    }

    /// Where it stands, since when and why, all of one moment.
    pub(crate) fn status(&self) -> Status {
        let inner = self.inner.lock();
        Status {
            state: inner.phase.state(),
            since: inner.since.elapsed(),
            why: inner.why,
        }
    }

    fn passage(self: &Arc<Self>, through: Through) -> Passage {
        Passage {
            breaker: Arc::clone(self),
            through,
            verdict: Verdict::NotCounted,
        }
    }

    /// Counts the outcome of a request that came through while the breaker was closed, and opens
    /// it if that was one too many.
    fn count(self: &Arc<Self>, era: u64, failed: bool, took: Duration) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        // One from before the breaker last opened knows nothing new.
        if self.era.load(Ordering::Relaxed) != era {
            return;
        }
        if let Some(cause) = inner.window.count(&self.policy, now, failed, took) {
            let (probes, probed) = mpsc::channel(1);
            let until = now + self.policy.wait(0);
            inner.why = Some(Why::new(cause));
            inner.probes = Some(probes);
            self.change(&mut inner, Phase::Open { until });
            self.tell(probed, until);
        }
    }

    /// Takes what a probe found to the story, or gives its place back if it found nothing.
    fn probed(&self, found: Option<Probed>) {
        let mut inner = self.inner.lock();
        let heard = match (found, &inner.probes) {
            (Some(found), Some(probes)) => probes.try_send(found).is_ok(),
            _ => false,
        };
        // What was heard keeps the place, so that no other probe goes before the story goes on.
        if let (false, Phase::HalfOpen { probing }) = (heard, &mut inner.phase) {
            *probing = false;
        }
    }

    /// The only way to another phase: the era, the time and `on_change` go with it.
    fn change(&self, inner: &mut Inner, phase: Phase) {
        let closed = |phase| matches!(phase, Phase::Closed);
        if closed(inner.phase) != closed(phase) {
            self.era.fetch_add(1, Ordering::Release);
        }
        inner.phase = phase;
        inner.since = Instant::now();
        (self.on_change)(phase.state(), inner.why.as_ref());
    }
}

impl Phase {
    fn lets_in(self, policy: &Policy) -> Result<(), Open> {
        let retry_after = match self {
            Phase::Closed | Phase::HalfOpen { probing: false } => return Ok(()),
            Phase::Open { until } => until.saturating_duration_since(Instant::now()),
            Phase::HalfOpen { probing: true } => policy.first_open(),
        };
        Err(Open { retry_after })
    }

    fn state(self) -> CircuitState {
        match self {
            Phase::Closed => CircuitState::Closed,
            Phase::Open { .. } => CircuitState::Open,
            Phase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }
}

impl Passage {
    /// Whether the request finds out if the version is well again.
    pub(crate) fn is_probe(&self) -> bool {
        self.through == Through::Probe
    }

    /// Says how the request went.
    pub(crate) fn end(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let outcome = match self.verdict {
            Verdict::Success { took } => Some((false, took)),
            Verdict::Failure { took } => Some((true, took)),
            Verdict::NotCounted => None,
        };
        match (self.through, outcome) {
            (Through::Closed { era }, Some((failed, took))) => {
                self.breaker.count(era, failed, took);
            }
            (Through::Closed { .. }, None) => {}
            (Through::Probe, outcome) => {
                let unwell = |(failed, took)| failed || self.breaker.policy.is_slow(took);
                self.breaker.probed(outcome.map(|outcome| {
                    if unwell(outcome) {
                        Probed::Unwell
                    } else {
                        Probed::Well
                    }
                }));
            }
        }
    }
}
