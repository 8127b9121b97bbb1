//! Whole runs: what must hold of any, and what is known of some.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::{render::hpa_manifest, report::hpa_of, slo::Slo};

fn before() -> Hpa {
    Hpa::from_yaml(include_str!("../../hpa/before.yaml")).unwrap()
}

fn after() -> Hpa {
    hpa_of(&Slo::default()).unwrap()
}

fn with(edit: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::of(&Slo::default()).unwrap();
    edit(&mut config);
    config
}

fn run(config: &Config, hpa: &Hpa, profile: &Profile) -> Run {
    simulate(config, hpa, profile).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_one_another() {
    let run = |seed| run(&with(|c| c.seed = seed), &after(), &Profile::surge());
    let (one, again, other) = (run(1), run(1), run(2));
    assert_eq!(one.ticks, again.ticks);
    assert_eq!(one.minutes, again.minutes);
    assert_ne!(one.ticks, other.ticks);
}

#[test]
fn a_steady_load_is_answered_at_the_rate_that_users_make() {
    let profile = Profile::from_csv("a", "time,users\n0,50\n1800,50\n").unwrap();
    let run = run(&with(|_| ()), &after(), &profile);
    let per_second = run.summary.requests as f64 / 1800.0;
    // 50 users, each 2.2 s of thought and 0.1 s of answer.
    assert!(
        (per_second / (50.0 / 2.31) - 1.0).abs() < 0.03,
        "{per_second}"
    );
    assert_eq!(run.summary.replicas_peak, 3);
    assert_eq!(run.summary.failed_percent, 0.0);
    // Three pods for half an hour.
    assert!((run.summary.dollars_a_month - 3.0 * 720.0 * 0.1).abs() < 1.0);
}

#[test]
fn both_engines_tell_the_same_story() {
    let of = |engine| run(&with(|c| c.engine = engine), &after(), &Profile::day());
    let (exact, aggregate) = (of(Engine::Exact), of(Engine::Aggregate));
    assert!(exact.exact && !aggregate.exact);
    let (one, other) = (exact.summary, aggregate.summary);
    assert!(
        (other.replicas_mean / one.replicas_mean - 1.0).abs() < 0.15,
        "{one:?} {other:?}"
    );
    assert!((other.requests as f64 / one.requests as f64 - 1.0).abs() < 0.02);
    let ratio = other.p95_median_ms.unwrap() / one.p95_median_ms.unwrap();
    assert!((ratio - 1.0).abs() < 0.1, "{one:?} {other:?}");
}

#[test]
fn an_open_loop_beyond_capacity_is_refused_in_part() {
    let profile = Profile::from_csv("a", "time,rps\n0,200\n600,200\n").unwrap();
    let mut hpa = before();
    // Two pods of 40 a second, and no more allowed.
    hpa = Hpa::from_yaml(
        &include_str!("../../hpa/before.yaml").replace("maxReplicas: 20", "maxReplicas: 2"),
    )
    .unwrap_or(hpa);
    let run = run(&with(|_| ()), &hpa, &profile);
    assert!(
        (run.summary.failed_percent - 60.0).abs() < 2.0,
        "{}",
        run.summary.failed_percent
    );
}

#[test]
fn pods_that_start_take_nothing_until_they_are_ready() {
    let run = run(&with(|c| c.startup = 120.0), &before(), &Profile::step());
    let up = run
        .ticks
        .iter()
        .find(|tick| tick.desired > tick.replicas)
        .unwrap();
    let ready = run.ticks.iter().find(|tick| tick.ready > up.ready).unwrap();
    assert!(
        ready.time - up.time >= 0.8 * 120.0,
        "{} {}",
        up.time,
        ready.time
    );
}

#[test]
fn the_seeds_surge_grows_by_their_policies() {
    let run = run(&with(|_| ()), &after(), &Profile::surge());
    let changes: Vec<i32> = run
        .ticks
        .iter()
        .filter(|tick| tick.desired > tick.replicas)
        .map(|tick| tick.desired)
        .collect();
    assert_eq!(changes.first(), Some(&5), "{changes:?}");
    // The window of 60 s: not within 60 s of the last calm tick.
    let first = run.ticks.iter().find(|tick| tick.desired == 5).unwrap();
    assert!(first.time > 60.0, "{}", first.time);
    assert!(changes.iter().all(|replicas| *replicas <= 20));
}

/// A load of 13 places: four pods of four bear it, three do not.
fn steep() -> (Config, Profile) {
    let config = with(|c| {
        c.service.time = ServiceTime::log_normal(0.02, 0.5).unwrap();
        // CPU tells nothing.
        c.service.cores_per_place = 0.05;
    });
    let loads = vec![650.0; 2 * 3600];
    let profile = Profile::every_second("a", LoadKind::RequestsPerSecond, &loads);
    (config, profile.unwrap())
}

#[test]
fn an_in_flight_target_beyond_what_a_pod_holds_flaps_by_single_requests_as_well_as_in_bulk() {
    let (config, profile) = steep();
    let of = |engine| {
        let config = Config {
            engine,
            ..config.clone()
        };
        run(&config, &after(), &profile)
    };
    for run in [of(Engine::Exact), of(Engine::Aggregate)] {
        // At four pods in-flight is 5 of 10, so the HPA takes one away, and three fill their queues.
        let taken = run
            .ticks
            .iter()
            .any(|tick| (tick.replicas, tick.desired) == (4, 3));
        assert!(taken && run.summary.scale_ups >= 2, "{:?}", run.summary);
        assert!(run.summary.failed_percent > 0.0, "{:?}", run.summary);
    }
}

#[test]
fn an_in_flight_target_of_the_places_keeps_the_pods_that_are_needed() {
    let (config, profile) = steep();
    let manifest = hpa_manifest(&Slo::parse("[scaling]\nin_flight_per_pod = 4\n").unwrap());
    let hpa = Hpa::from_yaml(&manifest.unwrap().text).unwrap();
    for engine in [Engine::Exact, Engine::Aggregate] {
        let config = Config {
            engine,
            ..config.clone()
        };
        let run = run(&config, &hpa, &profile);
        let late = run.ticks.iter().filter(|tick| tick.time > 1800.0);
        assert!(
            late.map(|tick| tick.desired).min() >= Some(4),
            "{:?}",
            run.summary
        );
    }
}

#[test]
fn a_scrape_sees_no_request_before_it_comes() {
    // One request in flight per pod on average; seen as each pod's latest request did, it were two.
    let profile = Profile::from_csv("a", "time,rps\n0,30\n3600,30\n").unwrap();
    let run = run(&with(|c| c.engine = Engine::Exact), &after(), &profile);
    let seen: Vec<f64> = run.ticks.iter().map(|tick| tick.in_flight).collect();
    let mean = seen.iter().sum::<f64>() / seen.len() as f64;
    assert!((mean - 1.0).abs() < 0.15, "{mean}");
}

#[test]
fn replicas_are_told_between_syncs_too() {
    let run = run(&with(|_| ()), &after(), &Profile::surge());
    assert_eq!(run.replicas_at(0.0), 3);
    let up = run.ticks.iter().find(|tick| tick.desired == 5).unwrap();
    let around = [-0.1, 0.0, 5.0].map(|seconds| run.replicas_at(up.time + seconds));
    assert_eq!(around, [3, 5, 5]);
    assert_eq!(run.replicas_at(1e9), run.ticks.last().unwrap().desired);
    // And where no sync came at all.
    let brief = Profile::every_second("a", LoadKind::Users, &[5.0]).unwrap();
    let run = simulate(&with(|_| ()), &after(), &brief).unwrap();
    assert_eq!((run.ticks.len(), run.replicas_at(1.0)), (0, 3));
}

#[test]
fn keda_scales_on_a_total_and_on_a_value() {
    let keda = |target: &str| {
        Hpa::from_yaml(&format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: keda-hpa-a}}\nspec:\n  \
             scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: a}}\n  minReplicas: 2\n  maxReplicas: 20\n  \
             metrics: [{{type: External, external: {{metric: {{name: s0-prometheus}}, target: {target}}}}}]\n"
        ))
        .unwrap()
    };
    let run = |hpa: &Hpa, signal| {
        let config = with(|c| {
            c.signals.insert("s0-prometheus".to_owned(), signal);
        });
        run(&config, hpa, &Profile::step()).summary
    };
    // 200 users are some 87 a second: at 18 a pod, 5 (at 20 it would be 4: 1.09 is within tolerance).
    let total = run(
        &keda("{type: AverageValue, averageValue: 18}"),
        Signal::RequestRate,
    );
    assert!((5..=6).contains(&total.replicas_peak), "{total:?}");
    // A p95 as a value multiplies; as an average value it is divided by the replicas and never grows.
    let p95 = Signal::Latency(0.95);
    let value = run(&keda("{type: Value, value: 150m}"), p95);
    assert!(value.replicas_peak > 4, "{value:?}");
    let divided = run(&keda("{type: AverageValue, averageValue: 150m}"), p95);
    assert!(divided.replicas_peak < value.replicas_peak, "{divided:?}");
}

#[test]
fn a_metric_without_a_meaning_is_refused_by_name() {
    let manifest = hpa_manifest(&Slo::default()).unwrap().text;
    let yaml = manifest.replace("http_requests_in_flight", "orders");
    let hpa = Hpa::from_yaml(&yaml).unwrap();
    let told = simulate(&with(|_| ()), &hpa, &Profile::step())
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("pods metric orders") && told.contains("--metric orders=in_flight"),
        "{told}"
    );
    let config = with(|c| {
        c.signals.insert("orders".to_owned(), Signal::InFlight);
    });
    simulate(&config, &hpa, &Profile::step()).unwrap();
}

#[test]
fn what_cannot_be_is_refused_with_the_range() {
    for (edit, words) in [
        (
            (|c: &mut Config| c.think = 0.0) as fn(&mut Config),
            "think time",
        ),
        (|c| c.rate_window = 20.0, "twice the scrape interval"),
        (|c| c.startup = f64::NAN, "start-up time"),
        (|c| c.service.concurrency = 0, "concurrency of a pod is 0"),
        (|c| c.pod_hour = -1.0, "price"),
    ] {
        let told = simulate(&with(edit), &after(), &Profile::step())
            .unwrap_err()
            .to_string();
        assert!(told.contains(words), "{told}");
    }
}
