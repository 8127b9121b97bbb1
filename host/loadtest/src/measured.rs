//! What a cell has measured: collected from its workers' recorders once a second, and made into its
//! result at the end.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    failure::FailureKind,
    objective::Verdict,
    plan::{Cell, Load, Timing},
    record::{Recorder, Tally},
    replicas::{Driven, DrivenKind, Replicas},
    report::{CellResult, Ended, Point},
    run::{LoadTest, Phase, Tick},
    worker::Clock,
};

const SECOND: Duration = Duration::from_secs(1);
/// A plot has at most about this many points, however long the cell.
const MAX_POINTS: u32 = 600;
/// So many failures it takes to give up: the silence of a thin load is no sign of death.
const MIN_FAILURES: u64 = 3;
/// Points of a distribution up to P99.
const DISTRIBUTION: u32 = 99;
/// The lateness of the client that is told, as a share of the objective.
const LATE: f64 = 0.05;
/// With fewer requests than this a P99 is the word of one or two of them.
const FEW: u64 = 200;

/// What has been collected.
pub(crate) struct Measured {
    clock: Clock,
    recorders: Vec<Arc<Recorder>>,
    /// Since the last tick.
    second: Tally,
    /// Since the last point of the plots.
    point: Tally,
    point_began: Instant,
    point_length: Duration,
    total: Tally,
    series: Vec<Point>,
    last_alive: Instant,
    dead_since: u64,
    failed: u64,
    load: Load,
    /// The load of each second since the cell began, users or requests begun.
    each_second: Vec<f64>,
    under_way: usize,
}

impl Measured {
    pub(crate) fn new(
        timing: &Timing,
        clock: Clock,
        load: Load,
        recorders: Vec<Arc<Recorder>>,
    ) -> Self {
        let new = || Tally::new(timing.timeout);
        let seconds = timing.duration.as_secs().div_ceil(u64::from(MAX_POINTS));
        Self {
            clock,
            recorders,
            second: new(),
            point: new(),
            point_began: clock.measured_from,
            // A little less, so that a tick that comes early by a hair ends a point all the same.
            point_length: Duration::from_secs(seconds.max(1)) - SECOND / 20,
            total: new(),
            series: Vec::new(),
            last_alive: clock.begins,
            dead_since: 0,
            failed: 0,
            load,
            each_second: Vec::new(),
            under_way: 0,
        }
    }

    /// Takes what the recorders have. The last time, what is left makes a point too.
    pub(crate) fn collect(&mut self, replicas: Option<u32>, last: bool) {
        self.second.clear();
        for recorder in &self.recorders {
            recorder.drain(&mut self.second);
        }
        let now = Instant::now();
        self.failed += self.second.dead;
        if self.second.alive > 0 {
            self.last_alive = now;
            self.dead_since = 0;
        } else {
            self.dead_since += self.second.dead;
        }
        self.total.merge(&self.second);
        self.point.merge(&self.second);
        let length = now.saturating_duration_since(self.point_began);
        let due = length >= self.point_length || (last && self.point.requests > 0);
        if due && !length.is_zero() {
            let seconds = length.as_secs_f64();
            self.series.push(Point {
                at_seconds: (now - self.clock.measured_from).as_secs_f64(),
                rps: self.point.requests as f64 / seconds,
                failures_per_second: self.point.failures.total() as f64 / seconds,
                p50_ms: self.point.latencies.percentile_ms(50.0),
                p95_ms: self.point.latencies.percentile_ms(95.0),
                p99_ms: self.point.latencies.percentile_ms(99.0),
                replicas,
            });
            self.point.clear();
            self.point_began = now;
        }
    }

    /// Takes what is left after the last tick, which a short cell may end before.
    pub(crate) fn end(&mut self, replicas: Option<u32>) {
        self.collect(replicas, true);
        let ended = (self.second.alive + self.second.dead) as f64;
        self.drive(Instant::now(), ended, 0);
    }

    pub(crate) fn tick(&mut self, cell: Cell, replicas: Option<u32>) -> Tick {
        self.collect(replicas, false);
        let now = Instant::now();
        let ended = (self.second.alive + self.second.dead) as f64;
        let under_way = self
            .recorders
            .iter()
            .map(|recorder| recorder.under_way())
            .sum();
        self.drive(now, ended, under_way);
        let Clock {
            begins,
            measured_from,
            measured_until,
            ..
        } = self.clock;
        Tick {
            cell,
            number: 1,
            of: 1,
            phase: match now {
                now if now < measured_from => Phase::WarmUp,
                now if now < measured_until => Phase::Measuring,
                _ => Phase::LastAnswers,
            },
            elapsed: now - begins,
            whole: measured_until - begins,
            rps: ended,
            under_way,
            p95_ms: self.total.latencies.percentile_ms(95.0),
            requests: self.total.requests,
            failed: self.failed,
            replicas,
        }
    }

    /// Keeps the load of the seconds since the last tick, of which there are several where a busy
    /// machine left ticks out. The first second is there however soon the cell ends.
    fn drive(&mut self, now: Instant, ended: f64, under_way: usize) {
        let elapsed = now.saturating_duration_since(self.clock.begins);
        let whole = (elapsed.as_secs_f64().round() as usize).max(1);
        let new = whole.saturating_sub(self.each_second.len());
        // Whoever ended or is under way now, and was not under way before, began in between.
        let begun = (ended + under_way as f64 - self.under_way as f64).max(0.0);
        self.under_way = under_way;
        for _ in 0..new {
            let second = self.each_second.len();
            self.each_second.push(match self.load {
                Load::Closed { users, .. } => self.users_at(second, users),
                Load::Open { .. } => begun / new as f64,
            });
        }
    }

    /// Users in the middle of a second, or of as much of it as they are there: they arrive evenly,
    /// and go when nothing more is measured.
    fn users_at(&self, second: usize, users: u32) -> f64 {
        let from = Duration::from_secs(second as u64);
        let sends = self.clock.measured_until - self.clock.begins;
        if from >= sends {
            return 0.0;
        }
        let at = (from + (from + SECOND).min(sends)) / 2;
        let ramp = self.clock.ramp_up.as_secs_f64();
        let share = if ramp > 0.0 {
            (at.as_secs_f64() / ramp).min(1.0)
        } else {
            1.0
        };
        f64::from(users) * share
    }

    /// The load so far.
    pub(crate) fn driven(&self) -> Driven {
        Driven {
            kind: match self.load {
                Load::Closed { think, .. } => DrivenKind::Users {
                    think: think.mean(),
                },
                Load::Open { .. } => DrivenKind::Requests,
            },
            each_second: self.each_second.clone(),
        }
    }

    /// Puts a model's replicas, one for each second since the cell began, into the plots.
    pub(crate) fn modelled(&mut self, readings: &[u32]) {
        let before = (self.clock.measured_from - self.clock.begins).as_secs_f64();
        for point in &mut self.series {
            let second = (before + point.at_seconds).ceil() as usize;
            let reading = readings.get(second.saturating_sub(1)).or(readings.last());
            point.replicas = reading.copied();
        }
    }

    pub(crate) fn dead_for(&self, give_up: Duration) -> bool {
        !give_up.is_zero() && self.dead_since >= MIN_FAILURES && self.last_alive.elapsed() > give_up
    }

    pub(crate) fn result(
        self,
        test: &LoadTest,
        (began, cell): (OffsetDateTime, Cell),
        ended: Ended,
        seconds: f64,
        replicas: Option<Replicas>,
        mut cautions: Vec<String>,
    ) -> CellResult {
        let total = &self.total;
        let failed = total.failures.total();
        let share = failed as f64 * 100.0 / total.requests.max(1) as f64;
        let p95_ms = total.latencies.percentile_ms(95.0);
        let mut judgement = test.objective.judge(p95_ms, share);
        if ended == Ended::GaveUp {
            judgement.add(
                Verdict::Fail,
                format!(
                    "ended early: no request succeeded for {} s",
                    self.last_alive.elapsed().as_secs()
                ),
            );
        }
        cautions.extend(cautions_of(test, total, ended, seconds, replicas));
        CellResult {
            began,
            cell,
            ended,
            measured_seconds: seconds,
            replicas,
            requests: total.requests,
            rps: if seconds > 0.0 {
                total.requests as f64 / seconds
            } else {
                0.0
            },
            p50_ms: total.latencies.percentile_ms(50.0),
            p95_ms,
            p99_ms: total.latencies.percentile_ms(99.0),
            max_ms: total.latencies.max_ms(),
            failure_percent: share,
            failures: total.failures.clone(),
            warm_up_requests: total.uncounted,
            lateness_p99_ms: total.lateness.percentile_ms(99.0),
            held_back: total.held_back,
            judgement,
            cautions,
            distribution: total.latencies.distribution(DISTRIBUTION),
            series: self.series,
        }
    }
}

/// What a reader should know before believing the figures.
fn cautions_of(
    test: &LoadTest,
    total: &Tally,
    ended: Ended,
    seconds: f64,
    replicas: Option<Replicas>,
) -> Vec<String> {
    let mut cautions = Vec::new();
    if ended != Ended::Whole {
        let whole = test.plan.timing().duration.as_secs_f64();
        cautions.push(format!("measured for {seconds:.1} s of {whole} s"));
    }
    if (1..FEW).contains(&total.requests) {
        let requests = total.requests;
        cautions.push(format!(
            "P99 says little of {requests} requests: measure longer"
        ));
    }
    let late = total.lateness.percentile_ms(99.0).unwrap_or_default();
    if late > test.objective.p95_ms() * LATE {
        cautions.push(format!(
            "this client was late in sending, by {late:.0} ms at P99: its machine is too busy to \
             measure with, and less load came than was asked or later"
        ));
    }
    if total.held_back > 0 {
        cautions.push(format!(
            "{} requests were due with {} under way already (--max-outstanding) and went out later; \
             the wait is in their latency",
            total.held_back,
            test.plan.connections().max_outstanding
        ));
    }
    if total.failures.of(FailureKind::ClientLimit) > 0 {
        let meaning = FailureKind::ClientLimit.meaning();
        cautions.push(format!("some failures are this machine's: {meaning}"));
    }
    if let Some(unread) = replicas
        .map(|replicas| replicas.unread)
        .filter(|unread| *unread > 0)
    {
        cautions.push(format!(
            "{unread} readings of the replicas failed and are missing"
        ));
    }
    cautions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Think;

    #[test]
    fn a_cell_that_ends_before_its_first_tick_has_driven_its_users_all_the_same() {
        let begins = Instant::now();
        let timing = Timing {
            duration: SECOND,
            ramp_up: Duration::ZERO,
            warm_up: Duration::ZERO,
            pause: Duration::ZERO,
            timeout: SECOND,
            give_up: Duration::ZERO,
        };
        let clock = Clock {
            begins,
            ramp_up: Duration::ZERO,
            measured_from: begins,
            measured_until: begins + SECOND,
        };
        let (min, max) = (Duration::ZERO, Duration::ZERO);
        let load = Load::Closed {
            users: 4,
            think: Think { min, max },
        };
        let mut measured = Measured::new(&timing, clock, load, Vec::new());
        measured.end(None);
        assert_eq!(measured.driven().each_second, [4.0]);
    }
}
