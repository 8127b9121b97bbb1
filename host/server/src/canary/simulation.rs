//! What the rule does to rollouts, by simulation with fixed seeds: how often it withdraws a canary
//! that is as good as stable, and how soon one that is not.
//!
//! Latencies are log-normal with a median of 20 ms and a σ of 0.5 (p99 64 ms); the canary has a
//! twentieth of the traffic, or half of it. The rule is asked whenever the canary has had an eighth
//! more requests, and ten at least; what came in between is one moment.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution as _, LogNormal};

use super::{
    observed::{Counts, Observed},
    rule::{self, Decision, Looks, Rule},
    seen::Seen,
};

/// How a version behaves.
#[derive(Clone, Copy)]
struct Version {
    error_rate: f64,
    /// Of all its latencies.
    slower: f64,
}

const GOOD: Version = Version {
    error_rate: 0.01,
    slower: 1.0,
};

/// One step of a rollout of five: the requests of the canary at which it was withdrawn, if it was
/// before it had had `most`.
fn withdrawn_at(seed: u64, canary: Version, weight: f64, most: u64) -> Option<u64> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let Ok(latency) = LogNormal::new(20_000f64.ln(), 0.5) else {
        unreachable!("σ is positive")
    };
    let rule = Rule::new(5, rule::MIN_REQUESTS);
    let (mut looks, of_stable, of_canary) =
        (Looks::default(), Observed::default(), Observed::default());
    let (mut seen, mut before) = (Seen::default(), (Counts::default(), Counts::default()));
    let mut requests = 0;
    let mut look_at = 0;
    while requests < most {
        let to_canary = rng.random_bool(weight);
        let (version, observed) = if to_canary {
            (canary, &of_canary)
        } else {
            (GOOD, &of_stable)
        };
        let took = Duration::from_micros((latency.sample(&mut rng) * version.slower) as u64);
        observed.record(rng.random_bool(version.error_rate), took);
        requests += u64::from(to_canary);
        // Copying the counts after every request would be most of what this does.
        if to_canary && (requests >= look_at || requests == most) {
            let up = requests == most;
            let now = (of_stable.counts(), of_canary.counts());
            seen.add(now.0.since(&before.0), now.1.since(&before.1));
            before = now;
            let decision = rule.look(&mut looks, &seen, up);
            if let Decision::Withdraw { .. } = decision {
                return Some(requests);
            }
            look_at = requests + (requests / 8).max(10);
        }
    }
    None
}

/// Of so many steps with different seeds: what share was withdrawn, and after how many of the
/// canary's requests the most patient of them was.
fn withdrawn(steps: u64, canary: Version, weight: f64, most: u64) -> (f64, Option<u64>) {
    let at: Vec<u64> = (0..steps)
        .filter_map(|seed| withdrawn_at(seed, canary, weight, most))
        .collect();
    (at.len() as f64 / steps as f64, at.into_iter().max())
}

/// A rollout may err by 1 %, so each of its five steps by 0.2 %.
#[test]
fn of_canaries_as_good_as_stable_no_more_are_withdrawn_than_stated() {
    for (weight, most) in [(0.05, 600), (0.5, 3_000)] {
        let (share, _) = withdrawn(1_500, GOOD, weight, most);
        assert!(
            share <= rule::FALSE_WITHDRAWALS / 5.0,
            "{share} at {weight}"
        );
    }
}

/// 6 % of its requests fail, of stable's 1 %. Where each has half of the requests, stable's rate is
/// known no better than the canary's, and more of them are needed.
#[test]
fn a_canary_with_five_points_more_of_errors_is_withdrawn_within_500_requests_or_1_200_of_half() {
    let canary = Version {
        error_rate: 0.06,
        ..GOOD
    };
    for (weight, most) in [(0.05, 500), (0.5, 1_200)] {
        let (share, last) = withdrawn(200, canary, weight, most);
        assert!(share >= 0.95, "{share} at {weight}, the last at {last:?}");
    }
}

/// With half of all requests, the slowest hundredth of both is hardly more than the canary's alone,
/// and says less.
#[test]
fn a_canary_with_twice_the_p99_is_withdrawn_within_150_requests_or_1_200_of_half() {
    let canary = Version {
        slower: 2.0,
        ..GOOD
    };
    for (weight, most) in [(0.05, 150), (0.5, 1_200)] {
        let (share, last) = withdrawn(200, canary, weight, most);
        assert!(share >= 0.95, "{share} at {weight}, the last at {last:?}");
    }
}
