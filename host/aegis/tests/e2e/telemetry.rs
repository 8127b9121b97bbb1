//! What a real collector sees of a request, and that metrics, traces and the log tell of the same.

use std::{collections::BTreeMap, process::Command};

use aegis_telemetry::METRICS;
use reqwest::Method;
use serde_json::json;

use crate::harness::{
    Answer, Collector, Package, Server, SpanSeen, Start, eventually, promtool, send,
};

const PROTOCOLS: [&str; 2] = ["http", "grpc"];

/// The number of an own span's kind in OTLP, and of a server's.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;

/// What a caller says of its trace, with a trace of its own for each test.
fn traceparent(trace: u128, flags: &str) -> (String, String) {
    let trace_id = format!("{:032x}", 0x4bf9_2f35_u128 << 96 | trace);
    (format!("00-{trace_id}-00f067aa0ba902b7-{flags}"), trace_id)
}

/// A server that tells this collector, and with these flags.
fn tells(collector: &Collector, protocol: &str) -> Start {
    Start::new()
        .flag("--otlp-endpoint", &collector.endpoint(protocol))
        .flag("--otlp-protocol", protocol)
        .flag("--otlp-interval-ms", "200")
}

/// Asks a model in a trace; also gives the place in it that the answer names.
async fn ask(server: &Server, query: &str, parent: &str) -> (Answer, String) {
    let request = server.prediction(query).header("traceparent", parent);
    let request = request
        .header("x-request-id", "traced")
        .header("content-type", "text/plain");
    let answer = send(request.body("hello there")).await;
    let place = answer.header("traceparent").to_owned();
    (answer, place)
}

/// The spans of a trace by name, once the request's own is there: it is the last to end.
async fn seen(collector: &Collector, trace_id: &str) -> BTreeMap<String, SpanSeen> {
    let spans = eventually("a request's span", async || {
        let spans = collector.received.spans_of(trace_id);
        spans
            .iter()
            .any(|span| span.name == "request")
            .then_some(spans)
    });
    let named = |span: SpanSeen| (span.name.clone(), span);
    spans.await.into_iter().map(named).collect()
}

#[tokio::test]
async fn a_collector_sees_a_request_in_its_parts() {
    let Some(collector) = Collector::start().await else {
        return;
    };
    for (index, protocol) in PROTOCOLS.iter().enumerate() {
        let server = tells(&collector, protocol)
            .flag("--otlp-service-name", "digits service")
            .ready()
            .await;
        server
            .upload(&Package::hostile("hostile", ""))
            .await
            .is(201);
        let (parent, trace_id) = traceparent(index as u128 + 1, "01");
        let (answer, place) = ask(&server, "hostile&do=digits", &parent).await;
        answer.is(200);

        let spans = seen(&collector, &trace_id).await;
        let names: Vec<_> = spans.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "admission",
                "compute",
                "instantiate",
                "predict",
                "queue",
                "request"
            ],
            "{protocol}"
        );
        let parents = [
            ("admission", "request"),
            ("instantiate", "request"),
            ("predict", "request"),
            ("queue", "predict"),
            ("compute", "predict"),
        ];
        for (child, parent) in parents {
            let (child, parent) = (&spans[child], &spans[parent]);
            assert_eq!(child.parent, parent.span_id, "{}", child.name);
            assert!(child.nanos.0 >= parent.nanos.0, "{child:?} in {parent:?}");
            assert!(child.nanos.1 <= parent.nanos.1, "{child:?} in {parent:?}");
            assert_eq!(child.kind, INTERNAL);
        }
        for span in spans.values() {
            assert_eq!(span.service, "digits service");
            assert_eq!(span.attributes["aegis.model"], "hostile", "{}", span.name);
            assert_eq!(span.attributes["aegis.model_version"], "1");
            assert_eq!(span.failed, None);
        }
        let request = &spans["request"];
        assert_eq!(
            (request.kind, request.parent.as_str()),
            (SERVER, "00f067aa0ba902b7")
        );
        assert_eq!(place, format!("00-{trace_id}-{}-01", request.span_id));
        for (key, value) in [
            ("http.request.method", "POST"),
            ("http.route", "/predict"),
            ("http.response.status_code", "200"),
            ("aegis.request_id", "traced"),
            ("aegis.outcome", "ok"),
        ] {
            assert_eq!(request.attributes[key], value);
        }
        assert!(!spans["predict"].attributes.contains_key("aegis.outcome"));
        let compute = &spans["compute"];
        assert_eq!(compute.attributes["aegis.batch_size"], "1");
        assert_eq!(compute.attributes["aegis.graph"], "digits");
        assert!(
            ["onnxruntime", "openvino", "embedded"]
                .contains(&compute.attributes["aegis.backend"].as_str())
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn the_log_tells_the_trace_of_what_it_is_about() {
    let Some(collector) = Collector::start().await else {
        return;
    };
    let server = tells(&collector, "http").ready().await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    let (parent, trace_id) = traceparent(10, "01");
    // Of the guest and of the host.
    ask(&server, "hostile&do=panic", &parent).await.0.is(500);
    let spans = seen(&collector, &trace_id).await;
    for part in ["the handler gives up", "the handler trapped"] {
        let line = server.logged_of("traced", part).await;
        assert_eq!(line["trace_id"], json!(trace_id), "{line}");
        assert_eq!(line["span_id"], json!(spans["request"].span_id), "{line}");
    }
    let predict = &spans["predict"];
    assert_eq!(predict.failed.as_deref(), Some("unreachable"));
    assert_eq!(spans["request"].failed.as_deref(), Some("server_error"));
    assert_eq!(spans["request"].attributes["aegis.outcome"], "trap");
    // Of a trace that is not recorded, and without a collector, the log knows all the same.
    let alone = Start::new().ready().await;
    alone.upload(&Package::hostile("hostile", "")).await.is(201);
    let (parent, trace_id) = traceparent(11, "00");
    ask(&alone, "hostile&do=panic", &parent).await.0.is(500);
    let line = alone.logged_of("traced", "the handler trapped").await;
    assert_eq!(line["trace_id"], json!(trace_id), "{line}");
    // And of no trace there is nothing to tell.
    let request = alone.prediction("hostile&do=panic");
    send(request.header("x-request-id", "untraced"))
        .await
        .is(500);
    let line = alone.logged_of("untraced", "the handler trapped").await;
    assert!(line.get("trace_id").is_none(), "{line}");
}

#[tokio::test]
async fn what_an_upload_sets_going_keeps_its_trace() {
    let server = Start::new().ready().await;
    let (parent, trace_id) = traceparent(15, "00");
    let path = "/v1/models/hostile/versions";
    let traced = |method, path: &str| server.request(method, path).header("traceparent", &parent);
    let package = Package::hostile("hostile", "");
    send(traced(Method::POST, path).multipart(package.form()))
        .await
        .is(201);
    let broken = Package::hostile("hostile", "").file("handler.wasm", b"no component");
    send(traced(Method::POST, path).multipart(broken.form())).await;
    send(traced(Method::DELETE, "/v1/models/hostile")).await;
    // Of a task of the registry, of the one that publishes, of one that loads, and of a refusal.
    for part in [
        "version created",
        "version published",
        "handler loaded",
        "an upload is refused",
        "version deleted",
    ] {
        let line = server
            .logged(part, |line| {
                let message = line["message"].as_str();
                message.is_some_and(|message| message.starts_with(part))
            })
            .await;
        assert_eq!(line["trace_id"], json!(trace_id), "{line}");
    }
}

#[tokio::test]
async fn a_call_that_moves_to_the_lane_keeps_its_trace() {
    let Some(collector) = Collector::start().await else {
        return;
    };
    let server = tells(&collector, "http").ready().await;
    server
        .upload(&Package::hostile("hostile", "timeout_ms = 25000"))
        .await
        .is(201);
    let (parent, trace_id) = traceparent(20, "01");
    // Far longer than a call may stay on the executor.
    ask(&server, "hostile&do=digits&n=20000", &parent)
        .await
        .0
        .is(200);
    let spans = seen(&collector, &trace_id).await;
    assert_eq!(spans["compute"].parent, spans["predict"].span_id);
    assert_eq!(spans["predict"].parent, spans["request"].span_id);
    // And its spans, of 20,000 runs, are not without bound.
    let all = collector.received.spans_of(&trace_id).len();
    assert!((60..=70).contains(&all), "{all}");
    let omitted = &spans["request"].attributes["aegis.omitted_spans"];
    assert!(omitted.parse::<u32>().unwrap() > 39_000, "{omitted}");
    // A handler that is heavy by now begins in the lane.
    let (parent, trace_id) = traceparent(21, "01");
    ask(&server, "hostile&do=panic", &parent).await.0.is(500);
    server
        .logged("the trace in the lane", |line| {
            let said = line["message"].as_str();
            line["trace_id"] == json!(trace_id)
                && line["stream"] == json!("stderr")
                && said.is_some_and(|said| said.contains("gives up"))
        })
        .await;
}

#[tokio::test]
async fn what_is_recorded_is_what_the_caller_and_the_sampler_say() {
    let Some(collector) = Collector::start().await else {
        return;
    };
    let server = tells(&collector, "grpc")
        .flag("--trace-ratio", "0")
        .examples()
        .ready()
        .await;
    // The caller does not record.
    let (parent, unrecorded) = traceparent(30, "00");
    let (answer, place) = ask(&server, "spam", &parent).await;
    answer.is(200);
    assert!(place.starts_with(&format!("00-{unrecorded}-")), "{place}");
    assert!(place.ends_with("-00"), "{place}");
    // What makes no sense is no trace, and begins one of our own that is not recorded.
    let mut own = Vec::new();
    for parent in [
        "",
        "00-xyz",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    ] {
        let (answer, place) = ask(&server, "spam", parent).await;
        answer.is(200);
        assert!(place.len() == 55 && place.ends_with("-00"), "{place}");
        own.push(place);
    }
    own.dedup();
    assert_eq!(own.len(), 3);
    // The caller records.
    let (parent, recorded) = traceparent(31, "01");
    ask(&server, "spam", &parent).await.0.is(200);
    seen(&collector, &recorded).await;
    let all = collector.received.span_count();
    assert_eq!(all, collector.received.spans_of(&recorded).len());
}

#[tokio::test]
async fn no_trace_begins_with_asking_how_the_server_is() {
    let Some(collector) = Collector::start().await else {
        return;
    };
    let server = tells(&collector, "http").examples().ready().await;
    for path in ["/livez", "/readyz", "/health", "/metrics", "/nowhere"] {
        server.get(path).await;
    }
    let answer = server.ask("spam", "hello there").await.is(200);
    let trace_id = answer.header("traceparent")[3..35].to_owned();
    seen(&collector, &trace_id).await;
    assert_eq!(
        collector.received.span_count(),
        collector.received.spans_of(&trace_id).len()
    );
}

#[tokio::test]
async fn a_handler_sees_its_own_place_in_the_trace() {
    let Some(collector) = Collector::start().await else {
        return;
    };
    let server = tells(&collector, "http").ready().await;
    server
        .upload(&Package::hostile("hostile", ""))
        .await
        .is(201);
    let (parent, _) = traceparent(40, "01");
    let (answer, place) = ask(&server, "hostile&do=echo", &parent).await;
    let headers = answer.ok()["headers"].to_string();
    assert!(headers.contains(&place), "{place} in {headers}");
    assert!(!headers.contains("00f067aa0ba902b7"), "{headers}");
}

#[tokio::test]
async fn a_collector_sees_the_metrics_that_prometheus_sees() {
    for protocol in PROTOCOLS {
        let Some(collector) = Collector::start().await else {
            return;
        };
        let asked = 3.0;
        let server = tells(&collector, protocol).examples().ready().await;
        // Sessions have series where a handler keeps any.
        server.upload(&Package::guest("sessions")).await.is(201);
        for _ in 0..asked as usize {
            server.ask("spam", "hello there").await.is(200);
        }
        let spam = [("model", "spam"), ("model_version", "1")];
        let ok = [spam[0], spam[1], ("outcome", "ok")];
        eventually("the count of requests", async || {
            let value = |name, labels: &[_]| collector.received.value(name, labels);
            let counted = value("aegis_inference_requests_total", &ok);
            let timed = value("aegis_inference_latency_seconds", &spam);
            ((counted, timed) == (Some(asked), Some(asked))).then_some(())
        })
        .await;
        let scraped = server.metrics().await;
        assert_eq!(
            scraped.sum("aegis_inference_requests_total", &ok),
            Some(asked)
        );
        for name in [
            "aegis_model_loaded",
            "tokio_workers",
            "process_start_time_seconds",
        ] {
            let sent = collector.received.value(name, &[]);
            assert_eq!(sent, scraped.sum(name, &[]), "{name} by {protocol}");
        }
        // Every one that has series.
        let sent = collector.received.metric_names();
        for spec in METRICS {
            assert!(sent.iter().any(|name| name == spec.name), "{}", spec.name);
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn promtool_has_nothing_to_say_about_a_scrape() {
    let Some(promtool) = promtool() else { return };
    let server = Start::new().examples().ready().await;
    for text in ["hello there", ""] {
        server.ask("spam", text).await;
    }
    server.ask("nobody", "").await.is(404);
    let text = server.metrics().await.text;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    std::fs::write(&file, &text).unwrap();
    let checked = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

#[tokio::test]
async fn the_process_and_its_runtime_are_in_the_metrics() {
    let server = Start::new()
        .flag("--worker-threads", "3")
        .examples()
        .ready()
        .await;
    let metrics = server.metrics().await;
    let value = |name: &str| metrics.sum(name, &[]).unwrap_or_else(|| panic!("{name}"));
    assert!(value("process_cpu_seconds_total") > 0.0);
    // Within what it may have grown or shrunk in between.
    let resident = server.memory_kib("VmRSS") as f64 * 1024.0;
    let ratio = value("process_resident_memory_bytes") / resident;
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", server.pid()));
    let fds = fds.unwrap().count() as f64;
    assert!((fds - value("process_open_fds")).abs() <= 8.0, "{fds}");
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_threads") >= 4.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.unwrap().as_secs_f64() - value("process_start_time_seconds");
    assert!((-2.0..600.0).contains(&age), "{age}");
    let executor = |name: &str| metrics.sum(name, &[("runtime", "executor")]);
    assert_eq!(executor("tokio_workers"), Some(3.0));
    assert!(executor("tokio_alive_tasks") >= Some(1.0));
    assert!(value("tokio_global_queue_depth") >= 0.0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(metrics.sum("aegis_build_info", &version), Some(1.0));
}
