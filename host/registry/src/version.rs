//! [`Version`]: the number of one upload of a model. Numbers count up from 1 and are never given
//! twice, so a number in a log, a metric or a bug report means one content for ever.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::text::quoted;

/// A version number, 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Version(NonZeroU64);

/// A word that cannot be a version number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a version; versions are whole numbers from 1 up", quoted(.0))]
pub struct InvalidVersion(String);

impl Version {
    /// The first version of every model.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The version of that number; 0 is refused.
    pub fn new(number: u64) -> Result<Self, InvalidVersion> {
        NonZeroU64::new(number)
            .map(Self)
            .ok_or_else(|| InvalidVersion(number.to_string()))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The number after this one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    /// Digits only: `+1`, ` 1` and `01` are refused, so that a version has one spelling.
    fn from_str(given: &str) -> Result<Self, InvalidVersion> {
        let refused = || InvalidVersion(given.chars().take(100).collect());
        if given.starts_with(['0', '+']) {
            return Err(refused());
        }
        given.parse().map(Self).map_err(|_| refused())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_version_has_one_spelling() {
        for text in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "v1",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn text_and_json_give_the_number_back(number in 1u64..) {
            let version = Version::new(number).unwrap();
            prop_assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
            prop_assert_eq!(serde_json::to_string(&version).unwrap(), number.to_string());
            prop_assert_eq!(serde_json::from_str::<Version>(&number.to_string()).unwrap(), version);
        }

        #[test]
        fn any_text_is_a_version_or_refused(text in any::<String>()) {
            if let Ok(version) = text.parse::<Version>() {
                prop_assert_eq!(version.to_string(), text);
            }
        }
    }
}
