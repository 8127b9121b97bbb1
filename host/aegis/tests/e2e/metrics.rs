//! `/metrics` keeps the contract of the table, from the start and whatever is asked.

use std::{collections::BTreeSet, io::Read as _};

use aegis_telemetry::METRICS;
use flate2::read::GzDecoder;
use reqwest::Method;

use crate::harness::{Package, Start, send};

#[tokio::test]
async fn every_metric_of_the_contract_is_there_with_its_labels() {
    let server = Start::new().examples().ready().await;
    // Sessions have series where a handler keeps any.
    server.upload(&Package::guest("sessions")).await.is(201);
    server.ask("spam", "hello there").await.is(200);
    let answer = server.get("/metrics").await.is(200);
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let metrics = server.metrics().await;
    for spec in METRICS {
        let kind = format!("# TYPE {} {}", spec.name, spec.kind.as_str());
        assert!(metrics.text.lines().any(|line| line == kind), "{kind}");
        let series = match spec.buckets {
            [] => spec.name.to_owned(),
            _ => format!("{}_count", spec.name),
        };
        let found: Vec<_> = metrics.of(&series).collect();
        assert!(!found.is_empty(), "{series}");
        let wanted: BTreeSet<_> = spec.labels.iter().copied().collect();
        for series in found {
            let labels: BTreeSet<_> = series.labels.keys().map(String::as_str).collect();
            assert_eq!(labels, wanted, "{}", spec.name);
        }
    }
}

#[tokio::test]
async fn a_scrape_is_packed_for_those_who_take_it() {
    let server = Start::new().examples().ready().await;
    let plain = server.get("/metrics").await.is(200);
    assert!(plain.headers.get("content-encoding").is_none());
    assert_eq!(plain.header("vary"), "accept-encoding");
    let request = server.request(Method::GET, "/metrics");
    let packed = send(request.header("accept-encoding", "gzip, deflate"))
        .await
        .is(200);
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(packed.header("content-type"), plain.header("content-type"));
    let mut text = String::new();
    GzDecoder::new(&*packed.body)
        .read_to_string(&mut text)
        .unwrap();
    let series = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines.map(|(series, _)| series.to_owned()).collect()
    };
    // The first of the two has made no series that the second has not.
    assert_eq!(
        series(&text),
        series(&server.metrics().await.text),
        "{text}"
    );
    let (packed, plain) = (packed.body.len(), text.len());
    assert!(packed * 10 < plain, "{packed} of {plain} bytes");
}

#[tokio::test]
async fn both_runtimes_show_their_threads() {
    let server = Start::new()
        .examples()
        .flag("--worker-threads", "3")
        .ready()
        .await;
    let metrics = server.metrics().await;
    for (runtime, threads) in [("executor", 3.0), ("lane", 2.0)] {
        let workers = metrics.sum("tokio_workers", &[("runtime", runtime)]);
        assert_eq!(workers, Some(threads), "{runtime}");
    }
}

#[tokio::test]
async fn series_are_there_at_zero_before_anything_happened() {
    let server = Start::new().examples().ready().await;
    let metrics = server.metrics().await;
    let spam = ("model", "spam");
    let predict = ("endpoint", "/predict");
    for (name, labels) in [
        ("http_requests_total", [predict, ("status", "200")]),
        ("http_requests_total", [predict, ("status", "500")]),
        (
            "http_request_errors_total",
            [predict, ("error_type", "http_504")],
        ),
        ("http_requests_in_flight", [predict, ("method", "POST")]),
        ("aegis_inference_requests_total", [spam, ("outcome", "ok")]),
        (
            "aegis_inference_requests_total",
            [spam, ("outcome", "trap")],
        ),
        (
            "aegis_handler_traps_total",
            [spam, ("reason", "memory_limit")],
        ),
        (
            "aegis_inference_latency_seconds_count",
            [spam, ("model_version", "1")],
        ),
        (
            "aegis_inference_queue_seconds_count",
            [spam, ("graph", "spam")],
        ),
        (
            "aegis_inference_compute_seconds_count",
            [spam, ("graph", "spam")],
        ),
        (
            "aegis_inference_batch_size_count",
            [spam, ("graph", "spam")],
        ),
        ("aegis_inference_queue_depth", [spam, spam]),
        ("aegis_circuit_state", [spam, ("model_version", "1")]),
    ] {
        assert_eq!(metrics.sum(name, &labels), Some(0.0), "{name} {labels:?}");
    }
    for name in ["aegis_model_loaded", "aegis_traffic_weight"] {
        assert_eq!(
            metrics.sum(name, &[spam, ("model_version", "1")]),
            Some(1.0),
            "{name}"
        );
    }
}

#[tokio::test]
async fn predictions_are_counted_once_where_they_belong() {
    let server = Start::new().examples().ready().await;
    for text in ["hello there", "good morning", ""] {
        server.ask("spam", text).await;
    }
    server.ask("nobody", "").await;
    let metrics = server.metrics().await;
    let requests = |status| {
        metrics.sum(
            "http_requests_total",
            &[("endpoint", "/predict"), ("status", status)],
        )
    };
    assert_eq!(
        (requests("200"), requests("422"), requests("404")),
        (Some(2.0), Some(1.0), Some(1.0))
    );
    let spam = |name: &str| metrics.sum(name, &[("model", "spam")]);
    assert_eq!(spam("aegis_inference_requests_total"), Some(3.0));
    assert_eq!(spam("aegis_inference_latency_seconds_count"), Some(3.0));
    assert_eq!(spam("aegis_inference_batch_size_count"), Some(2.0));
    let errors = [("endpoint", "/predict"), ("error_type", "http_422")];
    assert_eq!(metrics.sum("http_request_errors_total", &errors), Some(1.0));
    assert_eq!(
        metrics.sum("http_requests_in_flight", &[("endpoint", "/predict")]),
        Some(0.0)
    );
}

#[tokio::test]
async fn no_caller_makes_series() {
    let server = Start::new().examples().ready().await;
    let storm = async |round: u32| {
        for index in 0..20 {
            let number = round * 1000 + index;
            for path in [
                format!("/nowhere/{number}"),
                format!("/v1/models/m{number}"),
                format!("/v1/models/m{number}/versions/{}", number + 1),
            ] {
                server.get(&path).await.is(404);
            }
            server.ask(&format!("m{number}"), "").await.is(404);
            server
                .ask(&format!("spam&version={}", number + 2), "")
                .await
                .is(404);
            let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
            send(server.request(method, "/predict")).await.is(405);
        }
        server.metrics().await.text.lines().count()
    };
    let after_one = storm(1).await;
    assert_eq!(storm(2).await, after_one);
    let metrics = server.metrics().await;
    let endpoints: BTreeSet<_> = metrics
        .of("http_requests_total")
        .map(|series| series.labels["endpoint"].clone())
        .collect();
    assert!(
        endpoints.contains("/v1/models/{model}/versions/{version}"),
        "{endpoints:?}"
    );
    assert!(
        endpoints
            .iter()
            .all(|endpoint| !endpoint.contains('1') || endpoint.starts_with("/v1/"))
    );
}
