//! Where a collector sends on what it was sent: OTLP over HTTP, read and kept.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point::Value as Number},
};
use prost::Message as _;

/// A span as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct SpanSeen {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// Empty: none.
    pub(crate) parent: String,
    pub(crate) nanos: (u64, u64),
    pub(crate) attributes: BTreeMap<String, String>,
    /// What it failed for, if it did.
    pub(crate) failed: Option<String>,
}

/// All that has arrived so far.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    spans: Vec<SpanSeen>,
    /// The latest of each, by name and the model and version that its message is about: of what is
    /// counted, each has a message of its own.
    metrics: BTreeMap<(String, [Option<String>; 2]), Metric>,
}

impl Received {
    /// Listens, and keeps what comes.
    pub(crate) fn listen() -> (Received, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let received = Received::default();
        let kept = received.clone();
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                thread::spawn(move || kept.serve(connection));
            }
        });
        (received, address)
    }

    /// The spans of one trace.
    pub(crate) fn spans_of(&self, trace_id: &str) -> Vec<SpanSeen> {
        let kept = self.0.lock().expect("what was kept");
        let of_trace = kept.spans.iter().filter(|span| span.trace_id == trace_id);
        of_trace.cloned().collect()
    }

    pub(crate) fn span_count(&self) -> usize {
        self.0.lock().expect("what was kept").spans.len()
    }

    pub(crate) fn metric_names(&self) -> Vec<String> {
        let kept = self.0.lock().expect("what was kept");
        let names = kept.metrics.keys().map(|(name, _)| name);
        names.cloned().collect()
    }

    /// The latest value of a metric with these attributes: a sum's or gauge's own, a histogram's
    /// count.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let kept = self.0.lock().expect("what was kept");
        let fits = |pairs: &[KeyValue]| {
            let pairs = attributes(pairs);
            (labels.iter()).all(|(key, value)| pairs.get(*key).is_some_and(|is| is == value))
        };
        let of_name = (kept.metrics.iter()).filter(|((known, _), _)| known == name);
        let points = of_name.flat_map(|(_, metric)| points(metric));
        points
            .filter(|(attributes, _)| fits(attributes))
            .map(|(_, value)| value)
            .reduce(|a, b| a + b)
    }

    fn serve(&self, connection: TcpStream) {
        let mut reader = BufReader::new(connection.try_clone().expect("a connection"));
        let mut writer = connection;
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let path = line.split(' ').nth(1).expect("a path").to_owned();
            let (mut length, mut packed) = (0, false);
            loop {
                line.clear();
                if reader.read_line(&mut line).is_err() {
                    return;
                }
                match line.trim_end().split_once(':') {
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                        length = value.trim().parse().expect("a length");
                    }
                    // rotel packs what it sends on over HTTP, whatever it is told.
                    Some((name, value)) if name.eq_ignore_ascii_case("content-encoding") => {
                        packed = value.trim() == "gzip";
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            if packed {
                let mut unpacked = Vec::new();
                flate2::read::GzDecoder::new(&*body)
                    .read_to_end(&mut unpacked)
                    .expect("gzip");
                body = unpacked;
            }
            self.keep(&path, &body);
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                          content-length: 0\r\n\r\n";
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
            line.clear();
        }
    }

    fn keep(&self, path: &str, body: &[u8]) {
        let mut kept = self.0.lock().expect("what was kept");
        match path {
            "/v1/traces" => kept.spans.extend(spans(body)),
            "/v1/metrics" => {
                let sent = ExportMetricsServiceRequest::decode(body).expect("metrics");
                let scopes = (sent.resource_metrics.into_iter()).flat_map(|of| of.scope_metrics);
                for metric in scopes.flat_map(|of| of.metrics) {
                    let about = match &metric.data {
                        Some(Data::Gauge(_)) | None => Default::default(),
                        Some(_) => about(&metric),
                    };
                    kept.metrics.insert((metric.name.clone(), about), metric);
                }
            }
            other => panic!("a collector asks for {other}"),
        }
    }
}

fn about(metric: &Metric) -> [Option<String>; 2] {
    let first = points(metric).into_iter().next();
    let of = attributes(first.map_or(&[], |(attributes, _)| attributes));
    ["model", "model_version"].map(|key| of.get(key).cloned())
}

/// The attributes and the value of each series: a histogram's is its count.
fn points(metric: &Metric) -> Vec<(&[KeyValue], f64)> {
    match &metric.data {
        Some(Data::Gauge(gauge)) => of_numbers(&gauge.data_points),
        Some(Data::Sum(sum)) => of_numbers(&sum.data_points),
        Some(Data::Histogram(histogram)) => (histogram.data_points.iter())
            .map(|point| (&*point.attributes, point.count as f64))
            .collect(),
        _ => Vec::new(),
    }
}

fn of_numbers(points: &[NumberDataPoint]) -> Vec<(&[KeyValue], f64)> {
    let number = |value: Option<Number>| match value {
        Some(Number::AsDouble(value)) => value,
        Some(Number::AsInt(value)) => value as f64,
        None => f64::NAN,
    };
    let points = points.iter();
    points
        .map(|point| (&*point.attributes, number(point.value)))
        .collect()
}

fn spans(body: &[u8]) -> Vec<SpanSeen> {
    let sent = ExportTraceServiceRequest::decode(body).expect("spans");
    let mut seen = Vec::new();
    for of in sent.resource_spans {
        let resource = attributes(&of.resource.unwrap_or_default().attributes);
        for span in of.scope_spans.into_iter().flat_map(|of| of.spans) {
            // 2: an error.
            let failed = span.status.filter(|status| status.code == 2);
            seen.push(SpanSeen {
                service: resource.get("service.name").cloned().unwrap_or_default(),
                name: span.name,
                kind: span.kind,
                trace_id: hex(&span.trace_id),
                span_id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                nanos: (span.start_time_unix_nano, span.end_time_unix_nano),
                attributes: attributes(&span.attributes),
                failed: failed.map(|status| status.message),
            });
        }
    }
    seen
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: Option<Value>| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    };
    pairs
        .iter()
        .map(|pair| {
            let value = pair.value.clone().and_then(|value| value.value);
            (pair.key.clone(), text(value))
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
