//! Takes spans out of their queue and exports them, a batch at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::metrics::BoundCounter;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SpanExporter as _;

use tokio::sync::watch;

use super::seldom::Seldom;
use super::span_queue::SpanQueue;

/// How long a span waits for others to be exported with.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct SpansOut {
    pub(super) queue: Arc<SpanQueue>,
    pub(super) exporter: SpanExporter,
    /// The longest that one export may take.
    pub(super) timeout: Duration,
    pub(super) sent: BoundCounter<u64>,
    pub(super) failed: BoundCounter<u64>,
}

/// What is said about spans that nobody will see, seldom.
#[derive(Default)]
struct Complaints {
    lost: Seldom,
    dropped: Seldom,
}

impl SpansOut {
    /// Exports until it is told to stop, and then what is left.
    pub(super) async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut complaints = Complaints::default();
        let mut stopped = false;
        while !stopped {
            tokio::select! {
                () = self.queue.full_batch() => {}
                () = tokio::time::sleep(PATIENCE) => {}
                _ = stop.wait_for(|stop| *stop) => stopped = true,
            }
            // Not a part of the selection: a batch that is on its way is not given up.
            self.export_all(&mut complaints).await;
        }
    }

    async fn export_all(&self, complaints: &mut Complaints) {
        loop {
            if let Some(spans) = complaints
                .dropped
                .add(self.queue.take_dropped(), Instant::now())
            {
                tracing::warn!(
                    spans,
                    "spans were dropped, as more come than the collector takes"
                );
            }
            let batch = self.queue.take();
            if batch.is_empty() {
                break;
            }
            let count = batch.len() as u64;
            // The exporter has a timeout, which does not hold for everything: a collector whose
            // name is being looked up, an answer that never ends.
            let export = tokio::time::timeout(self.timeout * 2, self.exporter.export(batch));
            match export
                .await
                .unwrap_or(Err(OTelSdkError::Timeout(self.timeout * 2)))
            {
                Ok(()) => self.sent.add(count),
                Err(error) => {
                    self.failed.add(count);
                    if let Some(spans) = complaints.lost.add(count, Instant::now()) {
                        tracing::warn!(spans, %error, "spans were lost, as the collector did not take them");
                    }
                }
            }
        }
    }
}
