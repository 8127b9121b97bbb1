//! [`ManifestError`]: what is wrong with a `model.toml`, where, and what would be right.

use std::fmt;
use std::ops::Range;

/// Why a text is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is larger than any manifest needs to be.
    #[error("model.toml has {size} bytes; at most {max} are read")]
    TooLarge {
        /// The size of the text, in bytes.
        size: u64,
        /// The most that is taken.
        max: u64,
    },
    /// The bytes are not text.
    #[error("model.toml is not UTF-8 text: the byte at offset {offset} does not belong")]
    NotUtf8 {
        /// Where the first wrong byte is.
        offset: usize,
    },
    /// Something at one place is wrong.
    #[error("model.toml {location}{}: {problem}", At(.key))]
    Wrong {
        /// Where.
        location: Location,
        /// The key, as a path from the top such as `graph[0].backend`; `None` where the text is
        /// not TOML at all.
        key: Option<String>,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl Location {
    /// Where the byte at `span.start` stands in `text`.
    pub(super) fn of(text: &str, span: &Range<usize>) -> Self {
        // A span may end past the text or (in a text that is not TOML) inside a character.
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = text.get(..start).unwrap_or_default();
        let (lines, last) = before
            .rsplit_once('\n')
            .map_or((0, before), |(lines, last)| {
                (lines.matches('\n').count() + 1, last)
            });
        Self {
            line: lines + 1,
            column: last.chars().count() + 1,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// The key's part of the message, if there is a key.
struct At<'k>(&'k Option<String>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, ", `{key}`"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_in_characters() {
        let text = "a\n\nüü=1\n";
        let at = |start| Location::of(text, &(start..start));
        assert_eq!(at(0), Location { line: 1, column: 1 });
        assert_eq!(at(2), Location { line: 2, column: 1 });
        assert_eq!(at(7), Location { line: 3, column: 3 });
        assert_eq!(at(4), Location { line: 3, column: 1 });
        assert_eq!(at(999), Location { line: 4, column: 1 });
    }
}
