//! What a collector gets over HTTP, and what is felt of one that is away, slow or odd: nothing. gRPC
//! and a real collector are in the end-to-end tests.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use aegis_telemetry::{
    LogFormat, METRICS, OtlpConfig, OtlpProtocol, Outcome, Sampler, SamplerKind, Telemetry,
    init_logs,
};
use http::HeaderMap;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message as _;

/// How long anything may take to come about, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(port: u16, timeout: Duration) -> OtlpConfig {
    OtlpConfig {
        endpoint: format!("http://127.0.0.1:{port}").parse().unwrap(),
        protocol: OtlpProtocol::Http,
        headers: vec![("x-tenant".to_owned(), "blue".to_owned())],
        timeout,
        interval: Duration::from_secs(3600),
        service_name: Some("digits-service".to_owned()),
        sampler: Sampler::new(SamplerKind::AlwaysOn, 1.0),
    }
}

/// One request to a collector.
struct Got {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Something that is connected to as to a collector, and treats each connection so.
fn collector(treat: impl Fn(TcpStream) + Send + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, treat) = (connection.unwrap(), treat.clone());
            std::thread::spawn(move || treat(connection));
        }
    });
    port
}

/// Reads requests, hands them on, and answers them all with nothing to complain of.
fn serve(connection: TcpStream, got: &Sender<Got>) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let request = Got {
            path,
            headers,
            body,
        };
        if got.send(request).is_err() {
            return;
        }
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        writer.write_all(answer.as_bytes()).unwrap();
    }
}

/// One request after another with two spans each.
fn requests(telemetry: &Telemetry, count: usize) {
    for _ in 0..count {
        let request = telemetry.tracer().request(&HeaderMap::new(), true);
        request.trace().is_about("digits", 3);
        drop(request.trace().span("predict"));
    }
}

fn spans(telemetry: &Telemetry, outcome: &str) -> u64 {
    counted(telemetry, "aegis_otlp_spans_total", outcome)
}

fn exports(telemetry: &Telemetry, outcome: &str) -> u64 {
    counted(telemetry, "aegis_otlp_metric_exports_total", outcome)
}

fn counted(telemetry: &Telemetry, name: &str, outcome: &str) -> u64 {
    let text = telemetry.render().unwrap();
    let series = format!("{name}{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap().parse().unwrap()
}

fn of_path(got: &Receiver<Got>, path: &str) -> Got {
    let begun = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let request = got.recv_timeout(left).unwrap();
        if request.path == path {
            return request;
        }
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), text(pair)))
        .collect()
}

#[test]
fn spans_arrive_without_being_waited_for() {
    let (send, got) = mpsc::channel();
    let port = collector(move |connection| serve(connection, &send));
    let telemetry = Telemetry::with_otlp(config(port, PATIENCE)).unwrap();
    requests(&telemetry, 1);
    let request = of_path(&got, "/v1/traces");
    assert_eq!(request.headers["content-type"], "application/x-protobuf");
    assert_eq!(request.headers["x-tenant"], "blue");
    let sent = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
    let resource = &sent.resource_spans[0];
    let named = attributes(&resource.resource.as_ref().unwrap().attributes);
    assert_eq!(named["service.name"], "digits-service");
    assert_eq!(named["service.version"], env!("CARGO_PKG_VERSION"));
    let spans = &resource.scope_spans[0].spans;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["predict", "request"]);
    assert_eq!(spans[0].parent_span_id, spans[1].span_id);
    assert_eq!(spans[0].trace_id, spans[1].trace_id);
    for span in spans {
        let about = attributes(&span.attributes);
        assert_eq!(about["aegis.model"], "digits");
        assert_eq!(about["aegis.model_version"], "3");
    }
}

#[test]
fn the_last_of_it_is_sent_before_the_end() {
    let (send, got) = mpsc::channel();
    let port = collector(move |connection| serve(connection, &send));
    let telemetry = Telemetry::with_otlp(config(port, PATIENCE)).unwrap();
    telemetry
        .http()
        .endpoint("POST", "/predict", &[200])
        .start()
        .finish(200);
    requests(&telemetry, 700);
    telemetry.stop_export(PATIENCE);
    let (mut spans, mut sent) = (0, None);
    while let Ok(request) = got.try_recv() {
        let body = request.body.as_slice();
        if request.path == "/v1/traces" {
            let traces = ExportTraceServiceRequest::decode(body).unwrap();
            spans += traces.resource_spans[0].scope_spans[0].spans.len();
        } else {
            sent = Some(ExportMetricsServiceRequest::decode(body).unwrap());
        }
    }
    assert_eq!(spans, 1400);
    let sent = sent.unwrap();
    let sent: Vec<_> = sent.resource_metrics[0].scope_metrics[0]
        .metrics
        .iter()
        .map(|metric| metric.name.as_str())
        .collect();
    // Of the table, what has series in this process.
    for name in [
        "http_requests_total",
        "http_request_duration_seconds",
        "aegis_otlp_spans_total",
        "process_cpu_seconds_total",
        "aegis_build_info",
    ] {
        assert!(sent.contains(&name), "{name} in {sent:?}");
    }
    for name in sent {
        assert!(METRICS.iter().any(|spec| spec.name == name), "{name}");
    }
}

#[test]
fn both_readers_see_the_same_totals() {
    let (send, got) = mpsc::channel();
    let port = collector(move |connection| serve(connection, &send));
    let fast = OtlpConfig {
        interval: Duration::from_millis(20),
        ..config(port, PATIENCE)
    };
    let telemetry = Telemetry::with_otlp(fast).unwrap();
    let endpoint = telemetry.http().endpoint("POST", "/predict", &[200]);
    for _ in 0..5 {
        endpoint.start().finish(200);
        // Reading takes nothing away.
        let text = telemetry.render().unwrap();
        assert!(text.contains("http_requests_total{"), "{text}");
        of_path(&got, "/v1/metrics");
    }
    telemetry.stop_export(PATIENCE);
    let last = got.try_iter().last().unwrap();
    let sent = ExportMetricsServiceRequest::decode(last.body.as_slice()).unwrap();
    let sent = format!("{:?}", sent.resource_metrics[0].scope_metrics[0]);
    let counted = sent.split("name: \"http_requests_total\"").nth(1).unwrap();
    assert!(counted.contains("AsInt(5)"), "{counted}");
}

#[test]
fn a_collector_is_told_of_versions_until_they_are_forgotten() {
    let (send, got) = mpsc::channel();
    let port = collector(move |connection| serve(connection, &send));
    let fast = OtlpConfig {
        interval: Duration::from_millis(20),
        ..config(port, PATIENCE)
    };
    let telemetry = Telemetry::with_otlp(fast).unwrap();
    let version = telemetry.inference().version("digits", 7);
    version.request(Outcome::Ok, Duration::from_millis(1));
    let tells_of_it = |request: &Got| {
        let sent = ExportMetricsServiceRequest::decode(request.body.as_slice()).unwrap();
        let sent = format!("{sent:?}");
        sent.contains("aegis_inference_latency_seconds") && sent.contains("StringValue(\"7\")")
    };
    while !tells_of_it(&of_path(&got, "/v1/metrics")) {}
    telemetry.inference().forget("digits", Some(7));
    drop(version);
    // What was being exported meanwhile may still tell of it.
    let sent = || exports(&telemetry, "sent");
    let begun = sent();
    while sent() < begun + 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _before = got.try_iter().count();
    telemetry.stop_export(PATIENCE);
    let after: Vec<_> = got.try_iter().collect();
    assert!(!after.is_empty() && !after.iter().any(tells_of_it));
    assert_eq!(exports(&telemetry, "failed"), 0);
}

/// Has a collector treat connections so while more is recorded than there is room for: nobody waits,
/// what finds no room is counted, and the end comes in time.
fn nobody_waits_for(port: u16) {
    let telemetry = Telemetry::with_otlp(config(port, Duration::from_millis(200))).unwrap();
    let begun = Instant::now();
    requests(&telemetry, 50_000);
    let took = begun.elapsed();
    // Far less than the collector could be waited for: a hundred batches of 200 ms.
    assert!(took < Duration::from_secs(10), "{took:?}");
    let begun = Instant::now();
    while spans(&telemetry, "failed") == 0 {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(spans(&telemetry, "sent"), 0);
    let dropped = spans(&telemetry, "dropped");
    assert!(dropped > 50_000, "{dropped}");
    let begun = Instant::now();
    telemetry.stop_export(Duration::from_millis(300));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // And later spans find no room, or nobody; no matter.
    requests(&telemetry, 10_000);
}

#[test]
fn nobody_waits_for_a_collector_that_refuses() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    nobody_waits_for(port);
}

#[test]
fn nobody_waits_for_a_collector_that_never_answers() {
    nobody_waits_for(collector(|connection| {
        let _kept = connection;
        std::thread::park_timeout(PATIENCE * 2);
    }));
}

#[test]
fn nobody_waits_for_a_collector_that_speaks_something_else() {
    nobody_waits_for(collector(|mut connection| {
        let _ = connection.write_all(b"220 mail.example.com ESMTP\r\n");
        let _ = connection.read(&mut [0; 1024]);
    }));
}

#[test]
fn nobody_waits_for_a_collector_whose_answer_never_ends() {
    nobody_waits_for(collector(|mut connection| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\r\n";
        let mut sent = connection.write_all(head);
        while sent.is_ok() {
            sent = connection.write_all(&[0x0a; 4096]);
            std::thread::sleep(Duration::from_millis(5));
        }
    }));
}

const HEADERS: &str = "AEGIS_TELEMETRY_TEST_HEADERS";

#[test]
fn the_process_that_has_headers_from_two_places() {
    let Ok(how) = std::env::var(HEADERS) else {
        return;
    };
    let (protocol, port) = how.split_once(' ').unwrap();
    let mut config = config(port.parse().unwrap(), PATIENCE);
    if protocol == "grpc" {
        config.protocol = OtlpProtocol::Grpc;
    }
    let telemetry = Telemetry::with_otlp(config).unwrap();
    requests(&telemetry, 1);
    telemetry.stop_export(PATIENCE);
}

/// Has that process speak to a collector at this port.
fn speak(protocol: &str, port: u16) {
    let child = "the_process_that_has_headers_from_two_places";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child])
        .env(HEADERS, format!("{protocol} {port}"))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=red,x-other=kept")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn headers_that_are_set_win_over_the_environments() {
    let (send, got) = mpsc::channel();
    let port = collector(move |connection| serve(connection, &send));
    speak("http", port);
    // They come in either order, and each may come more than once.
    let mut wanted = vec!["/v1/traces", "/v1/metrics"];
    while !wanted.is_empty() {
        let Got { path, headers, .. } = got.recv_timeout(PATIENCE).unwrap();
        assert_eq!(headers["x-tenant"], "blue", "{path}");
        assert_eq!(headers["x-other"], "kept", "{path}");
        wanted.retain(|wanted| *wanted != path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_set_win_over_grpc_as_well() {
    let (send, mut got) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Answers that it has no such call: what it is called with is all that is looked at.
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let (parts, _) = request.into_parts();
        let _ = send.send((parts.uri.path().to_owned(), parts.headers));
        let unimplemented = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "12")
            .body(String::new());
        async { unimplemented }
    });
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(connection), answer.clone()));
        }
    });
    let speaking = tokio::task::spawn_blocking(move || speak("grpc", port));
    let mut services = Vec::new();
    while services.len() < 2 {
        let next = tokio::time::timeout(PATIENCE, got.recv()).await;
        let (path, headers) = next.unwrap().unwrap();
        let values = |name| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values("x-tenant"), ["blue"], "{path}");
        assert_eq!(values("x-other"), ["kept"], "{path}");
        if !services.contains(&path) {
            services.push(path);
        }
    }
    speaking.await.unwrap();
}

const CHILD: &str = "AEGIS_TELEMETRY_TEST_OTLP";

#[test]
fn the_process_that_loses_spans() {
    let Ok(port) = std::env::var(CHILD) else {
        return;
    };
    init_logs(LogFormat::Json, "warn").unwrap();
    nobody_waits_for(port.parse().unwrap());
}

#[test]
fn what_is_lost_is_told_and_not_span_by_span() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_loses_spans", "--nocapture"])
        .env(CHILD, port.to_string())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let lines: Vec<_> = told.lines().collect();
    assert!((1..=6).contains(&lines.len()), "{told}");
    assert!(told.contains("spans were lost"), "{told}");
    assert!(told.contains("spans were dropped"), "{told}");
}
