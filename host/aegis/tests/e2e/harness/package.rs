//! Packages: of the example models, of the tests' guests, and of what is no package at all.

use std::{fs, path::Path};

use reqwest::multipart::{Form, Part};
use tempfile::TempDir;

use super::root;

/// A package in memory.
#[derive(Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Package {
    /// An example model as it is committed.
    pub(crate) fn example(name: &str) -> Package {
        let folder = format!("models/{name}");
        let manifest = read(&format!("{folder}/model.toml"));
        let mut package = Package::new(name, &String::from_utf8(manifest).expect("UTF-8"));
        for file in [format!("{name}.wasm"), format!("{name}.onnx")] {
            package = package.file(&file, read(&format!("{folder}/{file}")));
        }
        package
    }

    /// One of the tests' guests, without a graph.
    pub(crate) fn guest(guest: &str) -> Package {
        let component = read(&format!("target/guests/{guest}.wasm"));
        Package::handler(guest, component)
    }

    /// The guest `hostile` with the graph `digits`, under a name of its own.
    pub(crate) fn hostile(name: &str, limits: &str) -> Package {
        let handler = Package::handler(name, read("target/guests/hostile.wasm"));
        handler.with_digits().and(&format!("[limits]\n{limits}"))
    }

    /// The guest `nn` with these networks as graphs of their names: examples' by their model,
    /// else those of the tests of `inference`.
    pub(crate) fn nn(name: &str, networks: &[&str]) -> Package {
        let handler = Package::handler(name, read("target/guests/nn.wasm"));
        networks.iter().fold(handler, |package, network| {
            package.graph(network, "", network_file(network))
        })
    }

    /// The same with one more graph, and more keys for it.
    pub(crate) fn graph(self, name: &str, keys: &str, onnx: Vec<u8>) -> Package {
        let file = format!("{name}.onnx");
        self.and(&format!(
            "[[graph]]\nname = \"{name}\"\nfile = \"{file}\"\n{keys}"
        ))
        .file(&file, onnx)
    }

    /// Some component as a model's handler.
    pub(crate) fn handler(name: &str, component: Vec<u8>) -> Package {
        let manifest = format!("name = \"{name}\"\nhandler = \"handler.wasm\"\n");
        Package::new(name, &manifest).file("handler.wasm", component)
    }

    /// A component of `tests/guests/wat` as a handler.
    pub(crate) fn wat(file: &str) -> Package {
        let text = root().join("tests/guests/wat").join(file);
        Package::handler("odd", wat::parse_file(text).expect("WebAssembly text"))
    }

    /// The component `raw.wat` with these pieces of its text replaced.
    pub(crate) fn raw(name: &str, changes: &[(&str, &str)]) -> Package {
        let text = read("tests/guests/wat/raw.wat");
        let text = String::from_utf8(text).expect("UTF-8");
        let text = changes.iter().fold(text, |text, (what, by)| {
            assert!(text.contains(what), "{what}");
            text.replace(what, by)
        });
        Package::handler(name, wat::parse_str(text).expect("WebAssembly text"))
    }

    /// The same with the graph `digits`.
    pub(crate) fn with_digits(self) -> Package {
        self.file("digits.onnx", read("models/digits/digits.onnx"))
            .and("[[graph]]\nname = \"digits\"\nfile = \"digits.onnx\"")
    }

    /// A package of a manifest only.
    pub(crate) fn new(name: &str, manifest: &str) -> Package {
        Package {
            name: name.to_owned(),
            manifest: manifest.to_owned(),
            files: Vec::new(),
        }
    }

    /// The same with more at the manifest's end.
    pub(crate) fn and(mut self, more: &str) -> Package {
        self.manifest.push_str(&format!("\n{more}\n"));
        self
    }

    /// The same with one thing in the manifest replaced.
    pub(crate) fn replacing(mut self, what: &str, by: &str) -> Package {
        assert!(self.manifest.contains(what), "{what} in {}", self.manifest);
        self.manifest = self.manifest.replace(what, by);
        self
    }

    /// The same with this file, or this content for it.
    pub(crate) fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Package {
        self.files.retain(|(name, _)| name != path);
        self.files.push((path.to_owned(), bytes.into()));
        self
    }

    /// The same without a file.
    pub(crate) fn without(mut self, path: &str) -> Package {
        self.files.retain(|(name, _)| name != path);
        self
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, path: &str) -> &[u8] {
        let file = self.files.iter().find(|(name, _)| name == path);
        &file.expect("a file of the package").1
    }

    /// As it is uploaded.
    pub(crate) fn form(&self) -> Form {
        let manifest = ("model.toml", self.manifest.as_bytes());
        let files = self
            .files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        std::iter::once(manifest)
            .chain(files)
            .fold(Form::new(), |form, (name, bytes)| {
                form.part(
                    "file",
                    Part::bytes(bytes.to_vec()).file_name(name.to_owned()),
                )
            })
    }

    /// As it is on disk.
    pub(crate) fn write_to(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("model.toml"), &self.manifest).expect("a manifest");
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).expect("a file");
        }
    }
}

/// A network of an example model, or of the tests of `inference`.
pub(crate) fn network_file(name: &str) -> Vec<u8> {
    match name {
        "digits" | "spam" => read(&format!("models/{name}/{name}.onnx")),
        other => read(&format!("host/inference/tests/networks/{other}.onnx")),
    }
}

/// A file of the repository. Components are built, not committed.
pub(crate) fn read(path: &str) -> Vec<u8> {
    fs::read(root().join(path)).unwrap_or_else(|error| {
        panic!("{path}: {error}; components are built by scripts/handlers.sh, run it first")
    })
}

/// The package of a fetched model with its graphs on this backend: its files are links, as they
/// are large.
pub(crate) fn package_on(model: &str, networks: &[&str], backend: &str) -> TempDir {
    let source = root().join(".models").join(model);
    let folder = TempDir::new().expect("a folder");
    let handler = format!("{model}.wasm");
    for file in networks.iter().copied().chain([handler.as_str()]) {
        std::os::unix::fs::symlink(source.join(file), folder.path().join(file)).expect("a link");
    }
    let manifest = fs::read_to_string(source.join("model.toml")).expect("a manifest");
    assert!(manifest.contains("backend = \"auto\""), "{manifest}");
    let manifest = manifest.replace("backend = \"auto\"", &format!("backend = \"{backend}\""));
    fs::write(folder.path().join("model.toml"), manifest).expect("a manifest");
    folder
}
