//! What is told about the collector, checked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;

use crate::trace::Sampler;

/// Where metrics and traces go, and how.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// The collector.
    pub endpoint: OtlpEndpoint,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Headers of every request to it, names and values; credentials, mostly.
    pub headers: Vec<(String, String)>,
    /// The longest one export may take, retries included.
    pub timeout: Duration,
    /// The time from one export of metrics to the next.
    pub interval: Duration,
    /// What this service is called there; nothing: what the standard variables say, or `aegis`.
    pub service_name: Option<String>,
    /// Which traces are recorded.
    pub sampler: Sampler,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Protobuf over HTTP, to `/v1/metrics` and `/v1/traces` below the endpoint.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// The URL of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

/// Why a URL cannot be a collector's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not such a URL.
    #[error("{0:?} is not the URL of a collector, as in \"http://127.0.0.1:4318\"")]
    NotOne(String),
    /// TLS.
    #[error(
        "{0:?} asks for TLS, which is not built in; name a collector beside this server over http, and let it speak TLS to others"
    )]
    Tls(String),
}

impl OtlpEndpoint {
    /// As it was given, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL of one signal for OTLP over HTTP.
    pub(super) fn signal(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl FromStr for OtlpEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let not_one = || EndpointError::NotOne(text.to_owned());
        let url: Uri = text.parse().map_err(|_| not_one())?;
        let authority = url.authority().ok_or_else(not_one)?;
        // Credentials have a setting of their own, which is not shown in errors.
        if authority.host().is_empty() || authority.as_str().contains('@') || url.query().is_some()
        {
            return Err(not_one());
        }
        match url.scheme_str() {
            Some("http") => Ok(Self(text.trim_end_matches('/').to_owned())),
            Some("https") => Err(EndpointError::Tls(text.to_owned())),
            _ => Err(not_one()),
        }
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_collectors_url_is_http_with_a_host() {
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector", "http://collector/v1/traces"),
            ("http://[::1]:4318/", "http://[::1]:4318/v1/traces"),
            ("http://gateway/otlp", "http://gateway/otlp/v1/traces"),
        ] {
            let endpoint: OtlpEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.signal("/v1/traces"), url);
        }
    }

    #[test]
    fn what_is_no_collectors_url_is_told_with_what_would_be_right() {
        for text in [
            "",
            "127.0.0.1:4318",
            "collector",
            "/v1/traces",
            "ftp://collector",
            "http://",
            "http://me:secret@collector",
            "http://collector/?a=1",
        ] {
            let told = text.parse::<OtlpEndpoint>().unwrap_err().to_string();
            assert!(told.contains("http://127.0.0.1:4318"), "{text}: {told}");
        }
        let told = "https://collector:4318".parse::<OtlpEndpoint>();
        assert!(matches!(told, Err(EndpointError::Tls(_))), "{told:?}");
    }
}
