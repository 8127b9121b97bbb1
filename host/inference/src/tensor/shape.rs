//! A tensor's dimensions, checked once: few enough to keep in place, and small enough to address.

use std::fmt;

use super::{TensorError, TensorType};

/// The most dimensions a [`Shape`] has. Networks in use stay at or under six; a bound lets a shape live without an
/// allocation and keeps a guest from growing one.
pub const MAX_RANK: usize = 8;

/// The dimensions of a tensor, outermost first. A dimension may be zero (no elements); no dimensions at all is a scalar
/// (one element). Whatever the element type, the bytes are known to fit the address space.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    // Dimensions past `rank` are zero, so that equality and hashing may look at the whole array.
    dims: [u32; MAX_RANK],
    rank: u8,
    elements: usize,
}

impl Shape {
    /// Checks and takes the dimensions.
    ///
    /// # Errors
    /// [`TensorError::Rank`] over [`MAX_RANK`] dimensions; [`TensorError::TooLarge`] when elements of the widest type
    /// would take more than `isize::MAX` bytes.
    pub fn new(given: &[u32]) -> Result<Self, TensorError> {
        let mut dims = [0; MAX_RANK];
        dims.get_mut(..given.len())
            .ok_or(TensorError::Rank { rank: given.len() })?
            .copy_from_slice(given);
        let too_large = || TensorError::TooLarge {
            dims: format!("{given:?}"),
        };
        // A zero makes the product zero wherever it stands, but the others must still be addressable: backends
        // multiply in their own order.
        let nonzero = given
            .iter()
            .filter(|dim| **dim != 0)
            .try_fold(1_usize, |product, dim| {
                product.checked_mul(usize::try_from(*dim).ok()?)
            })
            .ok_or_else(too_large)?;
        let widest = nonzero
            .checked_mul(TensorType::Fp64.size())
            .ok_or_else(too_large)?;
        if isize::try_from(widest).is_err() {
            return Err(too_large());
        }
        Ok(Self {
            dims,
            // At most MAX_RANK, so it fits.
            rank: given.len() as u8,
            elements: if given.contains(&0) { 0 } else { nonzero },
        })
    }

    /// The dimensions, outermost first.
    #[must_use]
    pub fn dims(&self) -> &[u32] {
        self.dims.get(..usize::from(self.rank)).unwrap_or_default()
    }

    /// How many dimensions there are.
    #[must_use]
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// How many elements a tensor of this shape has.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// How many bytes a tensor of this shape and type takes.
    #[must_use]
    pub fn bytes(&self, ty: TensorType) -> usize {
        // Cannot overflow: the constructor checked the widest type.
        self.elements * ty.size()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shape{:?}", self.dims())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn a_scalar_has_one_element_and_a_zero_dimension_none() {
        assert_eq!(Shape::new(&[]).unwrap().elements(), 1);
        assert_eq!(Shape::new(&[3, 0, 2]).unwrap().elements(), 0);
    }

    #[test]
    fn a_product_that_overflows_is_refused_even_behind_a_zero() {
        let huge = [u32::MAX, u32::MAX, u32::MAX];
        assert!(matches!(
            Shape::new(&huge),
            Err(TensorError::TooLarge { .. })
        ));
        assert!(matches!(
            Shape::new(&[0, u32::MAX, u32::MAX, u32::MAX]),
            Err(TensorError::TooLarge { .. })
        ));
    }

    #[test]
    fn bytes_past_the_address_space_are_refused() {
        assert!(matches!(
            Shape::new(&[u32::MAX, u32::MAX]),
            Err(TensorError::TooLarge { .. })
        ));
    }

    #[test]
    fn too_many_dimensions_are_refused_with_the_limit() {
        assert_eq!(
            Shape::new(&[1; 9]).unwrap_err().to_string(),
            "a shape of 9 dimensions is too long: at most 8 are supported"
        );
        assert_eq!(Shape::new(&[1; 8]).unwrap().rank(), 8);
    }
}
