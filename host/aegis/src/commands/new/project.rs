//! The files of a new project, apart from the SDK: templates with a few words to fill in.

use std::io::Write as _;
use std::process::{Command, Stdio};

use aegis_registry::ModelName;

use super::{graph::Network, sdk};

/// A project of this name, for this network or for none.
pub(super) struct Project<'n> {
    name: &'n ModelName,
    network: Option<Network>,
}

impl<'n> Project<'n> {
    pub(super) fn new(name: &'n ModelName, network: Option<Network>) -> Project<'n> {
        Project { name, network }
    }

    /// Every file, by its path in the project.
    pub(super) fn files(&self) -> Vec<(&'static str, String)> {
        let fill = |template: &str| self.fill(template);
        let handler = match &self.network {
            None => include_str!("template/text.rs").to_owned(),
            Some(network) => formatted(network.handler()),
        };
        vec![
            ("Cargo.toml", fill(include_str!("template/Cargo.toml"))),
            ("Cargo.lock", sdk::LOCK.to_owned()),
            ("rust-toolchain.toml", sdk::TOOLCHAIN.to_owned()),
            ("model.toml", fill(include_str!("template/model.toml"))),
            ("README.md", fill(include_str!("template/README.md"))),
            (".gitignore", include_str!("template/gitignore").to_owned()),
            ("src/lib.rs", handler),
        ]
    }

    fn fill(&self, template: &str) -> String {
        let package = crate_name(self.name);
        let (graph, sample) = match &self.network {
            None => (String::new(), r#"{"text":"to be, or not"}"#.to_owned()),
            Some(network) => (network.section(), network.sample()),
        };
        template
            .replace("{crate}", &package)
            .replace("{lib}", &package.replace('-', "_"))
            .replace("{graph}", &graph)
            .replace("{sample}", &sample)
            .replace("{name}", self.name.as_str())
    }
}

/// The crate's name. With `-handler` at its end it is no keyword and no crate that it
/// depends on; a name of a crate has no dots and begins with a letter.
fn crate_name(name: &ModelName) -> String {
    let plain = name.as_str().replace('.', "-");
    let prefix = if plain.starts_with(|first: char| first.is_ascii_digit()) {
        "model-"
    } else {
        ""
    };
    format!("{prefix}{plain}-handler")
}

/// The code as rustfmt has it, or as it is where there is no rustfmt.
fn formatted(code: String) -> String {
    let run = || {
        let mut rustfmt = Command::new("rustfmt")
            .args(["--edition", "2024", "--emit", "stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // It reads all of its input before it writes.
        rustfmt.stdin.take()?.write_all(code.as_bytes()).ok()?;
        let output = rustfmt.wait_with_output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).ok())?
    };
    run().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use aegis_registry::Manifest;

    use super::*;

    #[test]
    fn a_crates_name_is_one_whatever_the_models_is() {
        for (model, package) in [
            ("digits", "digits-handler"),
            ("serde", "serde-handler"),
            ("7b", "model-7b-handler"),
            ("v1.2_x-y", "v1-2_x-y-handler"),
        ] {
            assert_eq!(crate_name(&model.parse().unwrap()), package);
        }
    }

    #[test]
    fn no_template_is_left_with_a_gap() {
        let name = "7b.q-4".parse().unwrap();
        for (path, text) in Project::new(&name, None).files() {
            for gap in ["{crate}", "{lib}", "{graph}", "{sample}", "{name}"] {
                assert!(!text.contains(gap), "{path}: {gap}");
            }
            if path == "model.toml" {
                let manifest = Manifest::from_bytes(text.as_bytes()).unwrap();
                assert_eq!(manifest.name, name);
                let handler = manifest.handler.unwrap();
                let file = "target/wasm32-wasip2/release/model_7b_q_4_handler.wasm";
                assert_eq!(handler.as_str(), file);
            }
        }
    }
}
