//! What happens from the moment a breaker opens until it is closed again, one function a state, in
//! the order in which they follow each other: open → half open → closed, or open again for longer.
//!
//! The story holds the breaker only while it changes it. `None` means that the breaker is gone,
//! and ends the story at once. The form is that of linkerd's breaker (`consecutive_failures.rs` of
//! linkerd2-proxy).

use std::sync::Weak;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Breaker, Phase, Probed};

/// Begins when the breaker has just opened, or is there again, open.
pub(super) async fn run(
    breaker: Weak<Breaker>,
    mut probes: mpsc::Receiver<Probed>,
    mut until: Instant,
) -> Option<()> {
    loop {
        open(until, &mut probes).await?;
        match half_open(&breaker, &mut probes).await? {
            Probed::Well => return closed(&breaker),
            Probed::Unwell => until = open_again(&breaker)?,
        }
    }
}

/// Nobody is let in until the time is over.
async fn open(until: Instant, probes: &mut mpsc::Receiver<Probed>) -> Option<()> {
    tokio::select! {
        () = sleep_until(until) => Some(()),
        // No probe is out, so this is the end of the breaker.
        _ = probes.recv() => None,
    }
}

/// One request at a time is let in, until one has found something.
async fn half_open(breaker: &Weak<Breaker>, probes: &mut mpsc::Receiver<Probed>) -> Option<Probed> {
    {
        let breaker = breaker.upgrade()?;
        let mut inner = breaker.inner.lock();
        breaker.change(&mut inner, Phase::HalfOpen { probing: false });
    }
    probes.recv().await
}

/// The probe found the version unwell: nobody is let in again, for about twice as long.
fn open_again(breaker: &Weak<Breaker>) -> Option<Instant> {
    let breaker = breaker.upgrade()?;
    let mut inner = breaker.inner.lock();
    let why = inner.why.as_mut()?;
    why.failed_probes = why.failed_probes.saturating_add(1);
    let until = Instant::now() + breaker.policy.wait(why.failed_probes);
    breaker.change(&mut inner, Phase::Open { until });
    Some(until)
}

/// Everyone is let in, and what was seen before is forgotten.
fn closed(breaker: &Weak<Breaker>) -> Option<()> {
    let breaker = breaker.upgrade()?;
    let mut inner = breaker.inner.lock();
    inner.window.clear(Instant::now());
    inner.why = None;
    inner.probes = None;
    breaker.change(&mut inner, Phase::Closed);
    Some(())
}
