//! What a scrape of `/metrics` sees: the table's names, exact samples, and nothing without bound.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aegis_telemetry::{
    CircuitState, GaugeHandle, GraphMetrics, METRICS, MetricKind, Outcome, RuntimeHandle,
    RuntimeName, SessionEviction, SessionMetrics, Telemetry, TrapReason, VersionMetrics,
};

/// A sample's name with its labels, as written, and its value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn sample(telemetry: &Telemetry, series: &str) -> Option<f64> {
    samples(&telemetry.render().unwrap()).get(series).copied()
}

/// The label keys of a series as the text has them. No value in these tests holds `,` or `=`.
fn label_keys(series: &str) -> BTreeSet<&str> {
    let Some((_, labels)) = series.split_once('{') else {
        return BTreeSet::new();
    };
    labels
        .trim_end_matches('}')
        .split(',')
        .map(|label| label.split_once('=').unwrap().0)
        .collect()
}

/// Telemetry that has seen a little of everything, and the handles that keep its gauges.
fn used() -> (
    Telemetry,
    (
        VersionMetrics,
        GraphMetrics,
        [GaugeHandle; 4],
        Running,
        SessionMetrics,
    ),
) {
    let telemetry = Telemetry::new().unwrap();
    let running = Running::new(&telemetry);
    let endpoint = telemetry.http().endpoint("POST", "/predict", &[200]);
    endpoint.start().finish(200);
    endpoint.start().finish(422);
    let version = telemetry.inference().version("digits", 1);
    version.request(Outcome::Ok, Duration::from_micros(300));
    let graph = telemetry.inference().graph("digits", "net", "onnxruntime");
    graph.ran(4, Duration::from_micros(20), Duration::from_micros(7));
    let depth = telemetry.inference().queue_depth("digits", || 3);
    let resident = telemetry.inference().resident_bytes(|| 5);
    let sessions = telemetry.inference().sessions("digits", 1, || (2, 300));
    let limit = telemetry.inference().concurrency_limit("digits", 1, || 4);
    let store = telemetry.inference().store_reachable(|| true);
    let gauges = [depth, resident, limit, store];
    (telemetry, (version, graph, gauges, running, sessions))
}

/// A runtime of two threads, and its gauges.
struct Running {
    _handle: RuntimeHandle,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    fn new(telemetry: &Telemetry) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        Running {
            _handle: telemetry.runtime(RuntimeName::Executor, runtime.handle().clone()),
            runtime,
        }
    }
}

/// What stands at something else than zero from the start: what the process is and takes.
fn is_of_the_process(series: &str) -> bool {
    ["process_", "tokio_", "aegis_build_info"]
        .iter()
        .any(|prefix| series.starts_with(prefix))
}

#[test]
fn a_runtimes_figures_are_there_while_its_handle_is() {
    let (telemetry, kept) = used();
    let value = |name: &str| sample(&telemetry, &format!("{name}{{runtime=\"executor\"}}"));
    assert_eq!(value("tokio_workers"), Some(2.0));
    assert_eq!(value("tokio_global_queue_depth"), Some(0.0));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let task = kept.3.runtime.spawn(ended);
    assert_eq!(value("tokio_alive_tasks"), Some(1.0));
    drop(end);
    let _ = kept.3.runtime.block_on(task);
    // Told to have ended, it is taken off the count a moment later.
    let begun = Instant::now();
    while value("tokio_alive_tasks") != Some(0.0) {
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
    drop(kept);
    assert_eq!(value("tokio_workers"), None);
}

#[test]
fn the_exported_names_kinds_labels_and_buckets_are_the_tables() {
    let (telemetry, _kept) = used();
    let text = telemetry.render().unwrap();
    let types: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let table: BTreeSet<(&str, &str)> = METRICS
        .iter()
        .map(|spec| (spec.name, spec.kind.as_str()))
        .collect();
    assert_eq!(types, table);

    for spec in METRICS {
        assert_eq!(
            text.matches(&format!("# HELP {} {}\n", spec.name, spec.help))
                .count(),
            1
        );
        let mut keys: BTreeSet<&str> = spec.labels.iter().copied().collect();
        let base = match spec.kind {
            MetricKind::Histogram => format!("{}_bucket{{", spec.name),
            _ if spec.labels.is_empty() => spec.name.to_owned(),
            MetricKind::Counter | MetricKind::Gauge => format!("{}{{", spec.name),
        };
        if spec.kind == MetricKind::Histogram {
            keys.insert("le");
        }
        let samples = samples(&text);
        let mut series = samples
            .keys()
            .filter(|series| series.starts_with(&base))
            .peekable();
        assert!(series.peek().is_some(), "{} has no series", spec.name);
        for series in series {
            assert_eq!(label_keys(series), keys, "{series}");
        }
        for bound in spec.buckets {
            assert!(
                text.contains(&format!("le=\"{bound}\"")),
                "{} {bound}",
                spec.name
            );
        }
    }
}

#[test]
fn before_anything_is_used_every_metric_is_announced() {
    let text = Telemetry::new().unwrap().render().unwrap();
    for spec in METRICS {
        assert!(text.contains(&format!("# TYPE {} {}\n", spec.name, spec.kind.as_str())));
    }
    // The few series there are already have counted nothing.
    let mut counted = samples(&text);
    counted.retain(|series, _| !is_of_the_process(series));
    assert!(counted.values().all(|value| *value == 0.0), "{text}");
}

#[test]
fn samples_are_exact() {
    let (telemetry, _kept) = used();
    for (series, value) in [
        (
            r#"http_requests_total{endpoint="/predict",method="POST",status="200"}"#,
            1.0,
        ),
        (
            r#"http_requests_total{endpoint="/predict",method="POST",status="422"}"#,
            1.0,
        ),
        (
            r#"http_request_errors_total{endpoint="/predict",error_type="http_422",method="POST"}"#,
            1.0,
        ),
        (
            r#"http_requests_in_flight{endpoint="/predict",method="POST"}"#,
            0.0,
        ),
        (
            r#"http_request_duration_seconds_count{endpoint="/predict",method="POST",status="200"}"#,
            1.0,
        ),
        (
            r#"http_request_duration_seconds_bucket{endpoint="/predict",method="POST",status="200",le="1.5"}"#,
            1.0,
        ),
        (
            r#"aegis_inference_requests_total{model="digits",model_version="1",outcome="ok"}"#,
            1.0,
        ),
        (
            r#"aegis_inference_latency_seconds_sum{model="digits",model_version="1"}"#,
            0.0003,
        ),
        (
            r#"aegis_inference_latency_seconds_bucket{model="digits",model_version="1",le="0.00025"}"#,
            0.0,
        ),
        (
            r#"aegis_inference_latency_seconds_bucket{model="digits",model_version="1",le="0.0005"}"#,
            1.0,
        ),
        (
            r#"aegis_inference_latency_seconds_bucket{model="digits",model_version="1",le="+Inf"}"#,
            1.0,
        ),
        (r#"aegis_inference_queue_depth{model="digits"}"#, 3.0),
        (
            r#"aegis_inference_batch_size_sum{backend="onnxruntime",graph="net",model="digits"}"#,
            4.0,
        ),
        (
            r#"aegis_inference_batch_size_count{backend="onnxruntime",graph="net",model="digits"}"#,
            1.0,
        ),
        (
            r#"aegis_inference_queue_seconds_count{backend="onnxruntime",graph="net",model="digits"}"#,
            1.0,
        ),
        (
            r#"aegis_inference_compute_seconds_count{backend="onnxruntime",graph="net",model="digits"}"#,
            1.0,
        ),
    ] {
        assert_eq!(sample(&telemetry, series), Some(value), "{series}");
    }
}

#[test]
fn series_exist_at_zero_from_the_start() {
    let telemetry = Telemetry::new().unwrap();
    let _endpoint = telemetry.http().endpoint("POST", "/predict", &[200, 503]);
    let version = telemetry.inference().version("digits", 2);
    version.expect_safety_flag("spam");
    let _graph = telemetry.inference().graph("digits", "net", "embedded");
    let mut samples = samples(&telemetry.render().unwrap());
    samples.retain(|series, _| !is_of_the_process(series));
    assert!(samples.values().all(|value| *value == 0.0));
    for series in [
        r#"http_requests_total{endpoint="/predict",method="POST",status="503"}"#,
        r#"http_request_duration_seconds_bucket{endpoint="/predict",method="POST",status="200",le="0.35"}"#,
        r#"http_request_errors_total{endpoint="/predict",error_type="http_503",method="POST"}"#,
        r#"http_request_errors_total{endpoint="/predict",error_type="cancelled",method="POST"}"#,
        r#"http_requests_in_flight{endpoint="/predict",method="POST"}"#,
        r#"aegis_inference_latency_seconds_count{model="digits",model_version="2"}"#,
        r#"aegis_inference_compute_seconds_count{backend="embedded",graph="net",model="digits"}"#,
        r#"aegis_safety_flags_total{model="digits",model_version="2",reason="spam"}"#,
        r#"aegis_safety_flags_total{model="digits",model_version="2",reason="other"}"#,
        r#"aegis_handler_instantiate_seconds_count{model="digits"}"#,
        r#"aegis_model_loaded{model="digits",model_version="2"}"#,
        r#"aegis_circuit_state{model="digits",model_version="2"}"#,
        r#"aegis_circuit_opened_total{model="digits",model_version="2"}"#,
        r#"aegis_traffic_weight{model="digits",model_version="2"}"#,
        r#"aegis_otlp_spans_total{outcome="dropped"}"#,
        r#"aegis_otlp_metric_exports_total{outcome="failed"}"#,
    ] {
        assert!(samples.contains_key(series), "{series}");
    }
    for outcome in Outcome::ALL {
        let series = format!(
            r#"aegis_inference_requests_total{{model="digits",model_version="2",outcome="{outcome}"}}"#
        );
        assert!(samples.contains_key(&series), "{series}");
    }
    for reason in TrapReason::ALL {
        let series = format!(r#"aegis_handler_traps_total{{model="digits",reason="{reason}"}}"#);
        assert!(samples.contains_key(&series), "{series}");
    }
}

#[test]
fn a_request_is_in_flight_until_its_guard_is_finished_or_dropped() {
    let telemetry = Telemetry::new().unwrap();
    let endpoint = telemetry.http().endpoint("POST", "/predict", &[200]);
    let in_flight = || {
        sample(
            &telemetry,
            r#"http_requests_in_flight{endpoint="/predict",method="POST"}"#,
        )
    };
    let first = endpoint.start();
    let second = endpoint.start();
    assert_eq!(in_flight(), Some(2.0));
    first.finish(200);
    assert_eq!(in_flight(), Some(1.0));
    drop(second);
    assert_eq!(in_flight(), Some(0.0));
    for (series, value) in [
        (
            r#"http_requests_total{endpoint="/predict",method="POST",status="200"}"#,
            1.0,
        ),
        (
            r#"http_requests_total{endpoint="/predict",method="POST",status="499"}"#,
            1.0,
        ),
        (
            r#"http_request_duration_seconds_count{endpoint="/predict",method="POST",status="499"}"#,
            1.0,
        ),
        (
            r#"http_request_errors_total{endpoint="/predict",error_type="cancelled",method="POST"}"#,
            1.0,
        ),
    ] {
        assert_eq!(sample(&telemetry, series), Some(value), "{series}");
    }
}

#[test]
fn the_requests_in_flight_never_go_below_zero_under_threads() {
    let telemetry = Telemetry::new().unwrap();
    let endpoint = telemetry.http().endpoint("GET", "/health", &[200]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let endpoint = endpoint.clone();
            scope.spawn(move || {
                for round in 0..2000 {
                    let guard = endpoint.start();
                    if (round + thread) % 3 == 0 {
                        drop(guard);
                    } else {
                        guard.finish(200);
                    }
                }
            });
        }
        for _ in 0..20 {
            let now = sample(
                &telemetry,
                r#"http_requests_in_flight{endpoint="/health",method="GET"}"#,
            );
            assert!((0.0..=4.0).contains(&now.unwrap()), "{now:?}");
        }
    });
    assert_eq!(
        sample(
            &telemetry,
            r#"http_requests_in_flight{endpoint="/health",method="GET"}"#
        ),
        Some(0.0)
    );
    let all = samples(&telemetry.render().unwrap());
    let answered: f64 = all
        .iter()
        .filter(|(series, _)| series.starts_with("http_requests_total{"))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(answered, 8000.0);
}

#[test]
fn those_turned_away_are_counted_but_do_not_mend_the_latency() {
    let telemetry = Telemetry::new().unwrap();
    let version = telemetry.inference().version("digits", 1);
    version.request(Outcome::Overloaded, Duration::ZERO);
    version.request(Outcome::Timeout, Duration::from_millis(1500));
    let count = r#"aegis_inference_latency_seconds_count{model="digits",model_version="1"}"#;
    assert_eq!(sample(&telemetry, count), Some(1.0));
    let refused =
        r#"aegis_inference_requests_total{model="digits",model_version="1",outcome="overloaded"}"#;
    assert_eq!(sample(&telemetry, refused), Some(1.0));
}

#[test]
fn gauges_follow_their_version_and_go_with_it() {
    let telemetry = Telemetry::new().unwrap();
    let loaded = r#"aegis_model_loaded{model="digits",model_version="1"}"#;
    let weight = r#"aegis_traffic_weight{model="digits",model_version="1"}"#;
    let circuit = r#"aegis_circuit_state{model="digits",model_version="1"}"#;
    let version = telemetry.inference().version("digits", 1);
    version.loaded(true);
    version.traffic_weight(0.25);
    version.circuit(CircuitState::Open);
    assert_eq!(sample(&telemetry, loaded), Some(1.0));
    assert_eq!(sample(&telemetry, weight), Some(0.25));
    assert_eq!(sample(&telemetry, circuit), Some(2.0));
    version.loaded(false);
    assert_eq!(sample(&telemetry, loaded), Some(0.0));

    // Loaded again beside the old one: the new one is what counts, also after the old is gone.
    let again = telemetry.inference().version("digits", 1);
    again.loaded(true);
    assert_eq!(sample(&telemetry, loaded), Some(1.0));
    drop(version);
    assert_eq!(sample(&telemetry, loaded), Some(1.0));
    drop(again);
    assert_eq!(sample(&telemetry, loaded), None);
    assert_eq!(sample(&telemetry, weight), None);
    assert_eq!(
        sample(
            &telemetry,
            r#"aegis_inference_requests_total{model="digits",model_version="1",outcome="ok"}"#
        ),
        Some(0.0),
        "counters stay"
    );
}

#[test]
fn the_queues_of_a_models_versions_add_up() {
    let telemetry = Telemetry::new().unwrap();
    let series = r#"aegis_inference_queue_depth{model="digits"}"#;
    let waiting = Arc::new(AtomicU64::new(5));
    let read = Arc::clone(&waiting);
    let first = telemetry
        .inference()
        .queue_depth("digits", move || read.load(Ordering::Relaxed));
    let second = telemetry.inference().queue_depth("digits", || 2);
    assert_eq!(sample(&telemetry, series), Some(7.0));
    waiting.store(1, Ordering::Relaxed);
    assert_eq!(sample(&telemetry, series), Some(3.0));
    drop(second);
    assert_eq!(sample(&telemetry, series), Some(1.0));
    drop(first);
    assert_eq!(sample(&telemetry, series), None);
    assert_eq!(Arc::strong_count(&waiting), 1, "the closure is gone too");
}

#[test]
fn a_guests_words_make_at_most_32_reasons_a_model() {
    let telemetry = Telemetry::new().unwrap();
    let first = telemetry.inference().version("chat", 1);
    let second = telemetry.inference().version("chat", 2);
    for number in 0..500 {
        first.safety_flag(&format!("reason {number}\n\"}} 9\u{0}"));
        second.safety_flag(&format!("other kind {number}"));
    }
    let samples = samples(&telemetry.render().unwrap());
    let flags: Vec<_> = samples
        .iter()
        .filter(|(series, _)| series.starts_with("aegis_safety_flags_total"))
        .collect();
    let reasons: BTreeSet<&str> = flags
        .iter()
        .map(|(series, _)| series.split_once("reason=").unwrap().1)
        .collect();
    assert_eq!(reasons.len(), 33, "32 and other: {reasons:?}");
    assert_eq!(
        flags.iter().map(|(_, value)| **value).sum::<f64>(),
        1000.0,
        "none is lost"
    );
}

#[test]
fn a_known_reason_is_counted_under_its_own_name() {
    let telemetry = Telemetry::new().unwrap();
    let version = telemetry.inference().version("spam", 1);
    version.safety_flag("spam");
    version.safety_flag("Spam");
    version.safety_flag("spam");
    let series = r#"aegis_safety_flags_total{model="spam",model_version="1",reason="spam"}"#;
    assert_eq!(sample(&telemetry, series), Some(3.0));
}

#[test]
fn hostile_routes_and_methods_make_a_bounded_number_of_series() {
    let telemetry = Telemetry::new().unwrap();
    for number in 0..1000 {
        let endpoint =
            telemetry
                .http()
                .endpoint(&format!("M{number}"), &format!("/{number}\n"), &[200]);
        endpoint.start().finish(200);
    }
    let text = telemetry.render().unwrap();
    let samples = samples(&text);
    let routes: Vec<_> = samples
        .keys()
        .filter(|series| series.starts_with("http_requests_in_flight"))
        .collect();
    assert_eq!(routes.len(), 257, "256 and other");
    let other = r#"http_requests_total{endpoint="other",method="OTHER",status="200"}"#;
    assert_eq!(samples[other], 744.0);
    assert!(!text.contains("M1"));
}

#[test]
fn a_number_that_is_no_status_is_counted_as_500() {
    let telemetry = Telemetry::new().unwrap();
    let endpoint = telemetry.http().endpoint("GET", "/health", &[]);
    for status in [0, 99, 600, u16::MAX] {
        endpoint.start().finish(status);
    }
    let series = r#"http_requests_total{endpoint="/health",method="GET",status="500"}"#;
    assert_eq!(sample(&telemetry, series), Some(4.0));
}

#[test]
fn a_name_with_quotes_and_line_ends_stays_one_label() {
    let telemetry = Telemetry::new().unwrap();
    let version = telemetry.inference().version("a\"b\\c\nd", 1);
    version.loaded(true);
    let text = telemetry.render().unwrap();
    assert!(
        text.contains("aegis_model_loaded{model=\"a\\\"b\\\\c_d\",model_version=\"1\"} 1\n"),
        "{text}"
    );
}

#[test]
fn versions_that_are_forgotten_leave_no_series_behind() {
    let telemetry = Telemetry::new().unwrap();
    let inference = telemetry.inference();
    let swap = |number: u64| {
        let version = inference.version("digits", number);
        let graph = inference.graph("digits", "net", "onnxruntime");
        let sessions = inference.sessions("digits", number, || (0, 0));
        version.request(Outcome::Ok, Duration::from_millis(1));
        version.safety_flag("spam");
        graph.ran(1, Duration::ZERO, Duration::ZERO);
        if number > 1 {
            inference.forget("digits", Some(number - 1));
        }
        (version, graph, sessions)
    };
    let mut served = swap(1);
    let first = samples(&telemetry.render().unwrap());
    for number in 2..=200 {
        served = swap(number);
    }
    let last = samples(&telemetry.render().unwrap());
    assert_eq!(first.len(), last.len());
    assert!(!last.keys().any(|series| series.contains("=\"199\"")));
    // What the versions have in common counts on.
    let runs = r#"aegis_inference_compute_seconds_count{backend="onnxruntime",graph="net",model="digits"}"#;
    assert_eq!(last[runs], 200.0);
    drop(served);
    inference.forget("digits", None);
    let text = telemetry.render().unwrap();
    assert!(!text.contains("digits"), "{text}");
}

#[test]
fn a_version_that_comes_back_goes_on_counting_and_one_that_was_forgotten_begins_anew() {
    let telemetry = Telemetry::new().unwrap();
    let inference = telemetry.inference();
    let series = r#"aegis_inference_requests_total{model="digits",model_version="1",outcome="ok"}"#;
    let version = inference.version("digits", 1);
    version.request(Outcome::Ok, Duration::from_millis(1));
    drop(version);
    let again = inference.version("digits", 1);
    again.request(Outcome::Ok, Duration::from_millis(1));
    assert_eq!(sample(&telemetry, series), Some(2.0));
    inference.forget("digits", Some(1));
    // A request that outlives its version may still record.
    again.request(Outcome::Ok, Duration::from_millis(1));
    assert_eq!(sample(&telemetry, series), None);
    let _anew = inference.version("digits", 1);
    assert_eq!(sample(&telemetry, series), Some(0.0));
}

#[test]
fn sessions_are_counted_while_they_are_watched_and_those_that_went_for_good() {
    let (telemetry, kept) = used();
    let of = |name: &str| {
        let labels = "model=\"digits\",model_version=\"1\"";
        sample(&telemetry, &format!("{name}{{{labels}}}"))
    };
    assert_eq!(of("aegis_sessions"), Some(2.0));
    assert_eq!(of("aegis_session_bytes"), Some(300.0));
    kept.4.evicted(SessionEviction::Expired, 3);
    drop(kept);
    assert_eq!(of("aegis_sessions"), None);
    let text = telemetry.render().unwrap();
    let evictions: Vec<_> = samples(&text)
        .into_iter()
        .filter(|(series, _)| series.starts_with("aegis_session_evictions_total"))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(evictions.iter().sum::<f64>(), 3.0);
    assert_eq!(evictions.len(), SessionEviction::ALL.len());
}
