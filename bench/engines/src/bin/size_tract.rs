//! Loads any ONNX model with tract and runs it on zeros: what tract adds to a program.

use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let bytes = std::fs::read(path)?;
    let model = tract_onnx::onnx()
        .model_for_read(&mut &bytes[..])?
        .into_optimized()?;
    let inputs = (0..model.inputs.len())
        .map(|index| {
            Ok(Tensor::zero_dt(model.input_fact(index)?.datum_type, &[1, 64])?.into_tvalue())
        })
        .collect::<TractResult<TVec<TValue>>>()?;
    println!("{:?}", model.into_runnable()?.run(inputs)?);
    Ok(())
}
