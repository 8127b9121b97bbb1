//! The search against a server that is a formula.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use proptest::prelude::*;

use super::*;
use crate::fake::Fake;

const ALONE: Setting = Setting {
    batching: Batching::Off,
    sessions: 1,
    threads: 1,
};

fn asked(p99_ms: f64) -> Asked {
    Asked {
        baseline: ALONE,
        goal: Goal::new(p99_ms, 1.0, 3.0).unwrap(),
        loads: [1, 2, 4, 8, 16, 32, 64].map(Load::Users).to_vec(),
        space: Space {
            cores: 4,
            threads: true,
            concurrency: 64,
            plain_batching: true,
            least_batch: 1,
        },
        budget: Duration::from_secs(3600),
        cell: Duration::from_secs(4),
        repeats: 3,
    }
}

struct Silent;
impl Watch for Silent {}

fn find(asked: &Asked, fake: &mut Fake) -> Found {
    let executor = tokio::runtime::Builder::new_current_thread().build();
    executor
        .unwrap()
        .block_on(search(asked, fake, &mut Silent))
        .unwrap()
}

/// The best that any setting of the space truly serves within the objective.
fn best_of_all(asked: &Asked, fake: &Fake) -> Option<f64> {
    let space = &asked.space;
    let parallel: Vec<_> = [space.whole(), space.half(), vec![(1, 1)]].concat();
    let on = |max_batch_size| Batching::On {
        max_batch_size,
        max_latency_ms: 0,
    };
    let batchings = space.sizes().map(on).chain([Batching::Off, Batching::Auto]);
    let settings = batchings.flat_map(|batching| {
        parallel
            .iter()
            .map(move |(sessions, threads)| ALONE.batched(batching).parallel(*sessions, *threads))
    });
    settings
        .flat_map(|setting| asked.loads.iter().map(move |load| (setting, *load)))
        .map(|(setting, load)| fake.truth(&setting, load.size()))
        .filter(|(_, p99, _)| *p99 <= asked.goal.p99_ms())
        .map(|(rps, ..)| rps)
        .reduce(f64::max)
}

#[test]
fn it_comes_near_the_best_of_all_with_a_small_part_of_the_measurements() {
    let asked = asked(100.0);
    let mut fake = Fake::new();
    let found = find(&asked, &mut fake);
    let Proposal::Change {
        figures,
        gain_percent,
        ..
    } = &found.proposal
    else {
        unreachable!("{:?}", found.proposal)
    };
    let best = best_of_all(&asked, &fake).unwrap();
    assert!(figures.rps >= best * 0.95, "{} of {best}", figures.rps);
    assert!(gain_percent.unwrap() > 100.0);
    assert_eq!(found.ended, Ended::Whole);
    // Of 7 batchings, 6 waits, 6 pairs and 7 loads.
    assert!(fake.asked.len() < 80, "{}", fake.asked.len());
}

#[test]
fn where_only_sessions_help_it_finds_those() {
    let mut fake = Fake::new();
    (fake.first_ms, fake.row_ms, fake.serial) = (0.0, 5.0, 1.0);
    let setting = find(&asked(1000.0), &mut fake).proposal.change().unwrap();
    assert_eq!((setting.sessions, setting.threads), (4, 1));
}

#[test]
fn where_the_objective_is_tight_and_a_run_long_it_finds_threads() {
    let mut fake = Fake::new();
    // One row takes 20 ms on one thread, and P99 is half as much again.
    (fake.first_ms, fake.row_ms, fake.serial) = (0.0, 20.0, 0.0);
    let found = find(&asked(10.0), &mut fake);
    assert_eq!(
        found.proposal.change().map(|setting| setting.threads),
        Some(4)
    );
}

#[test]
fn what_cannot_help_is_not_tried_and_the_reason_is_told() {
    let mut fake = Fake::new();
    let mut asked = asked(3.0);
    asked.space.threads = false;
    let found = find(&asked, &mut fake);
    let threads = |(setting, _): &(Setting, Load)| setting.threads > 1;
    assert!(!fake.asked.iter().any(threads));
    let of = |stage| found.skipped.iter().filter(move |(of, _)| *of == stage);
    assert_eq!(of(Stage::Parallel).count(), 1, "{:?}", found.skipped);
    assert_eq!(of(Stage::Wait).count(), 1, "{:?}", found.skipped);
    assert!(matches!(found.proposal, Proposal::Nothing { .. }));
}

#[test]
fn the_best_and_the_one_in_force_are_repeated_by_turns() {
    let mut fake = Fake::new();
    let asked = asked(100.0);
    let found = find(&asked, &mut fake);
    let setting = found.proposal.change().unwrap();
    let repeats: Vec<Setting> = fake.asked.iter().rev().take(9).map(|(s, _)| *s).collect();
    for of in [asked.baseline, setting] {
        assert_eq!(repeats.iter().filter(|one| **one == of).count(), 3);
    }
    assert!(repeats.windows(2).any(|pair| pair.first() != pair.last()));
    let longest_row = repeats.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(longest_row <= Some(2), "{repeats:?}");
}

#[test]
fn a_setting_that_is_not_served_is_left_out_and_told() {
    let mut fake = Fake::new();
    fake.most_sessions = 2;
    let found = find(&asked(100.0), &mut fake);
    let refused = |trial: &&Trial| trial.refused.is_some();
    assert!(found.trials.iter().filter(refused).count() > 0);
    assert!(found.proposal.change().unwrap().sessions <= 2);
}

#[test]
fn a_model_that_is_not_served_as_it_is_set_is_an_error() {
    let mut fake = Fake::new();
    fake.most_sessions = 0;
    let executor = tokio::runtime::Builder::new_current_thread().build();
    let ended = executor
        .unwrap()
        .block_on(search(&asked(9.0), &mut fake, &mut Silent));
    assert_eq!(
        ended.unwrap_err(),
        SearchError::Baseline("too many sessions".to_owned())
    );
}

#[test]
fn among_settings_that_are_all_the_same_noise_makes_hardly_a_change() {
    let changes = (0..200).filter(|seed| {
        let mut fake = Fake::new().seeded(*seed);
        // A handler that takes all the time: 5 ms whatever is set.
        (fake.first_ms, fake.row_ms, fake.noise) = (0.0, 5.0, 0.08);
        fake.serial = 1.0;
        let mut asked = asked(1000.0);
        asked.space.cores = 1;
        asked.repeats = 5;
        find(&asked, &mut fake).proposal.change().is_some()
    });
    let changes = changes.count();
    assert!(changes <= 4, "{changes} of 200");
}

fn fakes() -> impl Strategy<Value = Fake> {
    let model = (0.0..20.0f64, 0.1..20.0f64, 0.0..1.0f64);
    let took = prop::collection::vec(100u64..9000, 1..6);
    let stop = prop::option::of(0usize..60);
    (model, 0.0..0.3f64, took, stop, 1u32..5, any::<u64>()).prop_map(
        |((first_ms, row_ms, serial), noise, took, stop_at, most_sessions, seed)| {
            let mut fake = Fake::new().seeded(seed);
            (fake.first_ms, fake.row_ms, fake.serial) = (first_ms, row_ms, serial);
            (fake.noise, fake.stop_at, fake.most_sessions) = (noise, stop_at, most_sessions);
            fake.took = took.into_iter().map(Duration::from_millis).collect();
            fake
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_proposed_truly_meets_the_objective_and_nothing_is_only_where_nothing_was_seen_to(
        fake in fakes(), p99 in 1.0..500.0f64,
    ) {
        let mut fake = Fake { noise: 0.0, stop_at: None, ..fake };
        let asked = asked(p99);
        let found = find(&asked, &mut fake);
        match found.proposal {
            Proposal::Change { setting, load, .. } => {
                let (rps, truly, _) = fake.truth(&setting, load.size());
                prop_assert!(truly <= p99);
                let best = found.trials.iter().filter_map(|trial| trial.best(&asked.goal));
                let most = best.map(|(_, figures)| figures.rps).fold(0.0, f64::max);
                prop_assert!(rps >= most * 0.999, "{} of {}", rps, most);
            }
            Proposal::Keep { load, .. } => {
                prop_assert!(fake.truth(&asked.baseline, load.size()).1 <= p99);
            }
            Proposal::Unsure { .. } => prop_assert!(false, "there was time enough"),
            Proposal::Nothing { .. } => {
                let met = found.trials.iter().filter_map(|trial| trial.best(&asked.goal));
                prop_assert_eq!(met.count(), 0);
            }
        }
    }

    #[test]
    fn no_measurement_begins_that_would_end_beyond_the_budget(
        fake in fakes(), p99 in 1.0..500.0f64, seconds in 0u64..600,
    ) {
        let mut fake = fake;
        let mut asked = asked(p99);
        asked.budget = Duration::from_secs(seconds);
        let found = find(&asked, &mut fake);
        let (mut spent, mut longest) = (Duration::ZERO, asked.cell);
        for index in 0..fake.asked.len() {
            prop_assert!(spent + longest <= asked.budget);
            spent += fake.took_at(index);
            longest = longest.max(fake.took_at(index));
        }
        prop_assert_eq!(found.spent, spent);
    }

    #[test]
    fn stopped_anywhere_it_tells_what_it_has(fake in fakes(), stop in 0usize..60) {
        let mut fake = Fake { stop_at: Some(stop), most_sessions: 64, ..fake };
        let found = find(&asked(200.0), &mut fake);
        let runs = found.trials.iter().flat_map(|trial| &trial.points);
        prop_assert_eq!(runs.map(|point| point.runs.len()).sum::<usize>(), fake.asked.len());
        // A search may come to its own end at that very measurement, or before it.
        prop_assert!(fake.asked.len() <= stop);
        prop_assert!(found.ended != Ended::Stopped || fake.asked.len() == stop);
    }

    #[test]
    fn no_setting_is_climbed_twice_and_loads_rise(fake in fakes(), p99 in 1.0..500.0f64) {
        let mut fake = fake;
        let found = find(&asked(p99), &mut fake);
        for (index, trial) in found.trials.iter().enumerate() {
            let same = |other: &Trial| other.setting == trial.setting;
            prop_assert_eq!(found.trials.iter().position(same), Some(index));
            let once = trial.points.iter().all(|point| {
                point.runs.iter().filter(|run| !run.repeat).count() <= 1
            });
            prop_assert!(once);
        }
    }
}
