//! Scaling a picture with Catmull-Rom's curve, as Pillow and the crate `image` do: first the rows, then the columns. Of
//! its own because it is half of what a photo costs here: whole rows at a time, it takes a fraction of what asking a
//! picture for one pixel after another does.

use image::RgbImage;

/// Red, green and blue.
const CHANNELS: usize = 3;

/// Which places of a line become one place of the scaled line, and their shares of it, which are 1 together.
struct Taps {
    first: usize,
    shares: Vec<f32>,
}

/// The picture as `side` rows of `side` pixels: red, green and blue of each, 0 to 255 and whole.
pub(crate) fn to_square(picture: &RgbImage, side: usize) -> Vec<f32> {
    let line = picture.width() as usize * CHANNELS;
    let across = taps(picture.width() as usize, side);
    let mut scaled = Vec::with_capacity(side * side * CHANNELS);
    let mut row = vec![0.0; line];
    for down in taps(picture.height() as usize, side) {
        row.fill(0.0);
        let rows = picture.as_raw().chunks_exact(line).skip(down.first);
        for (source, share) in rows.zip(&down.shares) {
            for (sum, value) in row.iter_mut().zip(source) {
                *sum += share * f32::from(*value);
            }
        }
        for taps in &across {
            scaled.extend(mix(&row, taps).map(whole));
        }
    }
    scaled
}

/// One pixel of those that make it.
fn mix(row: &[f32], taps: &Taps) -> [f32; CHANNELS] {
    let mut mixed = [0.0; CHANNELS];
    let (pixels, _) = row.as_chunks::<CHANNELS>();
    for (pixel, share) in pixels.iter().skip(taps.first).zip(&taps.shares) {
        for (sum, value) in mixed.iter_mut().zip(pixel) {
            *sum += share * value;
        }
    }
    mixed
}

/// The curve overshoots. WebAssembly has an instruction for `floor` and none for `round`.
fn whole(value: f32) -> f32 {
    (value.clamp(0.0, 255.0) + 0.5).floor()
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let ratio = from as f32 / to as f32;
    // Where a line becomes shorter, each place of it takes in more of what it was.
    let stretch = ratio.max(1.0);
    let reach = 2.0 * stretch;
    (0..to)
        .map(|place| {
            let centre = (place as f32 + 0.5) * ratio;
            let first = ((centre - reach).floor() as usize).min(from - 1);
            let last = ((centre + reach).ceil() as usize).clamp(first + 1, from);
            let shares: Vec<f32> = (first..last)
                .map(|source| catmull_rom((source as f32 + 0.5 - centre) / stretch))
                .collect();
            let sum: f32 = shares.iter().sum();
            let shares = shares.iter().map(|share| share / sum).collect();
            Taps { first, shares }
        })
        .collect()
}

/// The cubic through its points, B = 0 and C = 1/2 of Mitchell and Netravali, "Reconstruction Filters in Computer
/// Graphics" (1988).
fn catmull_rom(x: f32) -> f32 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, imageops, imageops::FilterType};

    use super::*;

    /// Something of many shades, with edges.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let edge = if (x / 7 + y / 5) % 2 == 0 { 255 } else { 0 };
            Rgb([(x * 31 % 256) as u8, (x * y % 256) as u8, edge])
        })
    }

    #[test]
    fn it_scales_as_the_crate_image_does() {
        for (width, height) in [
            (262, 262),
            (1, 1),
            (2, 3),
            (224, 224),
            (100, 100),
            (900, 900),
        ] {
            let picture = picture(width, height);
            let expected = imageops::resize(&picture, 224, 224, FilterType::CatmullRom);
            let scaled = to_square(&picture, 224);
            assert_eq!(scaled.len(), expected.as_raw().len());
            for (index, (found, expected)) in scaled.iter().zip(expected.as_raw()).enumerate() {
                // Sums are made in another order, and halves may fall to the other side.
                let apart = (found - f32::from(*expected)).abs();
                assert!(
                    apart <= 1.0,
                    "{width} x {height}, {index}: {found}, {expected}"
                );
            }
            let same = scaled.iter().zip(expected.as_raw());
            let other = same.filter(|(found, expected)| **found != f32::from(**expected));
            assert!(other.count() * 1000 <= scaled.len(), "{width} x {height}");
        }
    }
}
