//! Label values, kept short and few. A word that came from outside (a guest, a caller, a file) is
//! cut to size here before it can become a series; which words come at all is the callers' affair.

use opentelemetry::KeyValue;

/// What a word becomes that there is no room for.
pub(crate) const OTHER: &str = "other";

/// Longest label value exported, in characters. Model names are shorter by the registry's rule.
const MAX_VALUE: usize = 128;

/// HTTP methods that are told apart; whatever else a client writes is `OTHER`.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
];

/// A method as a label or attribute: one of the nine known ones in capitals, or `OTHER`.
pub fn method(name: &str) -> &'static str {
    METHODS
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("OTHER")
}

/// A name as a label value: at most [`MAX_VALUE`] characters, control characters made `_`.
pub(crate) fn value(name: &str) -> String {
    name.chars()
        .take(MAX_VALUE)
        .map(|c| if c.is_control() { '_' } else { c })
        .collect()
}

/// A guest's reason as a label value: `[a-z0-9_]{1,32}`; empty or all-foreign words are `other`.
pub(crate) fn reason(word: &str) -> String {
    let tame: String = word
        .chars()
        .take(32)
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    if tame.chars().all(|c| c == '_') {
        OTHER.to_owned()
    } else {
        tame
    }
}

/// Attributes in a table row's order of labels.
pub(crate) fn attributes<const N: usize>(labels: [(&'static str, String); N]) -> Vec<KeyValue> {
    labels
        .into_iter()
        .map(|(key, value)| KeyValue::new(key, value))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_reason_becomes_a_short_plain_word(word in ".{0,200}") {
            let tame = reason(&word);
            prop_assert!((1..=32).contains(&tame.len()));
            prop_assert!(tame.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            prop_assert_eq!(reason(&tame), tame);
        }

        #[test]
        fn any_name_becomes_a_short_line(name in "\\PC{0,300}|.{0,300}") {
            let label = value(&name);
            prop_assert!(label.chars().count() <= MAX_VALUE);
            prop_assert!(!label.chars().any(char::is_control));
        }
    }

    #[test]
    fn a_method_nobody_knows_is_other() {
        assert_eq!(method("POST"), "POST");
        assert_eq!(method("post"), "OTHER");
        assert_eq!(method("BREW"), "OTHER");
    }

    #[test]
    fn reasons_keep_their_meaning() {
        assert_eq!(reason("spam"), "spam");
        assert_eq!(reason("Self-Harm"), "self_harm");
        assert_eq!(reason("…"), "other");
        assert_eq!(reason(""), "other");
    }
}
