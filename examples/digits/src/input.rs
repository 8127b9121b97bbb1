//! What callers send: 64 numbers as JSON, or a picture.

use aegis_guest::{Failure, FromRequest, Json, Request, check};
use image::ImageFormat;
use serde::Deserialize;

use crate::{frame, picture};

/// The network's input: 8 x 8 pixels by row, each 0 (ground) to 16 (ink).
#[derive(Debug)]
pub(crate) struct Pixels(pub(crate) Vec<f32>);

#[derive(Deserialize)]
struct Body {
    pixels: Vec<f32>,
}

impl FromRequest<'_> for Pixels {
    const ACCEPTS: &'static [&'static str] = &["application/json", "image/png", "image/jpeg"];

    fn from_request(request: &Request) -> Result<Self, Failure> {
        if let Some(format) = pictures::format(request) {
            of_picture(&request.body, format)
        } else if Json::<Body>::accepts(request) {
            let Json(Body { pixels }) = Json::from_request(request)?;
            check::length("/pixels", &pixels, 64, "numbers")?;
            check::range("/pixels", &pixels, 0.0, 16.0)?;
            Ok(Self(pixels))
        } else {
            Err(Failure::unsupported_media_type(
                request.content_type.as_deref(),
                Self::ACCEPTS,
            ))
        }
    }
}

/// Apart from the rest, as decoding takes 16 KiB of stack: what a request touches of its memory is reset after it, page
/// by page, and requests of numbers would pay for that of pictures.
#[inline(never)]
fn of_picture(body: &[u8], format: ImageFormat) -> Result<Pixels, Failure> {
    let ink = picture::ink(body, format)?;
    Ok(Pixels(frame::fit(&ink)))
}
