//! A place in a trace, and the spans that begin there.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use http::HeaderValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks,
};

use super::context::{self, SpanIds};
use super::current;
use crate::label;
use crate::otlp::SpanQueue;
use crate::outcome::Outcome;

/// Where a piece of a request's work belongs; spans that begin here are children of one span. Cheap
/// to clone, and of nothing by default.
#[derive(Clone, Default)]
pub struct Trace(pub(super) Option<Place>);

#[derive(Clone)]
pub(super) struct Place {
    ids: SpanIds,
    /// Of a trace that is recorded.
    recording: Option<Arc<Recording>>,
}

/// What the spans of one request share.
pub(super) struct Recording {
    pub(super) queue: Arc<SpanQueue>,
    pub(super) state: TraceState,
    /// One moment by both clocks: spans are timed by the one that never jumps.
    pub(super) begun: (SystemTime, Instant),
    /// Model and version, once they are known.
    pub(super) subject: OnceLock<(Arc<str>, i64)>,
    /// How the prediction ended, once it has.
    pub(super) outcome: OnceLock<Outcome>,
    /// Spans asked for, beside the request's own.
    pub(super) spans: AtomicU32,
}

/// Spans of one request beside its own. A handler that computes in a loop would otherwise fill the
/// queue with spans that are all alike, and others' would be dropped.
const MAX_SPANS: u32 = 64;

impl Place {
    pub(super) fn unrecorded(ids: SpanIds) -> Place {
        Place {
            ids,
            recording: None,
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.ids()).finish()
    }
}

impl Trace {
    /// Its ids, if there is a trace at all.
    pub fn ids(&self) -> Option<SpanIds> {
        self.0.as_ref().map(|place| place.ids)
    }

    /// Whether spans that begin here go anywhere.
    pub fn is_recorded(&self) -> bool {
        self.recording().is_some()
    }

    /// Its `traceparent`, for whoever is told of the trace.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        self.ids().and_then(context::header)
    }

    /// The request's spans are about this version of a model, those that end from now on.
    pub fn is_about(&self, model: &str, version: u64) {
        if let Some(recording) = self.recording() {
            let version = i64::try_from(version).unwrap_or(i64::MAX);
            let _ = recording
                .subject
                .set((Arc::from(label::value(model)), version));
        }
    }

    /// The request's prediction ended so. The first word counts.
    pub fn ended(&self, outcome: Outcome) {
        if let Some(recording) = self.recording() {
            let _ = recording.outcome.set(outcome);
        }
    }

    /// Begins a span here.
    pub fn span(&self, name: &'static str) -> Span {
        match &self.0 {
            Some(place) if place.recording.is_some() => self.span_from(name, Instant::now()),
            _ => Span::of(self.clone()),
        }
    }

    /// Begins a span here, some time ago.
    pub fn span_from(&self, name: &'static str, start: Instant) -> Span {
        let Some(Place {
            ids,
            recording: Some(recording),
        }) = &self.0
        else {
            return Span::of(self.clone());
        };
        if recording.spans.fetch_add(1, Ordering::Relaxed) >= MAX_SPANS {
            return Span::of(self.clone());
        }
        let own = SpanIds {
            span_id: RandomIdGenerator::default().new_span_id(),
            ..*ids
        };
        Span::begin(Arc::clone(recording), own, ids.span_id, name, start)
    }

    /// Runs a future whose log lines tell this place, on whichever threads it is polled.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        current::scope(self.ids(), future).await
    }

    fn recording(&self) -> Option<&Arc<Recording>> {
        self.0.as_ref().and_then(|place| place.recording.as_ref())
    }
}

/// A stretch of work. It ends when it is dropped, or at the moment [`Span::end_at`] says; one that
/// is not recorded is nothing but its [`Trace`].
///
/// Attributes are numbers, words of ours, and names cut to size: nothing that a caller sends can
/// make a span large.
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    trace: Trace,
    /// Boxed, as most spans have none and are held across waits.
    open: Option<Box<Open>>,
}

struct Open {
    recording: Arc<Recording>,
    parent: SpanId,
    parent_is_remote: bool,
    kind: SpanKind,
    name: &'static str,
    start: Instant,
    end: Option<Instant>,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span")
            .field("name", &self.open.as_ref().map(|open| open.name))
            .field("trace", &self.trace)
            .finish()
    }
}

impl Span {
    /// One that is not recorded.
    pub(super) fn of(trace: Trace) -> Span {
        Span { trace, open: None }
    }

    pub(super) fn begin(
        recording: Arc<Recording>,
        ids: SpanIds,
        parent: SpanId,
        name: &'static str,
        start: Instant,
    ) -> Span {
        Span {
            trace: Trace(Some(Place {
                ids,
                recording: Some(Arc::clone(&recording)),
            })),
            open: Some(Box::new(Open {
                recording,
                parent,
                parent_is_remote: false,
                kind: SpanKind::Internal,
                name,
                start,
                end: None,
                // Model, version, and a few of its own.
                attributes: Vec::with_capacity(8),
                status: Status::Unset,
            })),
        }
    }

    pub(super) fn is_of_a_request(&mut self, parent_is_remote: bool, kind: SpanKind) {
        if let Some(open) = &mut self.open {
            open.parent_is_remote = parent_is_remote;
            open.kind = kind;
        }
    }

    /// The place of what is done as a part of this.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether anybody will see it: what is dear to find out need not be, otherwise.
    pub fn is_recorded(&self) -> bool {
        self.open.is_some()
    }

    /// A number.
    pub fn number(&mut self, key: &'static str, value: impl TryInto<i64>) {
        self.set(key, || Value::I64(value.try_into().unwrap_or(i64::MAX)));
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str, value: bool) {
        self.set(key, || Value::Bool(value));
    }

    /// A word out of a closed list.
    pub fn word(&mut self, key: &'static str, value: &'static str) {
        self.set(key, || value.into());
    }

    /// A name, cut to 128 characters and of one line.
    pub fn text(&mut self, key: &'static str, value: &str) {
        self.set(key, || label::value(value).into());
    }

    /// The work failed, for a reason out of a closed list.
    pub fn fail(&mut self, reason: &'static str) {
        if let Some(open) = &mut self.open {
            open.status = Status::error(reason);
        }
    }

    /// Ends it as of a moment that may be past.
    pub fn end_at(mut self, end: Instant) {
        if let Some(open) = &mut self.open {
            open.end = Some(end);
        }
    }

    fn set(&mut self, key: &'static str, value: impl FnOnce() -> Value) {
        if let Some(open) = &mut self.open {
            open.attributes.push(KeyValue::new(key, value()));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let (Some(open), Some(ids)) = (self.open.take(), self.trace.ids()) else {
            return;
        };
        let Open {
            recording,
            parent,
            parent_is_remote,
            kind,
            name,
            start,
            end,
            mut attributes,
            status,
        } = *open;
        if let Some((model, version)) = recording.subject.get() {
            attributes.push(KeyValue::new("aegis.model", Arc::clone(model)));
            attributes.push(KeyValue::new("aegis.model_version", *version));
        }
        if kind == SpanKind::Server {
            attributes.extend(recording.of_the_whole());
        }
        let end = end.unwrap_or_else(Instant::now).max(start);
        recording.queue.push(SpanData {
            span_context: SpanContext::new(
                ids.trace_id,
                ids.span_id,
                TraceFlags::SAMPLED,
                false,
                recording.state.clone(),
            ),
            parent_span_id: parent,
            parent_span_is_remote: parent_is_remote,
            span_kind: kind,
            name: name.into(),
            start_time: recording.by_the_wall(start),
            end_time: recording.by_the_wall(end),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: recording.queue.scope(),
        });
    }
}

impl Recording {
    /// What the request's own span says of all of them.
    fn of_the_whole(&self) -> impl Iterator<Item = KeyValue> {
        let outcome = self.outcome.get();
        let omitted = self.spans.load(Ordering::Relaxed).saturating_sub(MAX_SPANS);
        let omitted = (omitted > 0).then(|| i64::from(omitted));
        outcome
            .map(|outcome| KeyValue::new("aegis.outcome", outcome.as_str()))
            .into_iter()
            .chain(omitted.map(|count| KeyValue::new("aegis.omitted_spans", count)))
    }

    fn by_the_wall(&self, moment: Instant) -> SystemTime {
        let (wall, begun) = self.begun;
        match moment.checked_duration_since(begun) {
            Some(after) => wall + after,
            None => wall - begun.saturating_duration_since(moment),
        }
    }
}
