//! The id that ties a request's answer, log lines and (later) spans together.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken from a caller.
const MAX: usize = 128;

/// The caller's id if it is one that can stand in a log line and a header, else a new one.
pub(crate) fn of(headers: &HeaderMap) -> Arc<str> {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_plain(id))
        .map_or_else(|| Arc::from(new()), Arc::from)
}

fn is_plain(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
}

/// A UUID of version 7: ordered by time, so that logs sort.
fn new() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn with(id: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(id) {
            headers.insert(REQUEST_ID, value);
        }
        headers
    }

    #[test]
    fn a_plain_id_is_kept() {
        assert_eq!(&*of(&with(b"abc-123")), "abc-123");
    }

    proptest! {
        #[test]
        fn whatever_the_caller_sends_the_id_is_plain(id in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(is_plain(&of(&with(&id))));
        }
    }

    #[test]
    fn ids_differ() {
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
        assert!(HeaderValue::from_str(&of(&HeaderMap::new())).is_ok());
    }
}
