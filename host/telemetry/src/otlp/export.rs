//! The thread that exports, from its start to its end.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use opentelemetry::metrics::{Counter, Meter};
use opentelemetry_sdk::Resource;
use tokio::sync::{oneshot, watch};

use super::config::OtlpConfig;
use super::exporters::{self, Exporters};
use super::metrics_out::MetricsOut;
use super::span_queue::SpanQueue;
use super::spans_out::SpansOut;
use crate::group::Groups;
use crate::label;
use crate::table::metric;
use crate::telemetry::{TelemetryError, counter};

/// What the exports are counted with; there from the start, also where nothing is exported.
pub(crate) struct ExportMetrics {
    spans: Counter<u64>,
    exports: Counter<u64>,
}

impl ExportMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        let metrics = Self {
            spans: counter(meter, &metric::OTLP_SPANS),
            exports: counter(meter, &metric::OTLP_METRIC_EXPORTS),
        };
        for outcome in ["sent", "failed", "dropped"] {
            metrics.spans.add(0, &outcome_label(outcome));
        }
        for outcome in ["sent", "failed"] {
            metrics.exports.add(0, &outcome_label(outcome));
        }
        metrics
    }

    pub(crate) fn queue(&self) -> SpanQueue {
        SpanQueue::new(self.spans.bind(&outcome_label("dropped")))
    }
}

fn outcome_label(outcome: &str) -> Vec<opentelemetry::KeyValue> {
    label::attributes([("outcome", outcome.to_owned())])
}

/// The exports of a process, until it is stopped.
pub(crate) struct Export {
    stop: Option<oneshot::Sender<Instant>>,
    ended: mpsc::Receiver<()>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}

impl Export {
    /// Starts the thread. Whether a collector is there shows later.
    pub(crate) fn start(
        config: OtlpConfig,
        resource: Resource,
        queue: Arc<SpanQueue>,
        groups: Groups,
        metrics: &ExportMetrics,
    ) -> Result<Self, TelemetryError> {
        let setup = |error: &dyn fmt::Display| TelemetryError::Setup(format!("OTLP: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Looking up a collector's name blocks a thread.
            .max_blocking_threads(2)
            .thread_name("aegis-otlp")
            .build()
            .map_err(|error| setup(&error))?;
        let exporters = {
            let _inside = runtime.enter();
            Exporters::new(&config, &resource).map_err(|error| setup(&error))?
        };
        let spans = SpansOut {
            queue,
            exporter: exporters.spans,
            timeout: config.timeout,
            sent: metrics.spans.bind(&outcome_label("sent")),
            failed: metrics.spans.bind(&outcome_label("failed")),
        };
        let metrics = MetricsOut {
            groups,
            exporter: exporters.metrics,
            timeout: config.timeout,
            interval: config.interval,
            ok: metrics.exports.bind(&outcome_label("sent")),
            failed: metrics.exports.bind(&outcome_label("failed")),
        };
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        std::thread::Builder::new()
            .name("aegis-otlp".to_owned())
            .spawn(move || {
                runtime.block_on(until_stopped(spans, metrics, stopped));
                runtime.shutdown_background();
                drop(end);
            })
            .map_err(|error| setup(&error))?;
        Ok(Self {
            stop: Some(stop),
            ended,
        })
    }

    /// Exports what is left and ends the thread, within this time. Blocks.
    pub(crate) fn stop(&mut self, within: Duration) {
        if let Some(stop) = self.stop.take()
            && stop.send(Instant::now() + within).is_ok()
        {
            // An end is told by nobody being left to tell it. The thread ends itself in time; if
            // it does not get a processor to do so, it is left to itself.
            let _ = self.ended.recv_timeout(within + Duration::from_millis(100));
        }
    }
}

/// Exports until there is a word on `stopped`, which says by when the last of it must be sent.
/// Dropped without one, there is nobody who waits for that.
async fn until_stopped(spans: SpansOut, metrics: MetricsOut, stopped: oneshot::Receiver<Instant>) {
    let (tell, told) = watch::channel(false);
    let mut exports = pin!(async { tokio::join!(spans.run(told.clone()), metrics.run(told)) });
    let by = tokio::select! {
        _ = &mut exports => return,
        by = stopped => by,
    };
    if let Ok(by) = by
        && tell.send(true).is_ok()
    {
        let _ = tokio::time::timeout_at(by.into(), exports).await;
    }
}

/// The resource of the configuration.
pub(crate) fn resource(config: &OtlpConfig) -> Resource {
    exporters::resource(config)
}
