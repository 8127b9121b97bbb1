//! The kinds of value that stand in an SLO file. Each is checked once, when it is read, so that
//! nothing rendered from it can be malformed; what must hold *between* values is `check.rs`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A share in hundredths, above 0 and at most 100.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Percent(f64);

impl Percent {
    /// As it is written, 0 to 100.
    pub fn percent(self) -> f64 {
        self.0
    }

    /// As a share, 0 to 1.
    pub fn share(self) -> f64 {
        tidy(self.0 / 100.0)
    }

    /// What is left of the whole, as a share: 0.005 of 99.5 percent.
    pub fn rest(self) -> f64 {
        tidy((100.0 - self.0) / 100.0)
    }
}

impl TryFrom<f64> for Percent {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if value > 0.0 && value <= 100.0 {
            Ok(Self(value))
        } else {
            Err(format!(
                "{value} is not a percentage; it must be above 0 and at most 100"
            ))
        }
    }
}

/// A time in milliseconds, above 0 and at most an hour.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Millis(f64);

impl Millis {
    /// In milliseconds.
    pub fn millis(self) -> f64 {
        self.0
    }

    /// In seconds, Prometheus' unit.
    pub fn seconds(self) -> f64 {
        tidy(self.0 / 1000.0)
    }
}

impl TryFrom<f64> for Millis {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if value > 0.0 && value <= 3_600_000.0 {
            Ok(Self(value))
        } else {
            Err(format!(
                "{value} is not a time in milliseconds; it must be above 0 and at most 3600000"
            ))
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// A number above 0.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "f64")]
pub struct Positive(f64);

impl Positive {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Positive {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if value > 0.0 && value.is_finite() {
            Ok(Self(value))
        } else {
            Err(format!("{value} must be a number above 0"))
        }
    }
}

/// Division by 100 or 1000 leaves 0.004999…; twelve digits are more than anyone writes.
fn tidy(value: f64) -> f64 {
    (value * 1e12).round() / 1e12
}

/// The name of a Kubernetes object (RFC 1123 label): `a-z`, `0-9` and `-`, beginning with a letter,
/// short enough to have `keda-hpa-` before it or `-canary` behind it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    /// Kubernetes' 63, less what is put around it.
    const MAX: usize = 48;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(value: String) -> Result<Self, String> {
        let fits = value.len() <= Self::MAX
            && value.starts_with(|c: char| c.is_ascii_lowercase())
            && value.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && value
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if fits {
            Ok(Self(value))
        } else {
            Err(format!(
                "`{value}` is not a name for Kubernetes; it must have 1 to {} of a-z, 0-9 and -, \
                 begin with a letter and not end with -",
                Self::MAX
            ))
        }
    }
}

/// An amount as Kubernetes writes it: `500m`, `2`, `4Gi`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Quantity {
    text: String,
    amount: f64,
}

impl Quantity {
    const SUFFIXES: [(&str, f64); 11] = [
        ("", 1.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
    ];

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In cores or bytes.
    pub fn amount(&self) -> f64 {
        self.amount
    }
}

impl TryFrom<String> for Quantity {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let factor = Self::SUFFIXES
            .iter()
            .find(|(known, _)| *known == suffix)
            .map(|(_, factor)| *factor);
        match (number.parse::<f64>(), factor) {
            (Ok(number), Some(factor)) if number > 0.0 => {
                let amount = number * factor;
                Ok(Self { text, amount })
            }
            _ => Err(format!(
                "`{text}` is not an amount as Kubernetes writes it; \"500m\", \"2\" or \"4Gi\" would be"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_above_zero_and_at_most_a_hundred() {
        for wrong in [0.0, -1.0, 100.1, f64::NAN, f64::INFINITY] {
            assert!(Percent::try_from(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Percent::try_from(99.5).map(Percent::rest), Ok(0.005));
    }

    #[test]
    fn amounts_are_compared_whatever_they_are_written_in() {
        let amount = |text: &str| Quantity::try_from(text.to_owned()).map(|q| q.amount());
        assert_eq!(amount("2000m"), amount("2"));
        assert_eq!(amount("2Gi"), Ok(2_147_483_648.0));
        for wrong in ["", "Gi", "2GiB", "-1", "2 Gi", "0", "1.2.3"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_leaves_room_for_what_is_put_around_it() {
        let long = "a".repeat(49);
        for wrong in ["", "Inference", "1st", "a-", "a_b", long.as_str()] {
            assert!(Name::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert!(Name::try_from("inference-2".to_owned()).is_ok());
    }
}
