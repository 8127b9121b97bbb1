//! Spans of time as people write them: `240`, `240s`, `500ms`, `4m`, `1h`; a bare number is seconds.

use std::time::Duration;

use thiserror::Error;

/// Text that is no span of time.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no span of time; write 240s, 500ms, 4m or 1h (a bare number is seconds)")]
pub struct SpanError(String);

/// The longest span that is taken: a load test longer than a month is a slip of the hand.
const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);

/// Writes a span as seconds.
pub(crate) fn seconds<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(span.as_secs_f64())
}

/// Reads a span of time.
///
/// # Errors
/// What is no number with a known unit, or longer than a month.
pub fn parse(text: &str) -> Result<Duration, SpanError> {
    let refused = || SpanError(text.to_owned());
    let text = text.trim();
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit() || digit == '.');
    let number = text.strip_suffix(unit).unwrap_or(text);
    let seconds = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(refused()),
    };
    let number: f64 = number.parse().map_err(|_| refused())?;
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|span| *span <= MONTH)
        .ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, millis) in [
            ("240", 240_000),
            ("240s", 240_000),
            ("0", 0),
            ("500ms", 500),
            ("1.5s", 1500),
            ("4m", 240_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_repeated_in_the_refusal() {
        for text in [
            "",
            "s",
            "-1s",
            "4 minutes",
            "1e9h",
            "nan",
            "1.2.3s",
            "9999h",
        ] {
            let told = parse(text).map_err(|error| error.to_string());
            assert!(
                told.is_err_and(|told| told.contains(&format!("`{text}`"))),
                "{text}"
            );
        }
    }
}
