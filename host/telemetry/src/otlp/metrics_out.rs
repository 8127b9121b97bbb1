//! Exports the metrics every so often. They are read as Prometheus' scrapes read them, from one
//! aggregation: a reader of its own would count everything twice. Each group of series is a message of its own, as
//! the SDK has no way to put two together.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use opentelemetry::metrics::BoundCounter;
use opentelemetry_otlp::MetricExporter;
use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, Pipeline, Temporality};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::seldom::Seldom;
use crate::group::Groups;

/// Prometheus' reader, for others to read as well. Nothing is taken by reading: both see totals.
#[derive(Clone, Debug)]
pub(crate) struct SharedReader(Arc<PrometheusExporter>);

impl SharedReader {
    pub(crate) fn new(exporter: PrometheusExporter) -> Self {
        Self(Arc::new(exporter))
    }
}

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

pub(super) struct MetricsOut {
    pub(super) groups: Groups,
    pub(super) exporter: MetricExporter,
    /// The longest that one export may take.
    pub(super) timeout: Duration,
    pub(super) interval: Duration,
    pub(super) ok: BoundCounter<u64>,
    pub(super) failed: BoundCounter<u64>,
}

impl MetricsOut {
    /// Exports until it is told to stop, and then once more.
    pub(super) async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut failures = Seldom::default();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now, when there is nothing to tell.
        ticks.tick().await;
        let mut stopped = false;
        while !stopped {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.wait_for(|stop| *stop) => stopped = true,
            }
            self.export(&mut failures).await;
        }
    }

    async fn export(&self, failures: &mut Seldom) {
        match self.export_all().await {
            Ok(()) => self.ok.add(1),
            Err(error) => {
                self.failed.add(1);
                if let Some(exports) = failures.add(1, Instant::now()) {
                    tracing::warn!(exports, %error, "the collector did not take the metrics");
                }
            }
        }
    }

    /// Ends at the first failure: a collector that is away is not asked again for each of a thousand models.
    async fn export_all(&self) -> OTelSdkResult {
        for group in self.groups.all() {
            let mut metrics = ResourceMetrics::default();
            group.reader().collect(&mut metrics)?;
            let export = tokio::time::timeout(self.timeout * 2, self.exporter.export(&metrics));
            export
                .await
                .unwrap_or(Err(OTelSdkError::Timeout(self.timeout * 2)))?;
        }
        Ok(())
    }
}
