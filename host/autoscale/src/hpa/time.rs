//! Points in time for controller and simulator: whole milliseconds, so that "strictly younger than
//! the window" is decided by integers.

use std::ops::{Add, Sub};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since an origin of the caller's choice (a recording's epoch, a simulation's start).
/// Also a length of time, as the difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// Before every other: Kubernetes' zero time, what a condition without a transition has.
    pub const ZERO: Self = Self(i64::MIN / 4);

    /// So many whole seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// So many seconds, to the nearest millisecond.
    pub fn from_f64(seconds: f64) -> Self {
        Self((seconds * 1000.0).round() as i64)
    }

    /// In seconds.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Add for Time {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Time {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Serialize for Time {
    /// In seconds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    /// From seconds, or an RFC 3339 time, which counts from 1970.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "seconds as a number, or a time such as 2024-01-15T10:00:00Z"
        )]
        enum Written {
            Seconds(f64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            // A hundred thousand years, either way: far from where milliseconds would overflow.
            Written::Seconds(seconds) if seconds.abs() < 3e12 => Ok(Self::from_f64(seconds)),
            Written::Seconds(seconds) => Err(de::Error::custom(format!(
                "a time of {seconds} s is out of reach"
            ))),
            Written::Text(text) => {
                let format = &time::format_description::well_known::Rfc3339;
                let time = time::OffsetDateTime::parse(&text, format).map_err(|_| {
                    de::Error::custom(format!(
                        "`{text}` is no time: write seconds as a number, or 2024-01-15T10:00:00Z"
                    ))
                })?;
                let milliseconds = time.unix_timestamp_nanos() / 1_000_000;
                i64::try_from(milliseconds)
                    .map(Self)
                    .map_err(|_| de::Error::custom(format!("the time {text} is out of reach")))
            }
        }
    }
}
