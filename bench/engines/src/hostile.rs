//! Makes what no honest caller sends: inputs that do not fit their model, and model files with wrong bytes. What matters
//! is not that an engine answers, but that it says no without panicking, dying or hanging.

use crate::tensor::{DType, Tensor};

/// Ways to bend a case's inputs.
pub const STRANGE: usize = 8;
/// Damaged copies of each model.
pub const DAMAGED: usize = 8;

/// The inputs, bent in the way of that number; `None` where that way changes nothing.
pub fn strange_inputs(mut inputs: Vec<Tensor>, number: usize) -> Option<Vec<Tensor>> {
    let before = inputs.clone();
    match number {
        0 => drop(inputs.pop()),
        1 => inputs
            .iter_mut()
            .for_each(|tensor| tensor.shape.insert(0, 1)),
        2 => inputs
            .first_mut()
            .into_iter()
            .for_each(|tensor| resize(tensor, |size| size + 1)),
        3 => inputs
            .first_mut()
            .into_iter()
            .for_each(|tensor| resize(tensor, |_| 0)),
        4 => inputs
            .iter_mut()
            .for_each(|tensor| resize(tensor, |size| size * 2)),
        5 => inputs.iter_mut().for_each(|tensor| fill(tensor, i64::MAX)),
        6 => inputs.iter_mut().for_each(|tensor| fill(tensor, -1000)),
        _ => inputs.iter_mut().for_each(|tensor| {
            if tensor.dtype == DType::F32 {
                tensor.dtype = DType::I32;
            }
        }),
    }
    (inputs != before).then_some(inputs)
}

/// Changes the last dimension and makes the bytes fit it.
fn resize(tensor: &mut Tensor, change: impl Fn(usize) -> usize) {
    if let Some(last) = tensor.shape.last_mut() {
        *last = change(*last);
        tensor.bytes.resize(
            tensor.shape.iter().product::<usize>() * tensor.dtype.size(),
            1,
        );
    }
}

/// Sets every whole number of a tensor: these are indices, axes, shapes.
fn fill(tensor: &mut Tensor, value: i64) {
    match tensor.dtype {
        DType::I64 => tensor
            .bytes
            .as_chunks_mut()
            .0
            .iter_mut()
            .for_each(|slot| *slot = value.to_le_bytes()),
        DType::I32 => {
            let value = value.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
            tensor
                .bytes
                .as_chunks_mut()
                .0
                .iter_mut()
                .for_each(|slot| *slot = value.to_le_bytes());
        }
        _ => {}
    }
}

/// Changes one byte, always the same one for the same number. To an ASCII one, since text that is not UTF-8 ends in the
/// protobuf reader and tries no engine.
pub fn damage(model: &mut [u8], number: usize) {
    let mut state = 0x2545_F491_4F6C_DD1D_u64.wrapping_mul(number as u64 + 1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let at = next() % model.len().max(1);
    if let Some(byte) = model.get_mut(at) {
        *byte = (next() & 0x7F) as u8;
    }
}
