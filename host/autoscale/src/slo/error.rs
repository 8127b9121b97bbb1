//! What can be wrong with an SLO file: every mistake with its line and key, and what would be right.

use std::fmt;

/// Why a text is no SLO. All mistakes that can be seen at once are told at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct SloError {
    /// What is wrong, in the order of the file; never empty.
    pub problems: Vec<Problem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; `None` where a default does not go with what the file says.
    pub line: Option<usize>,
    /// The key as a path from the top, `scaling.min_replicas`; empty where the text is not TOML.
    pub key: String,
    /// What is wrong, with the value, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}
