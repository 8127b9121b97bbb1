//! [`ModelName`]: what a caller names. It is part of URLs, of store keys, of metric labels and of
//! Kubernetes objects, so it is narrow enough to need no escaping in any of them.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::quoted;

/// A model's name: 1 to 63 characters; the first of `a-z 0-9`, the rest of `a-z 0-9 . _ -`;
/// never two dots in a row.
///
/// 63 is the longest DNS label, hence the longest value of a Kubernetes label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(Arc<str>);

/// A word that cannot be a model's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is not a model name: {reason}; a name has 1 to 63 characters, the first of a-z 0-9, \
     the rest of a-z 0-9 . _ -, and no two dots in a row",
    quoted(.given)
)]
pub struct InvalidName {
    given: String,
    reason: &'static str,
}

impl ModelName {
    /// The longest name, in characters (all are ASCII, so in bytes too).
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = InvalidName;

    fn from_str(given: &str) -> Result<Self, InvalidName> {
        let refuse = |reason| {
            // A word of any length may be given; only its start is worth keeping.
            let given = given.chars().take(100).collect();
            Err(InvalidName { given, reason })
        };
        let Some(first) = given.chars().next() else {
            return refuse("it is empty");
        };
        if given.len() > Self::MAX_LEN {
            return refuse("it is too long");
        }
        if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
            return refuse("its first character is not one of a-z 0-9");
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !given.chars().all(allowed) {
            return refuse("it has a character other than a-z 0-9 . _ -");
        }
        if given.contains("..") {
            return refuse("it has two dots in a row");
        }
        Ok(Self(given.into()))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for ModelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_people_use_are_taken() {
        for name in ["digits", "a", "0", "resnet-50.v2_int8", &"x".repeat(63)] {
            assert_eq!(name.parse::<ModelName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_could_leave_its_folder_or_break_a_label_is_refused() {
        for name in [
            "",
            ".",
            "..",
            "-a",
            ".a",
            "_a",
            "a..b",
            "a/b",
            "a\\b",
            "A",
            "é",
            "а",
            "a b",
            "a\0",
            "a\n",
            "a%2e",
            &"x".repeat(64),
        ] {
            let error = name.parse::<ModelName>().unwrap_err().to_string();
            assert!(error.contains("1 to 63 characters"), "{error}");
            assert!(!error.contains('\n') && !error.contains('\0'), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_a_clear_refusal(text in any::<String>()) {
            if let Ok(name) = text.parse::<ModelName>() {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!(!text.contains('/') && !text.contains("..") && text.is_ascii());
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<ModelName>(&json).unwrap(), name);
            }
        }

        #[test]
        fn every_name_of_the_documented_form_is_taken(text in "[a-z0-9]([a-z0-9_-]|\\.[a-z0-9_-]){0,31}") {
            prop_assert!(text.parse::<ModelName>().is_ok());
        }
    }
}
