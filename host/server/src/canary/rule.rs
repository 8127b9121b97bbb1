//! Whether a canary goes on: its error rate and its p99 must be no worse than stable's, as far as
//! the requests since the step began can tell.
//!
//! Both are one question, asked of different requests. *Errors*: of all requests that failed, has
//! the canary more than its part? *p99*: of the slowest hundredth of all requests, has the canary
//! more than its part? If the versions are alike, its number of them is hypergeometric, whatever
//! the versions' rates are and however unequal their traffic: Fisher's exact test (`fisher.rs`),
//! and for latency the quantile test of R. A. Johnson, S. Verrill and D. H. Moore, "Two-sample
//! rank tests for detecting changes that occur in a small proportion of the treated population",
//! Biometrics 43 (1987). As versions are compared over the same time, what makes both worse (a
//! busy machine, a burst of bad days) speaks against neither.
//!
//! Asking often would find an excess by chance sooner or later. So the n-th look of a step has
//! 1/(n(n+1)) of what the step may err by, which sums to 1 over any number of looks, and looks
//! are only taken when there is half as much again to see as at the last. A step has its part of
//! what the rollout may err by, and errors and latency have half of it each. By Bonferroni's
//! inequality **at most one in a hundred rollouts of a version as good as stable is withdrawn**
//! ([`FALSE_WITHDRAWALS`]). This takes requests to be independent given the moment they come at;
//! one caller of many who sends what makes any version fail, and whom stickiness has put on the
//! canary, is not. Slow requests are not either, as they come in bursts: so a canary is slower only
//! if it also was so in more moments than chance has it (`seen.rs`), which takes three at least.
//!
//! What is in doubt goes on: the rule withdraws on evidence, and asks for enough requests that an
//! excess which matters would have been seen (`simulation.rs` says how many that takes).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fisher::{Group, excess};
use super::observed::Counts;
use super::seen::Seen;

/// Of rollouts of a version as good as stable, at most this share is withdrawn.
pub(crate) const FALSE_WITHDRAWALS: f64 = 0.01;

/// Unless said: a step ends when both versions have had so many requests.
pub(crate) const MIN_REQUESTS: u64 = 100;

/// The first look is taken at this part of the requests that a step needs, so that a canary that
/// answers nothing is gone early.
const FIRST_LOOK: u64 = 5;

/// The next look is taken when there are so many times the requests of the last.
const GROWTH: f64 = 1.5;

/// The slowest requests that p99 is about.
const SLOWEST: f64 = 0.01;

/// A canary's p99 is let be that much longer than stable's, however sure it is: buckets tell
/// times apart to 3 %, and with a million requests any difference is sure.
const LATENCY_MARGIN: f64 = 1.1;

/// How far moments must agree that the canary is slower, in standard deviations: one in twenty would by chance. It is asked
/// beside [`FALSE_WITHDRAWALS`], not in its place.
const PERSISTENCE: f64 = 1.645;

/// The rule for each step of one rollout.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// By how much one test of one step may err, all looks together.
    level: f64,
    min_requests: u64,
}

/// Which looks a step has had. Begins anew with the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Looks {
    taken: u32,
    /// The requests of the last.
    requests: u64,
}

/// What follows from a look.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Nothing speaks against the canary; the step goes on.
    Continue(Waiting),
    /// The step is over, and nothing spoke against the canary.
    Advance,
    /// The canary is worse.
    Withdraw {
        /// In what, in figures.
        why: Worse,
    },
}

/// What a step that goes on is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Its time to be over.
    Time,
    /// More requests to judge by.
    Requests {
        /// What the version that had fewer has had.
        have: u64,
        /// What each version must have had.
        need: u64,
    },
}

/// In what a canary is worse than stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Worse {
    /// It fails more often.
    Errors {
        canary: Share,
        stable: Share,
        evidence: Evidence,
    },
    /// Its slow requests are slower.
    Latency {
        canary_p99: Duration,
        stable_p99: Duration,
        /// The canary's requests that are among the slowest of both.
        canary: Share,
        stable: Share,
        evidence: Evidence,
    },
}

/// So many requests of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) of_those: u64,
    pub(crate) requests: u64,
}

/// How sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Evidence {
    /// The chance of so much or more if the versions are alike.
    pub(crate) p: f64,
    /// The chance below which this look does not believe that they are.
    pub(crate) level: f64,
}

impl Looks {
    /// Another judged the step before, and took these.
    pub(crate) fn go_on_from(&mut self, others: Looks) {
        if others.taken > self.taken {
            *self = others;
        }
    }
}

impl Rule {
    /// The rule for a rollout of so many steps at which both versions have traffic. A step lasts
    /// until each has had `min_requests`; fewer than ten could not tell anything.
    pub(crate) fn new(steps: u32, min_requests: u64) -> Rule {
        Rule {
            level: FALSE_WITHDRAWALS / 2.0 / f64::from(steps.max(1)),
            min_requests: min_requests.max(10),
        }
    }

    /// What the requests since the step began say. To be asked as often as one likes, each step
    /// with `looks` of its own; `time_is_up` when the step has lasted as long as it should.
    ///
    /// Without requests to stable there is nothing to compare with, and the answer is to wait: a
    /// step that gives the canary all traffic is no step but the promotion.
    pub(crate) fn look(&self, looks: &mut Looks, seen: &Seen, time_is_up: bool) -> Decision {
        let (stable, canary) = (seen.stable(), seen.canary());
        let have = stable.requests().min(canary.requests());
        let is_enough = have >= self.min_requests;
        let is_last = time_is_up && is_enough;
        let is_due = have >= (self.min_requests / FIRST_LOOK).max(1)
            && have as f64 >= looks.requests as f64 * GROWTH;
        if is_due || is_last {
            looks.taken = looks.taken.saturating_add(1);
            looks.requests = have;
            let n = f64::from(looks.taken);
            let level = self.level / (n * (n + 1.0));
            let worse = more_errors(stable, canary, level).or_else(|| slower(seen, level));
            if let Some(why) = worse {
                return Decision::Withdraw { why };
            }
        }
        if is_last {
            Decision::Advance
        } else if is_enough {
            Decision::Continue(Waiting::Time)
        } else {
            Decision::Continue(Waiting::Requests {
                have,
                need: self.min_requests,
            })
        }
    }
}

fn more_errors(stable: &Counts, canary: &Counts, level: f64) -> Option<Worse> {
    let group = |counts: &Counts| Group {
        marked: counts.failures(),
        size: counts.requests(),
    };
    let (stable, canary) = (group(stable), group(canary));
    Some(Worse::Errors {
        evidence: evidence(stable, canary, level)?,
        canary: canary.into(),
        stable: stable.into(),
    })
}

fn slower(seen: &Seen, level: f64) -> Option<Worse> {
    let (stable, canary) = (seen.stable(), seen.canary());
    let (canary_p99, stable_p99) = (
        canary.quantile(1.0 - SLOWEST),
        stable.quantile(1.0 - SLOWEST),
    );
    if canary_p99 <= stable_p99.mul_f64(LATENCY_MARGIN) {
        return None;
    }
    let slow = canary.slowest_from(stable, SLOWEST);
    if seen.persistence(slow) < PERSISTENCE {
        return None;
    }
    let (of_canary, of_stable) = (canary.from(slow), stable.from(slow));
    let canary = Group {
        marked: of_canary,
        size: canary.requests(),
    };
    let stable = Group {
        marked: of_stable,
        size: stable.requests(),
    };
    Some(Worse::Latency {
        canary_p99,
        stable_p99,
        evidence: evidence(stable, canary, level)?,
        canary: canary.into(),
        stable: stable.into(),
    })
}

/// The evidence that the canary has more than its part, if there is enough.
fn evidence(stable: Group, canary: Group, level: f64) -> Option<Evidence> {
    let p = excess(canary, stable);
    (p <= level).then_some(Evidence { p, level })
}

impl From<Group> for Share {
    fn from(group: Group) -> Share {
        Share {
            of_those: group.marked,
            requests: group.size,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Share { of_those, requests } = self;
        let percent = 100.0 * *of_those as f64 / (*requests).max(1) as f64;
        write!(f, "{percent:.2} % ({of_those} of {requests})")
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { p, level } = self;
        write!(f, "p = {p:.1e}, below {level:.1e}")
    }
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Worse::Errors {
                canary,
                stable,
                evidence,
            } => write!(
                f,
                "its error rate is {canary}, stable's {stable} ({evidence})"
            ),
            Worse::Latency {
                canary_p99,
                stable_p99,
                canary,
                stable,
                evidence,
            } => write!(
                f,
                "its p99 is {canary_p99:?}, stable's {stable_p99:?}; among the slowest of both are {canary} of its \
                 requests and {stable} of stable's ({evidence})"
            ),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Time => write!(f, "until the step's time is up"),
            Waiting::Requests { have, need } => write!(
                f,
                "for requests: {have} of the {need} that each version must have had"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::observed::Observed;
    use super::*;

    /// So many requests, of which the first so many failed, that took 1 ms and more, evenly.
    fn counts(requests: u64, failures: u64, factor: u32) -> Counts {
        let observed = Observed::default();
        for n in 0..requests {
            let took = Duration::from_micros(1_000 + n * 1_000 / requests) * factor;
            observed.record(n < failures, took);
        }
        observed.counts()
    }

    fn look(stable: &Counts, canary: &Counts, time_is_up: bool) -> Decision {
        let seen = Seen::evenly(stable, canary);
        Rule::new(5, MIN_REQUESTS).look(&mut Looks::default(), &seen, time_is_up)
    }

    #[test]
    fn a_canary_like_stable_advances_when_its_time_and_its_requests_are_there() {
        let (stable, canary) = (counts(9_900, 99, 1), counts(100, 1, 1));
        assert_eq!(
            look(&stable, &canary, false),
            Decision::Continue(Waiting::Time)
        );
        assert_eq!(look(&stable, &canary, true), Decision::Advance);
        let (have, need) = (99, 100);
        assert_eq!(
            look(&stable, &counts(99, 1, 1), true),
            Decision::Continue(Waiting::Requests { have, need })
        );
        assert_eq!(
            look(&counts(0, 0, 1), &canary, true),
            Decision::Continue(Waiting::Requests { have: 0, need })
        );
    }

    #[test]
    fn why_it_is_withdrawn_is_said_in_figures() {
        let said = |decision| match decision {
            Decision::Withdraw { why } => why.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(
            said(look(&counts(9_900, 99, 1), &counts(100, 9, 1), false)),
            "its error rate is 9.00 % (9 of 100), stable's 1.00 % (99 of 9900) (p = 1.2e-6, below 5.0e-4)"
        );
        assert_eq!(
            said(look(&counts(9_900, 99, 1), &counts(100, 1, 2), false)),
            "its p99 is 3.967ms, stable's 2.015ms; among the slowest of both are 100.00 % (100 of 100) of its requests \
             and 1.60 % (158 of 9900) of stable's (p = 5.0e-169, below 5.0e-4)"
        );
    }

    #[test]
    fn one_that_answers_nothing_is_gone_before_the_step_has_its_requests() {
        let decision = look(&counts(2_000, 20, 1), &counts(20, 20, 1), false);
        assert!(matches!(decision, Decision::Withdraw { .. }));
        let decision = look(&counts(2_000, 20, 1), &counts(19, 19, 1), false);
        let waiting = Waiting::Requests {
            have: 19,
            need: 100,
        };
        assert_eq!(decision, Decision::Continue(waiting), "too few to look at");
    }

    #[test]
    fn looks_are_not_spent_on_what_was_seen_already() {
        let rule = Rule::new(1, 100);
        let mut looks = Looks::default();
        let stable = counts(10_000, 0, 1);
        let mut taken = Vec::new();
        for requests in 0..=1_000 {
            let mut seen = Seen::default();
            seen.add(stable.clone(), counts(requests, 0, 1));
            rule.look(&mut looks, &seen, false);
            if taken.last() != Some(&looks.requests) && looks.taken > 0 {
                taken.push(looks.requests);
            }
        }
        assert_eq!(taken, [20, 30, 45, 68, 102, 153, 230, 345, 518, 777]);
    }

    #[test]
    fn a_burst_that_hit_the_canary_alone_does_not_make_it_slower() {
        let mut seen = Seen::default();
        for _ in 0..50 {
            seen.add(counts(100, 0, 1), counts(100, 0, 1));
        }
        seen.add(counts(100, 0, 1), counts(100, 0, 40));
        let (rule, mut looks) = (Rule::new(5, MIN_REQUESTS), Looks::default());
        assert_eq!(rule.look(&mut looks, &seen, true), Decision::Advance);
        // What comes again and again is no burst.
        for _ in 0..3 {
            seen.add(counts(100, 0, 1), counts(100, 0, 40));
        }
        let decision = rule.look(&mut Looks::default(), &seen, true);
        assert!(
            matches!(decision, Decision::Withdraw { .. }),
            "{decision:?}"
        );
    }

    #[test]
    fn a_p99_longer_by_less_than_a_tenth_is_let_be_however_sure() {
        let slower = |factor: u64| {
            let observed = Observed::default();
            for n in 0..100_000u64 {
                observed.record(
                    false,
                    Duration::from_micros((1_000 + n % 1_000) * factor / 100),
                );
            }
            observed.counts()
        };
        assert_eq!(look(&slower(100), &slower(106), true), Decision::Advance);
        let decision = look(&slower(100), &slower(116), true);
        assert!(
            matches!(decision, Decision::Withdraw { .. }),
            "{decision:?}"
        );
    }

    /// Few enough requests to make, many enough to judge by.
    fn requests() -> impl Strategy<Value = (u64, u64)> {
        (20u64..2_000).prop_flat_map(|requests| (Just(requests), 0..=requests))
    }

    proptest! {
        #[test]
        fn no_worse_figures_are_never_withdrawn((requests, failures) in requests(), times in 1u64..5, up in any::<bool>()) {
            let stable = counts(requests * times, failures * times, 1);
            let decision = look(&stable, &counts(requests, failures, 1), up);
            prop_assert!(!matches!(decision, Decision::Withdraw { .. }), "{decision:?}");
        }

        #[test]
        fn one_more_failure_never_saves_a_canary(
            (requests, failures) in (20u64..2_000).prop_flat_map(|requests| (Just(requests), 0..requests)),
            (stable, stable_failures) in requests(),
        ) {
            let stable = counts(stable, stable_failures, 1);
            let is_withdrawn = |failures| matches!(
                look(&stable, &counts(requests, failures, 1), false),
                Decision::Withdraw { why: Worse::Errors { .. } }
            );
            prop_assert!(is_withdrawn(failures + 1) || !is_withdrawn(failures));
        }

        #[test]
        fn however_many_looks_all_together_err_by_no_more_than_the_step_may(steps in 1u32..20, looks in 1u32..10_000) {
            let rule = Rule::new(steps, 100);
            let spent: f64 = (1..=looks).map(f64::from).map(|n| rule.level / (n * (n + 1.0))).sum();
            prop_assert!(2.0 * f64::from(steps) * spent <= FALSE_WITHDRAWALS);
        }
    }
}
