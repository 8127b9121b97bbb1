//! What the controller remembers: recommendations and scale events, each in slots that are used
//! again once what is in them has grown old (`horizontal.go`).

use super::{spec::ScalingRules, time::Time};

/// Past recommendations, not stabilised ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Recommendations(Vec<(i32, Time)>);

impl Recommendations {
    /// The first sync of all keeps what it finds, so that a restarted controller does not scale down at once.
    pub(super) fn begin(&mut self, replicas: i32, now: Time) {
        if self.0.is_empty() {
            self.0.push((replicas, now));
        }
    }

    /// Without `behavior`: the highest of `want` and those not older than `window`; `want` is kept.
    pub(super) fn highest(&mut self, want: i32, window: Time, now: Time) -> i32 {
        let cutoff = now - window;
        let recent = self.0.iter().filter(|(_, at)| *at >= cutoff);
        let highest = recent.map(|(replicas, _)| *replicas).fold(want, i32::max);
        self.keep(want, now, cutoff);
        highest
    }

    /// With `behavior`: `current`, moved up to the lowest recommendation of the up window and down
    /// to the highest of the down window, both strictly younger than it; `want` is kept.
    pub(super) fn stabilized(
        &mut self,
        want: i32,
        current: i32,
        up: Time,
        down: Time,
        now: Time,
    ) -> i32 {
        let within = |window: Time| {
            self.0
                .iter()
                .filter(move |(_, at)| *at > now - window)
                .map(|(replicas, _)| *replicas)
        };
        let lowest = within(up).fold(want, i32::min);
        let highest = within(down).fold(want, i32::max);
        let stabilized = current.max(lowest).min(highest);
        self.keep(want, now, now - up.max(down));
        stabilized
    }

    /// Into the last slot that is older than every window, else into a new one.
    fn keep(&mut self, want: i32, now: Time, cutoff: Time) {
        match self.0.iter_mut().rev().find(|(_, at)| *at < cutoff) {
            Some(slot) => *slot = (want, now),
            None => self.0.push((want, now)),
        }
    }
}

/// Changes that were made in one direction.
#[derive(Clone, Debug, Default)]
pub(super) struct ScaleEvents(Vec<Event>);

#[derive(Clone, Copy, Debug)]
struct Event {
    change: i32,
    at: Time,
    outdated: bool,
}

impl ScaleEvents {
    /// Replicas changed by events strictly younger than `period`.
    pub(super) fn within(&self, period: Time, now: Time) -> i32 {
        self.0
            .iter()
            .filter(|event| event.at > now - period)
            .map(|event| event.change)
            .sum()
    }

    /// Keeps an event. It takes the slot of one older than the longest period of its *own*
    /// direction's policies, although the other direction may have longer ones that would still
    /// count it.
    pub(super) fn keep(&mut self, change: i32, rules: &ScalingRules, now: Time) {
        let cutoff = now - Time::seconds(i64::from(rules.longest_period_seconds()));
        for event in &mut self.0 {
            event.outdated |= event.at < cutoff;
        }
        let event = Event {
            change,
            at: now,
            outdated: false,
        };
        match self.0.iter_mut().rev().find(|event| event.outdated) {
            Some(slot) => *slot = event,
            None => self.0.push(event),
        }
    }
}
