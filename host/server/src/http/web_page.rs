//! Management is not for web pages. A browser reaches loopback on behalf of any page, so
//! what tells a page's request from an operator's is looked at before anything is done.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{StatusCode, header, uri::Authority},
};

use super::error::ApiError;

/// Refuses a request of a web page: one that names an `Origin`, as a browser does with every
/// call that changes something; and, where no token is asked for, one to a host by a name
/// other than loopback's own. A page whose name is made to resolve to 127.0.0.1 (DNS
/// rebinding) is of the same origin as its requests, which then carry no `Origin`; but they
/// still carry its name.
pub(crate) fn refuse(request: &Request, token_asked: bool) -> Result<(), ApiError> {
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "cross_origin",
            format!("management is not for web pages; this request comes from one ({origin:?})"),
        ));
    }
    if token_asked || host(request).is_none_or(|host| is_own_name(host.host())) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "wrong_host",
        "without a token, models are managed at an address or at localhost, not at another \
         name; set up tokens (docs/access.md) to manage them by name",
    ))
}

/// The host that the request is for, as its caller names it: HTTP/2 has it in the URI. One
/// that makes no sense is as good as a foreign name.
fn host(request: &Request) -> Option<Authority> {
    const NONSENSE: Authority = Authority::from_static("invalid.");
    match request.uri().authority() {
        Some(authority) => Some(authority.clone()),
        None => request
            .headers()
            .get(header::HOST)
            .map(|host| Authority::try_from(host.as_bytes()).unwrap_or(NONSENSE)),
    }
}

/// Whether nobody can make this name resolve to somewhere of their choice.
fn is_own_name(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use axum::body::Body;
    use proptest::prelude::*;

    use super::*;

    fn to(host: &[u8]) -> Request {
        Request::builder()
            .uri("/v1/models")
            .header(header::HOST, host)
            .body(Body::empty())
            .unwrap()
    }

    #[test]
    fn a_page_by_a_rebound_name_manages_nothing() {
        for host in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "",
            "a b",
        ] {
            let error = refuse(&to(host.as_bytes()), false).unwrap_err();
            assert_eq!(error.code, "wrong_host", "{host}");
        }
        // Its pages have no token either.
        assert!(refuse(&to(b"models.example"), true).is_ok());
    }

    #[test]
    fn an_operator_at_loopback_does() {
        for host in [
            "127.0.0.1:8000",
            "localhost",
            "LocalHost:80",
            "[::1]:8000",
            "10.0.0.7",
        ] {
            assert!(refuse(&to(host.as_bytes()), false).is_ok(), "{host}");
        }
        assert!(refuse(&Request::new(Body::empty()), false).is_ok());
    }

    proptest! {
        #[test]
        fn no_host_makes_it_panic(host in proptest::collection::vec(0x20u8..0x7f, 0..60)) {
            let _ = refuse(&to(&host), false);
        }
    }
}
