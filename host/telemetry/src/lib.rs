//! What Aegis tells about itself: the one table of metric names ([`METRICS`]), instruments to feed
//! them, their Prometheus text, traces, the way of both to a collector, and the log. It knows no other room of the house: models, versions
//! and routes reach it as plain words and numbers.
//!
//! Start with [`Telemetry`]; a route's handle comes from [`HttpMetrics::endpoint`], a served
//! version's from [`InferenceMetrics::version`], a graph's from [`InferenceMetrics::graph`]. Handles
//! are made once, outside the request path, and recording through them looks nothing up. A request's
//! trace begins with [`Tracer::request`].
//!
//! How long series live: counters and histograms of a version until it is forgotten
//! ([`InferenceMetrics::forget`]), those of routes and of the process for good. Gauges go away with the
//! handle that fed them.

mod gauge;
mod group;
mod http;
mod inference;
mod label;
mod log;
mod log_line;
mod markdown;
mod otlp;
mod outcome;
mod process;
mod runtime;
mod safety;
mod series;
mod table;
mod telemetry;
mod trace;

pub use gauge::GaugeHandle;
pub use http::{EndpointMetrics, HttpMetrics, InFlightGuard, UNMATCHED_ENDPOINT};
pub use inference::{GraphMetrics, InferenceMetrics, SessionMetrics, VersionMetrics};
pub use label::method;
pub use log::{LogError, LogFormat, check_log_filter, init_logs};
pub use markdown::metrics_markdown;
pub use otlp::{EndpointError, OtlpConfig, OtlpEndpoint, OtlpProtocol};
pub use outcome::{
    CircuitState, Limit, Outcome, RolloutChange, RuntimeName, SessionEviction, ShadowResult,
    TrapReason, UnloadReason,
};
pub use runtime::RuntimeHandle;
pub use table::{METRICS, MetricKind, MetricSpec, metric};
pub use telemetry::{PROMETHEUS_CONTENT_TYPE, Telemetry, TelemetryError};
pub use trace::{
    Sampler, SamplerKind, Span, SpanIds, Trace, Tracer, doing_in_this_trace, in_this_trace,
};
