//! What a handler may take as its input, and how it is read from a request: types that
//! check the content type and the body before the handler runs.

use std::ops::Deref;

use serde::Deserialize;

use crate::{Failure, Request, json};

/// An input that is read from a request: the last parameter of a `predict` function.
///
/// Implement it for a type of your own when a handler takes several content types:
///
/// ```
/// use aegis_guest::{Failure, FromRequest, Json, Request};
///
/// enum Input {
///     Pixels(Vec<f32>),
///     Picture(Vec<u8>),
/// }
///
/// impl FromRequest<'_> for Input {
///     const ACCEPTS: &'static [&'static str] = &["application/json", "image/png"];
///
///     fn from_request(request: &Request) -> Result<Self, Failure> {
///         if request.is("image/png") {
///             Ok(Input::Picture(request.body.clone()))
///         } else {
///             Json::from_request(request).map(|Json(pixels)| Input::Pixels(pixels))
///         }
///     }
/// }
/// ```
pub trait FromRequest<'r>: Sized {
    /// The media types that are read, for the message of a 415. Empty: any.
    const ACCEPTS: &'static [&'static str];

    /// Reads the request.
    ///
    /// # Errors
    /// [`Failure::UnsupportedMediaType`] or [`Failure::InvalidInput`], with what would be
    /// right.
    fn from_request(request: &'r Request) -> Result<Self, Failure>;

    /// Whether the content type is one of [`FromRequest::ACCEPTS`]. By default a request
    /// that names none is taken.
    fn accepts(request: &Request) -> bool {
        Self::ACCEPTS.is_empty()
            || request.media_type().is_none()
            || Self::ACCEPTS.iter().any(|accepted| request.is(accepted))
    }
}

/// Refuses a request whose content type `T` does not read.
fn check_type<'r, T: FromRequest<'r>>(request: &Request) -> Result<(), Failure> {
    if T::accepts(request) {
        return Ok(());
    }
    Err(Failure::unsupported_media_type(
        request.content_type.as_deref(),
        T::ACCEPTS,
    ))
}

/// JSON, in (`application/json`, `…+json`, or no content type) and out.
///
/// What does not fit `T` is refused as [`Failure::InvalidInput`], with a JSON pointer to
/// the place and serde's words about what was expected there. Numbers that are not finite
/// do not exist in JSON: coming out they are written as `null`, so check them first.
#[derive(Clone, Debug, PartialEq)]
pub struct Json<T>(pub T);

impl<'r, T: Deserialize<'r>> FromRequest<'r> for Json<T> {
    const ACCEPTS: &'static [&'static str] = &["application/json"];

    fn from_request(request: &'r Request) -> Result<Self, Failure> {
        check_type::<Self>(request)?;
        json::read(&request.body).map(Self)
    }

    fn accepts(request: &Request) -> bool {
        request.media_type().is_none_or(|given| {
            given.eq_ignore_ascii_case("application/json")
                || given.to_ascii_lowercase().ends_with("+json")
        })
    }
}

/// Text in UTF-8, in (`text/plain`, or no content type) and out. Coming in, `Text<&str>`
/// borrows the body and `Text<String>` copies it.
#[derive(Clone, Debug, PartialEq)]
pub struct Text<T>(pub T);

impl<'r, T: From<&'r str>> FromRequest<'r> for Text<T> {
    const ACCEPTS: &'static [&'static str] = &["text/plain"];

    fn from_request(request: &'r Request) -> Result<Self, Failure> {
        check_type::<Self>(request)?;
        let text = std::str::from_utf8(&request.body).map_err(|error| {
            Failure::invalid_input(format!("the body is not UTF-8 text: {error}"))
        })?;
        Ok(Self(text.into()))
    }
}

/// One of two inputs, by content type: `Either<Json<Mail>, Text<&str>>`. A request without
/// a content type is the first one's.
#[derive(Clone, Debug, PartialEq)]
pub enum Either<A, B> {
    /// The content type is one of the first's.
    First(A),
    /// The content type is one of the second's.
    Second(B),
}

impl<'r, A: FromRequest<'r>, B: FromRequest<'r>> FromRequest<'r> for Either<A, B> {
    const ACCEPTS: &'static [&'static str] = &[];

    fn from_request(request: &'r Request) -> Result<Self, Failure> {
        if A::accepts(request) {
            A::from_request(request).map(Self::First)
        } else if B::accepts(request) {
            B::from_request(request).map(Self::Second)
        } else {
            Err(Failure::unsupported_media_type(
                request.content_type.as_deref(),
                &[A::ACCEPTS, B::ACCEPTS].concat(),
            ))
        }
    }

    fn accepts(request: &Request) -> bool {
        A::accepts(request) || B::accepts(request)
    }
}

/// The whole request, of any content type.
impl<'r> FromRequest<'r> for &'r Request {
    const ACCEPTS: &'static [&'static str] = &[];

    fn from_request(request: &'r Request) -> Result<Self, Failure> {
        Ok(request)
    }
}

/// The body's bytes, of any content type.
impl<'r> FromRequest<'r> for &'r [u8] {
    const ACCEPTS: &'static [&'static str] = &[];

    fn from_request(request: &'r Request) -> Result<Self, Failure> {
        Ok(&request.body)
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
