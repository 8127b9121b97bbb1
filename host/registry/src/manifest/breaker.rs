//! `[breaker]`: when a version that answers badly is kept from its callers for a while. What is
//! not said is `None` here; what then holds is the breaker's business, which the server has.

use serde::{Deserialize, Serialize};

use super::document::Field;
use super::error::ManifestError;

const KEYS: &[&str] = &[
    "enabled",
    "window_ms",
    "min_requests",
    "error_rate",
    "consecutive_failures",
    "latency_ms",
    "latency_quantile",
    "open_ms",
    "max_open_ms",
    "refuse_alone",
];

/// The circuit breaker as a manifest wishes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Whether there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How far back it looks, in milliseconds; 1,000 to 600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u32>,
    /// With fewer requests in the window, neither rate nor latency says anything; 1 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u32>,
    /// The share of failures in the window that opens it; 0.001 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// So many failures one after the other open it, however few the requests; 0: none do, up to
    /// 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<u32>,
    /// The time that `latency_quantile` of the window's requests must keep, in milliseconds;
    /// 1 to 3,600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// Which share of requests must keep `latency_ms`; 0.5 to 0.999. Only beside `latency_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_quantile: Option<f64>,
    /// How long it stays open at first, in milliseconds; 10 to 600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_ms: Option<u32>,
    /// How long it stays open at most, however many probes failed; 10 to 3,600,000, not less than
    /// `open_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_open_ms: Option<u32>,
    /// Whether callers are refused while it is open and no other version can answer them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse_alone: Option<bool>,
}

impl Breaker {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn read(field: &Field<'_>) -> Result<Self, ManifestError> {
        let section = field.section(KEYS)?;
        let integer = |key, range| {
            section
                .get(key)
                .map(|field| field.integer(range))
                .transpose()
        };
        let fraction = |key, range| {
            section
                .get(key)
                .map(|field| field.fraction(range))
                .transpose()
        };
        let boolean = |key| section.get(key).map(|field| field.boolean()).transpose();
        let breaker = Self {
            enabled: boolean("enabled")?,
            window_ms: integer("window_ms", 1_000..=600_000)?,
            min_requests: integer("min_requests", 1..=1_000_000)?,
            error_rate: fraction("error_rate", 0.001..=1.0)?,
            consecutive_failures: integer("consecutive_failures", 0..=1_000_000)?,
            latency_ms: integer("latency_ms", 1..=3_600_000)?,
            latency_quantile: fraction("latency_quantile", 0.5..=0.999)?,
            open_ms: integer("open_ms", 10..=600_000)?,
            max_open_ms: integer("max_open_ms", 10..=3_600_000)?,
            refuse_alone: boolean("refuse_alone")?,
        };
        if let (Some(quantile), None) = (section.get("latency_quantile"), breaker.latency_ms) {
            return Err(quantile.wrong(
                "is the share of requests that must keep `latency_ms`, which is not there; give it too",
            ));
        }
        if let (Some(field), Some(longest), Some(first)) = (
            section.get("max_open_ms"),
            breaker.max_open_ms,
            breaker.open_ms,
        ) && longest < first
        {
            return Err(field.wrong(format!(
                "must be at least `open_ms`, {first}, found {longest}"
            )));
        }
        Ok(breaker)
    }
}
