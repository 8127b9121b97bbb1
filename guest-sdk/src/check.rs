//! Checks that handlers share: what a caller sent, held to what the network takes.

use std::fmt::Display;

use crate::Failure;

/// Holds a list to its length.
///
/// # Errors
/// [`Failure::InvalidInput`] at `pointer`: "64 numbers wanted, 63 given".
pub fn length<T>(pointer: &str, values: &[T], wanted: usize, of: &str) -> Result<(), Failure> {
    if values.len() == wanted {
        return Ok(());
    }
    Err(Failure::invalid_field(
        pointer,
        format!("{wanted} {of} wanted, {} given", values.len()),
    ))
}

/// Holds numbers to a range, both ends included. NaN is in no range.
///
/// # Errors
/// [`Failure::InvalidInput`] at the pointer of the first that is outside.
pub fn range<T: PartialOrd + Display>(
    pointer: &str,
    values: &[T],
    low: T,
    high: T,
) -> Result<(), Failure> {
    match values
        .iter()
        .enumerate()
        .find(|(_, value)| !(**value >= low && **value <= high))
    {
        None => Ok(()),
        Some((index, value)) => Err(Failure::invalid_field(
            format!("{pointer}/{index}"),
            format!("{value} is outside {low} to {high}"),
        )),
    }
}

/// Refuses NaN and the infinities, which a network answers with nonsense.
///
/// # Errors
/// [`Failure::InvalidInput`] at the pointer of the first that is not finite.
pub fn finite<T: Into<f64> + Copy>(pointer: &str, values: &[T]) -> Result<(), Failure> {
    match values
        .iter()
        .enumerate()
        .find(|(_, value)| !(**value).into().is_finite())
    {
        None => Ok(()),
        Some((index, value)) => Err(Failure::invalid_field(
            format!("{pointer}/{index}"),
            format!("{} is not a finite number", (*value).into()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_number_is_named() {
        let values = [0.0_f32, 16.0, f32::NAN, 17.0];
        assert_eq!(
            range("/pixels", &values, 0.0, 16.0),
            Err(Failure::invalid_field(
                "/pixels/2",
                "NaN is outside 0 to 16"
            ))
        );
        assert_eq!(
            finite("/pixels", &[1.0, f32::INFINITY]),
            Err(Failure::invalid_field(
                "/pixels/1",
                "inf is not a finite number"
            ))
        );
        assert_eq!(
            length("/pixels", &values, 64, "numbers"),
            Err(Failure::invalid_field(
                "/pixels",
                "64 numbers wanted, 4 given"
            ))
        );
        assert_eq!(range("/pixels", &[0.0, 16.0], 0.0, 16.0), Ok(()));
    }
}
