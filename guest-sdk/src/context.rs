//! What a handler holds while it works: the request, and the host's services for it.

use std::{fmt::Display, str::FromStr};

use crate::{
    Failure, FromRequest, Graph, GraphError, IntoResponse, Request, Response, Session,
    SessionError, host::Host,
};

/// One request and what the host offers to answer it.
#[derive(Debug)]
pub struct Context {
    request: Request,
    host: Host,
}

impl Context {
    pub(crate) fn new(request: Request, host: Host) -> Self {
        Self { request, host }
    }

    /// The request's id: the same in the host's logs and in the answer's headers.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request.id
    }

    /// The request as the host gave it. For `infer` it has an id and no more.
    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// A request header's first value. Names are lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }

    /// A query parameter's first value, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.request.query(name)
    }

    /// Opens one of the model's graphs by the name it has in the manifest.
    ///
    /// # Errors
    /// What the host says, such as that there is no graph of this name.
    pub fn graph(&self, name: &str) -> Result<Graph, GraphError> {
        Graph::open(&self.host, name)
    }

    /// Opens what the host keeps of a session between requests. The key is what the caller
    /// calls the session, 1 to 256 bytes; who knows a key has the session, so it should be
    /// one that others do not guess.
    ///
    /// # Errors
    /// [`SessionError::InvalidKey`] if the key is empty or too long.
    pub fn session(&self, key: &str) -> Result<Session<'_>, SessionError> {
        Session::open(&self.host, key)
    }

    /// A value of the manifest's `[config]`, or `None` if it does not say.
    ///
    /// # Errors
    /// [`Failure::Internal`] if the host cannot read its configuration.
    pub fn config(&self, key: &str) -> Result<Option<String>, Failure> {
        config(&self.host, key)
    }

    /// A value of the manifest's `[config]` read as a `T`, or `default` if it does not say.
    ///
    /// # Errors
    /// [`Failure::Internal`] if the value is no `T`: the message names the key and value.
    pub fn config_parse<T: FromStr<Err: Display>>(
        &self,
        key: &str,
        default: T,
    ) -> Result<T, Failure> {
        config_parse(&self.host, key, default)
    }

    /// Raises a safety flag on this request: counted by reason in the host's metrics, and
    /// logged. The reason should be one of a few fixed words, such as `spam`.
    pub fn flag(&self, reason: &str) {
        self.host.flag(reason);
    }

    /// Records a named value of this prediction, such as a score, in the request's log line.
    pub fn record(&self, name: &str, value: f64) {
        self.host.record(name, value);
    }

    /// Answers the request with this function: reads the input, calls, writes the answer.
    /// What [`handler!`](crate::handler) does; tests call it for the whole way.
    ///
    /// # Errors
    /// Why the input cannot be read, or what the function says.
    pub fn answer<'c, I, O>(
        &'c self,
        predict: impl FnOnce(&'c Self, I) -> Result<O, Failure>,
    ) -> Result<Response, Failure>
    where
        I: FromRequest<'c>,
        O: IntoResponse,
    {
        let input = I::from_request(&self.request)?;
        predict(self, input)?.into_response()
    }
}

/// What an `init` function is given: it runs once, at upload, before there is a request.
#[derive(Debug)]
pub struct Startup {
    host: Host,
}

impl Startup {
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    /// As [`Context::config`].
    ///
    /// # Errors
    /// [`Failure::Internal`] if the host cannot read its configuration.
    pub fn config(&self, key: &str) -> Result<Option<String>, Failure> {
        config(&self.host, key)
    }

    /// As [`Context::config_parse`].
    ///
    /// # Errors
    /// [`Failure::Internal`] if the value is no `T`.
    pub fn config_parse<T: FromStr<Err: Display>>(
        &self,
        key: &str,
        default: T,
    ) -> Result<T, Failure> {
        config_parse(&self.host, key, default)
    }
}

fn config(host: &Host, key: &str) -> Result<Option<String>, Failure> {
    host.config(key)
        .map_err(|error| Failure::internal(format!("config `{key}` cannot be read: {error}")))
}

fn config_parse<T: FromStr<Err: Display>>(
    host: &Host,
    key: &str,
    default: T,
) -> Result<T, Failure> {
    let Some(value) = config(host, key)? else {
        return Ok(default);
    };
    value.parse().map_err(|error| {
        let wanted = std::any::type_name::<T>();
        Failure::internal(format!(
            "config `{key}` is `{value}`, not a {wanted}: {error}"
        ))
    })
}
