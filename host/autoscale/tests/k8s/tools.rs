//! Where the tools are, and how they are run. Missing ones skip their tests on a developer's machine
//! and fail them where they must be there.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The folder that all of this is about.
pub(crate) fn k8s() -> PathBuf {
    root().join("k8s")
}

/// A file of the folder.
pub(crate) fn read(path: &str) -> String {
    let path = k8s().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// A tool, from `.tools/` or the PATH.
pub(crate) fn find(name: &str, below: &str) -> Option<PathBuf> {
    let own = root().join(".tools").join(below).join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(own)
        .chain(std::env::split_paths(&path).map(|folder| folder.join(name)))
        .find(|path| path.exists());
    if found.is_none() {
        missing(name);
    }
    found
}

/// Says that a tool is not there; fails where it must be.
pub(crate) fn missing(name: &str) {
    let required = ["CI", "AEGIS_REQUIRE_TOOLS"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    assert!(
        !required,
        "{name} is not there; bring it with scripts/k8s-tools.sh"
    );
    eprintln!("skipped: {name} is not there; scripts/k8s-tools.sh brings it");
}

/// Runs a command that must succeed, and gives what it printed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the tool starts");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out
}
