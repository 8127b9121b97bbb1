//! Compares tract and rten with each other and with ONNX Runtime: what they cover, what they cost.
//! `run.sh` calls it; the README beside it has the results.

mod conformance;
mod engine;
mod hostile;
mod onnx;
mod recipe;
mod speed;
mod tensor;
mod worker;

use std::path::Path;

use anyhow::{Result, bail};
use conformance::Trial;
use engine::Kind;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["conformance", data, out] => {
            println!("{}", conformance::HEADER);
            for (engine, trial) in [
                ("onnxruntime", Trial::AsIs),
                ("tract", Trial::AsIs),
                ("tract-reused", Trial::AsIs),
                ("tract-plain", Trial::AsIs),
                ("tract-fixed", Trial::AsIs),
                ("rten", Trial::AsIs),
                ("rten-plain", Trial::AsIs),
                ("tract", Trial::Baked),
                ("tract-fixed", Trial::Baked),
                ("rten", Trial::Baked),
            ] {
                let suffix = if matches!(trial, Trial::Baked) {
                    "-baked"
                } else {
                    ""
                };
                let name = format!("{engine}{suffix}");
                let file = Path::new(out).join(format!("{name}.jsonl"));
                let reports = conformance::run(engine, &[trial], Path::new(data), &file)?;
                println!("{}", conformance::summary(&name, &reports));
            }
            Ok(())
        }
        ["hostile", data, out] => {
            println!("{}", conformance::HEADER);
            let strange: Vec<Trial> = (0..hostile::STRANGE).map(Trial::Strange).collect();
            let damaged: Vec<Trial> = (0..hostile::DAMAGED).map(Trial::Damaged).collect();
            for engine in ["tract", "tract-fixed", "rten"] {
                for (what, trials) in [("strange", &strange), ("damaged", &damaged)] {
                    let name = format!("{engine}-{what}");
                    let file = Path::new(out).join(format!("{name}.jsonl"));
                    let reports = conformance::run(engine, trials, Path::new(data), &file)?;
                    println!("{}", conformance::summary(&name, &reports));
                }
            }
            Ok(())
        }
        ["conformance-worker", engine] => conformance::work(Kind::parse(engine)?),
        ["speed", shared, made] => speed::run(Path::new(shared), Path::new(made)),
        ["speed-worker", engine, model, batches] => {
            speed::work(Kind::parse(engine)?, Path::new(model), batches)
        }
        _ => bail!(
            "say: engines conformance NODE_CASES OUT, engines hostile NODE_CASES OUT, or engines speed SHARED_MODELS MADE_MODELS"
        ),
    }
}
