//! Loads any ONNX model with rten, all operators on, and runs it on zeros: what rten adds to a program.

use rten::{Model, ValueView};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_default();
    let model = Model::load(std::fs::read(path)?)?;
    let zeros = [0f32; 64];
    let inputs = model
        .input_ids()
        .iter()
        .map(|&id| Ok((id, ValueView::from_shape([1, 64], &zeros)?.into())))
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    println!("{:?}", model.run(inputs, model.output_ids(), None)?);
    Ok(())
}
