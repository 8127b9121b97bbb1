//! [`PrincipalName`]: how somebody is called in the tokens file, in audit lines, in version
//! records and in the history of traffic; narrow enough to need no escaping in any of them.

use std::{fmt, str::FromStr, sync::Arc};

/// A principal's name: 1 to 63 characters of `a-z A-Z 0-9 . _ @ -`, the first a letter or a digit.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PrincipalName(Arc<str>);

/// A word that cannot name a principal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is not a name: {reason}; a name has 1 to 63 characters of a-z A-Z 0-9 . _ @ -, \
     the first a letter or a digit"
)]
pub struct InvalidPrincipalName {
    /// The word's start, escaped.
    given: String,
    reason: &'static str,
}

impl PrincipalName {
    /// The longest name, in characters (all are ASCII, so in bytes too).
    pub const MAX_LEN: usize = 63;

    /// What stands in logs and records for somebody unknown, and for what the server did by
    /// itself: nobody else may be called so.
    const RESERVED: [&'static str; 2] = [crate::http::ANONYMOUS, "serve"];

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrincipalName {
    type Err = InvalidPrincipalName;

    fn from_str(given: &str) -> Result<Self, InvalidPrincipalName> {
        let refuse = |reason| {
            // Somebody may have put a token where the name belongs: only a start is repeated,
            // and of what begins like a token nothing.
            let start = if given.starts_with(super::Token::PREFIX) {
                "a token".to_owned()
            } else {
                given
                    .chars()
                    .take(16)
                    .flat_map(char::escape_debug)
                    .collect()
            };
            Err(InvalidPrincipalName {
                given: start,
                reason,
            })
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
        if given.is_empty() {
            return refuse("it is empty");
        }
        if given.len() > Self::MAX_LEN {
            return refuse("it is too long");
        }
        if !given.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return refuse("its first character is no letter or digit of ASCII");
        }
        if !given.chars().all(allowed) {
            return refuse("it has a character other than these");
        }
        if Self::RESERVED.contains(&given) {
            return refuse("the server's own records use it");
        }
        Ok(PrincipalName(given.into()))
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_people_and_machines_have_are_taken() {
        for name in ["ci", "Ann", "ann@example.org", "team-a.deploy_2", "7"] {
            assert_eq!(name.parse::<PrincipalName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_could_forge_a_line_or_pass_for_the_server_is_refused() {
        for name in [
            "",
            "-a",
            "@a",
            "a b",
            "a\nb",
            "a,b",
            "a#b",
            "é",
            "a\0",
            "anonymous",
            "serve",
            &"x".repeat(64),
        ] {
            let error = name.parse::<PrincipalName>().unwrap_err().to_string();
            assert!(error.contains("1 to 63 characters"), "{error}");
            assert!(!error.contains(['\n', '\0']), "{error:?}");
        }
    }

    #[test]
    fn a_token_in_a_names_place_is_not_repeated() {
        let token = super::super::Token::generate().unwrap();
        let error = token.reveal().parse::<PrincipalName>().unwrap_err();
        assert!(!error.to_string().contains("aegis_"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_a_clear_refusal(text in any::<String>()) {
            match text.parse::<PrincipalName>() {
                Ok(name) => prop_assert_eq!(name.as_str(), text.as_str()),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }
    }
}
