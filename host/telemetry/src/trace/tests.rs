//! Who is recorded, and what of it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SpanData;

use super::context::TRACEPARENT;
use super::*;
use crate::otlp::SpanQueue;
use crate::outcome::Outcome;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn tracer(kind: SamplerKind, ratio: f64) -> (Tracer, Arc<SpanQueue>) {
    let meter = SdkMeterProvider::default().meter("test");
    let queue = Arc::new(SpanQueue::new(
        meter.u64_counter("dropped").build().bind(&[]),
    ));
    (
        Tracer::new(Arc::clone(&queue), Sampler::new(kind, ratio)),
        queue,
    )
}

fn asked(flags: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = format!("00-{TRACE}-{PARENT}-{flags}");
    headers.insert(TRACEPARENT, HeaderValue::try_from(value).unwrap());
    headers
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    spans.iter().find(|span| span.name == name).unwrap()
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key.as_str() == key);
    found.map(|pair| pair.value.to_string())
}

#[test]
fn the_callers_trace_goes_on_here() {
    let (tracer, queue) = tracer(SamplerKind::ParentBasedAlwaysOff, 0.0);
    let request = tracer.request(&asked("01"), true);
    let out = request.trace().traceparent().unwrap();
    let inner = request.trace().span("predict");
    drop(inner.trace().span("compute"));
    drop(inner);
    drop(request);
    let spans = queue.take();
    assert_eq!(spans.len(), 3);
    for span in &spans {
        assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    }
    let (request, predict) = (named(&spans, "request"), named(&spans, "predict"));
    assert_eq!(request.parent_span_id.to_string(), PARENT);
    assert!(request.parent_span_is_remote);
    assert_eq!(request.span_kind, SpanKind::Server);
    assert_eq!(predict.parent_span_id, request.span_context.span_id());
    assert_eq!(
        named(&spans, "compute").parent_span_id,
        predict.span_context.span_id()
    );
    let own = request.span_context.span_id();
    assert_eq!(out, format!("00-{TRACE}-{own}-01"));
}

#[test]
fn a_trace_the_caller_does_not_record_is_known_and_not_recorded() {
    let (tracer, queue) = tracer(SamplerKind::ParentBasedAlwaysOn, 0.0);
    let request = tracer.request(&asked("00"), true);
    assert!(!request.is_recorded());
    drop(request.trace().span("predict"));
    let out = request.trace().traceparent().unwrap();
    assert!(out.to_str().unwrap().starts_with(&format!("00-{TRACE}-")));
    assert!(out.to_str().unwrap().ends_with("-00"));
    drop(request);
    assert!(queue.take().is_empty());
}

#[test]
fn a_malformed_parent_is_no_parent() {
    let (tracer, queue) = tracer(SamplerKind::ParentBasedAlwaysOn, 0.0);
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, HeaderValue::from_static("00-zz-1-01"));
    drop(tracer.request(&headers, true));
    let spans = queue.take();
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert!(!spans[0].parent_span_is_remote);
}

#[test]
fn every_sampler_decides_by_its_name() {
    use SamplerKind::*;
    for (kind, ratio, root, recorded, unrecorded) in [
        (AlwaysOn, 0.0, true, true, true),
        (AlwaysOff, 1.0, false, false, false),
        (TraceIdRatio, 1.0, true, true, true),
        (TraceIdRatio, 0.0, false, false, false),
        (ParentBasedAlwaysOn, 0.0, true, true, false),
        (ParentBasedAlwaysOff, 1.0, false, true, false),
        (ParentBasedTraceIdRatio, 1.0, true, true, false),
        (ParentBasedTraceIdRatio, 0.0, false, true, false),
    ] {
        let (tracer, _queue) = tracer(kind, ratio);
        let records = |headers: &HeaderMap| tracer.request(headers, true).is_recorded();
        assert_eq!(records(&HeaderMap::new()), root, "{kind} {ratio}");
        assert_eq!(records(&asked("01")), recorded, "{kind} {ratio}");
        assert_eq!(records(&asked("00")), unrecorded, "{kind} {ratio}");
    }
}

#[test]
fn a_share_of_traces_is_about_that_share() {
    let (tracer, _queue) = tracer(SamplerKind::ParentBasedTraceIdRatio, 0.1);
    let recorded = (0..20_000)
        .filter(|_| tracer.request(&HeaderMap::new(), true).is_recorded())
        .count();
    // Eight standard deviations.
    assert!((1660..2340).contains(&recorded), "{recorded}");
}

#[test]
fn no_trace_begins_with_a_request_that_begins_none() {
    let (tracer, _queue) = tracer(SamplerKind::AlwaysOn, 1.0);
    assert!(!tracer.request(&HeaderMap::new(), false).is_recorded());
    assert!(tracer.request(&asked("01"), false).is_recorded());
}

#[test]
fn without_a_collector_a_trace_is_only_what_the_caller_has() {
    let tracer = Tracer::off();
    assert!(
        tracer
            .request(&HeaderMap::new(), true)
            .trace()
            .ids()
            .is_none()
    );
    let request = tracer.request(&asked("01"), true);
    assert!(!request.is_recorded() && !request.trace().is_recorded());
    let ids = request.trace().ids().unwrap();
    assert_eq!(ids.traceparent(), format!("00-{TRACE}-{PARENT}-01"));
}

#[test]
fn a_span_says_how_long_it_took_and_how_it_ended() {
    let (tracer, queue) = tracer(SamplerKind::AlwaysOn, 1.0);
    let request = tracer.request(&HeaderMap::new(), true);
    let begun = Instant::now();
    let mut span = request.trace().span_from("compute", begun);
    span.number("aegis.batch_size", 3_usize);
    span.word("aegis.outcome", "timeout");
    span.flag("aegis.in_place", true);
    span.fail("timeout");
    span.end_at(begun + Duration::from_millis(7));
    // An end before the beginning is none.
    let backwards = request.trace().span_from("queue", begun);
    backwards.end_at(begun - Duration::from_millis(1));
    drop(request);
    let spans = queue.take();
    let compute = named(&spans, "compute");
    assert_eq!(
        compute.end_time.duration_since(compute.start_time).unwrap(),
        Duration::from_millis(7)
    );
    assert_eq!(compute.status, Status::error("timeout"));
    assert_eq!(attribute(compute, "aegis.batch_size").unwrap(), "3");
    assert_eq!(attribute(compute, "aegis.outcome").unwrap(), "timeout");
    assert_eq!(attribute(compute, "aegis.in_place").unwrap(), "true");
    let queue = named(&spans, "queue");
    assert_eq!(queue.start_time, queue.end_time);
}

#[test]
fn spans_that_end_once_the_model_is_known_name_it() {
    let (tracer, queue) = tracer(SamplerKind::AlwaysOn, 1.0);
    let request = tracer.request(&HeaderMap::new(), true);
    drop(request.trace().span("before"));
    request.trace().is_about("digits", 3);
    drop(request.trace().span("after"));
    drop(request);
    let spans = queue.take();
    assert_eq!(attribute(named(&spans, "before"), "aegis.model"), None);
    for name in ["after", "request"] {
        let span = named(&spans, name);
        assert_eq!(attribute(span, "aegis.model").unwrap(), "digits");
        assert_eq!(attribute(span, "aegis.model_version").unwrap(), "3");
    }
}

#[test]
fn the_requests_span_alone_says_how_the_prediction_ended() {
    let (tracer, queue) = tracer(SamplerKind::AlwaysOn, 1.0);
    let request = tracer.request(&HeaderMap::new(), true);
    request.trace().ended(Outcome::Overloaded);
    request.trace().ended(Outcome::Cancelled);
    drop(request.trace().span("predict"));
    drop(request);
    drop(tracer.request(&HeaderMap::new(), true));
    let spans = queue.take();
    let outcomes: Vec<_> = spans
        .iter()
        .map(|span| (&*span.name, attribute(span, "aegis.outcome")))
        .collect();
    let overloaded = Some("overloaded".to_owned());
    assert_eq!(
        outcomes,
        [
            ("predict", None),
            ("request", overloaded),
            ("request", None)
        ]
    );
}

#[test]
fn nothing_a_caller_sends_makes_a_span_large() {
    let (tracer, queue) = tracer(SamplerKind::AlwaysOn, 1.0);
    let mut headers = asked("01");
    let state = format!("a={}", "x".repeat(30_000));
    headers.insert("tracestate", HeaderValue::try_from(state).unwrap());
    let mut request = tracer.request(&headers, true);
    request.text("aegis.request_id", &"é\n".repeat(10_000));
    request.trace().is_about(&"m".repeat(10_000), u64::MAX);
    drop(request);
    let spans = queue.take();
    assert_eq!(spans[0].span_context.trace_state().header(), "");
    let id = attribute(&spans[0], "aegis.request_id").unwrap();
    assert_eq!((id.chars().count(), id.contains('\n')), (128, false));
    assert_eq!(attribute(&spans[0], "aegis.model").unwrap().len(), 128);
}

#[test]
fn a_request_of_very_many_steps_has_a_bounded_number_of_spans() {
    let (tracer, queue) = tracer(SamplerKind::AlwaysOn, 1.0);
    let request = tracer.request(&HeaderMap::new(), true);
    for _ in 0..1000 {
        drop(request.trace().span("compute"));
    }
    drop(request);
    let spans = queue.take();
    assert_eq!(spans.len(), 65);
    let omitted = attribute(named(&spans, "request"), "aegis.omitted_spans");
    assert_eq!(omitted.unwrap(), "936");
}

#[tokio::test]
async fn lines_know_their_trace_on_whichever_thread_they_are_written() {
    let (tracer, _queue) = tracer(SamplerKind::AlwaysOff, 0.0);
    let request = tracer.request(&HeaderMap::new(), true);
    let ids = request.trace().ids();
    let trace = request.trace().clone();
    assert_eq!(current(), None);
    let moved = async move {
        trace
            .scope(async {
                let first = current();
                tokio::task::yield_now().await;
                (first, current())
            })
            .await
    };
    // Polled here once, and to its end by another thread.
    let mut moved = Box::pin(moved);
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(moved.as_mut().poll(context).is_ready())
    });
    assert!(!polled.await);
    assert_eq!(current(), None);
    let runtime = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(moved)
    });
    assert_eq!(runtime.join().unwrap(), (ids, ids));
}

#[tokio::test]
async fn work_handed_to_others_keeps_its_trace() {
    let (tracer, _queue) = tracer(SamplerKind::AlwaysOff, 0.0);
    let request = tracer.request(&HeaderMap::new(), true);
    let ids = request.trace().ids();
    let handed = async {
        let task = tokio::spawn(in_this_trace(async { current() }));
        let lost = tokio::spawn(async { current() });
        let work = tokio::task::spawn_blocking(doing_in_this_trace(current));
        (
            task.await.unwrap(),
            lost.await.unwrap(),
            work.await.unwrap(),
        )
    };
    assert_eq!(request.trace().scope(handed).await, (ids, None, ids));
    // Of nothing, nothing is kept.
    let task = tokio::spawn(in_this_trace(async { current() }));
    assert_eq!(task.await.unwrap(), None);
}
