//! What a handler may return, and how it becomes a response.

use serde::Serialize;

use crate::{Failure, Json, Text};

pub use crate::bindings::predict::aegis::inference::types::Response;

impl Response {
    /// A response of these bytes.
    #[must_use]
    pub fn new(content_type: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            content_type: content_type.into(),
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Adds a header for the caller. The host refuses those it sets itself.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What a handler may return in `Ok`: [`Json`], [`Text`] or a whole [`Response`].
pub trait IntoResponse {
    /// Writes the answer.
    ///
    /// # Errors
    /// A [`Failure::Internal`] if the value cannot be written.
    fn into_response(self) -> Result<Response, Failure>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Response, Failure> {
        Ok(self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Result<Response, Failure> {
        let mut body = Vec::with_capacity(256);
        serde_json::to_writer(&mut body, &self.0)
            .map_err(|error| Failure::internal(format!("the answer cannot be written: {error}")))?;
        Ok(Response::new("application/json", body))
    }
}

impl<T: Into<String>> IntoResponse for Text<T> {
    fn into_response(self) -> Result<Response, Failure> {
        Ok(Response::new("text/plain; charset=utf-8", self.0.into()))
    }
}
