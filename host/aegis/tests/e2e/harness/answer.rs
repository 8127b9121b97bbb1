//! An HTTP answer, read whole, and the shape that every error has.

use reqwest::{Response, header::HeaderMap};
use serde_json::Value;

/// Status, headers and body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn read(response: Response) -> Answer {
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.expect("a whole body").to_vec(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("a header of ASCII"))
    }

    /// The same answer, whose status must be this.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The body's JSON of an answer with status 200.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        self.is(200).json()
    }

    /// An error with this status and code, in the one shape that errors have. Returns its
    /// message.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        let body = self.json();
        assert_eq!(
            (self.status, body["code"].as_str()),
            (status, Some(code)),
            "{body}"
        );
        assert_eq!(self.header("content-type"), "application/json");
        let id = body["request_id"].as_str().expect("a request id");
        assert!(!id.is_empty());
        assert_eq!(self.header("x-request-id"), id);
        if matches!(status, 429 | 503) {
            assert_eq!(self.header("retry-after"), "1", "{body}");
        }
        body["error"].as_str().expect("a message").to_owned()
    }
}
