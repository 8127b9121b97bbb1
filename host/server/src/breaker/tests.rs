//! The breaker as its callers see it, in paused time.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use aegis_registry::manifest;
use proptest::prelude::*;
use tokio::time;

use super::*;

const QUICK: Verdict = Verdict::Success {
    took: Duration::from_millis(1),
};
const FAILED: Verdict = Verdict::Failure {
    took: Duration::from_millis(1),
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Opens by a rate of a half of ten, or five in a row; for 1 s at first, 8 s at most.
fn wishes() -> manifest::Breaker {
    manifest::Breaker {
        min_requests: Some(10),
        consecutive_failures: Some(5),
        max_open_ms: Some(8_000),
        ..manifest::Breaker::default()
    }
}

fn breaker(wishes: &manifest::Breaker) -> Arc<Breaker> {
    Breaker::new(Policy::new(wishes).unwrap(), None, |_, _| ())
}

fn send(breaker: &Arc<Breaker>, verdict: Verdict) {
    breaker.admit().unwrap().end(verdict);
}

fn opened() -> Arc<Breaker> {
    let breaker = breaker(&wishes());
    for _ in 0..5 {
        send(&breaker, FAILED);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    breaker
}

/// Lets the story run without time going by.
async fn let_the_story_go_on() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// Waits until probes are let in.
async fn half_open(breaker: &Arc<Breaker>) {
    while breaker.state() == CircuitState::Open {
        time::sleep(ms(10)).await;
    }
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

fn why(breaker: &Breaker) -> String {
    breaker.status().why.unwrap().to_string()
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_a_success_between_them_does_not_let_them() {
    let breaker = breaker(&manifest::Breaker {
        min_requests: Some(1_000),
        ..wishes()
    });
    for _ in 0..10 {
        for _ in 0..4 {
            send(&breaker, FAILED);
        }
        send(&breaker, QUICK);
    }
    assert_eq!(breaker.state(), CircuitState::Closed);
    for _ in 0..5 {
        assert_eq!(breaker.status().why, None);
        send(&breaker, FAILED);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    assert_eq!(why(&breaker), "5 failures in a row");
    let Open { retry_after } = breaker.admit().err().unwrap();
    assert!(
        (500..=1_000).contains(&retry_after.as_millis()),
        "{retry_after:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_window_s_error_rate_opens_it_and_old_outcomes_are_forgotten() {
    let breaker = breaker(&wishes());
    for _ in 0..4 {
        send(&breaker, FAILED);
        send(&breaker, QUICK);
    }
    time::sleep(ms(10_500)).await;
    send(&breaker, FAILED);
    assert_eq!(breaker.state(), CircuitState::Closed, "the others are past");
    for _ in 0..4 {
        send(&breaker, QUICK);
    }
    time::sleep(ms(8_000)).await;
    for _ in 0..4 {
        send(&breaker, FAILED);
    }
    assert_eq!(breaker.state(), CircuitState::Closed, "nine are too few");
    send(&breaker, QUICK);
    assert_eq!(breaker.state(), CircuitState::Open);
    assert_eq!(why(&breaker), "error rate 50 % of 10 requests in 10s");
}

#[tokio::test(start_paused = true)]
async fn a_percentile_over_its_threshold_opens_it() {
    let breaker = breaker(&manifest::Breaker {
        latency_ms: Some(200),
        latency_quantile: Some(0.9),
        ..wishes()
    });
    let after = |took| Verdict::Success { took: ms(took) };
    for _ in 0..18 {
        send(&breaker, after(200));
    }
    send(&breaker, after(201));
    send(&breaker, after(60_000));
    assert_eq!(breaker.state(), CircuitState::Closed, "a tenth may be slow");
    send(&breaker, after(201));
    assert_eq!(
        why(&breaker),
        "p90 over 200ms: 3 of 21 requests in 10s took longer"
    );
    half_open(&breaker).await;
    send(&breaker, after(201));
    let_the_story_go_on().await;
    assert_eq!(
        breaker.state(),
        CircuitState::Open,
        "a slow probe is no cure"
    );
    half_open(&breaker).await;
    send(&breaker, after(200));
    let_the_story_go_on().await;
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn each_failed_probe_doubles_the_time_up_to_the_longest() {
    let breaker = opened();
    for full in [1_000, 2_000, 4_000, 8_000, 8_000, 8_000u64] {
        let Open { retry_after } = breaker.admit().err().unwrap();
        assert!(retry_after >= ms(full / 2), "{retry_after:?} of {full}");
        assert!(retry_after <= ms(full), "{retry_after:?} of {full}");
        time::sleep(retry_after - ms(1)).await;
        assert_eq!(breaker.state(), CircuitState::Open);
        time::sleep(ms(2)).await;
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        send(&breaker, FAILED);
        let_the_story_go_on().await;
        assert_eq!(breaker.state(), CircuitState::Open);
    }
    assert_eq!(
        why(&breaker),
        "5 failures in a row; 6 probes have failed since"
    );
}

#[tokio::test(start_paused = true)]
async fn one_good_probe_closes_it_with_nothing_remembered_and_the_next_time_is_short_again() {
    let breaker = opened();
    half_open(&breaker).await;
    send(&breaker, FAILED);
    let_the_story_go_on().await;
    half_open(&breaker).await;
    send(&breaker, QUICK);
    let_the_story_go_on().await;
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(breaker.status().why, None);
    assert_eq!(
        breaker.inner.lock().window.total(),
        (window::Slice::default(), 0)
    );
    for _ in 0..5 {
        send(&breaker, FAILED);
    }
    assert_eq!(breaker.state(), CircuitState::Open);
    assert!(breaker.admit().err().unwrap().retry_after <= ms(1_000));
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_goes_away_gives_its_place_to_the_next() {
    let breaker = opened();
    half_open(&breaker).await;
    let probe = breaker.admit().unwrap();
    assert_eq!(breaker.admit().err().unwrap().retry_after, ms(1_000));
    drop(probe);
    let probe = breaker.admit().unwrap();
    probe.end(Verdict::NotCounted);
    let_the_story_go_on().await;
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    send(&breaker, QUICK);
    assert!(
        breaker.admit().is_err(),
        "not before the finding is taken in"
    );
    let_the_story_go_on().await;
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_was_let_in_before_it_opened_does_not_count_afterwards() {
    let breaker = breaker(&wishes());
    let early: Vec<_> = (0..20).map(|_| breaker.admit().unwrap()).collect();
    for _ in 0..5 {
        send(&breaker, FAILED);
    }
    half_open(&breaker).await;
    let mut early = early.into_iter();
    early.next().unwrap().end(QUICK);
    let_the_story_go_on().await;
    assert_eq!(breaker.state(), CircuitState::HalfOpen, "it was no probe");
    send(&breaker, QUICK);
    let_the_story_go_on().await;
    early.for_each(|passage| passage.end(FAILED));
    assert_eq!(breaker.state(), CircuitState::Closed);
    assert_eq!(
        breaker.inner.lock().window.total(),
        (window::Slice::default(), 0)
    );
}

/// The breaker of a version that is unloaded for this long, and loaded again.
async fn away(breaker: Arc<Breaker>, long: Duration) -> Arc<Breaker> {
    let (kept, name) = (Kept::default(), "m".parse().unwrap());
    kept.keep(&name, aegis_registry::Version::FIRST, &breaker);
    let gone = Arc::downgrade(&breaker);
    drop(breaker);
    time::sleep(long).await;
    assert!(gone.upgrade().is_none(), "its story has ended with it");
    let before = kept.of(&name, aegis_registry::Version::FIRST);
    Breaker::new(Policy::new(&wishes()).unwrap(), before, |_, _| ())
}

#[tokio::test(start_paused = true)]
async fn one_whose_version_was_unloaded_goes_on_where_it_was() {
    let breaker = opened();
    half_open(&breaker).await;
    send(&breaker, FAILED);
    let_the_story_go_on().await;
    let began = Instant::now();
    let before = breaker.status();
    let Open { retry_after } = breaker.lets_in().unwrap_err();
    // Open for one to two seconds; back before they are over.
    let breaker = away(breaker, ms(400)).await;
    let after = breaker.status();
    assert_eq!((after.state, after.why), (before.state, before.why));
    assert_eq!(after.since, ms(400));
    assert!(breaker.admit().is_err());
    half_open(&breaker).await;
    let waited = began.elapsed();
    assert!(
        waited >= retry_after && waited <= retry_after + ms(20),
        "{waited:?} of {retry_after:?}"
    );
    // The second failed probe makes it four seconds or so, and what comes after is as ever.
    send(&breaker, FAILED);
    let_the_story_go_on().await;
    assert_eq!(
        why(&breaker),
        "5 failures in a row; 2 probes have failed since"
    );
    let Open { retry_after } = breaker.lets_in().unwrap_err();
    assert!(retry_after > ms(1_900), "{retry_after:?}");
    // Back when it may be probed, it is probed; well, it is as new.
    let breaker = away(breaker, ms(10_000)).await;
    let_the_story_go_on().await;
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    let breaker = away(breaker, ms(10)).await;
    let_the_story_go_on().await;
    send(&breaker, QUICK);
    let_the_story_go_on().await;
    assert_eq!(breaker.state(), CircuitState::Closed);
    let breaker = away(breaker, ms(10)).await;
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn every_state_is_told_in_order_with_its_reason() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let breaker = Breaker::new(Policy::new(&wishes()).unwrap(), None, {
        let told = Arc::clone(&told);
        move |state, why: Option<&Why>| told.lock().push((state, why.map(Why::to_string)))
    });
    for _ in 0..5 {
        send(&breaker, FAILED);
    }
    time::sleep(ms(300)).await;
    assert_eq!(breaker.status().since, ms(300));
    half_open(&breaker).await;
    send(&breaker, FAILED);
    let_the_story_go_on().await;
    half_open(&breaker).await;
    send(&breaker, QUICK);
    let_the_story_go_on().await;
    let row = Some("5 failures in a row".to_owned());
    let again = Some("5 failures in a row; 1 probe has failed since".to_owned());
    assert_eq!(
        *told.lock(),
        [
            (CircuitState::Closed, None),
            (CircuitState::Open, row.clone()),
            (CircuitState::HalfOpen, row),
            (CircuitState::Open, again.clone()),
            (CircuitState::HalfOpen, again),
            (CircuitState::Closed, None),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_story_ends_with_its_breaker_in_every_state() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    drop(opened());
    assert_eq!(tasks(), 1);
    let_the_story_go_on().await;
    assert_eq!(tasks(), 0, "while open");

    let breaker = opened();
    half_open(&breaker).await;
    let probe = breaker.admit().unwrap();
    drop(breaker);
    let_the_story_go_on().await;
    assert_eq!(tasks(), 1, "a probe keeps its breaker");
    drop(probe);
    let_the_story_go_on().await;
    assert_eq!(tasks(), 0, "while half open");

    let breaker = opened();
    half_open(&breaker).await;
    send(&breaker, QUICK);
    let_the_story_go_on().await;
    assert_eq!((tasks(), breaker.state()), (0, CircuitState::Closed));
}

#[test]
fn of_many_threads_that_knock_one_probes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let breaker = runtime.block_on(async { opened() });
    while breaker.state() == CircuitState::Open {
        std::thread::sleep(ms(10));
    }
    let admitted = AtomicUsize::new(0);
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let passage = breaker.admit();
                admitted.fetch_add(usize::from(passage.is_ok()), Ordering::Relaxed);
                barrier.wait();
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1);
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
    let refused = |wishes: &manifest::Breaker| Policy::new(wishes).unwrap_err();
    let nothing = manifest::Breaker::default();
    assert_eq!(
        refused(&manifest::Breaker {
            window_ms: Some(0),
            ..nothing
        }),
        PolicyError::NoWindow
    );
    assert_eq!(
        refused(&manifest::Breaker {
            error_rate: Some(1.5),
            ..nothing
        }),
        PolicyError::ErrorRate(1.5)
    );
    let quantile = manifest::Breaker {
        latency_ms: Some(1),
        latency_quantile: Some(1.0),
        ..nothing
    };
    assert_eq!(refused(&quantile), PolicyError::Quantile(1.0));
    let open = manifest::Breaker {
        open_ms: Some(2_000),
        max_open_ms: Some(1_000),
        ..nothing
    };
    let (first, longest) = (ms(2_000), ms(1_000));
    assert_eq!(refused(&open), PolicyError::Open { first, longest });
}

#[test]
fn one_time_given_alone_never_contradicts_the_other_s_default() {
    let long = manifest::Breaker {
        open_ms: Some(600_000),
        ..manifest::Breaker::default()
    };
    assert_eq!(Policy::new(&long).unwrap().wait_by(3, 1.0), ms(600_000));
    let short = manifest::Breaker {
        max_open_ms: Some(100),
        ..manifest::Breaker::default()
    };
    assert_eq!(Policy::new(&short).unwrap().wait_by(0, 1.0), ms(100));
}

/// What may happen to a breaker.
#[derive(Clone, Debug)]
enum Step {
    Knock,
    /// One of those inside ends.
    End(usize, Verdict),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        2 => Just(QUICK),
        4 => Just(FAILED),
        1 => Just(Verdict::NotCounted),
    ];
    let step = prop_oneof![
        4 => Just(Step::Knock),
        4 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::End(which, verdict)),
        2 => (0u64..3_000).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..150)
}

/// Runs `test` in a runtime with paused time.
fn paused(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

proptest! {
    #[test]
    fn in_any_interleaving_one_probes_at_a_time_and_a_recovery_begins_with_an_empty_window(steps in steps()) {
        paused(async {
            let breaker = breaker(&manifest::Breaker { min_requests: Some(4), consecutive_failures: Some(3), ..wishes() });
            let mut inside: Vec<Passage> = Vec::new();
            for step in steps {
                let before = breaker.state();
                match step {
                    Step::Knock => match breaker.admit() {
                        Ok(passage) => {
                            prop_assert_ne!(before, CircuitState::Open);
                            inside.push(passage);
                        }
                        Err(Open { retry_after }) => {
                            prop_assert_ne!(before, CircuitState::Closed);
                            prop_assert!(retry_after <= ms(8_000));
                        }
                    },
                    Step::End(which, verdict) if !inside.is_empty() => {
                        inside.swap_remove(which % inside.len()).end(verdict);
                    }
                    Step::End(..) => {}
                    Step::Wait(wait) => time::sleep(ms(wait)).await,
                }
                let_the_story_go_on().await;
                let after = breaker.state();
                let probes = inside.iter().filter(|passage| passage.through == Through::Probe).count();
                prop_assert!(probes <= usize::from(after == CircuitState::HalfOpen));
                if before != CircuitState::Closed && after == CircuitState::Closed {
                    prop_assert_eq!(breaker.inner.lock().window.total(), (window::Slice::default(), 0));
                }
                prop_assert_eq!(breaker.status().why.is_some(), after != CircuitState::Closed);
                prop_assert_eq!(Handle::current().metrics().num_alive_tasks(), usize::from(after != CircuitState::Closed));
            }
            Ok(())
        })?;
    }

    #[test]
    fn below_min_requests_no_rate_and_no_latency_opens_it(
        outcomes in proptest::collection::vec((any::<bool>(), 0u64..1_000), 0..50),
    ) {
        paused(async {
            let breaker = breaker(&manifest::Breaker {
                min_requests: Some(50),
                consecutive_failures: Some(0),
                error_rate: Some(0.001),
                latency_ms: Some(1),
                ..manifest::Breaker::default()
            });
            for (failed, took) in outcomes.into_iter().take(49) {
                let took = ms(took);
                send(&breaker, if failed { Verdict::Failure { took } } else { Verdict::Success { took } });
                prop_assert_eq!(breaker.state(), CircuitState::Closed);
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_is_not_counted_changes_nothing(
        outcomes in proptest::collection::vec(prop_oneof![Just(QUICK), Just(FAILED), Just(Verdict::NotCounted)], 0..60),
    ) {
        paused(async {
            let (all, counted) = (breaker(&wishes()), breaker(&wishes()));
            for verdict in outcomes {
                if let Ok(passage) = all.admit() {
                    passage.end(verdict);
                }
                if verdict != Verdict::NotCounted && let Ok(passage) = counted.admit() {
                    passage.end(verdict);
                }
                prop_assert_eq!(all.state(), counted.state());
                prop_assert_eq!(all.inner.lock().window.total(), counted.inner.lock().window.total());
            }
            Ok(())
        })?;
    }

    #[test]
    fn the_window_counts_what_a_list_of_outcomes_would(
        outcomes in proptest::collection::vec((0u64..4_000, any::<bool>()), 0..80),
    ) {
        let policy = Policy::new(&manifest::Breaker {
            min_requests: Some(1_000),
            consecutive_failures: Some(0),
            ..manifest::Breaker::default()
        })
        .unwrap();
        let began = Instant::now();
        let mut window = Window::new(&policy, began);
        let mut now = began;
        let mut list: Vec<(Instant, bool)> = Vec::new();
        for (later, failed) in outcomes {
            now += ms(later);
            prop_assert_eq!(window.count(&policy, now, failed, Duration::ZERO), None);
            list.push((now, failed));
            let within = |age: u64| {
                let young = list.iter().filter(|(at, _)| now.duration_since(*at) < ms(age));
                let failures = young.clone().filter(|(_, failed)| *failed).count();
                (young.count() as u32, failures as u32)
            };
            let (seen, _) = window.total();
            let (least, most) = (within(9_000), within(10_000));
            prop_assert!((least.0..=most.0).contains(&seen.requests), "{} of {:?}", seen.requests, (least, most));
            prop_assert!((least.1..=most.1).contains(&seen.failures));
        }
    }

    #[test]
    fn a_wait_lies_between_half_and_all_of_its_doubled_time(
        first in 10u32..600_000,
        more in 0u32..3_000_000,
        failed_probes in any::<u32>(),
        chance in 0.0f64..=1.0,
    ) {
        let wishes = manifest::Breaker {
            open_ms: Some(first),
            max_open_ms: Some(first + more),
            ..manifest::Breaker::default()
        };
        let wait = Policy::new(&wishes).unwrap().wait_by(failed_probes, chance);
        let factor = 1u64.checked_shl(failed_probes).unwrap_or(u64::MAX).max(1);
        let full = u64::from(first).saturating_mul(factor).min(u64::from(first + more));
        prop_assert!(wait >= ms(full) / 2 && wait <= ms(full), "{wait:?} of {full}");
    }
}
