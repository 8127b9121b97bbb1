//! Begins the spans of requests.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::{SpanId, SpanKind, TraceState};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};

use super::context::{self, SpanIds};
use super::sampler::Sampler;
use super::span::{Place, Recording, Span, Trace};
use crate::otlp::SpanQueue;

/// Decides which requests are recorded, and begins their spans.
pub struct Tracer {
    out: Option<Out>,
}

/// Where recorded spans go.
struct Out {
    queue: Arc<SpanQueue>,
    sampler: Sampler,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("records", &self.out.is_some())
            .finish()
    }
}

impl Tracer {
    /// Records nothing and makes no traces; those that come in are known to the log.
    pub(crate) fn off() -> Self {
        Self { out: None }
    }

    pub(crate) fn new(queue: Arc<SpanQueue>, sampler: Sampler) -> Self {
        let out = Some(Out { queue, sampler });
        Self { out }
    }

    /// Begins the span of a request with these headers. Where traces are not recorded at all and
    /// the caller has none, it is a span of no trace. `begins` says whether a trace may begin with
    /// this request; one that the caller records is recorded anyway.
    pub fn request(&self, headers: &HeaderMap, begins: bool) -> Span {
        let parent = context::parent(headers);
        let Some(out) = &self.out else {
            return Span::of(Trace(parent.map(Place::unrecorded)));
        };
        let ids = RandomIdGenerator::default();
        let trace_id = parent.map_or_else(|| ids.new_trace_id(), |parent| parent.trace_id);
        let sampled = match parent.map(|parent| parent.sampled) {
            None if !begins => false,
            parent => out.sampler.samples(trace_id, parent),
        };
        let ids = SpanIds {
            trace_id,
            span_id: ids.new_span_id(),
            sampled,
        };
        if !sampled {
            return Span::of(Trace(Some(Place::unrecorded(ids))));
        }
        let recording = Arc::new(Recording {
            queue: Arc::clone(&out.queue),
            state: match parent {
                Some(_) => context::state(headers),
                None => TraceState::default(),
            },
            begun: (SystemTime::now(), Instant::now()),
            subject: OnceLock::new(),
            outcome: OnceLock::new(),
            spans: AtomicU32::new(0),
        });
        let mut span = Span::begin(
            recording,
            ids,
            parent.map_or(SpanId::INVALID, |parent| parent.span_id),
            "request",
            Instant::now(),
        );
        span.is_of_a_request(parent.is_some(), SpanKind::Server);
        span
    }
}
