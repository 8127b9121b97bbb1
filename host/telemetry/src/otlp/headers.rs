//! The headers that are set for requests to the collector. The exporters add those of
//! `OTEL_EXPORTER_OTLP_HEADERS` to what they are made with, over it; put on as a request leaves, what
//! is set for Aegis wins, as it does with every other setting.

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;

use super::config::OtlpConfig;

/// Headers that replace others of their names.
#[derive(Clone, Debug)]
pub(super) struct OwnHeaders(HeaderMap);

impl OwnHeaders {
    /// Those that are none have been refused with the settings.
    pub(super) fn new(config: &OtlpConfig) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            if let (Ok(name), Ok(mut value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                // Mostly credentials: not for a log.
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        Self(headers)
    }

    fn put_on(&self, headers: &mut HeaderMap) {
        headers.extend(self.0.clone());
    }
}

/// For gRPC. It sees a request after the environment's headers are on it.
impl Interceptor for OwnHeaders {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        self.put_on(&mut headers);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(request)
    }
}

/// For HTTP: the exporters' usual client, and these headers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) inner: HyperClient,
    pub(super) headers: OwnHeaders,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.headers.put_on(request.headers_mut());
        self.inner.send_bytes(request).await
    }
}
