//! The seven element types of `wasi:nn` and the Rust types that stand for them.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};
use thiserror::Error;

/// The element types `wasi:nn` knows. What a backend has beyond them cannot be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    /// IEEE 754 half precision.
    Fp16,
    /// IEEE 754 single precision.
    Fp32,
    /// IEEE 754 double precision.
    Fp64,
    /// The upper half of a single-precision number.
    Bf16,
    /// Unsigned byte.
    U8,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
}

impl TensorType {
    /// All types, in `wasi:nn`'s order.
    pub const ALL: [Self; 7] = [
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bf16,
        Self::U8,
        Self::I32,
        Self::I64,
    ];

    /// Bytes an element takes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Fp16 | Self::Bf16 => 2,
            Self::Fp32 | Self::I32 => 4,
            Self::Fp64 | Self::I64 => 8,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Fp32 => "fp32",
            Self::Fp64 => "fp64",
            Self::Bf16 => "bf16",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no tensor type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a tensor type: write fp16, fp32, fp64, bf16, u8, i32 or i64")]
pub struct ParseTensorTypeError(String);

impl FromStr for TensorType {
    type Err = ParseTensorTypeError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|ty| ty.name() == word)
            .ok_or_else(|| ParseTensorTypeError(word.to_owned()))
    }
}

/// A Rust type that a tensor's element can be read as: plain bits, one for each [`TensorType`].
pub trait Element: bytemuck::Pod + sealed::Sealed {
    /// The tensor type this Rust type stands for.
    const TYPE: TensorType;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($rust:ty => $ty:ident),+ $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const TYPE: TensorType = TensorType::$ty;
        }
        const _: () = assert!(size_of::<$rust>() == TensorType::$ty.size());
    )+};
}

elements! {
    f16 => Fp16, f32 => Fp32, f64 => Fp64, bf16 => Bf16, u8 => U8, i32 => I32, i64 => I64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_from_its_name() {
        for ty in TensorType::ALL {
            assert_eq!(ty.to_string().parse(), Ok(ty));
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        assert_eq!(
            "float"
                .parse::<TensorType>()
                .map_err(|error| error.to_string()),
            Err(
                "`float` is not a tensor type: write fp16, fp32, fp64, bf16, u8, i32 or i64"
                    .to_owned()
            )
        );
    }
}
