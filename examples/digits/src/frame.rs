//! The frame of the training data: a digit in a bitmap of 32 x 32, as high as the bitmap,
//! at most 22 wide and written with a broad pen; each of the network's 8 x 8 pixels counts
//! the ink of 4 x 4.
//!
//! The widest and the pen are what made most pictures right: of 400 of the data's digits
//! drawn large, 95 % are; of 24 plain strokes for a one, all are (7 without the pen). Most of
//! those pictures are training data and the widths were tuned on them: read the figures as
//! the best of what was tried. Printed digits come off worse (74 % of 21 fonts): the
//! network has only seen handwriting.

use crate::picture::Ink;

/// The bitmap's rows and columns.
const FINE: usize = 32;
/// The network's rows and columns.
const COARSE: usize = 8;
/// The most columns that a digit takes; wider ones are squeezed.
const WIDEST: f32 = 22.0;
/// The share of the bitmap that ink covers at least: thinner strokes are thickened.
const LEAST_INK: f32 = 0.28;
/// The most pixels that strokes grow by on each side.
const BROADEST: usize = 3;
/// From here on a pixel belongs to the digit (of 255).
const INK: u8 = 128;

/// A picture of 32 x 32, 0 (ground) to 1 (ink).
type Bitmap = [[f32; FINE]; FINE];

/// Fits the ink into the frame: 64 values by row, 0 to 16.
pub(crate) fn fit(ink: &Ink) -> Vec<f32> {
    let digit = bounds(ink);
    let mut bitmap = draw(ink, &digit, 0);
    for growth in 1..=BROADEST {
        if covered(&bitmap) >= LEAST_INK {
            break;
        }
        bitmap = (0..growth).fold(draw(ink, &digit, growth), |bitmap, step| {
            thicken(&bitmap, step % 2 == 1)
        });
    }
    count(&bitmap)
}

/// A rectangle of a picture, in pixels. It may reach beyond the picture: there is ground.
struct Window {
    left: f32,
    top: f32,
    width: f32,
    height: f32,
}

/// The smallest window around the digit. (`Ink` has some, so it is not empty.)
fn bounds(ink: &Ink) -> Window {
    let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
    for (y, row) in ink.values.chunks_exact(ink.width).enumerate() {
        let Some(first) = row.iter().position(|value| *value >= INK) else {
            continue;
        };
        let last = row.iter().rposition(|value| *value >= INK).unwrap_or(first);
        (left, right) = (left.min(first), right.max(last + 1));
        (top, bottom) = (top.min(y), y + 1);
    }
    Window {
        left: left as f32,
        top: top as f32,
        width: right.saturating_sub(left) as f32,
        height: bottom.saturating_sub(top) as f32,
    }
}

/// Draws the digit into the middle of the bitmap, with room for it to grow on each side.
fn draw(ink: &Ink, digit: &Window, growth: usize) -> Bitmap {
    let room = 2.0 * growth as f32;
    let high = FINE as f32 - room;
    let wide = ((FINE as f32 * digit.width / digit.height).min(WIDEST) - room).max(2.0);
    let cells = |from: f32, size: f32, cells: f32| {
        let cell = size / cells;
        let start = from + size / 2.0 - cell * FINE as f32 / 2.0;
        std::array::from_fn::<_, FINE, _>(|index| Span {
            from: start + cell * index as f32,
            to: start + cell * (index + 1) as f32,
        })
    };
    let columns = cells(digit.left, digit.width, wide);
    let rows = cells(digit.top, digit.height, high);
    rows.map(|row| {
        std::array::from_fn(|x| columns.get(x).map_or(0.0, |column| mean(ink, &row, column)))
    })
}

/// A cell's extent along one axis, in the picture's pixels.
struct Span {
    from: f32,
    to: f32,
}

impl Span {
    /// The pixels it touches within `size`, and how much of each it covers.
    fn pixels(&self, size: usize) -> impl Iterator<Item = (usize, f32)> + use<> {
        let (from, to) = (self.from, self.to);
        let last = (to.ceil().max(0.0) as usize).min(size);
        (from.floor().max(0.0) as usize..last).map(move |pixel| {
            let start = pixel as f32;
            (pixel, (to.min(start + 1.0) - from.max(start)).max(0.0))
        })
    }
}

/// The mean ink of a cell, 0 to 1.
fn mean(ink: &Ink, rows: &Span, columns: &Span) -> f32 {
    let height = ink.values.len() / ink.width;
    let mut sum = 0.0;
    for (y, down) in rows.pixels(height) {
        let row = ink
            .values
            .get(y * ink.width..(y + 1) * ink.width)
            .unwrap_or_default();
        let across: f32 = columns
            .pixels(ink.width)
            .map(|(x, share)| row.get(x).map_or(0.0, |value| f32::from(*value) * share))
            .sum();
        sum += across * down;
    }
    (sum / ((rows.to - rows.from) * (columns.to - columns.from) * 255.0)).clamp(0.0, 1.0)
}

/// The share of the bitmap that ink covers.
fn covered(bitmap: &Bitmap) -> f32 {
    bitmap.iter().flatten().sum::<f32>() / (FINE * FINE) as f32
}

/// Lets the ink grow by one pixel to its four sides, or to the corners too.
fn thicken(bitmap: &Bitmap, corners: bool) -> Bitmap {
    let at = |x: usize, y: usize| {
        bitmap
            .get(y)
            .and_then(|row| row.get(x))
            .copied()
            .unwrap_or(0.0)
    };
    std::array::from_fn(|y| {
        std::array::from_fn(|x| {
            let (left, up) = (x.wrapping_sub(1), y.wrapping_sub(1));
            let sides = [(x, y), (left, y), (x + 1, y), (x, up), (x, y + 1)];
            let diagonals = [(left, up), (x + 1, up), (left, y + 1), (x + 1, y + 1)];
            let near = sides.iter().chain(diagonals.iter().filter(|_| corners));
            near.map(|(x, y)| at(*x, *y)).fold(0.0, f32::max)
        })
    })
}

/// Counts the ink of each 4 x 4 pixels.
fn count(bitmap: &Bitmap) -> Vec<f32> {
    let mut counts = Vec::with_capacity(COARSE * COARSE);
    for rows in bitmap.chunks_exact(FINE / COARSE) {
        for column in 0..COARSE {
            let block = rows
                .iter()
                .flat_map(|row| row.chunks_exact(FINE / COARSE).nth(column));
            counts.push(block.flatten().sum::<f32>().clamp(0.0, 16.0));
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(width: usize, height: usize, paint: impl Fn(usize, usize) -> bool) -> Ink {
        let values = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| if paint(x, y) { 255 } else { 0 })
            .collect();
        Ink { width, values }
    }

    fn row(frame: &[f32], row: usize) -> Vec<f32> {
        frame
            .iter()
            .skip(row * COARSE)
            .take(COARSE)
            .map(|value| value.round())
            .collect()
    }

    #[test]
    fn a_broad_bar_keeps_its_width_and_stands_in_the_middle() {
        // 24 x 64 pixels are 12 x 32 of the bitmap, wherever in the picture they are.
        let frame = fit(&ink(200, 100, |x, y| {
            (150..174).contains(&x) && (5..69).contains(&y)
        }));
        for index in 0..COARSE {
            assert_eq!(
                row(&frame, index),
                [0.0, 0.0, 8.0, 16.0, 16.0, 8.0, 0.0, 0.0]
            );
        }
    }

    #[test]
    fn a_thin_stroke_is_thickened() {
        let frame = fit(&ink(64, 64, |x, _| x == 40));
        for index in 0..COARSE {
            let row = row(&frame, index);
            assert!(row.iter().sum::<f32>() >= 24.0, "{row:?}");
            assert!(row.iter().rev().eq(row.iter()), "{row:?}");
        }
    }

    #[test]
    fn a_wide_digit_is_squeezed_as_in_the_data() {
        let frame = fit(&ink(64, 64, |x, y| {
            (2..62).contains(&x) && (2..62).contains(&y)
        }));
        assert_eq!(
            row(&frame, 3),
            [0.0, 12.0, 16.0, 16.0, 16.0, 16.0, 12.0, 0.0]
        );
    }

    #[test]
    fn one_pixel_is_enough() {
        let frame = fit(&ink(1, 1, |_, _| true));
        assert_eq!(frame.len(), 64);
        assert!(frame.iter().all(|value| value.is_finite()));
    }
}
