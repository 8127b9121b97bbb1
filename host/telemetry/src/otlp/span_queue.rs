//! Where ended spans wait for the exporter: as many as there is room for, the rest are dropped.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::BoundCounter;
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Spans that wait at most: some 1,300 requests' or, at about 1 KB each, 8 MB. The exporter takes
/// them every second or sooner, so what is over is over because a collector is slow or away.
pub(crate) const MAX_WAITING: usize = 8192;

/// Spans of one export, unless fewer wait.
pub(super) const BATCH: usize = 512;

/// Spans that have ended and are not exported.
pub(crate) struct SpanQueue {
    waiting: Mutex<VecDeque<SpanData>>,
    /// Told when a whole batch waits. Not at every span: waking a thread costs more than a span.
    full_batch: Notify,
    dropped: BoundCounter<u64>,
    /// Those dropped since somebody last asked.
    untold: AtomicU64,
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanQueue").finish_non_exhaustive()
    }
}

impl SpanQueue {
    /// `dropped` counts those there is no room for.
    pub(crate) fn new(dropped: BoundCounter<u64>) -> Self {
        Self {
            waiting: Mutex::new(VecDeque::new()),
            full_batch: Notify::new(),
            dropped,
            untold: AtomicU64::new(0),
        }
    }

    /// Takes a span that has ended, or drops it. Never waits for the exporter.
    pub(crate) fn push(&self, span: SpanData) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_WAITING {
            drop(waiting);
            self.dropped.add(1);
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.push_back(span);
        let full = waiting.len().is_multiple_of(BATCH);
        drop(waiting);
        if full {
            self.full_batch.notify_one();
        }
    }

    /// What the spans were made by.
    pub(crate) fn scope(&self) -> InstrumentationScope {
        InstrumentationScope::builder("aegis").build()
    }

    /// The oldest, at most a batch of them.
    pub(crate) fn take(&self) -> Vec<SpanData> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }

    /// How many were dropped since this was last asked.
    pub(super) fn take_dropped(&self) -> u64 {
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// Waits until a whole batch is there.
    pub(super) async fn full_batch(&self) {
        self.full_batch.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::metrics::SdkMeterProvider;
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    fn span(queue: &SpanQueue) -> SpanData {
        SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "predict".into(),
            start_time: SystemTime::now(),
            end_time: SystemTime::now(),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: queue.scope(),
        }
    }

    #[test]
    fn what_waits_is_bounded_and_the_rest_is_counted_once() {
        let meter = SdkMeterProvider::default().meter("test");
        let queue = SpanQueue::new(meter.u64_counter("dropped").build().bind(&[]));
        for _ in 0..MAX_WAITING + 100 {
            queue.push(span(&queue));
        }
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (100, 0));
        let batches = std::iter::from_fn(|| Some(queue.take().len()).filter(|len| *len > 0));
        assert_eq!(batches.sum::<usize>(), MAX_WAITING);
        queue.push(span(&queue));
        assert_eq!(queue.take().len(), 1);
    }
}
