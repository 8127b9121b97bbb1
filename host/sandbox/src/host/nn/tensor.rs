//! The interface `tensor`: bytes with a type and a shape, held by the host for a guest.
//!
//! WIT's constructor cannot fail, so a tensor that makes no sense, or one too many, is kept
//! as [`GuestTensor::Unusable`] and refused where the guest can act on it: by `compute`, with
//! `invalid-argument` or `too-large` and the reason.

use aegis_inference::{MAX_RANK, Shape, Tensor, TensorType};
use wasmtime::component::Resource;

use crate::{
    bindings::wasi::nn::{errors::ErrorCode, tensor},
    instance::GuestState,
};

/// A guest's `tensor`.
#[derive(Debug)]
pub enum GuestTensor {
    /// Shape, type and bytes agree.
    Usable(Tensor),
    /// They do not, or the tensor was over a limit. What the guest gave, without the bytes,
    /// and why it cannot be used. Of bounded size, so that the limit on handles bounds all of
    /// them together.
    Unusable {
        /// The dimensions as given; of too many dimensions, the first [`MAX_RANK`].
        dimensions: Vec<u32>,
        /// The type as given.
        ty: tensor::TensorType,
        /// What `compute` answers.
        code: ErrorCode,
        /// Why.
        reason: String,
    },
}

impl GuestState {
    fn make_tensor(
        &mut self,
        mut dimensions: Vec<u32>,
        ty: tensor::TensorType,
        data: Vec<u8>,
    ) -> GuestTensor {
        let made = Shape::new(&dimensions)
            .and_then(|shape| Tensor::new(ty.into(), shape, data))
            .map_err(|error| (ErrorCode::InvalidArgument, error.to_string()))
            .and_then(|tensor| {
                self.charge_tensor(tensor.byte_len())?;
                Ok(tensor)
            });
        match made {
            Ok(tensor) => GuestTensor::Usable(tensor),
            Err((code, reason)) => {
                dimensions.truncate(MAX_RANK);
                dimensions.shrink_to_fit();
                GuestTensor::Unusable {
                    dimensions,
                    ty,
                    code,
                    reason,
                }
            }
        }
    }

    /// Takes a tensor out of the guest's hands.
    pub(super) fn take_tensor(
        &mut self,
        handle: Resource<GuestTensor>,
    ) -> wasmtime::Result<GuestTensor> {
        let tensor = self.table.delete(handle)?;
        if let GuestTensor::Usable(tensor) = &tensor {
            self.discharge_tensor(tensor.byte_len());
        }
        Ok(tensor)
    }
}

impl tensor::Host for GuestState {}

impl tensor::HostTensor for GuestState {
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        ty: tensor::TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<GuestTensor>> {
        let tensor = self.make_tensor(dimensions, ty, data);
        Ok(self.table.push(tensor)?)
    }

    fn dimensions(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(match self.table.get(&this)? {
            GuestTensor::Usable(tensor) => tensor.shape().dims().to_vec(),
            GuestTensor::Unusable { dimensions, .. } => dimensions.clone(),
        })
    }

    fn ty(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<tensor::TensorType> {
        Ok(match self.table.get(&this)? {
            GuestTensor::Usable(tensor) => tensor.ty().into(),
            GuestTensor::Unusable { ty, .. } => *ty,
        })
    }

    fn data(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(match self.table.get(&this)? {
            GuestTensor::Usable(tensor) => tensor.bytes().to_vec(),
            GuestTensor::Unusable { .. } => Vec::new(),
        })
    }

    fn drop(&mut self, this: Resource<GuestTensor>) -> wasmtime::Result<()> {
        self.take_tensor(this).map(drop)
    }
}

impl From<tensor::TensorType> for TensorType {
    fn from(ty: tensor::TensorType) -> Self {
        match ty {
            tensor::TensorType::Fp16 => TensorType::Fp16,
            tensor::TensorType::Fp32 => TensorType::Fp32,
            tensor::TensorType::Fp64 => TensorType::Fp64,
            tensor::TensorType::Bf16 => TensorType::Bf16,
            tensor::TensorType::U8 => TensorType::U8,
            tensor::TensorType::I32 => TensorType::I32,
            tensor::TensorType::I64 => TensorType::I64,
        }
    }
}

impl From<TensorType> for tensor::TensorType {
    fn from(ty: TensorType) -> Self {
        match ty {
            TensorType::Fp16 => tensor::TensorType::Fp16,
            TensorType::Fp32 => tensor::TensorType::Fp32,
            TensorType::Fp64 => tensor::TensorType::Fp64,
            TensorType::Bf16 => tensor::TensorType::Bf16,
            TensorType::U8 => tensor::TensorType::U8,
            TensorType::I32 => tensor::TensorType::I32,
            TensorType::I64 => tensor::TensorType::I64,
        }
    }
}
