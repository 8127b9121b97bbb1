//! What is different between two versions of a model: files by their digests, and the manifest by
//! its keys. Not line by line: what a key was and is says more than what else was written around it.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::Value;

use crate::digest::Digest;
use crate::error::Result;
use crate::name::ModelName;
use crate::path::PackagePath;
use crate::record::{FileRecord, VersionRecord};
use crate::registry::Registry;
use crate::version::Version;

/// What is different in the second of two versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct VersionDiff {
    /// The model.
    pub name: ModelName,
    /// The version that is compared with.
    pub from: Version,
    /// The version that is compared.
    pub to: Version,
    /// Keys of the manifest, in order.
    pub manifest: Vec<KeyDiff>,
    /// Files, in order of path. The manifest is one of them.
    pub files: Vec<FileDiff>,
}

/// A key of the manifest that has another value, or is in one version only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyDiff {
    /// The key, as in `limits.memory_mib`; a graph stands under its name, as in `graph.digits.file`.
    pub key: String,
    /// Its value as it is written in TOML; `None` if it is not there.
    pub from: Option<String>,
    /// Its value as it is written in TOML; `None` if it is not there.
    pub to: Option<String>,
}

/// A file that has another content, or is in one version only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// Its path in the package.
    pub path: PackagePath,
    /// What it was; `None` if it was not there.
    pub from: Option<FileState>,
    /// What it is; `None` if it is not there.
    pub to: Option<FileState>,
}

/// A file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FileState {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Registry {
    /// What is different in version `to` of a model, compared with version `from`.
    pub async fn diff(&self, name: &ModelName, from: Version, to: Version) -> Result<VersionDiff> {
        let (from, to) = tokio::try_join!(self.version(name, from), self.version(name, to))?;
        Ok(VersionDiff::between(&from, &to))
    }
}

impl VersionDiff {
    fn between(from: &VersionRecord, to: &VersionRecord) -> Self {
        let (keys_from, keys_to) = (keys(&from.manifest_text), keys(&to.manifest_text));
        let (files_from, files_to) = (files(&from.files), files(&to.files));
        Self {
            name: to.name.clone(),
            from: from.version,
            to: to.version,
            manifest: changes(&keys_from, &keys_to)
                .map(|(key, from, to)| KeyDiff { key, from, to })
                .collect(),
            files: changes(&files_from, &files_to)
                .map(|(path, from, to)| FileDiff { path, from, to })
                .collect(),
        }
    }
}

/// What is under another value in `to` than in `from`, or in one of them only, in order.
fn changes<'m, K: Ord + Clone, V: PartialEq + Clone>(
    from: &'m BTreeMap<K, V>,
    to: &'m BTreeMap<K, V>,
) -> impl Iterator<Item = (K, Option<V>, Option<V>)> {
    let mut all: Vec<&K> = from.keys().chain(to.keys()).collect();
    all.sort();
    all.dedup();
    all.into_iter()
        .map(|key| (key.clone(), from.get(key).cloned(), to.get(key).cloned()))
        .filter(|(_, from, to)| from != to)
}

fn files(files: &[FileRecord]) -> BTreeMap<PackagePath, FileState> {
    let state = |file: &FileRecord| FileState {
        digest: file.digest,
        size: file.size,
    };
    files
        .iter()
        .map(|file| (file.path.clone(), state(file)))
        .collect()
}

/// The keys of a manifest, those of tables within tables with dots between.
fn keys(manifest: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    // A record's manifest was read when the record was.
    if let Ok(table) = manifest.parse::<toml::Table>() {
        gather("", &Value::Table(table), &mut keys);
    }
    keys
}

fn gather(key: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    let under = |name: &str| match key {
        "" => name.to_owned(),
        _ => format!("{key}.{name}"),
    };
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                gather(&under(name), value, keys);
            }
        }
        Value::Array(tables) if tables.iter().any(Value::is_table) => {
            for (at, table) in tables.iter().enumerate() {
                // A graph that moved in the file is the same graph.
                let name = table.get("name").and_then(Value::as_str);
                let name = name.map_or_else(|| at.to_string(), str::to_owned);
                gather(&under(&name), table, keys);
            }
        }
        value => drop(keys.insert(key.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(from: &str, to: &str) -> Vec<(String, Option<String>, Option<String>)> {
        changes(&keys(from), &keys(to)).collect()
    }

    #[test]
    fn only_keys_with_another_value_are_told_and_graphs_go_by_name() {
        let from = "name = \"m\"\n[[graph]]\nname = \"a\"\nfile = \"a.onnx\"\n[[graph]]\nname = \"b\"\nfile = \"b.onnx\"\n\
                    [limits]\nmemory_mib = 256\n";
        let to = "# another order, and a comment\nname = \"m\"\n[limits]\nmemory_mib = 512\ntimeout_ms = 5\n\
                  [[graph]]\nname = \"b\"\nfile = \"b.onnx\"\n[[graph]]\nname = \"a\"\nfile = \"a2.onnx\"\n";
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            diff(from, to),
            [
                (
                    "graph.a.file".to_owned(),
                    some("\"a.onnx\""),
                    some("\"a2.onnx\"")
                ),
                ("limits.memory_mib".to_owned(), some("256"), some("512")),
                ("limits.timeout_ms".to_owned(), None, some("5")),
            ]
        );
        assert!(diff(from, from).is_empty());
    }
}
