//! Typed tensors: slices of numbers in and out, with no byte code for the handler to
//! write. Wasm is little-endian, as the tensors of wasi:nn are, so elements are viewed as
//! bytes and back without a pass over them.

use std::{borrow::Cow, fmt, ops::Deref};

use bytemuck::Pod;
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

use serde::{Serialize, Serializer};

pub use crate::bindings::{
    host::wasi::nn::tensor::TensorType, predict::aegis::inference::types::Datatype,
};

mod sealed {
    pub trait Sealed {}
}

/// A type that tensors hold: the numbers of the Open Inference Protocol.
pub trait Element: Copy + PartialEq + fmt::Debug + sealed::Sealed + 'static {
    /// Its name in the Open Inference Protocol.
    const DATATYPE: Datatype;

    /// The elements as bytes, in place.
    #[doc(hidden)]
    fn as_bytes(values: &[Self]) -> &[u8];

    /// The bytes as elements, in place; `None` if they are not aligned or not whole.
    #[doc(hidden)]
    fn view(bytes: &[u8]) -> Option<&[Self]>;

    /// The bytes as elements, copied; `None` if they are not whole.
    #[doc(hidden)]
    fn copy(bytes: &[u8]) -> Option<Vec<Self>>;
}

/// An element that a graph takes and gives: the seven tensor types of wasi:nn.
pub trait GraphElement: Element {
    /// Its name in wasi:nn.
    const TYPE: TensorType;
}

fn copy_pod<T: Pod>(bytes: &[u8]) -> Option<Vec<T>> {
    if !bytes.len().is_multiple_of(size_of::<T>()) {
        return None;
    }
    let mut values = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
    Some(values)
}

macro_rules! element {
    ($($type:ty => $datatype:ident $(/ $tensor:ident)?),* $(,)?) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DATATYPE: Datatype = Datatype::$datatype;

            fn as_bytes(values: &[Self]) -> &[u8] {
                bytemuck::cast_slice(values)
            }

            fn view(bytes: &[u8]) -> Option<&[Self]> {
                bytemuck::try_cast_slice(bytes).ok()
            }

            fn copy(bytes: &[u8]) -> Option<Vec<Self>> {
                copy_pod(bytes)
            }
        }

        $(impl GraphElement for $type {
            const TYPE: TensorType = TensorType::$tensor;
        })?
    )*};
}

element!(
    u8 => Uint8 / U8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32 / I32,
    i64 => Int64 / I64,
    f32 => Fp32 / Fp32,
    f64 => Fp64 / Fp64,
);

macro_rules! half_element {
    ($($type:ty => $name:ident),*) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DATATYPE: Datatype = Datatype::$name;

            fn as_bytes(values: &[Self]) -> &[u8] {
                bytemuck::cast_slice(values.reinterpret_cast())
            }

            fn view(bytes: &[u8]) -> Option<&[Self]> {
                bytemuck::try_cast_slice::<u8, u16>(bytes).ok().map(<[u16]>::reinterpret_cast)
            }

            fn copy(bytes: &[u8]) -> Option<Vec<Self>> {
                copy_pod::<u16>(bytes)
                    .map(|bits| bits.into_iter().map(Self::from_bits).collect())
            }
        }

        impl GraphElement for $type {
            const TYPE: TensorType = TensorType::$name;
        }
    )*};
}

half_element!(f16 => Fp16, bf16 => Bf16);

/// A tensor for a graph: a shape and its elements, row-major.
///
/// ```
/// # use aegis_guest::Tensor;
/// let pixels = vec![0.0_f32; 64];
/// let borrowed = Tensor::new(&[1, 64], &pixels);
/// let owned = Tensor::from_vec(&[1, 64], pixels.clone());
/// # assert_eq!(borrowed.shape(), owned.shape());
/// ```
///
/// Whether the shape and the number of elements agree is checked when a graph runs, where
/// the tensor has a name to put in the message.
pub struct Tensor<'a> {
    shape: Cow<'a, [u32]>,
    element: TensorType,
    data: Data<'a>,
}

enum Data<'a> {
    Borrowed(&'a [u8]),
    Owned(Box<dyn Bytes>),
}

/// A vector of elements whose type no longer matters.
trait Bytes {
    fn bytes(&self) -> &[u8];
}

impl<T: Element> Bytes for Vec<T> {
    fn bytes(&self) -> &[u8] {
        T::as_bytes(self)
    }
}

impl<'a> Tensor<'a> {
    /// A tensor over elements that stay where they are. A single value has the shape `[1]`.
    #[must_use]
    pub fn new<T: GraphElement>(shape: &'a [u32], values: &'a [T]) -> Self {
        Self {
            shape: Cow::Borrowed(shape),
            element: T::TYPE,
            data: Data::Borrowed(T::as_bytes(values)),
        }
    }

    /// A tensor that owns its elements.
    #[must_use]
    pub fn from_vec<T: GraphElement>(shape: &[u32], values: Vec<T>) -> Tensor<'static> {
        Tensor {
            shape: Cow::Owned(shape.to_vec()),
            element: T::TYPE,
            data: Data::Owned(Box::new(values)),
        }
    }

    /// A tensor over little-endian bytes of a type known only at run time.
    pub(crate) fn from_bytes(shape: Vec<u32>, element: TensorType, bytes: &'a [u8]) -> Self {
        Self {
            shape: Cow::Owned(shape),
            element,
            data: Data::Borrowed(bytes),
        }
    }

    /// The size of each dimension, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[u32] {
        &self.shape
    }

    /// The type of the elements.
    #[must_use]
    pub fn element(&self) -> TensorType {
        self.element
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Borrowed(bytes) => bytes,
            Data::Owned(values) => values.bytes(),
        }
    }

    /// How many bytes the shape wants, or nothing if that is beyond counting.
    pub(crate) fn wanted_bytes(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(size_of_type(self.element), |bytes, dimension| {
                bytes.checked_mul(usize::try_from(*dimension).ok()?)
            })
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({:?} {:?}, {} bytes)",
            self.element,
            self.shape,
            self.bytes().len()
        )
    }
}

/// The bytes of one element.
pub(crate) fn size_of_type(element: TensorType) -> usize {
    match element {
        TensorType::U8 => 1,
        TensorType::Fp16 | TensorType::Bf16 => 2,
        TensorType::Fp32 | TensorType::I32 => 4,
        TensorType::Fp64 | TensorType::I64 => 8,
    }
}

/// The elements of a tensor that came from the host: a slice of `T`.
#[derive(Clone)]
pub struct Values<T>(Stored<T>);

#[derive(Clone)]
enum Stored<T> {
    /// The host's bytes, found aligned for `T`.
    InPlace(Vec<u8>),
    Copied(Vec<T>),
}

impl<T: Element> Values<T> {
    /// `None` if the bytes are not a whole number of elements.
    pub(crate) fn new(bytes: Vec<u8>) -> Option<Self> {
        if T::view(&bytes).is_some() {
            return Some(Self(Stored::InPlace(bytes)));
        }
        T::copy(&bytes).map(|values| Self(Stored::Copied(values)))
    }
}

impl<T: Element> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            // `new` saw that the view exists, and a vector does not move its elements.
            Stored::InPlace(bytes) => T::view(bytes).unwrap_or_default(),
            Stored::Copied(values) => values,
        }
    }
}

impl<T: Element> PartialEq for Values<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// As a list, so that an answer can hold what the graph gave.
impl<T: Element + Serialize> Serialize for Values<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<T: Element> fmt::Debug for Values<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn round_trip<T: GraphElement>(values: &[T]) {
        let tensor = Tensor::from_vec(&[values.len() as u32], values.to_vec());
        assert_eq!(tensor.element(), T::TYPE);
        assert_eq!(tensor.wanted_bytes(), Some(tensor.bytes().len()));
        assert_eq!(&*Values::<T>::new(tensor.bytes().to_vec()).unwrap(), values);
        assert_eq!(T::copy(tensor.bytes()).unwrap(), values);
    }

    #[test]
    fn all_seven_types_of_wasi_nn_go_to_bytes_and_back() {
        round_trip(&[1_u8, 255]);
        round_trip(&[-1_i32, i32::MAX]);
        round_trip(&[-1_i64, i64::MIN]);
        round_trip(&[0.5_f32, f32::MAX]);
        round_trip(&[0.1_f64, -0.0]);
        round_trip(&[f16::from_f32(1.5), f16::MAX]);
        round_trip(&[bf16::from_f32(1.5), bf16::MIN]);
    }

    #[test]
    fn values_are_little_endian() {
        assert_eq!(Tensor::new(&[1], &[1.0_f32]).bytes(), [0, 0, 0x80, 0x3f]);
        assert_eq!(
            Tensor::new(&[1], &[bf16::from_f32(1.0)]).bytes(),
            [0x80, 0x3f]
        );
    }

    #[test]
    fn bytes_that_are_not_whole_elements_are_no_values() {
        assert!(Values::<f32>::new(vec![0; 7]).is_none());
        assert!(Values::<f16>::new(vec![0; 7]).is_none());
    }

    #[test]
    fn a_shape_beyond_counting_is_no_overflow() {
        assert_eq!(Tensor::new(&[u32::MAX; 4], &[0_u8]).wanted_bytes(), None);
    }
}
