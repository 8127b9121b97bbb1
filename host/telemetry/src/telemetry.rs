//! The owner of all instruments and the way to their Prometheus text. What the instruments mean is
//! in [`crate::table`]; who records is in [`crate::http`] and [`crate::inference`].

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};
use opentelemetry_sdk::Resource;
use parking_lot::Mutex;
use prometheus::{Encoder as _, TextEncoder};

use crate::group::Groups;
use crate::http::HttpMetrics;
use crate::inference::InferenceMetrics;
use crate::otlp::{self, Export, ExportMetrics, OtlpConfig};
use crate::outcome::RuntimeName;
use crate::process;
use crate::runtime::{RuntimeGauges, RuntimeHandle};
use crate::table::{METRICS, MetricSpec};
use crate::trace::Tracer;

/// `Content-Type` of [`Telemetry::render`]'s text.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Series that one metric may have which live as long as the process: routes make the most, 256 with their statuses.
/// Beyond it OpenTelemetry counts under `otel_metric_overflow="true"`. Each metric takes 33 bytes for each from the start.
pub(crate) const SERIES_PER_METRIC: usize = 8_192;

/// Why telemetry could not be set up or read.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter could not be registered.
    #[error("metrics could not be set up: {0}")]
    Setup(String),
    /// The metrics could not be written as text.
    #[error("metrics could not be written as Prometheus text: {0}")]
    Render(String),
}

/// All instruments of a process, and its tracer. One is made at start and shared.
pub struct Telemetry {
    http: HttpMetrics,
    inference: InferenceMetrics,
    runtimes: RuntimeGauges,
    tracer: Tracer,
    /// There until it is stopped, if there is a collector.
    export: Mutex<Option<Export>>,
    groups: Groups,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Sets up every metric of the table. Nothing leaves the process but as Prometheus' text, and
    /// no traces are recorded.
    ///
    /// # Errors
    /// [`TelemetryError::Setup`] if the exporter refuses its registry.
    pub fn new() -> Result<Self, TelemetryError> {
        Self::build(None)
    }

    /// As [`Telemetry::new`], and metrics and traces go to a collector as well, on a thread of
    /// their own. Whether the collector is there does not matter here.
    ///
    /// # Errors
    /// [`TelemetryError::Setup`] if an exporter cannot be made, or its thread not be started.
    pub fn with_otlp(config: OtlpConfig) -> Result<Self, TelemetryError> {
        Self::build(Some(config))
    }

    fn build(otlp: Option<OtlpConfig>) -> Result<Self, TelemetryError> {
        let resource = match &otlp {
            Some(config) => otlp::resource(config),
            None => Resource::builder_empty().build(),
        };
        let groups = Groups::new(resource.clone(), SERIES_PER_METRIC)?;
        let meter = groups.lasting().meter();
        process::observe(meter);
        let exports = ExportMetrics::new(meter);
        let (tracer, export) = match otlp {
            None => (Tracer::off(), None),
            Some(config) => {
                let queue = Arc::new(exports.queue());
                let tracer = Tracer::new(Arc::clone(&queue), config.sampler.clone());
                let export = Export::start(config, resource, queue, groups.clone(), &exports)?;
                (tracer, Some(export))
            }
        };
        Ok(Self {
            http: HttpMetrics::new(meter),
            inference: InferenceMetrics::new(&groups),
            runtimes: RuntimeGauges::new(meter),
            tracer,
            export: Mutex::new(export),
            groups,
        })
    }

    /// What begins the traces of requests.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Shows a runtime's threads and tasks, under this name, while the handle lives.
    pub fn runtime(&self, name: RuntimeName, runtime: tokio::runtime::Handle) -> RuntimeHandle {
        self.runtimes.register(name, runtime)
    }

    /// Sends what the collector has not had yet, within this time, and ends its thread. Blocks.
    /// Later spans are nobody's.
    pub fn stop_export(&self, within: Duration) {
        let export = self.export.lock().take();
        if let Some(mut export) = export {
            export.stop(within);
        }
    }

    /// What the HTTP routes record.
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// What models, handlers and graphs record.
    pub fn inference(&self) -> &InferenceMetrics {
        &self.inference
    }

    /// The metrics as Prometheus text, to be sent as [`PROMETHEUS_CONTENT_TYPE`]. Every metric of
    /// the table has its `# HELP` and `# TYPE`, also while it has no series yet. It takes
    /// milliseconds with many series and reads files: not for an executor's thread.
    ///
    /// # Errors
    /// [`TelemetryError::Render`] if the text cannot be made.
    pub fn render(&self) -> Result<String, TelemetryError> {
        let families = self.groups.gather();
        let mut bytes = Vec::new();
        TextEncoder::new()
            .encode(&families, &mut bytes)
            .map_err(|error| TelemetryError::Render(error.to_string()))?;
        let mut text =
            String::from_utf8(bytes).map_err(|error| TelemetryError::Render(error.to_string()))?;
        for spec in METRICS {
            if !families.iter().any(|family| family.name() == spec.name) {
                let (name, help, kind) = (spec.name, spec.help, spec.kind.as_str());
                writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
                    .map_err(|error| TelemetryError::Render(error.to_string()))?;
            }
        }
        Ok(text)
    }
}

/// The counter of a table row.
pub(crate) fn counter(meter: &Meter, spec: &MetricSpec) -> Counter<u64> {
    meter
        .u64_counter(spec.name)
        .with_description(spec.help)
        .with_unit(spec.unit)
        .build()
}

/// A gauge of a table row that is counted up and down.
pub(crate) fn up_down(meter: &Meter, spec: &MetricSpec) -> UpDownCounter<i64> {
    meter
        .i64_up_down_counter(spec.name)
        .with_description(spec.help)
        .with_unit(spec.unit)
        .build()
}

/// The histogram of a table row, with its buckets.
pub(crate) fn histogram(meter: &Meter, spec: &MetricSpec) -> Histogram<f64> {
    meter
        .f64_histogram(spec.name)
        .with_description(spec.help)
        .with_unit(spec.unit)
        .with_boundaries(spec.buckets.to_vec())
        .build()
}
