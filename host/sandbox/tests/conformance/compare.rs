//! Whether an answer is the one that is due, as ONNX's own test runner sees it: the same names, types and shapes, and
//! values within its tolerance.

use aegis_sandbox::{Datatype, TypedTensor};
use half::{bf16, f16};

/// `onnx.backend.test` allows a node case `atol + rtol * |value|`.
const RTOL: f64 = 1e-3;
const ATOL: f64 = 1e-7;

/// What is wrong with `got`, if anything is.
pub(crate) fn problem(got: &[TypedTensor], due: &[TypedTensor]) -> Option<String> {
    let names = |tensors: &[TypedTensor]| {
        let names = tensors.iter().map(|tensor| tensor.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    if names(got) != names(due) {
        return Some(format!(
            "gives `{}` where `{}` is due",
            names(got),
            names(due)
        ));
    }
    got.iter()
        .zip(due)
        .find_map(|(got, due)| differs(got, due).map(|how| format!("output `{}` {how}", due.name)))
}

fn differs(got: &TypedTensor, due: &TypedTensor) -> Option<String> {
    if got.datatype != due.datatype {
        return Some(format!(
            "is {:?} where {:?} is due",
            got.datatype, due.datatype
        ));
    }
    if got.shape != due.shape {
        return Some(format!(
            "has shape {:?} where {:?} is due",
            got.shape, due.shape
        ));
    }
    let (got, due) = (values(got), values(due));
    assert_eq!(got.len(), due.len(), "as many values as the shape says");
    let wrong: Vec<_> = (0..due.len())
        .filter(|index| !near(got[*index], due[*index]))
        .collect();
    let first = *wrong.first()?;
    Some(format!(
        "has {} of {} values wrong, such as {} where {} is due",
        wrong.len(),
        due.len(),
        got[first],
        due[first]
    ))
}

/// Equal, both not a number, or within the tolerance; nothing finite is near infinity.
fn near(got: f64, due: f64) -> bool {
    got == due
        || (got.is_nan() && due.is_nan())
        || (due.is_finite() && (got - due).abs() <= ATOL + RTOL * due.abs())
}

fn values(tensor: &TypedTensor) -> Vec<f64> {
    fn of<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        let (elements, rest) = bytes.as_chunks::<N>();
        assert!(rest.is_empty(), "whole elements");
        elements.iter().map(|element| value(*element)).collect()
    }
    let bytes = tensor.data.as_slice();
    match tensor.datatype {
        Datatype::Fp16 => of(bytes, |element| f16::from_le_bytes(element).to_f64()),
        Datatype::Bf16 => of(bytes, |element| bf16::from_le_bytes(element).to_f64()),
        Datatype::Fp32 => of(bytes, |element| f32::from_le_bytes(element).into()),
        Datatype::Fp64 => of(bytes, f64::from_le_bytes),
        Datatype::Uint8 => of(bytes, |element: [u8; 1]| element[0].into()),
        Datatype::Int32 => of(bytes, |element| i32::from_le_bytes(element).into()),
        Datatype::Int64 => of(bytes, |element| i64::from_le_bytes(element) as f64),
        other => panic!("wasi:nn has no {other:?}"),
    }
}

#[test]
fn only_what_is_near_in_every_value_and_the_same_in_all_else_is_right() {
    let tensor = |values: &[f32]| TypedTensor {
        name: "y".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![values.len() as u64],
        data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    };
    let due = [tensor(&[1.0, f32::NAN, f32::INFINITY])];
    let right = [tensor(&[1.0009, f32::NAN, f32::INFINITY])];
    assert_eq!(problem(&right, &due), None);
    for wrong in [
        tensor(&[1.002, f32::NAN, f32::INFINITY]),
        tensor(&[1.0, 0.0, f32::INFINITY]),
        tensor(&[1.0, f32::NAN, f32::MAX]),
        tensor(&[1.0, f32::NAN]),
        TypedTensor {
            name: "z".to_owned(),
            ..due[0].clone()
        },
        TypedTensor {
            datatype: Datatype::Int32,
            ..due[0].clone()
        },
    ] {
        assert!(problem(&[wrong], &due).is_some());
    }
    assert!(problem(&[], &due).is_some());
}
