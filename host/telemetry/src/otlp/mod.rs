//! OTLP out: metrics every so often and spans as they come, to a collector that may be slow or away.
//!
//! All of it happens on one thread of its own with a runtime of its own ([`Export`]), so nothing a
//! collector does is felt by a request. What waits for it is bounded: spans in [`SpanQueue`], beyond
//! which they are dropped and counted; metrics not at all, as the next export has them again.

mod config;
mod export;
mod exporters;
mod headers;
mod metrics_out;
mod seldom;
mod span_queue;
mod spans_out;

pub use config::{EndpointError, OtlpConfig, OtlpEndpoint, OtlpProtocol};
pub(crate) use export::{Export, ExportMetrics, resource};
pub(crate) use metrics_out::SharedReader;
pub(crate) use span_queue::SpanQueue;
