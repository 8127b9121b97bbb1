//! The owner of all instruments and the way to their Prometheus text. What the instruments mean is
//! in [`crate::table`]; who records is in [`crate::http`] and [`crate::inference`].

use std::fmt;
use std::fmt::Write as _;

use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _, UpDownCounter};
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Encoder as _, TextEncoder};

use crate::http::HttpMetrics;
use crate::inference::InferenceMetrics;
use crate::table::{METRICS, MetricSpec};

/// `Content-Type` of [`Telemetry::render`]'s text.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Series one metric may have. Beyond it OpenTelemetry counts under `otel_metric_overflow="true"`.
/// A model has 24 series of its widest metric (one a limit) and a version 14 (one an outcome), so
/// this is room for some 2,700 models and 4,600 versions loaded in a process's life; the memory is
/// only taken as series come.
pub const SERIES_PER_METRIC: usize = 65_536;

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

/// All instruments of a process. One is made at start and shared.
pub struct Telemetry {
    http: HttpMetrics,
    inference: InferenceMetrics,
    registry: prometheus::Registry,
    /// Last, so that it is shut down after everything that records into it.
    provider: SdkMeterProvider,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Sets up every metric of the table.
    ///
    /// # Errors
    /// [`TelemetryError::Setup`] if the exporter refuses its registry.
    pub fn new() -> Result<Self, TelemetryError> {
        let registry = prometheus::Registry::new();
        // The names of the table stand for themselves: nothing is added to them.
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| TelemetryError::Setup(error.to_string()))?;
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_view(|_: &Instrument| {
                Stream::builder()
                    .with_cardinality_limit(SERIES_PER_METRIC)
                    .build()
                    .ok()
            })
            .build();
        let meter = provider.meter("aegis");
        Ok(Self {
            http: HttpMetrics::new(&meter),
            inference: InferenceMetrics::new(&meter),
            registry,
            provider,
        })
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
    /// the table has its `# HELP` and `# TYPE`, also while it has no series yet.
    ///
    /// # Errors
    /// [`TelemetryError::Render`] if the text cannot be made.
    pub fn render(&self) -> Result<String, TelemetryError> {
        let families = self.registry.gather();
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

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Nothing is left to export; a second shutdown's error would tell nobody anything.
        let _ = self.provider.shutdown();
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
