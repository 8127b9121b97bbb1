//! [`Token`], the secret that its holder presents, and [`TokenHash`], all that the server keeps
//! of it.
//!
//! A token is 256 random bits, so a plain SHA-256 of it is safe to keep: nobody finds a
//! preimage by trying. Slow, salted hashes are for secrets that people choose, which are few
//! enough to be tried; such are not taken, as only words of a token's form are.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// A bearer token: `aegis_` and 64 lower-case hexadecimal digits. The prefix lets people and
/// scanners of leaked secrets see what it is. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A word that is no token. The word is not repeated: it may be one that was mistyped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is `aegis_` and 64 digits of 0-9 a-f, as `aegis token new` prints it")]
pub struct NotAToken;

impl Token {
    /// What every token begins with.
    pub const PREFIX: &'static str = "aegis_";

    /// A new token.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Token, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Token(format!("{}{}", Token::PREFIX, hex::encode(secret))))
    }

    /// The token itself, for its holder's eyes and for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the server keeps of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(word: &str) -> Result<Token, NotAToken> {
        let secret = word.strip_prefix(Token::PREFIX).ok_or(NotAToken)?;
        if is_lower_hex(secret) {
            Ok(Token(word.to_owned()))
        } else {
            Err(NotAToken)
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The SHA-256 of a token, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHash([u8; SECRET_BYTES]);

impl TokenHash {
    const PREFIX: &'static str = "sha256:";

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &TokenHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl FromStr for TokenHash {
    type Err = InvalidHash;

    fn from_str(word: &str) -> Result<TokenHash, InvalidHash> {
        let digits = word.strip_prefix(TokenHash::PREFIX).ok_or(InvalidHash)?;
        let mut bytes = [0; SECRET_BYTES];
        if !is_lower_hex(digits) {
            return Err(InvalidHash);
        }
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidHash)?;
        Ok(TokenHash(bytes))
    }
}

/// What is no hash of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is `sha256:` and 64 digits of 0-9 a-f")]
pub struct InvalidHash;

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", TokenHash::PREFIX, hex::encode(self.0))
    }
}

fn is_lower_hex(word: &str) -> bool {
    word.len() == 2 * SECRET_BYTES
        && word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_two_tokens_are_the_same_and_each_is_read_back() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.reveal().parse::<Token>().unwrap(), one);
        assert!(one.hash().matches(&one.hash()));
        assert!(!one.hash().matches(&other.hash()));
    }

    #[test]
    fn a_tokens_hash_is_what_sha256sum_prints() {
        let token: Token = format!("aegis_{}", "0".repeat(64)).parse().unwrap();
        assert_eq!(
            token.hash().to_string(),
            "sha256:69e845d72b02578b2398893d3aa60c316f03837c04a23f06d3c4cfd73e29b4c9"
        );
    }

    #[test]
    fn a_token_is_not_shown_by_accident() {
        let token = Token::generate().unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn a_word_somebody_thought_of_is_no_token() {
        for word in [
            "",
            "secret",
            "aegis_secret",
            &format!("aegis_{}", "A".repeat(64)),
            &format!("aegis_{}", "a".repeat(63)),
            &format!("aegis_{} ", "a".repeat(63)),
        ] {
            assert_eq!(word.parse::<Token>(), Err(NotAToken), "{word}");
        }
    }

    proptest! {
        #[test]
        fn a_hash_survives_writing_and_reading(bytes in any::<[u8; 32]>()) {
            let hash = TokenHash(bytes);
            prop_assert_eq!(hash.to_string().parse::<TokenHash>().unwrap(), hash);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in any::<String>()) {
            let _ = text.parse::<Token>();
            let _ = text.parse::<TokenHash>();
        }
    }
}
