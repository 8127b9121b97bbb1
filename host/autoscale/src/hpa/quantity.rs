//! Kubernetes quantities (`350m`, `10`, `1.5k`, `2Gi`) as the HPA controller uses them: whole
//! thousandths in an `i64`, read exactly, without a float between.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A quantity in thousandths, as `Quantity.MilliValue()` gives it: what is finer than a thousandth
/// is rounded up, away from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not have the form.
    #[error(
        "`{0}` is no quantity: write a number with at most one suffix of n, u, m, k, M, G, T, P, E, \
         Ki, Mi, Gi, Ti, Pi, Ei, or an exponent (350m, 10, 1.5k, 2Gi, 1e3)"
    )]
    Form(String),
    /// In thousandths it is beyond 64 bits.
    #[error("`{0}` is too large: an HPA counts thousandths in 64 bits, so up to 9223372036854775")]
    TooLarge(String),
}

impl Quantity {
    /// A quantity of so many thousandths.
    pub const fn from_milli(milli: i64) -> Self {
        Self(milli)
    }

    /// In thousandths.
    pub const fn milli(self) -> i64 {
        self.0
    }

    /// As a number; exact up to 2^53 thousandths.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let form = || QuantityError::Form(text.to_owned());
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).ok_or_else(form)?),
            Some(b'+') => (false, text.get(1..).ok_or_else(form)?),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(form());
        }
        let scale = Scale::of(suffix).ok_or_else(form)?;
        let magnitude = scale
            .thousandths(whole, fraction)
            .ok_or_else(|| QuantityError::TooLarge(text.to_owned()))?;
        Ok(Self(if negative { -magnitude } else { magnitude }))
    }
}

/// What a suffix multiplies by: 2^binary * 10^decimal.
struct Scale {
    binary: u32,
    decimal: i32,
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        let decimal = |decimal| Some(Self { binary: 0, decimal });
        let binary = |binary| Some(Self { binary, decimal: 0 });
        match suffix {
            "" => decimal(0),
            "n" => decimal(-9),
            "u" => decimal(-6),
            "m" => decimal(-3),
            "k" => decimal(3),
            "M" => decimal(6),
            "G" => decimal(9),
            "T" => decimal(12),
            "P" => decimal(15),
            "E" => decimal(18),
            "Ki" => binary(10),
            "Mi" => binary(20),
            "Gi" => binary(30),
            "Ti" => binary(40),
            "Pi" => binary(50),
            "Ei" => binary(60),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                // Beyond a hundred zeros every number is too large or a thousandth.
                let size = digits.parse::<i32>().unwrap_or(100).min(100);
                decimal(if exponent.starts_with('-') {
                    -size
                } else {
                    size
                })
            }
        }
    }

    /// `whole.fraction` at this scale in thousandths, rounded up; `None` beyond 64 bits.
    fn thousandths(&self, whole: &str, fraction: &str) -> Option<i64> {
        let fraction = fraction.trim_end_matches('0');
        let digits = whole.trim_start_matches('0');
        // The digits as one integer, and the power of ten that makes it thousandths.
        let mut power = self.decimal + 3 - i32::try_from(fraction.len()).ok()?;
        let mut value: u128 = 0;
        let mut rest = false;
        for digit in digits.bytes().chain(fraction.bytes()) {
            if value >= u128::MAX >> 64 {
                // 64 bits are full, and 60 more are for a suffix: what follows shifts the point, and
                // counts for rounding only.
                power += 1;
                rest |= digit != b'0';
            } else {
                value = value * 10 + u128::from(digit - b'0');
            }
        }
        value = value.checked_mul(1 << self.binary)?;
        while power > 0 && value != 0 {
            value = value.checked_mul(10)?;
            power -= 1;
        }
        while power < 0 && value != 0 {
            rest |= !value.is_multiple_of(10);
            value /= 10;
            power += 1;
        }
        i64::try_from(value + u128::from(rest)).ok()
    }
}

impl fmt::Display for Quantity {
    /// As Kubernetes prints it: `10` where it is whole, else `350m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1000 == 0 {
            write!(f, "{}", self.0 / 1000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 350m, 10 or 1.5k")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            /// JSON's numbers: Rust prints the shortest decimal that is this float, so what was
            /// written comes back.
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }
        // As a string first: YAML keeps `1.10` as it was written, JSON gives its numbers regardless.
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, milli) in [
            ("350m", 350),
            ("10", 10_000),
            ("+10", 10_000),
            ("-10", -10_000),
            ("0", 0),
            ("0.35", 350),
            (".5", 500),
            ("5.", 5_000),
            ("1.5k", 1_500_000),
            ("2Gi", 2_147_483_648_000),
            ("1.5Ki", 1_536_000),
            ("1M", 1_000_000_000),
            ("9P", 9_000_000_000_000_000_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("12e-1", 1_200),
            // Finer than a thousandth: up.
            ("1u", 1),
            ("1n", 1),
            ("0.3501", 351),
            ("1500u", 2),
            ("-1u", -1),
            ("0.00000000000000000000000001", 1),
            ("1.0000000000000000000000000000001", 1_001),
            ("00012.500", 12_500),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().milli(), milli, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_forms_that_are() {
        for text in [
            "", "m", "-", "1.2.3", "10 m", "350ms", "1kk", "1e", "1e+", "ten", "1Em", "1,5",
        ] {
            let error = text.parse::<Quantity>().unwrap_err();
            assert_eq!(error, QuantityError::Form(text.to_owned()));
        }
        for text in ["1E", "10P", "9223372036854776", "1e99999999999", "8Ei"] {
            let error = text.parse::<Quantity>().unwrap_err();
            assert_eq!(error, QuantityError::TooLarge(text.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(milli in any::<i64>().prop_map(|n| n / 2)) {
            let quantity = Quantity::from_milli(milli);
            prop_assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+]?[0-9.]{0,40}[a-zA-Z0-9+-]{0,4}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
