//! `X-Request-Timeout`: how long the caller waits for an answer. It makes a request's time shorter, never longer.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ApiError;

const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

/// How long the caller waits, if it says so.
pub(crate) fn patience(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let mut values = headers.get_all(REQUEST_TIMEOUT).iter();
    let (value, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(wrong("is given twice"));
    }
    let Some(value) = value else {
        return Ok(None);
    };
    let time = read(value).ok_or_else(|| {
        let shown = String::from_utf8_lossy(value.as_bytes());
        let shown: String = shown.chars().take(40).collect();
        wrong(&format!("says `{}`", shown.escape_debug()))
    })?;
    if time.is_zero() {
        return Err(wrong("leaves no time at all"));
    }
    Ok(Some(time))
}

fn wrong(what: &str) -> ApiError {
    ApiError::bad_request(
        "invalid_timeout",
        format!(
            "the header {REQUEST_TIMEOUT} {what}; it takes one time above zero in seconds, such as `2`, `0.5` or \
             `1.5s`, or in milliseconds, such as `500ms`"
        ),
    )
}

/// Digits, perhaps with a fraction, perhaps with a unit. More than a duration holds is the longest there is.
fn read(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let (number, seconds) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1e-3)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1.0)
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !(digits(whole) && digits(fraction)) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    Some(Duration::try_from_secs_f64(number * seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn said(value: &[u8]) -> Result<Option<Duration>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_TIMEOUT, HeaderValue::from_bytes(value).unwrap());
        patience(&headers)
    }

    #[test]
    fn seconds_are_meant_unless_a_unit_says_otherwise() {
        assert_eq!(patience(&HeaderMap::new()), Ok(None));
        for (value, ms) in [
            ("2", 2000),
            ("0.25", 250),
            ("1.5s", 1500),
            ("500ms", 500),
            (" 3s ", 3000),
            ("007", 7000),
        ] {
            let time = Some(Duration::from_millis(ms));
            assert_eq!(said(value.as_bytes()), Ok(time), "{value}");
        }
        let long = "9".repeat(400);
        assert_eq!(said(long.as_bytes()), Ok(Some(Duration::MAX)));
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_would_be_one() {
        for value in [
            "",
            " ",
            "s",
            "ms",
            "soon",
            "-1",
            "+1",
            "1e3",
            "inf",
            "nan",
            "0x10",
            "1.",
            ".5",
            "1 s",
            "1m",
            "1h",
            "5S",
            "1,5",
            "1..5",
            "1.5.5",
            "0",
            "0.0s",
            "0ms",
            "0.0000000001",
        ] {
            let error = said(value.as_bytes()).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.code),
                (400, "invalid_timeout"),
                "{value}"
            );
            assert!(
                error.message.contains("such as `2`, `0.5` or `1.5s`"),
                "{value}"
            );
        }
        assert!(said(b"\xff").is_err());
        let mut twice = HeaderMap::new();
        twice.append(REQUEST_TIMEOUT, HeaderValue::from_static("1"));
        twice.append(REQUEST_TIMEOUT, HeaderValue::from_static("1"));
        assert!(
            patience(&twice)
                .unwrap_err()
                .message
                .contains("given twice")
        );
    }

    proptest! {
        #[test]
        fn any_number_of_milliseconds_comes_back(ms in 1_u64..100_000_000) {
            let time = Ok(Some(Duration::from_millis(ms)));
            prop_assert_eq!(said(format!("{ms}ms").as_bytes()), time.clone());
            let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
            let close = said(seconds.as_bytes()).unwrap().unwrap();
            prop_assert!(close.abs_diff(Duration::from_millis(ms)) < Duration::from_micros(1));
        }

        #[test]
        fn anything_a_header_may_hold_is_answered(value in "[ -~]{0,60}") {
            if let Ok(Some(time)) = said(value.as_bytes()) {
                prop_assert!(!time.is_zero());
            }
        }
    }
}
