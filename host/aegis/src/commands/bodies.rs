//! The bodies that a load is made of: files, or words on the command line, each with its media type.

use std::path::{Path, PathBuf};

use aegis_loadtest::target::Body;
use anyhow::Context as _;

use super::predict::guess;

/// The bodies of `files`, and `data`; `content_type` is theirs where it is given.
pub(crate) fn read(
    files: &[PathBuf],
    data: Option<&str>,
    content_type: Option<&str>,
) -> anyhow::Result<Vec<Body>> {
    let typed = |name: String, file: Option<&Path>, bytes: Vec<u8>| Body {
        name,
        content_type: content_type
            .unwrap_or_else(|| guess(file, &bytes))
            .to_owned(),
        bytes: bytes.into(),
    };
    let mut bodies = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).with_context(|| name.clone())?;
        bodies.push(typed(name, Some(file), bytes));
    }
    if let Some(data) = data {
        bodies.push(typed("--data".to_owned(), None, data.as_bytes().to_vec()));
    }
    Ok(bodies)
}
