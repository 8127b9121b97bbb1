//! What can be wrong with the settings, each told with the place it was read from, the value, and
//! what would be right. All mistakes are told at once, so that an operator mends them in one go.

use std::fmt;
use std::path::PathBuf;

use super::layers::Origin;

/// One mistake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// The configuration file cannot be read.
    #[error("{named_by}: {}: {source}; it must be a file that this user can read", path.display())]
    Unreadable {
        /// Where its name came from.
        named_by: Origin,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration file is not TOML.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        message: String,
    },
    /// A key of the file is no setting.
    #[error("{}, line {line}: `{key}`: there is no such setting; {near}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// What was probably meant.
        near: String,
    },
    /// A value is not what its setting takes.
    #[error("{origin}: found {found}, expected {expected}")]
    Value {
        /// Where it was read.
        origin: Origin,
        /// What stood there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A variable is not text.
    #[error("{origin}: its value is not UTF-8")]
    NotUnicode {
        /// The variable.
        origin: Origin,
    },
    /// Values that are right by themselves do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// Everything that is wrong with the settings; never empty.
#[derive(Debug)]
pub(crate) struct SettingsError {
    /// Every mistake found.
    pub(crate) problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}
