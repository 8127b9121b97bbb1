//! What is asked about a request: its media type, headers and query.

pub use crate::bindings::predict::aegis::inference::types::Request;

impl Request {
    /// The media type without its parameters (`text/plain` of `text/plain; charset=utf-8`),
    /// as the caller wrote it. Compare with [`Request::is`], which ignores case.
    #[must_use]
    pub fn media_type(&self) -> Option<&str> {
        let full = self.content_type.as_deref()?;
        let end = full.find(';').unwrap_or(full.len());
        full.get(..end).map(str::trim)
    }

    /// Whether the body is of this media type, whatever its parameters and case.
    #[must_use]
    pub fn is(&self, media_type: &str) -> bool {
        self.media_type()
            .is_some_and(|given| given.eq_ignore_ascii_case(media_type))
    }

    /// A header's first value. Names are lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// A query parameter's first value, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        first(&self.query, name)
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_compared_without_parameters_or_case() {
        let request = Request {
            id: String::new(),
            content_type: Some("Text/Plain ; charset=utf-8".into()),
            headers: vec![("accept".into(), "a".into()), ("accept".into(), "b".into())],
            query: vec![("top".into(), "3".into())],
            body: Vec::new(),
        };
        assert!(request.is("text/plain"));
        assert!(!request.is("text/html"));
        assert_eq!(request.header("accept"), Some("a"));
        assert_eq!(request.query("top"), Some("3"));
        assert_eq!(request.query("k"), None);
    }
}
