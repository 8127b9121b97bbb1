//! W3C Trace Context: the headers `traceparent` and `tracestate` as they come and go
//! (<https://www.w3.org/TR/trace-context/>). What is malformed is as good as absent.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId, TraceState};

/// `traceparent`
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-` and an id of 32, one of 16 and flags of 2 hexadecimal digits between dashes.
const LENGTH: usize = 55;

/// The longest `tracestate` that is kept, in bytes: what the specification asks for at least. More
/// is dropped whole, as a part of it may mean something else.
const MAX_STATE: usize = 512;

/// Where in a trace something is: the trace, a span of it, and whether it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanIds {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) sampled: bool,
}

impl SpanIds {
    /// The `traceparent` of those who come after.
    pub fn traceparent(self) -> String {
        format!(
            "00-{}-{}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        )
    }
}

/// The span that a request names as its parent, and what the parent's vendors said.
pub(crate) fn parent(headers: &HeaderMap) -> Option<SpanIds> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next()?;
    // Which of several would be meant?
    if values.next().is_some() {
        return None;
    }
    parse(value.as_bytes())
}

/// The `tracestate` beside a `traceparent`; empty where it is malformed or too long.
pub(crate) fn state(headers: &HeaderMap) -> TraceState {
    let mut text = String::new();
    for value in headers.get_all(TRACESTATE) {
        let Ok(value) = value.to_str() else {
            return TraceState::default();
        };
        if text.len() + value.len() >= MAX_STATE {
            return TraceState::default();
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(value);
    }
    text.parse().unwrap_or_default()
}

/// Reads a `traceparent` by the rules for versions known and not yet known.
fn parse(value: &[u8]) -> Option<SpanIds> {
    let (head, rest) = value.split_at_checked(LENGTH)?;
    let head = str::from_utf8(head).ok()?;
    let mut parts = head.split('-');
    let (version, trace_id) = (parts.next()?, parts.next()?);
    let (span_id, flags) = (parts.next()?, parts.next()?);
    let lengths = (version.len(), trace_id.len(), span_id.len(), flags.len());
    let hex = |text: &str| (text.bytes()).all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if lengths != (2, 32, 16, 2) || ![version, trace_id, span_id, flags].into_iter().all(hex) {
        return None;
    }
    // Of a later version the first four parts mean the same, and more may follow them.
    let ends = match version {
        "ff" => false,
        "00" => rest.is_empty(),
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    let ids = SpanIds {
        trace_id: TraceId::from_hex(trace_id).ok()?,
        span_id: SpanId::from_hex(span_id).ok()?,
        sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    };
    let valid = ids.trace_id != TraceId::INVALID && ids.span_id != SpanId::INVALID;
    (ends && valid).then_some(ids)
}

/// A `traceparent` as a header's value.
pub(crate) fn header(ids: SpanIds) -> Option<HeaderValue> {
    HeaderValue::try_from(ids.traceparent()).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(values: &[&str]) -> Option<SpanIds> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        parent(&headers)
    }

    #[test]
    fn what_comes_in_goes_out() {
        let ids = with(&[GOOD]).unwrap();
        assert!(ids.sampled);
        assert_eq!(ids.traceparent(), GOOD);
        let unsampled = GOOD.replace("-01", "-00");
        assert_eq!(with(&[&unsampled]).unwrap().traceparent(), unsampled);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in [
            GOOD.replacen("00", "01", 1),
            GOOD.replacen("00", "cc", 1) + "-what-comes-then",
        ] {
            assert_eq!(with(&[&later]), with(&[GOOD]), "{later}");
        }
    }

    #[test]
    fn what_is_malformed_is_as_good_as_absent() {
        let cut = &GOOD[..54];
        for bad in [
            "",
            "00",
            cut,
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "01", 1).replace("-01", "-01x"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &GOOD.replace("00f067aa0ba902b7", "00f067aa0ba902bg"),
            &GOOD.replacen("00-4b", "0-04b", 1),
        ] {
            assert_eq!(with(&[bad]), None, "{bad}");
        }
        assert_eq!(with(&[GOOD, GOOD]), None);
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn a_state_is_kept_whole_or_not_at_all() {
        let state = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACESTATE, HeaderValue::from_str(value).unwrap());
            }
            super::state(&headers).header()
        };
        assert_eq!(state(&["a=1,b=2"]), "a=1,b=2");
        assert_eq!(state(&["a=1", "b=2"]), "a=1,b=2");
        assert_eq!(state(&["no state"]), "");
        assert_eq!(state(&["a=1", &format!("b={}", "x".repeat(512))]), "");
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic_and_what_it_reads_is_valid(
            value in proptest::collection::vec(0x20_u8..0x7f, 0..80),
            of_its_kind in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,3}",
        ) {
            for value in [value.as_slice(), of_its_kind.as_bytes()] {
                if let Some(ids) = parse(value) {
                    prop_assert!(ids.trace_id != TraceId::INVALID && ids.span_id != SpanId::INVALID);
                    prop_assert_eq!(parse(ids.traceparent().as_bytes()), Some(ids));
                }
            }
        }
    }
}
