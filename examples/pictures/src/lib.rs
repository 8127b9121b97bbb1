//! Pictures as callers send them: PNG or JPEG, refused before it is decoded if it is too large, and turned as it was held.

use std::io::Cursor;

use aegis_guest::{Failure, Request};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

/// The content types that are read.
pub const ACCEPTS: [&str; 2] = ["image/png", "image/jpeg"];

/// The most pixels that are decoded: 4096 x 4096.
const MOST_PIXELS: u64 = 4096 * 4096;

/// What the request's content type says of its body; `None` if that is no picture.
#[must_use]
pub fn format(request: &Request) -> Option<ImageFormat> {
    let [png, jpeg] = ACCEPTS;
    if request.is(png) {
        Some(ImageFormat::Png)
    } else if request.is(jpeg) {
        Some(ImageFormat::Jpeg)
    } else {
        None
    }
}

/// Reads a picture.
///
/// # Errors
///
/// If there is none, it cannot be read, or it has too many pixels: the caller's mistake, each with its words.
pub fn decode(body: &[u8], format: ImageFormat) -> Result<DynamicImage, Failure> {
    if body.is_empty() {
        return Err(Failure::invalid_input(
            "the body is empty: a picture is wanted",
        ));
    }
    let unreadable = |error| Failure::invalid_input(format!("the picture cannot be read: {error}"));
    let mut decoder = ImageReader::with_format(Cursor::new(body), format)
        .into_decoder()
        .map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(Failure::too_large(format!(
            "the picture has {width} x {height} pixels: at most {MOST_PIXELS} are read"
        )));
    }
    // Phones store a picture as the sensor saw it, and how it was held beside it.
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::panic, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() {
        // The header of a PNG is enough: 20,000 x 20,000 pixels, and no data at all.
        let mut header =
            b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x4e\x20\0\0\x4e\x20\x08\0\0\0\0".to_vec();
        header.extend([0xc6, 0x1b, 0x19, 0xe5]);
        header.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
        match decode(&header, ImageFormat::Png) {
            Err(Failure::TooLarge(message)) => assert!(message.contains("20000 x 20000")),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("was read"),
        }
    }
}
