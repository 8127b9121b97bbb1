//! Answers in gzip, for callers that take it. Of the routes only `/metrics` has answers that are worth
//! it: with a thousand models megabytes, of which a twentieth is left.

use std::io::{self, Write as _};

use axum::http::{HeaderMap, header};
use flate2::{Compression, write::GzEncoder};

/// Whether a caller takes gzip, by its `Accept-Encoding` (RFC 9110, 12.5.3). One without the header
/// may not know of it.
pub(crate) fn is_taken(headers: &HeaderMap) -> bool {
    let codings = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let mut any = false;
    for coding in codings {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(is_zero);
        match name.as_str() {
            "gzip" | "x-gzip" => return !refused,
            "*" => any = !refused,
            _ => {}
        }
    }
    any
}

/// Whether a parameter is a weight of 0, which refuses.
fn is_zero(parameter: &str) -> bool {
    let weight = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="));
    weight.is_some_and(|weight| weight.parse() == Ok(0.0))
}

/// A text in gzip. Fast rather than small: what repeats as metrics do is small anyway.
pub(crate) fn of(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        for (asked, taken) in [
            (&["gzip"][..], true),
            (&["deflate, GZIP;q=0.5"], true),
            (&["x-gzip"], true),
            (&["br", "gzip"], true),
            (&["*"], true),
            (&["gzip;q=1.0, identity; q=0"], true),
            (&[], false),
            (&[""], false),
            (&["identity"], false),
            (&["br, zstd"], false),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, *"], false),
            (&["*, gzip;q=0"], false),
            (&["*;q=0"], false),
            (&["gzipped"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in asked {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(is_taken(&headers), taken, "{asked:?}");
        }
        let mut strange = HeaderMap::new();
        let bytes = HeaderValue::from_bytes(b"gzip\xff");
        strange.extend(bytes.ok().map(|value| (header::ACCEPT_ENCODING, value)));
        assert!(!is_taken(&strange));
    }
}
