//! The forms of settings that say where telemetry goes, and what of it.

use aegis_telemetry::{OtlpEndpoint, OtlpProtocol, SamplerKind};
use reqwest::header::{HeaderName, HeaderValue};
use toml::Value;

use super::form::{Form, Kind, Words, one};

impl Words for OtlpProtocol {
    // The last is how the standard variable says it.
    const ALL: &'static [(&'static str, Self)] = &[
        ("http", Self::Http),
        ("grpc", Self::Grpc),
        ("http/protobuf", Self::Http),
    ];
    fn same(self, other: Self) -> bool {
        self == other
    }
}

impl Words for SamplerKind {
    const ALL: &'static [(&'static str, Self)] = &[
        (
            Self::ParentBasedTraceIdRatio.as_str(),
            Self::ParentBasedTraceIdRatio,
        ),
        (
            Self::ParentBasedAlwaysOn.as_str(),
            Self::ParentBasedAlwaysOn,
        ),
        (
            Self::ParentBasedAlwaysOff.as_str(),
            Self::ParentBasedAlwaysOff,
        ),
        (Self::TraceIdRatio.as_str(), Self::TraceIdRatio),
        (Self::AlwaysOn.as_str(), Self::AlwaysOn),
        (Self::AlwaysOff.as_str(), Self::AlwaysOff),
    ];
    fn same(self, other: Self) -> bool {
        self == other
    }
}

/// A collector, or nothing.
pub(super) struct OptionalEndpoint;

impl Form for OptionalEndpoint {
    type Value = Option<OtlpEndpoint>;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "URL";
    fn expects() -> String {
        "the URL of a collector, as in \"http://127.0.0.1:4318\" (TLS is not built in: a collector \
         beside the server can speak it to others)"
            .to_owned()
    }
    fn read(words: &[String]) -> Option<Option<OtlpEndpoint>> {
        if words.is_empty() {
            Some(None)
        } else {
            one(words)?.parse().ok().map(Some)
        }
    }
    fn write(value: &Option<OtlpEndpoint>) -> Option<Value> {
        value.as_ref().map(|url| Value::String(url.to_string()))
    }
}

/// A name of a few words, or nothing.
pub(super) struct OptionalName;

impl Form for OptionalName {
    type Value = Option<String>;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "NAME";
    fn expects() -> String {
        "a name of one line and at most 128 characters".to_owned()
    }
    fn read(words: &[String]) -> Option<Option<String>> {
        if words.is_empty() {
            return Some(None);
        }
        let name = one(words)?;
        let fits = !name.trim().is_empty()
            && name.chars().count() <= 128
            && !name.chars().any(char::is_control);
        fits.then(|| Some(name.to_owned()))
    }
    fn write(value: &Option<String>) -> Option<Value> {
        value.clone().map(Value::String)
    }
}

/// Headers with their values, as `NAME=VALUE`.
pub(super) struct Headers;

impl Form for Headers {
    type Value = Vec<(String, String)>;
    const KIND: Kind = Kind::Names;
    const PLACEHOLDER: &'static str = "NAME=VALUE";
    fn expects() -> String {
        "a list of HTTP headers as NAME=VALUE".to_owned()
    }
    fn read(words: &[String]) -> Option<Vec<(String, String)>> {
        let header = |word: &String| {
            let (name, value) = word.split_once('=')?;
            let name = HeaderName::try_from(name.trim()).ok()?;
            HeaderValue::try_from(value).ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        };
        words.iter().map(header).collect()
    }
    fn write(value: &Vec<(String, String)>) -> Option<Value> {
        let words = value
            .iter()
            .map(|(name, value)| Value::String(format!("{name}={value}")));
        Some(Value::Array(words.collect()))
    }
}

/// A share of a whole.
pub(super) struct Fraction;

impl Form for Fraction {
    type Value = f64;
    const KIND: Kind = Kind::Fraction;
    const PLACEHOLDER: &'static str = "SHARE";
    fn expects() -> String {
        "a number from 0 to 1".to_owned()
    }
    fn read(words: &[String]) -> Option<f64> {
        let number: f64 = one(words)?.parse().ok()?;
        (0.0..=1.0).contains(&number).then_some(number)
    }
    fn write(value: &f64) -> Option<Value> {
        Some(Value::Float(*value))
    }
}
