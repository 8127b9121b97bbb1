//! Both queues against queueing theory, and against each other.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use rand::{RngExt as _, SeedableRng as _};

use super::{aggregate::poisson, *};
use crate::simulate::{erlang, service::ServiceTime};

fn model(concurrency: u32, cv: f64) -> ServiceModel {
    ServiceModel {
        concurrency,
        time: ServiceTime::log_normal(0.1, cv).unwrap(),
        max_queue: 1_000_000,
        ..ServiceModel::example().unwrap()
    }
}

/// So many seconds of Poisson arrivals, by single requests.
fn exactly(model: &ServiceModel, rate: f64, seconds: f64) -> Counters {
    let mut rng = Rng::seed_from_u64(7);
    let mut queue = Exact::new(model);
    let mut counters = Counters::default();
    let mut at = 0.0;
    while at < seconds {
        at += -rng.random::<f64>().max(1e-300).ln() / rate;
        queue.offer(at, model, &mut rng, &mut counters);
    }
    queue.advance(at, model, &mut rng, &mut counters);
    counters
}

fn aggregated(model: &ServiceModel, rate: f64, seconds: f64) -> Counters {
    let mut rng = Rng::seed_from_u64(7);
    let mut queue = Aggregate::default();
    let mut counters = Counters::default();
    let step = 0.25;
    for _ in 0..(seconds / step) as usize {
        let count = poisson(rate * step, &mut rng);
        queue.step(step, rate, count, model, &mut rng, &mut counters);
    }
    counters
}

#[test]
fn single_requests_wait_as_m_m_c_says() {
    // Exponential times: a log-normal of cv 1 has the same mean wait to a few percent in M/G/c.
    for (places, load) in [(1, 0.5), (1, 0.8), (4, 2.0), (4, 3.2), (16, 12.8)] {
        let times = (0..4000).map(|n| -(1.0 - (f64::from(n) + 0.5) / 4000.0).ln() * 0.1);
        let model = ServiceModel {
            time: ServiceTime::measured(times.collect()).unwrap(),
            ..model(places, 1.0)
        };
        let counters = exactly(&model, load / 0.1, 40_000.0);
        let wait = counters.felt.mean() - 0.1;
        let theory = erlang::waits(places, load) * erlang::wait_of_waiting(places, load, 0.1, 1.0);
        assert!(
            (wait - theory).abs() < 0.07 * theory + 0.000_5,
            "{places} places, load {load}: {wait} against {theory}"
        );
        let used = counters.cpu / 40_000.0;
        assert!((used / (load * 0.15) - 1.0).abs() < 0.02, "{used}");
    }
}

#[test]
fn the_aggregated_queue_tells_what_single_requests_tell() {
    for places in [1, 4, 16] {
        for utilization in [0.2, 0.5, 0.7, 0.8, 0.9] {
            let model = model(places, 0.5);
            let rate = utilization * model.capacity();
            let single = exactly(&model, rate, 20_000.0);
            let many = aggregated(&model, rate, 20_000.0);
            for q in [0.5, 0.95, 0.99] {
                let (one, other) = (single.felt.quantile(q), many.felt.quantile(q));
                assert!(
                    (other / one - 1.0).abs() < 0.15,
                    "{places} places at {utilization}: p{q} {other} against {one}"
                );
            }
            assert!((many.cpu / single.cpu - 1.0).abs() < 0.03);
        }
    }
}

#[test]
fn a_scrape_in_bulk_scatters_as_one_among_single_requests() {
    /// Mean and standard deviation.
    fn spread(seen: &[f64]) -> (f64, f64) {
        let n = seen.len() as f64;
        let mean = seen.iter().sum::<f64>() / n;
        let variance = seen.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }
    for utilization in [0.3, 0.6, 0.8, 0.9] {
        let model = model(4, 0.8);
        let rate = utilization * model.capacity();
        let mut rng = Rng::seed_from_u64(3);
        let mut counters = Counters::default();
        let mut queue = Exact::new(&model);
        let (mut at, mut single) = (0.0, Vec::new());
        let mut scrape = 0.7;
        while single.len() < 20_000 {
            at += -rng.random::<f64>().max(1e-300).ln() / rate;
            while scrape < at {
                queue.advance(scrape, &model, &mut rng, &mut counters);
                single.push(queue.gauges().in_flight);
                scrape += 1.3;
            }
            queue.offer(at, &model, &mut rng, &mut counters);
        }
        let mut bulk = Aggregate::default();
        bulk.step(0.25, rate, 10, &model, &mut rng, &mut counters);
        let many: Vec<f64> = (0..20_000)
            .map(|_| bulk.seen(&model, &mut rng).in_flight)
            .collect();
        let (one, other) = (spread(&single), spread(&many));
        for (one, other) in [(one.0, other.0), (one.1, other.1)] {
            assert!(
                (other / one - 1.0).abs() < 0.15,
                "at {utilization}: {other} against {one}"
            );
        }
    }
}

#[test]
fn both_grow_and_drain_alike_beyond_capacity() {
    let model = model(4, 0.5);
    // 1.5 times capacity for 60 s: 1200 too many wait, so the last waits 30 s.
    let single = exactly(&model, 60.0, 60.0);
    let many = aggregated(&model, 60.0, 60.0);
    let ratio = many.felt.quantile(0.95) / single.felt.quantile(0.95);
    // Single requests are counted when answered: those of the last 30 s are not yet.
    assert!((1.3..1.6).contains(&ratio), "{ratio}");
    assert!((many.cpu / single.cpu - 1.0).abs() < 0.05);
}

#[test]
fn both_refuse_what_the_queue_has_no_room_for() {
    let model = ServiceModel {
        max_queue: 20,
        ..model(4, 0.5)
    };
    let single = exactly(&model, 80.0, 600.0);
    let many = aggregated(&model, 80.0, 600.0);
    for counters in [&single, &many] {
        let share = counters.rejected as f64 / (counters.rejected + counters.answered) as f64;
        assert!((share - 0.5).abs() < 0.02, "{share}");
        // 20 before one, 40 a second.
        assert!(
            (counters.felt.mean() / 0.6 - 1.0).abs() < 0.1,
            "{}",
            counters.felt.mean()
        );
    }
}

#[test]
fn batches_form_while_the_one_before_runs_and_raise_the_throughput() {
    let batching = ServiceModel {
        max_batch: 8,
        ..model(2, 0.2)
    };
    // 45 a second are more than the 20 of two places alone, and within the 51 of batches of eight.
    let single = exactly(&batching, 45.0, 2_000.0);
    assert!(single.answered as f64 > 44.0 * 2_000.0);
    assert!(single.felt.quantile(0.5) < 1.0);
    let many = aggregated(&batching, 45.0, 2_000.0);
    let ratio = many.felt.quantile(0.5) / single.felt.quantile(0.5);
    assert!((0.6..1.5).contains(&ratio), "{ratio}");
}

#[test]
fn the_first_to_come_is_the_first_served_and_nobody_is_lost() {
    let model = model(1, 0.0);
    let mut rng = Rng::seed_from_u64(1);
    let mut queue = Exact::new(&model);
    let mut counters = Counters::default();
    for _ in 0..10 {
        queue.offer(0.0, &model, &mut rng, &mut counters);
    }
    assert_eq!(queue.in_flight(), 10);
    queue.advance(0.55, &model, &mut rng, &mut counters);
    assert_eq!((counters.answered, queue.in_flight()), (5, 5));
    queue.advance(10.0, &model, &mut rng, &mut counters);
    assert_eq!((counters.answered, queue.in_flight()), (10, 0));
    assert!((counters.felt.mean() - 0.55).abs() < 1e-9);
}
