//! Why there is no prediction: one case for each HTTP status that a handler may cause,
//! a constructor for each, and conversions so that `?` works on common errors.

use std::fmt::{self, Display};

pub use crate::bindings::predict::aegis::inference::types::Problem;

/// Why there is no prediction. Each case has one HTTP status and one stable error code,
/// so that a caller's mistake is never answered as the server's.
///
/// Build it with the constructors; each takes anything that can be displayed, so they fit
/// `map_err` too:
///
/// ```
/// # use aegis_guest::Failure;
/// fn age(text: &str) -> Result<u8, Failure> {
///     text.parse().map_err(|error| {
///         Failure::invalid_field("/age", format!("a number 0 to 255 is wanted: {error}"))
///     })
/// }
/// assert!(matches!(age("old"), Err(Failure::InvalidInput(_))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// 422 `invalid_input`: the body was understood and is not acceptable.
    InvalidInput(Problem),
    /// 415 `unsupported_media_type`: the message names the types that are.
    UnsupportedMediaType(String),
    /// 413 `input_too_large`: the input is more than this handler takes.
    TooLarge(String),
    /// 429 `overloaded`: ask again later; a host limit such as a full queue.
    Overloaded(String),
    /// 503 `not_ready`: something the handler needs is not there yet.
    NotReady(String),
    /// 504 `timeout`: time ran out before there was an answer.
    Timeout(String),
    /// 500 `handler_error`: the handler's own fault. The message goes to the log; the
    /// caller sees the code and the request id.
    Internal(String),
}

impl Eq for Problem {}

impl Failure {
    /// The caller's input is wrong as a whole: say what would be right.
    pub fn invalid_input(message: impl Display) -> Self {
        Self::InvalidInput(Problem {
            message: message.to_string(),
            field: None,
        })
    }

    /// One part of the caller's input is wrong. `field` is a JSON pointer (RFC 6901) such
    /// as `/pixels/3`, or a tensor's name.
    pub fn invalid_field(field: impl Into<String>, message: impl Display) -> Self {
        Self::InvalidInput(Problem {
            message: message.to_string(),
            field: Some(field.into()),
        })
    }

    /// The body is of a type this handler does not read; `accepted` are those it does.
    #[must_use]
    pub fn unsupported_media_type(given: Option<&str>, accepted: &[&str]) -> Self {
        let accepted = accepted.join(", ");
        Self::UnsupportedMediaType(match given {
            Some(given) => format!("content type `{given}` is not read here: send {accepted}"),
            None => format!("the content type is missing: send {accepted}"),
        })
    }

    /// The input is larger than this handler takes: say the limit.
    pub fn too_large(message: impl Display) -> Self {
        Self::TooLarge(message.to_string())
    }

    /// The caller should ask again later.
    pub fn overloaded(message: impl Display) -> Self {
        Self::Overloaded(message.to_string())
    }

    /// Something the handler needs is not there yet.
    pub fn not_ready(message: impl Display) -> Self {
        Self::NotReady(message.to_string())
    }

    /// Time ran out before there was an answer.
    pub fn timeout(message: impl Display) -> Self {
        Self::Timeout(message.to_string())
    }

    /// The handler's own fault. The message goes to the log, not to the caller.
    pub fn internal(message: impl Display) -> Self {
        Self::Internal(message.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidInput(Problem {
                message,
                field: Some(field),
            }) => {
                write!(f, "invalid input at {field}: {message}")
            }
            Self::InvalidInput(problem) => write!(f, "invalid input: {}", problem.message),
            Self::UnsupportedMediaType(message) => write!(f, "unsupported media type: {message}"),
            Self::TooLarge(message) => write!(f, "too large: {message}"),
            Self::Overloaded(message) => write!(f, "overloaded: {message}"),
            Self::NotReady(message) => write!(f, "not ready: {message}"),
            Self::Timeout(message) => write!(f, "timeout: {message}"),
            Self::Internal(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Failure {}

/// Errors whose cause a conversion cannot know are the handler's own (`internal`): where
/// they come of the caller's input, say so with [`Failure::invalid_input`].
macro_rules! internal {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Internal(error.to_string())
            }
        }
    )*};
}

internal!(
    &str,
    String,
    std::io::Error,
    fmt::Error,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::num::ParseIntError,
    std::num::ParseFloatError,
    std::num::TryFromIntError,
    std::array::TryFromSliceError,
    serde_json::Error,
    Box<dyn std::error::Error>,
    Box<dyn std::error::Error + Send + Sync>,
);
