//! What is asked: the URL, the headers and the bodies, which are read once and cycled.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use reqwest::Url;
use thiserror::Error;

/// One body to send.
#[derive(Clone, Debug)]
pub struct Body {
    /// What it is called in messages: its file.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

/// A target that cannot be asked.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum TargetError {
    #[error("`{url}` is no URL: {reason}; write http://HOST:PORT/PATH")]
    Url { url: String, reason: String },
    #[error(
        "`{0}` is not asked over plain HTTP, and the load test speaks nothing else; \
         aim it behind where TLS ends"
    )]
    Scheme(String),
    #[error("the URL has a user name or password in it; send a token instead")]
    Credentials,
    #[error("no body to send; give at least one")]
    NoBody,
    #[error("`{content_type}`, the media type of {name}, cannot stand in a header")]
    ContentType { name: String, content_type: String },
}

/// Where requests go and what they carry.
#[derive(Clone, Debug)]
pub struct Target {
    url: Url,
    headers: HeaderMap,
    bodies: Vec<(Body, HeaderValue)>,
}

impl Target {
    /// `POST url` with each of `bodies` in turn, and `headers` (a token) with all of them.
    ///
    /// # Errors
    /// A URL that is none or is not `http`, no body, a media type that is none.
    pub fn new(url: &str, headers: HeaderMap, bodies: Vec<Body>) -> Result<Self, TargetError> {
        let parsed = Url::parse(url).map_err(|reason| TargetError::Url {
            url: url.to_owned(),
            reason: reason.to_string(),
        })?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(TargetError::Credentials);
        }
        if parsed.scheme() != "http" {
            return Err(TargetError::Scheme(url.to_owned()));
        }
        if bodies.is_empty() {
            return Err(TargetError::NoBody);
        }
        let typed = |body: Body| {
            HeaderValue::try_from(&body.content_type)
                .map_err(|_| TargetError::ContentType {
                    name: body.name.clone(),
                    content_type: body.content_type.clone(),
                })
                .map(|content_type| (body, content_type))
        };
        Ok(Self {
            url: parsed,
            headers,
            bodies: bodies.into_iter().map(typed).collect::<Result<_, _>>()?,
        })
    }

    /// The URL of a model's predictions on a server, as `aegis predict` asks them.
    ///
    /// # Errors
    /// A server that is no URL.
    pub fn predict_url(
        server: &str,
        model: &str,
        version: Option<u64>,
    ) -> Result<String, TargetError> {
        let base = format!("{}/predict", server.trim_end_matches('/'));
        let mut url = Url::parse(&base).map_err(|reason| TargetError::Url {
            url: server.to_owned(),
            reason: reason.to_string(),
        })?;
        let mut query = url.query_pairs_mut();
        query.append_pair("identifier", model);
        if let Some(version) = version {
            query.append_pair("version", &version.to_string());
        }
        drop(query);
        Ok(url.into())
    }

    /// Where requests go.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The server's host and port.
    #[must_use]
    pub fn authority(&self) -> String {
        self.url.authority().to_owned()
    }

    /// The bodies, in the order in which they are sent.
    pub fn bodies(&self) -> impl ExactSizeIterator<Item = &Body> {
        self.bodies.iter().map(|(body, _)| body)
    }

    /// The request number `turn`, with the body whose turn it is.
    pub(crate) fn request(&self, client: &reqwest::Client, turn: usize) -> reqwest::RequestBuilder {
        let request = client.post(self.url.clone()).headers(self.headers.clone());
        match self.bodies.get(turn % self.bodies.len().max(1)) {
            Some((body, content_type)) => request
                .header(CONTENT_TYPE, content_type)
                .body(body.bytes.clone()),
            None => request,
        }
    }
}

/// A client that measures the server and nothing between: no proxy, no redirects, no second tries.
pub(crate) fn client(keep_alive: bool) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .http1_only()
        .tcp_nodelay(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(if keep_alive { usize::MAX } else { 0 })
        .user_agent(concat!("aegis-loadtest/", env!("CARGO_PKG_VERSION")))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Body {
        Body {
            name: "a.json".to_owned(),
            content_type: "application/json".to_owned(),
            bytes: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_models_url_is_that_of_predict_whatever_its_name() {
        for (server, version, url) in [
            ("http://a:1", None, "http://a:1/predict?identifier=n%26x"),
            (
                "http://a:1/",
                Some(2),
                "http://a:1/predict?identifier=n%26x&version=2",
            ),
        ] {
            let made = Target::predict_url(server, "n&x", version);
            assert_eq!(made.ok().as_deref(), Some(url));
        }
    }

    #[test]
    fn targets_that_cannot_be_asked_are_refused_in_words() {
        let with = |url: &str, bodies| {
            Target::new(url, HeaderMap::new(), bodies)
                .map_err(|error| error.to_string())
                .err()
                .unwrap_or_default()
        };
        assert!(with("nowhere", vec![body()]).contains("`nowhere` is no URL"));
        assert!(with("https://a/", vec![body()]).contains("TLS"));
        assert!(with("http://a/", vec![]).contains("no body"));
        let secret = with("http://me:hunter2@a/", vec![body()]);
        assert!(
            secret.contains("token") && !secret.contains("hunter2"),
            "{secret}"
        );
        let odd = Body {
            content_type: "a\nb".to_owned(),
            ..body()
        };
        assert!(with("http://a/", vec![odd]).contains("a.json"));
    }
}
