//! From a picture file to ink on ground: grey, flattened, and with the ink told from the
//! ground whichever of them is the darker.

use aegis_guest::Failure;
use image::{GrayAlphaImage, ImageFormat, imageops::thumbnail};

/// Larger pictures are scaled down to this many pixels a side before anyone looks at them.
const LOOKED_AT: u32 = 1024;
/// Ink differs from the ground by at least this much of 255, or there is none.
const LEAST_CONTRAST: u8 = 24;

/// How much ink there is at each pixel of a picture, 0 (ground) to 255.
pub(crate) struct Ink {
    pub(crate) width: usize,
    pub(crate) values: Vec<u8>,
}

/// Reads a picture.
pub(crate) fn ink(body: &[u8], format: ImageFormat) -> Result<Ink, Failure> {
    let mut picture = pictures::decode(body, format)?.into_luma_alpha8();
    let side = picture.width().max(picture.height());
    if side > LOOKED_AT {
        let scaled = |length: u32| {
            let scaled = u64::from(length) * u64::from(LOOKED_AT) / u64::from(side);
            u32::try_from(scaled).unwrap_or(LOOKED_AT).max(1)
        };
        picture = thumbnail(&picture, scaled(picture.width()), scaled(picture.height()));
    }
    tell_ink_from_ground(flatten(picture))
        .ok_or_else(|| Failure::invalid_input("the picture is blank: a digit is wanted"))
}

/// A grey picture, rows one after the other.
struct Grey {
    width: usize,
    height: usize,
    values: Vec<u8>,
}

/// Puts what is transparent on a ground that it can be told from: white under dark ink,
/// black under light.
fn flatten(picture: GrayAlphaImage) -> Grey {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (mut light, mut opaque) = (0_u64, 0_u64);
    for pixel in picture.pixels() {
        let [grey, alpha] = pixel.0;
        light += u64::from(grey) * u64::from(alpha);
        opaque += u64::from(alpha);
    }
    let ground: u32 = if light > opaque * 127 { 0 } else { 255 };
    let over = |[grey, alpha]: [u8; 2]| {
        let (grey, alpha) = (u32::from(grey), u32::from(alpha));
        ((grey * alpha + ground * (255 - alpha) + 127) / 255) as u8
    };
    Grey {
        width,
        height,
        values: picture.pixels().map(|pixel| over(pixel.0)).collect(),
    }
}

/// The ground is what the border mostly is; the ink is what differs from it, to the side on
/// which more does. `None` if nothing does.
fn tell_ink_from_ground(grey: Grey) -> Option<Ink> {
    let Grey {
        width,
        height,
        mut values,
    } = grey;
    let ground = median_of_border(&values, width, height)?;
    let (darker, lighter) = values
        .iter()
        .fold((0_u64, 0_u64), |(darker, lighter), value| {
            (
                darker + u64::from(ground.saturating_sub(*value)),
                lighter + u64::from(value.saturating_sub(ground)),
            )
        });
    let mut histogram = [0_usize; 256];
    for value in &mut values {
        *value = if darker > lighter {
            ground.saturating_sub(*value)
        } else {
            value.saturating_sub(ground)
        };
        histogram
            .get_mut(usize::from(*value))
            .map(|count| *count += 1)?;
    }
    // Full ink is what the strongest pixels have, but not the few that are only noise.
    let full = strongest(&histogram, 1 + values.len() / 2000);
    if full < LEAST_CONTRAST {
        return None;
    }
    let scale = f32::from(full);
    for value in &mut values {
        // The faintest quarter is paper and shadow, the strongest quarter is full ink.
        *value = ((f32::from(*value) / scale - 0.25) * 2.0 * 255.0).clamp(0.0, 255.0) as u8;
    }
    Some(Ink { width, values })
}

/// The grey that half of the border's pixels do not exceed.
fn median_of_border(values: &[u8], width: usize, height: usize) -> Option<u8> {
    let mut border: Vec<u8> = Vec::with_capacity(2 * (width + height));
    border.extend(values.iter().take(width));
    border.extend(values.iter().rev().take(width));
    for row in values.chunks_exact(width.max(1)) {
        border.extend(row.first());
        border.extend(row.last());
    }
    border.sort_unstable();
    border.get(border.len() / 2).copied()
}

/// The value that at least `count` pixels reach.
fn strongest(histogram: &[usize; 256], count: usize) -> u8 {
    let mut reached = 0;
    for (value, pixels) in (0..=u8::MAX).zip(histogram).rev() {
        reached += pixels;
        if reached >= count {
            return value;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use std::io::Cursor;

    use image::{GrayAlphaImage, LumaA};

    use super::*;

    fn png(width: u32, height: u32, paint: impl Fn(u32, u32) -> [u8; 2]) -> Vec<u8> {
        let picture = GrayAlphaImage::from_fn(width, height, |x, y| LumaA(paint(x, y)));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    /// A bar in the middle third, of this grey and alpha on that ground.
    fn bar(ink: [u8; 2], ground: [u8; 2]) -> Vec<u8> {
        png(
            30,
            30,
            |x, _| if (10..20).contains(&x) { ink } else { ground },
        )
    }

    #[test]
    fn ink_is_found_on_any_ground() {
        let cases = [
            ([0, 255], [255, 255]),
            ([255, 255], [0, 255]),
            ([90, 255], [200, 255]),
            ([255, 255], [128, 255]),
            ([0, 255], [0, 0]),
            ([255, 255], [255, 0]),
        ];
        for (ink_is, ground) in cases {
            let ink = ink(&bar(ink_is, ground), ImageFormat::Png).unwrap();
            let row: Vec<u8> = ink.values.iter().take(ink.width).copied().collect();
            let expected: Vec<u8> = (0..30)
                .map(|x| if (10..20).contains(&x) { 255 } else { 0 })
                .collect();
            assert_eq!(row, expected, "{ink_is:?} on {ground:?}");
        }
    }

    #[test]
    fn a_blank_or_broken_picture_is_the_callers_mistake() {
        let blank = png(30, 30, |_, _| [200, 255]);
        let mut cut_off = bar([0, 255], [255, 255]);
        cut_off.truncate(cut_off.len() / 2);
        let cases: [(&[u8], &str); 4] = [
            (b"", "the body is empty"),
            (b"GIF89a", "the picture cannot be read"),
            (&cut_off, "the picture cannot be read"),
            (&blank, "the picture is blank"),
        ];
        for (body, message) in cases {
            match ink(body, ImageFormat::Png) {
                Err(Failure::InvalidInput(problem)) => {
                    assert!(problem.message.starts_with(message), "{}", problem.message);
                }
                Err(other) => panic!("{message}: {other}"),
                Ok(_) => panic!("{message}: was read"),
            }
        }
    }
}
