//! The frame of the training data: a digit fills 8 rows, and at most 5 of the 8 columns,
//! about the middle.

use crate::picture::Ink;

/// The frame's rows, and its columns.
const SIDE: usize = 8;
/// The widest that the data's digits are: its makers fitted them into 20 of 32 columns.
const WIDEST: f32 = 5.0;
/// From here on a pixel belongs to the digit (of 255).
const INK: u8 = 128;

/// A rectangle of a picture, in pixels. It may reach beyond the picture: there is ground.
struct Window {
    left: f32,
    top: f32,
    width: f32,
    height: f32,
}

/// Fits the ink into the frame: cropped to the digit, 8 rows high and as wide as it is (the
/// widest are squeezed), each cell the mean of what it covers, 0 to 16.
pub(crate) fn fit(ink: &Ink) -> Vec<f32> {
    let digit = bounds(ink);
    let cell = digit.width / (SIDE as f32 * digit.width / digit.height).min(WIDEST);
    let width = cell * SIDE as f32;
    let window = Window {
        left: digit.left + (digit.width - width) / 2.0,
        width,
        ..digit
    };
    let columns = cells(window.left, window.width);
    let rows = cells(window.top, window.height);
    rows.iter()
        .flat_map(|row| {
            columns
                .iter()
                .map(|column| mean(ink, row, column) * 16.0 / 255.0)
        })
        .collect()
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

/// A cell's extent along one axis.
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

fn cells(from: f32, size: f32) -> Vec<Span> {
    let cell = size / SIDE as f32;
    (0..SIDE)
        .map(|index| Span {
            from: from + cell * index as f32,
            to: from + cell * (index + 1) as f32,
        })
        .collect()
}

/// The mean ink of a cell.
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
    sum / ((rows.to - rows.from) * (columns.to - columns.from))
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
            .skip(row * SIDE)
            .take(SIDE)
            .map(|value| value.round())
            .collect()
    }

    #[test]
    fn a_tall_bar_keeps_its_width_and_stands_in_the_middle() {
        // 8 x 32 pixels are 2 x 8 cells, wherever in the picture they are.
        let frame = fit(&ink(100, 60, |x, y| {
            (70..78).contains(&x) && (5..37).contains(&y)
        }));
        for index in 0..SIDE {
            assert_eq!(
                row(&frame, index),
                [0.0, 0.0, 0.0, 16.0, 16.0, 0.0, 0.0, 0.0]
            );
        }
    }

    #[test]
    fn a_wide_digit_is_squeezed_as_in_the_data() {
        let frame = fit(&ink(64, 64, |x, y| {
            (2..62).contains(&x) && (2..62).contains(&y)
        }));
        assert_eq!(row(&frame, 3), [0.0, 8.0, 16.0, 16.0, 16.0, 16.0, 8.0, 0.0]);
    }

    #[test]
    fn a_window_beyond_the_picture_is_ground() {
        let frame = fit(&ink(2, 16, |_, _| true));
        assert_eq!(row(&frame, 0), [0.0, 0.0, 0.0, 8.0, 8.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn one_pixel_is_enough() {
        assert_eq!(fit(&ink(1, 1, |_, _| true)).len(), 64);
    }
}
