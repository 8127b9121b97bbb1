//! The SDK as it was when this program was built, for projects that stand on their own:
//! it fits the host that wrote it, and no registry has to have it.

use anyhow::Context as _;
use toml::{Table, Value};

/// The versions that this workspace is tested with. Cargo drops those that a project has no
/// use for when it first builds it.
pub(super) const LOCK: &str = include_str!("../../../../../Cargo.lock");

/// The compiler that goes with them, and the target of handlers.
pub(super) const TOOLCHAIN: &str = include_str!("../../../../../rust-toolchain.toml");

/// The SDK's own manifest, and the workspace's that it inherits from.
const MANIFEST: &str = include_str!("../../../../../guest-sdk/Cargo.toml");
const WORKSPACE: &str = include_str!("../../../../../Cargo.toml");

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../../", $path)))),*]
    };
}

/// The sources of the SDK and the contract they are made from; a test holds the list to the
/// folders.
const FILES: &[(&str, &str)] = files![
    "guest-sdk/src/bindings.rs",
    "guest-sdk/src/check.rs",
    "guest-sdk/src/context.rs",
    "guest-sdk/src/extract.rs",
    "guest-sdk/src/failure.rs",
    "guest-sdk/src/graph.rs",
    "guest-sdk/src/host/fake.rs",
    "guest-sdk/src/host/mod.rs",
    "guest-sdk/src/host/wasm.rs",
    "guest-sdk/src/infer.rs",
    "guest-sdk/src/json.rs",
    "guest-sdk/src/lib.rs",
    "guest-sdk/src/macros.rs",
    "guest-sdk/src/private.rs",
    "guest-sdk/src/request.rs",
    "guest-sdk/src/response.rs",
    "guest-sdk/src/session.rs",
    "guest-sdk/src/state.rs",
    "guest-sdk/src/tensor.rs",
    "guest-sdk/src/testing.rs",
    "wit/deps/wasi-config/store.wit",
    "wit/deps/wasi-config/world.wit",
    "wit/deps/wasi-nn/wasi-nn.wit",
    "wit/handler.wit",
    "wit/sessions.wit",
    "wit/types.wit",
];

/// Every file, by its path in the project. The SDK looks for the contract in `../wit`, so
/// both lie beside each other as they do here.
pub(super) fn files() -> anyhow::Result<Vec<(String, String)>> {
    let mut files = vec![("vendor/aegis-guest/Cargo.toml".to_owned(), manifest()?)];
    files.extend(FILES.iter().map(|(path, text)| {
        let path = match path.strip_prefix("guest-sdk/") {
            Some(rest) => format!("vendor/aegis-guest/{rest}"),
            None => format!("vendor/{path}"),
        };
        (path, (*text).to_owned())
    }));
    Ok(files)
}

/// The SDK's manifest with what it inherits written out, and without the lints, which are
/// for those who work on it.
fn manifest() -> anyhow::Result<String> {
    let workspace: Table = WORKSPACE.parse()?;
    let workspace = table(&workspace, "workspace")?;
    let mut manifest: Table = MANIFEST.parse()?;
    manifest.remove("lints");
    for section in ["package", "dependencies"] {
        let inherited = table(workspace, section)?;
        if let Some(Value::Table(entries)) = manifest.get_mut(section) {
            for (key, value) in entries.iter_mut() {
                if value.get("workspace").is_some() {
                    let from = inherited.get(key);
                    *value = from
                        .with_context(|| format!("the workspace has no {key}"))?
                        .clone();
                }
            }
        }
    }
    Ok(toml::to_string(&manifest)?)
}

fn table<'t>(table: &'t Table, key: &str) -> anyhow::Result<&'t Table> {
    let value = table.get(key).and_then(Value::as_table);
    value.with_context(|| format!("the workspace has no [{key}]"))
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_file_of_the_sdk_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        below(&root.join("guest-sdk/src"), &mut found);
        below(&root.join("wit"), &mut found);
        let mut found: Vec<&str> = found
            .iter()
            .map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap())
            .collect();
        found.sort_unstable();
        let embedded: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        assert_eq!(embedded, found);
    }

    #[test]
    fn the_sdks_manifest_stands_on_its_own() {
        let manifest = manifest().unwrap();
        let table: Table = manifest.parse().unwrap();
        assert!(!manifest.contains("workspace"), "{manifest}");
        assert_eq!(table["package"]["name"].as_str(), Some("aegis-guest"));
        assert!(table["package"]["version"].is_str());
        let dependencies = table["dependencies"].as_table().unwrap();
        assert!(dependencies.contains_key("wit-bindgen"));
        // What lies elsewhere in the workspace would not be there.
        assert!(
            dependencies
                .values()
                .all(|dependency| dependency.get("path").is_none())
        );
    }
}
