//! The exporters of `opentelemetry-otlp`, made as the configuration says. They and their
//! connections belong to the runtime that they are made on.

use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig as _,
    WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::trace::SpanExporter as _;

use super::config::{OtlpConfig, OtlpProtocol};
use super::headers::{Client, OwnHeaders};

/// What this service is called when nobody says.
const SERVICE: &str = "aegis";

pub(super) struct Exporters {
    pub(super) spans: SpanExporter,
    pub(super) metrics: MetricExporter,
}

impl Exporters {
    pub(super) fn new(
        config: &OtlpConfig,
        resource: &Resource,
    ) -> Result<Self, ExporterBuildError> {
        let headers = OwnHeaders::new(config);
        let client = || Client {
            inner: HyperClient::with_default_connector(config.timeout, None),
            headers: headers.clone(),
        };
        let (mut spans, metrics) = match config.protocol {
            OtlpProtocol::Http => (
                SpanExporter::builder()
                    .with_http()
                    .with_protocol(Protocol::HttpBinary)
                    .with_endpoint(config.endpoint.signal("/v1/traces"))
                    .with_timeout(config.timeout)
                    .with_http_client(client())
                    .build()?,
                MetricExporter::builder()
                    .with_temporality(Temporality::Cumulative)
                    .with_http()
                    .with_protocol(Protocol::HttpBinary)
                    .with_endpoint(config.endpoint.signal("/v1/metrics"))
                    .with_timeout(config.timeout)
                    .with_http_client(client())
                    .build()?,
            ),
            OtlpProtocol::Grpc => (
                SpanExporter::builder()
                    .with_tonic()
                    .with_endpoint(config.endpoint.as_str())
                    .with_timeout(config.timeout)
                    .with_interceptor(headers.clone())
                    .build()?,
                MetricExporter::builder()
                    .with_temporality(Temporality::Cumulative)
                    .with_tonic()
                    .with_endpoint(config.endpoint.as_str())
                    .with_timeout(config.timeout)
                    .with_interceptor(headers.clone())
                    .build()?,
            ),
        };
        spans.set_resource(resource);
        Ok(Self { spans, metrics })
    }
}

/// What this process is, to the collector: the standard variables' word, but for what is set.
pub(crate) fn resource(config: &OtlpConfig) -> Resource {
    let named = match &config.service_name {
        Some(name) => Resource::builder().with_service_name(name.clone()),
        None => Resource::builder(),
    }
    .build();
    let unnamed = named
        .get(&"service.name".into())
        .is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let mut builder = Resource::builder();
    if unnamed {
        builder = builder.with_service_name(SERVICE);
    } else if let Some(name) = &config.service_name {
        builder = builder.with_service_name(name.clone());
    }
    builder
        .with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ))
        .build()
}
