//! [`Tokens`]: a tokens file's text, understood. One line a token, `ROLES NAME sha256:HEX`;
//! `#` begins a comment. Where the text comes from is left to [`super::TokenFile`].

use std::{fmt, str::FromStr, sync::Arc};

use super::{Principal, Role, Roles, Token, TokenHash};

/// The most tokens. What is presented is compared with every one of them: at a thousand that
/// takes some ten microseconds.
const MAX_TOKENS: usize = 1000;

/// One token's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLine {
    /// Who presents it, and what may be done with it.
    pub principal: Arc<Principal>,
    /// What is kept of it.
    pub hash: TokenHash,
}

/// The tokens of a file. No two lines have the same hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<TokenLine>);

/// What is wrong with a tokens file's text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct InvalidLine {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what would be right. Never the line itself, which may hold a token.
    pub wrong: String,
}

impl Tokens {
    /// Whether no token is there.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines.
    pub fn lines(&self) -> &[TokenLine] {
        &self.0
    }

    /// Every role that some token has.
    pub fn roles(&self) -> Roles {
        self.0
            .iter()
            .fold(Roles::NONE, |roles, line| roles.and(line.principal.roles))
    }

    /// How many tokens have `role`.
    pub fn count(&self, role: Role) -> usize {
        let has = |line: &&TokenLine| line.principal.roles.has(role);
        self.0.iter().filter(has).count()
    }

    /// Whose this token is. Every line is compared, and each in constant time, so that how
    /// long it takes tells nothing of how near a guess came.
    pub fn principal(&self, token: &Token) -> Option<&Arc<Principal>> {
        let hash = token.hash();
        let mut found = None;
        for line in &self.0 {
            if line.hash.matches(&hash) {
                found = Some(&line.principal);
            }
        }
        found
    }
}

impl FromStr for Tokens {
    type Err = InvalidLine;

    fn from_str(text: &str) -> Result<Tokens, InvalidLine> {
        let mut tokens: Vec<(usize, TokenLine)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let refuse = |wrong: String| InvalidLine {
                line: number,
                wrong,
            };
            let said = line.split_once('#').map_or(line, |(said, _)| said).trim();
            if said.is_empty() {
                continue;
            }
            let read: TokenLine = said.parse().map_err(refuse)?;
            let same = tokens.iter().find(|(_, other)| other.hash == read.hash);
            if let Some((first, _)) = same {
                return Err(refuse(format!(
                    "this token is on line {first} already; name both roles there, as \
                     `manage,predict`, or remove one of the lines"
                )));
            }
            if tokens.len() == MAX_TOKENS {
                return Err(refuse(format!(
                    "there are more than {MAX_TOKENS} tokens, the most that a file may have; \
                     remove those that nobody uses"
                )));
            }
            tokens.push((number, read));
        }
        Ok(Tokens(tokens.into_iter().map(|(_, line)| line).collect()))
    }
}

impl FromStr for TokenLine {
    type Err = String;

    fn from_str(text: &str) -> Result<TokenLine, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.iter().any(|word| word.starts_with(Token::PREFIX)) {
            return Err(format!(
                "a token itself stands here, and only its hash belongs here ({FORM}); replace \
                 the token, as whoever read this file has it"
            ));
        }
        let [roles, name, hash] = words.as_slice() else {
            return Err(format!("{} words instead of three ({FORM})", words.len()));
        };
        let told = |error: &dyn fmt::Display| format!("{error} ({FORM})");
        let roles = roles.parse().map_err(|error| told(&error))?;
        let name = name.parse().map_err(|error| told(&error))?;
        let hash = hash
            .parse()
            .map_err(|error: super::token::InvalidHash| told(&error))?;
        Ok(TokenLine {
            principal: Arc::new(Principal { name, roles }),
            hash,
        })
    }
}

/// What a line looks like.
const FORM: &str = "a line is ROLES NAME sha256:HEX, as `aegis token new` makes it";

impl fmt::Display for TokenLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Principal { name, roles } = &*self.principal;
        write!(f, "{roles} {name} {}", self.hash)
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use proptest::prelude::*;

    use super::*;

    fn line(roles: &str, name: &str) -> (Token, TokenLine) {
        let token = Token::generate().unwrap();
        let principal = Arc::new(Principal {
            name: name.parse().unwrap(),
            roles: roles.parse().unwrap(),
        });
        let hash = token.hash();
        (token, TokenLine { principal, hash })
    }

    fn refused(text: &str) -> String {
        text.parse::<Tokens>().unwrap_err().to_string()
    }

    #[test]
    fn comments_blank_lines_and_foreign_line_ends_are_read_over() {
        let (_, one) = line("manage", "ann");
        let (_, two) = line("manage,predict", "ci");
        let text = format!("# who\r\n\r\n  {one}  # since May\r\n\t{two}");
        let tokens: Tokens = text.parse().unwrap();
        assert_eq!(tokens.lines(), [one, two]);
        assert!("".parse::<Tokens>().unwrap().is_empty());
    }

    #[test]
    fn a_token_tells_its_own_principal_and_no_other() {
        let lines: Vec<_> = ["a", "b", "c"].map(|name| line("predict", name)).into();
        let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
        let tokens: Tokens = text.parse().unwrap();
        for (token, line) in &lines {
            assert_eq!(tokens.principal(token), Some(&line.principal));
        }
        assert_eq!(tokens.principal(&Token::generate().unwrap()), None);
    }

    #[test]
    fn a_line_that_is_not_understood_is_told_with_its_number_and_what_would_be_right() {
        let (_, good) = line("manage", "ann");
        let hash = &good.hash;
        for (bad, part) in [
            ("manage".to_owned(), "1 words instead of three"),
            (format!("admin bob {hash}"), "the roles are `manage`"),
            (format!("manage bob! {hash}"), "`bob!` is not a name"),
            ("manage bob 1234".to_owned(), "a hash is `sha256:`"),
            (format!("manage bob {hash} x"), "4 words instead of three"),
            (
                format!("predict bob {hash}"),
                "this token is on line 2 already",
            ),
        ] {
            let told = refused(&format!("\n{good}\n# x\n{bad}\n"));
            assert!(
                told.starts_with("line 4: ") && told.contains(part),
                "{told}"
            );
        }
    }

    #[test]
    fn a_token_written_into_the_file_is_not_repeated_by_the_refusal() {
        let token = Token::generate().unwrap();
        let told = refused(&format!("manage ann {}", token.reveal()));
        assert!(told.contains("replace the token"), "{told}");
        assert!(!told.contains(token.reveal()), "{told}");
    }

    #[test]
    fn a_file_of_too_many_tokens_is_refused() {
        let text = |count: usize| -> String {
            let lines = (0..count).map(|n| format!("predict p sha256:{n:064x}\n"));
            lines.collect()
        };
        assert!(text(MAX_TOKENS).parse::<Tokens>().is_ok());
        assert!(refused(&text(MAX_TOKENS + 1)).contains("more than 1000 tokens"));
    }

    #[test]
    fn the_roles_of_a_file_are_those_of_any_line() {
        let text = |roles: &[&str]| -> Tokens {
            let lines: Vec<_> = roles.iter().map(|r| line(r, "x").1.to_string()).collect();
            lines.join("\n").parse().unwrap()
        };
        assert_eq!(text(&["manage"]).roles().to_string(), "manage");
        assert_eq!(
            text(&["manage", "predict"]).roles().to_string(),
            "manage,predict"
        );
        assert_eq!(text(&["manage,predict", "predict"]).count(Role::Predict), 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = text.parse::<Tokens>();
        }

        #[test]
        fn no_line_of_nearly_the_right_form_makes_the_reader_panic(
            text in "((manage|predict|,| |#|sha256:|aegis_|[0-9a-f]{60,68}|\n|é|a){0,12}\n?){0,4}"
        ) {
            if let Err(error) = text.parse::<Tokens>() {
                prop_assert!(error.line >= 1 && error.line <= text.lines().count());
            }
        }

        #[test]
        fn every_line_survives_writing_and_reading(
            name in "[a-zA-Z0-9][a-zA-Z0-9._@-]{0,62}",
            manage in any::<bool>(),
            secret in any::<[u8; 32]>(),
        ) {
            prop_assume!(name.parse::<super::super::PrincipalName>().is_ok());
            let token: Token = format!("aegis_{}", hex::encode(secret)).parse().unwrap();
            let roles = if manage { "manage" } else { "manage,predict" };
            let line = TokenLine {
                principal: Arc::new(Principal {
                    name: name.parse().unwrap(),
                    roles: roles.parse().unwrap(),
                }),
                hash: token.hash(),
            };
            let tokens: Tokens = line.to_string().parse().unwrap();
            prop_assert_eq!(&tokens.lines()[0], &line);
            prop_assert_eq!(tokens.principal(&token), Some(&line.principal));
        }
    }
}
