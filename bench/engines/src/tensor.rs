//! A tensor as wasi:nn has it (one of seven types, a shape, little-endian bytes) and how two are compared.
//! Knows nothing of ONNX or of any engine.

use anyhow::{Result, bail, ensure};
use half::{bf16, f16};

/// The element types of `wasi:nn@0.2.0-rc-2024-10-28`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    F16,
    F32,
    F64,
    Bf16,
    U8,
    I32,
    I64,
}

impl DType {
    /// From the number in ONNX's `TensorProto.DataType`; `None` where wasi:nn has no such type.
    pub fn from_onnx(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::F32,
            2 => Self::U8,
            6 => Self::I32,
            7 => Self::I64,
            10 => Self::F16,
            11 => Self::F64,
            16 => Self::Bf16,
            _ => return None,
        })
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Splits little-endian bytes into elements; a tail shorter than an element is dropped.
pub fn elements<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(|chunk| read(*chunk))
        .collect()
}

/// The other way round.
pub fn to_bytes<const N: usize, T: Copy>(values: &[T], write: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (slot, &value) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *slot = write(value);
    }
    bytes
}

impl Tensor {
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self {
            dtype: DType::F32,
            shape: shape.to_vec(),
            bytes: to_bytes(values, f32::to_le_bytes),
        }
    }

    pub fn i64(shape: &[usize], values: &[i64]) -> Self {
        Self {
            dtype: DType::I64,
            shape: shape.to_vec(),
            bytes: to_bytes(values, i64::to_le_bytes),
        }
    }

    /// Every element as f64. Wide enough for all the tolerances here; i64 beyond 2^53 rounds.
    pub fn as_f64(&self) -> Vec<f64> {
        let bytes = &self.bytes;
        match self.dtype {
            DType::F16 => elements(bytes, |b| f16::from_le_bytes(b).to_f64()),
            DType::Bf16 => elements(bytes, |b| bf16::from_le_bytes(b).to_f64()),
            DType::F32 => elements(bytes, |b| f64::from(f32::from_le_bytes(b))),
            DType::F64 => elements(bytes, f64::from_le_bytes),
            DType::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
            DType::I32 => elements(bytes, |b| f64::from(i32::from_le_bytes(b))),
            DType::I64 => elements(bytes, |b| i64::from_le_bytes(b) as f64),
        }
    }

    /// Checks `self` against `expected` as ONNX's own runner does: same type, same shape,
    /// `|self - expected| <= atol + rtol * |expected|`, NaN equal to NaN.
    pub fn agrees_with(&self, expected: &Self, rtol: f64, atol: f64) -> Result<()> {
        ensure!(
            self.dtype == expected.dtype,
            "type {:?} where {:?} is right",
            self.dtype,
            expected.dtype
        );
        ensure!(
            self.shape == expected.shape,
            "shape {:?} where {:?} is right",
            self.shape,
            expected.shape
        );
        for (at, (got, want)) in self.as_f64().into_iter().zip(expected.as_f64()).enumerate() {
            let same = got == want
                || (got.is_nan() && want.is_nan())
                || (got - want).abs() <= atol + rtol * want.abs();
            if !same {
                bail!("element {at} is {got} where {want} is right");
            }
        }
        Ok(())
    }
}
