//! Three replicas on one bucket behind a load balancer, and callers who go on asking while everything that a team does and
//! everything that goes wrong happens to them, in an order that a seed decides: for a minute in CI, and for as long as
//! `scripts/chaos.sh` is told. No request fails, and every answer is exactly what the version that it names answers.

mod deeds;
mod fleet;
mod plan;
mod plan_tests;
mod report;

use std::{
    env::var,
    time::{Duration, Instant},
};

use self::{
    deeds::Deeds,
    plan::{SHORTEST, plan},
};
use crate::harness::Callers;

const CALLERS: usize = 6;
const PAUSE: Duration = Duration::from_millis(4);

/// The seed of CI, one of those with which few steps have every kind; `AEGIS_CHAOS_SEED` is another.
const SEED: u64 = 399;

/// The steps of CI; `AEGIS_CHAOS_MINUTES` asks for as many as are done in that time.
const STEPS: usize = 17;

/// More steps than are done in a minute.
const STEPS_A_MINUTE: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_loses_nothing_whatever_is_done_to_it() {
    let seed = var("AEGIS_CHAOS_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let minutes = var("AEGIS_CHAOS_MINUTES").map(|minutes| minutes.parse::<usize>().unwrap());
    let (length, time) = match minutes {
        Ok(minutes) => (
            SHORTEST.max(minutes * STEPS_A_MINUTE),
            Duration::from_secs(60 * minutes as u64),
        ),
        Err(_) => (STEPS, Duration::MAX),
    };
    let steps = plan(seed, length);
    eprintln!("seed {seed}:");
    for (number, step) in steps.iter().enumerate() {
        eprintln!("{number:6} {step}");
    }
    let Some(mut deeds) = Deeds::begin().await else {
        return;
    };
    let callers = Callers::start(deeds.fleet.address(), "unwell", CALLERS, PAUSE);
    let begun = Instant::now();
    for (number, step) in steps.iter().enumerate() {
        if begun.elapsed() >= time {
            break;
        }
        eprintln!("{:6.1} s {number:6} {step}", begun.elapsed().as_secs_f64());
        deeds.happen(step).await;
        tokio::time::sleep(step.pause).await;
    }
    let tally = callers.stop().await;
    eprintln!(
        "\nseed {seed}, {:.0?}\n\n{}",
        begun.elapsed(),
        deeds.report.with(&tally)
    );
    let is_well = tally.failed.is_empty() && tally.wrong.is_empty();
    assert!(is_well, "{tally:?}\n{}", deeds.fleet.noticed());
    assert!(tally.asked > 1000, "{tally:?}");
    assert!(
        deeds.report.unjust.len() <= 1 + steps.len() / 100,
        "{:?}",
        deeds.report.unjust
    );
}
