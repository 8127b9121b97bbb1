//! The two models as packages in a folder of their own, and the cases to ask them.
//!
//! Both have the digits handler; the larger network is made here and differs in its graph only.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::{
    bare::Bare,
    cases::{self, Case, Digit, most_probable},
    onnx,
};

/// Requests of one model that run at once: more than the most connections, so that neither side
/// of a comparison is held up at the door. The server's default is 16.
pub(crate) const MAX_CONCURRENCY: usize = 64;

/// Wall time of one request: the default of manifests.
pub(crate) const TIMEOUT_MS: u64 = 1500;

/// The models, and a folder for everything that a run writes. Removed at the end.
pub(crate) struct Fixture {
    folder: TempDir,
    pub(crate) networks: Vec<Network>,
}

/// A model to measure.
pub(crate) struct Network {
    pub(crate) name: &'static str,
    /// The package's folder.
    pub(crate) package: PathBuf,
    pub(crate) digits: Vec<Digit>,
}

impl Network {
    pub(crate) fn onnx(&self) -> PathBuf {
        self.package.join("network.onnx")
    }

    pub(crate) fn handler(&self) -> PathBuf {
        self.package.join("digits.wasm")
    }

    /// The cases as a file, for the load generator.
    pub(crate) fn cases_file(&self) -> PathBuf {
        self.package.join("cases.json")
    }
}

/// The files of a package.
pub(crate) const FILES: [&str; 3] = ["model.toml", "digits.wasm", "network.onnx"];

impl Fixture {
    /// Makes the packages of all networks, or of those named. The current folder is the
    /// checkout, and ONNX Runtime is loaded.
    pub(crate) fn make(only: &[String]) -> anyhow::Result<Fixture> {
        let folder = tempfile::Builder::new().prefix("aegis-bench-").tempdir()?;
        let digits = Path::new("models/digits");
        let handler = digits.join("digits.wasm");
        if !handler.is_file() {
            bail!(
                "{} is not there: scripts/handlers.sh builds it, and the benchmark is run in the checkout's folder",
                handler.display()
            );
        }
        let cases = cases::digits(&digits.join("digits-golden.json"))?;
        let mut networks = Vec::new();
        for name in ["digits", "mlp"] {
            if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
                continue;
            }
            let onnx = match name {
                "digits" => fs::read(digits.join("digits.onnx"))?,
                _ => onnx::mlp(),
            };
            let network = Network {
                name,
                package: folder.path().join(name),
                digits: cases.clone(),
            };
            networks.push(network.write(&handler, &onnx)?);
        }
        if networks.is_empty() {
            bail!("--only names no network; there are digits and mlp");
        }
        Ok(Fixture { folder, networks })
    }

    /// A folder for a part of the run.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Network {
    fn write(mut self, handler: &Path, onnx: &[u8]) -> anyhow::Result<Network> {
        fs::create_dir_all(&self.package)?;
        fs::copy(handler, self.handler()).with_context(|| handler.display().to_string())?;
        fs::write(self.onnx(), onnx)?;
        fs::write(self.package.join("model.toml"), manifest(self.name))?;
        self.answer()?;
        let cases: Vec<Case> = self.digits.iter().map(Digit::case).collect();
        fs::write(self.cases_file(), serde_json::to_vec(&cases)?)?;
        Ok(self)
    }

    /// The digits network must give the answers that were recorded with it; a network of random
    /// weights is right whatever it says, so what ONNX Runtime says is its right answer.
    fn answer(&mut self) -> anyhow::Result<()> {
        let mut bare = Bare::open(&self.onnx())?;
        for digit in &mut self.digits {
            let probabilities = bare.run(&digit.pixels)?;
            match self.name {
                "digits" => digit.check(&probabilities)?,
                _ => digit.digit = most_probable(&probabilities),
            }
        }
        Ok(())
    }
}

fn manifest(name: &str) -> String {
    format!(
        r#"name = "{name}"
handler = "digits.wasm"

[[graph]]
name = "digits"
file = "network.onnx"
backend = "onnxruntime"

[limits]
timeout_ms = {TIMEOUT_MS}
max_concurrency = {MAX_CONCURRENCY}
max_queue = 256
"#
    )
}
