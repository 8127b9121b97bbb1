//! From a photo to the network's input: the middle of it, as the network was trained, on white where it is transparent.

use image::{DynamicImage, GenericImageView as _, Rgb, RgbImage};

use crate::scale;

/// The network's rows and columns.
pub(crate) const SIDE: u32 = 224;
/// Of the shorter side of a photo, the middle that is looked at: 224 of 256, as in training.
const MARGIN: u32 = 32;

/// The middle square, scaled: red, green and blue of each pixel by row, 0 to 255.
pub(crate) fn fit(photo: DynamicImage) -> Vec<f32> {
    let photo = opaque(photo);
    let (width, height) = photo.dimensions();
    let shorter = u64::from(width.min(height));
    let side = (shorter * u64::from(SIDE) / u64::from(SIDE + MARGIN)).max(1) as u32;
    let (left, top) = ((width - side) / 2, (height - side) / 2);
    let middle = photo.view(left, top, side, side).to_image();
    scale::to_square(&middle, SIDE as usize)
}

fn opaque(photo: DynamicImage) -> RgbImage {
    if !photo.color().has_alpha() {
        return photo.into_rgb8();
    }
    let photo = photo.into_rgba8();
    RgbImage::from_fn(photo.width(), photo.height(), |x, y| {
        let [red, green, blue, alpha] = photo.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        let over = |value: u8| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        Rgb([over(red), over(green), over(blue)])
    })
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    /// The frame's pixel at this row and column.
    fn at(frame: &[f32], row: usize, column: usize) -> Vec<f32> {
        let first = (row * SIDE as usize + column) * 3;
        frame.iter().skip(first).take(3).copied().collect()
    }

    #[test]
    fn the_middle_is_seen_and_the_margin_is_not() {
        // 512 x 256: the middle 224 x 224 is red above and green below, all around is blue.
        let photo = RgbImage::from_fn(512, 256, |x, y| {
            match ((144..368).contains(&x) && (16..240).contains(&y), y < 128) {
                (false, _) => Rgb([0, 0, 255]),
                (true, true) => Rgb([255, 0, 0]),
                (true, false) => Rgb([0, 255, 0]),
            }
        });
        let frame = fit(photo.into());
        assert_eq!(frame.len(), 224 * 224 * 3);
        for (row, column, colour) in [
            (0, 0, [255.0, 0.0, 0.0]),
            (0, 223, [255.0, 0.0, 0.0]),
            (223, 0, [0.0, 255.0, 0.0]),
            (223, 223, [0.0, 255.0, 0.0]),
        ] {
            assert_eq!(at(&frame, row, column), colour, "{row}, {column}");
        }
    }

    #[test]
    fn what_is_transparent_is_white() {
        let photo = RgbaImage::from_pixel(30, 30, Rgba([10, 20, 30, 0]));
        assert!(fit(photo.into()).iter().all(|value| *value == 255.0));
    }

    #[test]
    fn one_pixel_is_enough() {
        let frame = fit(RgbImage::from_pixel(1, 1, Rgb([7, 8, 9])).into());
        assert_eq!(at(&frame, 100, 100), [7.0, 8.0, 9.0]);
    }
}
