//! Tensors as they cross the house: a type, a shape and little-endian bytes whose length is known to agree.
//!
//! This module checks and carries; it computes nothing. Backends read the bytes in place through
//! [`Tensor::aligned`], which copies only when the memory is misaligned for the element type.

mod element;
mod shape;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

pub use element::{Element, ParseTensorTypeError, TensorType};
pub use shape::{MAX_RANK, Shape};

/// Why a tensor or shape could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TensorError {
    /// More dimensions than [`MAX_RANK`].
    #[error("a shape of {rank} dimensions is too long: at most {MAX_RANK} are supported")]
    Rank {
        /// The number of dimensions given.
        rank: usize,
    },
    /// The product of the dimensions, or the bytes they would take, cannot be addressed.
    #[error("shape {dims} is too large: its bytes cannot be addressed on this machine")]
    TooLarge {
        /// The dimensions given, as `[2, 3]`.
        dims: String,
    },
    /// The data's length is not what type and shape ask for.
    #[error("{got} bytes were given for a {ty} tensor of shape {shape}, which takes {want}")]
    ByteLength {
        /// The element type.
        ty: TensorType,
        /// The shape.
        shape: Shape,
        /// Bytes that type and shape ask for.
        want: usize,
        /// Bytes given.
        got: usize,
    },
    /// The tensor was read as another type than it holds.
    #[error("the tensor holds {holds} and cannot be read as {asked}")]
    Type {
        /// What the tensor holds.
        holds: TensorType,
        /// What was asked for.
        asked: TensorType,
    },
}

/// A dense tensor in row-major order. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    ty: TensorType,
    shape: Shape,
    bytes: Bytes,
}

impl Tensor {
    /// Takes `bytes` as the elements, without copying them.
    ///
    /// # Errors
    /// [`TensorError::ByteLength`] unless there are exactly `shape.elements() * ty.size()` bytes.
    pub fn new(ty: TensorType, shape: Shape, bytes: Vec<u8>) -> Result<Self, TensorError> {
        Self::from_bytes(ty, shape, Bytes::from(bytes))
    }

    /// As [`Tensor::new`], for bytes that are shared with others, such as a part of a request's body.
    ///
    /// # Errors
    /// [`TensorError::ByteLength`] unless there are exactly `shape.elements() * ty.size()` bytes.
    pub fn from_bytes(ty: TensorType, shape: Shape, bytes: Bytes) -> Result<Self, TensorError> {
        let want = shape.bytes(ty);
        if bytes.len() != want {
            return Err(TensorError::ByteLength {
                ty,
                shape,
                want,
                got: bytes.len(),
            });
        }
        Ok(Self { ty, shape, bytes })
    }

    /// Copies `elements` into a tensor of shape `dims`.
    ///
    /// # Errors
    /// As [`Shape::new`], and [`TensorError::ByteLength`] when the count of elements is not the shape's.
    pub fn from_slice<T: Element>(dims: &[u32], elements: &[T]) -> Result<Self, TensorError> {
        let shape = Shape::new(dims)?;
        Self::new(T::TYPE, shape, bytemuck::cast_slice(elements).to_vec())
    }

    /// A tensor of zeros.
    #[must_use]
    pub fn zeros(ty: TensorType, shape: Shape) -> Self {
        Self {
            ty,
            shape,
            bytes: Bytes::from(vec![0; shape.bytes(ty)]),
        }
    }

    /// The element type.
    #[must_use]
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements, little-endian, row-major.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes the elements take.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The elements as owned bytes; copied only if another tensor shares them.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        Vec::from(self.bytes)
    }

    /// The elements as shared bytes, without a copy.
    #[must_use]
    pub fn into_shared(self) -> Bytes {
        self.bytes
    }

    /// The elements where they lie, or a copy of them where they lie misaligned for `T`.
    ///
    /// # Errors
    /// [`TensorError::Type`] when the tensor holds another type.
    pub fn aligned<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        if self.ty != T::TYPE {
            return Err(TensorError::Type {
                holds: self.ty,
                asked: T::TYPE,
            });
        }
        Ok(match bytemuck::try_cast_slice(&self.bytes) {
            Ok(elements) => Cow::Borrowed(elements),
            // Only misalignment is left: the constructor made the length a whole number of elements.
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.bytes)),
        })
    }

    /// The bytes where they lie, or a copy of them where they lie misaligned for the tensor's type.
    pub(crate) fn aligned_bytes(&self) -> AlignedBytes<'_> {
        if self.bytes.as_ptr().align_offset(self.ty.size()) == 0 {
            return AlignedBytes::InPlace(&self.bytes);
        }
        let mut words = vec![0_u64; self.bytes.len().div_ceil(size_of::<u64>())];
        if let Some(bytes) = bytemuck::cast_slice_mut(&mut words).get_mut(..self.bytes.len()) {
            bytes.copy_from_slice(&self.bytes);
        }
        AlignedBytes::Copied {
            words,
            len: self.bytes.len(),
        }
    }

    /// A copy of the elements.
    ///
    /// # Errors
    /// [`TensorError::Type`] when the tensor holds another type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        self.aligned().map(Cow::into_owned)
    }
}

/// Type, shape and size; never the elements, which may be many and may be private.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({} {}, {} bytes)",
            self.ty,
            self.shape,
            self.bytes.len()
        )
    }
}

/// A tensor's bytes, aligned for its type.
pub(crate) enum AlignedBytes<'a> {
    /// As they lie.
    InPlace(&'a [u8]),
    /// A copy, in memory aligned for every type.
    Copied {
        /// The bytes, filled up to a whole word.
        words: Vec<u64>,
        /// How many bytes of them count.
        len: usize,
    },
}

impl AlignedBytes<'_> {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::InPlace(bytes) => bytes,
            Self::Copied { words, len } => {
                bytemuck::cast_slice(words).get(..*len).unwrap_or_default()
            }
        }
    }
}

/// A tensor and the graph's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTensor {
    /// The input's or output's name in the graph.
    pub name: Arc<str>,
    /// The tensor.
    pub tensor: Tensor,
}

impl NamedTensor {
    /// Names a tensor.
    pub fn new(name: impl Into<Arc<str>>, tensor: Tensor) -> Self {
        Self {
            name: name.into(),
            tensor,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    fn every_type_round_trips<T: Element + PartialEq + fmt::Debug>(values: &[T]) {
        let tensor = Tensor::from_slice(&[u32::try_from(values.len()).unwrap()], values).unwrap();
        assert_eq!(tensor.ty(), T::TYPE);
        assert_eq!(tensor.byte_len(), values.len() * T::TYPE.size());
        assert_eq!(tensor.to_vec::<T>().unwrap(), values);
    }

    #[test]
    fn every_element_type_is_kept_bit_for_bit() {
        every_type_round_trips(&[f16::from_f32(1.5), f16::MAX]);
        every_type_round_trips(&[1.5_f32, f32::MIN_POSITIVE, -0.0]);
        every_type_round_trips(&[1.5_f64, f64::MAX]);
        every_type_round_trips(&[bf16::from_f32(1.5), bf16::MIN]);
        every_type_round_trips(&[0_u8, 255]);
        every_type_round_trips(&[i32::MIN, i32::MAX]);
        every_type_round_trips(&[i64::MIN, i64::MAX]);
    }

    #[test]
    fn a_wrong_byte_length_says_what_would_be_right() {
        let error =
            Tensor::new(TensorType::Fp32, Shape::new(&[2, 3]).unwrap(), vec![0; 23]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "23 bytes were given for a fp32 tensor of shape [2, 3], which takes 24"
        );
    }

    #[test]
    fn an_empty_and_a_rank_0_tensor_are_legal() {
        assert_eq!(
            Tensor::from_slice::<f32>(&[0, 4], &[]).unwrap().byte_len(),
            0
        );
        assert_eq!(
            Tensor::from_slice(&[], &[7_i64])
                .unwrap()
                .to_vec::<i64>()
                .unwrap(),
            [7]
        );
    }

    #[test]
    fn reading_another_type_is_refused() {
        let tensor = Tensor::from_slice(&[1], &[1.0_f32]).unwrap();
        assert_eq!(
            tensor.to_vec::<i32>().unwrap_err().to_string(),
            "the tensor holds fp32 and cannot be read as i32"
        );
    }

    #[test]
    fn only_misaligned_bytes_are_copied() {
        let backing = Bytes::from(vec![0_u8; 64]);
        let first_aligned = backing.as_ptr().align_offset(8);
        let shape = Shape::new(&[2]).unwrap();
        let at = |offset: usize| {
            Tensor::from_bytes(TensorType::Fp64, shape, backing.slice(offset..offset + 16)).unwrap()
        };
        assert!(matches!(
            at(first_aligned).aligned::<f64>().unwrap(),
            Cow::Borrowed(_)
        ));
        assert!(matches!(
            at(first_aligned + 1).aligned::<f64>().unwrap(),
            Cow::Owned(_)
        ));
    }

    #[test]
    fn debug_output_never_shows_the_elements() {
        let tensor = Tensor::from_slice(&[2], &[65_u8, 66]).unwrap();
        assert_eq!(format!("{tensor:?}"), "Tensor(u8 [2], 2 bytes)");
    }

    proptest! {
        #[test]
        fn misaligned_elements_read_the_same(values in prop::collection::vec(any::<i64>(), 0..20), shift in 0_usize..8) {
            let mut backing = vec![0_u8; shift];
            backing.extend_from_slice(bytemuck::cast_slice(&values));
            let shape = Shape::new(&[u32::try_from(values.len()).unwrap()]).unwrap();
            let tensor = Tensor::from_bytes(TensorType::I64, shape, Bytes::from(backing).slice(shift..)).unwrap();
            prop_assert_eq!(tensor.to_vec::<i64>().unwrap(), values);
            let aligned = tensor.aligned_bytes();
            prop_assert_eq!(aligned.as_slice(), tensor.bytes());
            prop_assert_eq!(aligned.as_slice().as_ptr().align_offset(8), 0);
        }

        #[test]
        fn a_tensor_is_made_exactly_when_the_bytes_fit(dims in prop::collection::vec(0_u32..5, 0..4), len in 0_usize..200) {
            let shape = Shape::new(&dims).unwrap();
            let want = dims.iter().map(|d| *d as usize).product::<usize>() * 4;
            prop_assert_eq!(Tensor::new(TensorType::I32, shape, vec![0; len]).is_ok(), len == want);
        }

        #[test]
        fn no_shape_panics(dims in prop::collection::vec(any::<u32>(), 0..12)) {
            if let Ok(shape) = Shape::new(&dims) {
                prop_assert_eq!(shape.dims(), &dims[..]);
                prop_assert!(shape.bytes(TensorType::Fp64) <= isize::MAX as usize);
            }
        }
    }
}
