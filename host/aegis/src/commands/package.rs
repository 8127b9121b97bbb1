//! A package folder on disk: its manifest, and the files that the manifest names. What else
//! lies in the folder (samples, sources) is not part of the package, but for a signature.

use std::path::{Path, PathBuf};

use aegis_registry::{Manifest, PackagePath, SIGNATURE_FILE};
use anyhow::{Context as _, bail};

/// A package folder whose manifest is right and whose files are there.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Manifest,
}

impl Folder {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Folder> {
        let manifest_path = path.join(Manifest::FILE_NAME);
        let text = std::fs::read(&manifest_path).with_context(|| {
            format!(
                "{}: a model package is a folder with a {}",
                manifest_path.display(),
                Manifest::FILE_NAME
            )
        })?;
        let manifest = Manifest::from_bytes(&text).with_context(|| path.display().to_string())?;
        let folder = Folder {
            path: path.to_owned(),
            manifest,
        };
        for (name, file) in folder.files() {
            if !file.is_file() {
                bail!(
                    "{}: {} names {name}, which is not there; build it or correct the name",
                    path.display(),
                    Manifest::FILE_NAME
                );
            }
        }
        Ok(folder)
    }

    /// The packages of `path`: itself, or the folders in it that are packages.
    pub(crate) fn find(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
        if path.join(Manifest::FILE_NAME).exists() {
            return Ok(vec![path.to_owned()]);
        }
        let entries =
            std::fs::read_dir(path).with_context(|| format!("models folder {}", path.display()))?;
        let mut found: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.join(Manifest::FILE_NAME).is_file())
            .collect();
        if found.is_empty() {
            bail!(
                "{} has no {}, and neither has any folder in it",
                path.display(),
                Manifest::FILE_NAME
            );
        }
        found.sort();
        Ok(found)
    }

    /// The package's files, as named in it and where they are; the manifest first, and last the
    /// signature if there is one.
    pub(crate) fn files(&self) -> Vec<(String, PathBuf)> {
        let named = self.manifest.files();
        let named = named.iter().map(|path: &&PackagePath| path.as_str());
        let signature = self.path.join(SIGNATURE_FILE).exists();
        std::iter::once(Manifest::FILE_NAME)
            .chain(named)
            .chain(signature.then_some(SIGNATURE_FILE))
            .map(|name| (name.to_owned(), self.path.join(name)))
            .collect()
    }

    /// What lies in its folder `samples` to send to it, one of each kind: one of each says more than
    /// two of one.
    pub(crate) fn samples(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.path.join("samples")) else {
            return Vec::new();
        };
        let mut samples: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| is_body(path))
            .collect();
        samples.sort_by(|a, b| a.extension().cmp(&b.extension()).then_with(|| a.cmp(b)));
        samples.dedup_by(|a, b| a.extension() == b.extension());
        samples
    }
}

/// Whether a file of a `samples` folder is a body to send, by its ending; and not the list of
/// what is expected of the others.
fn is_body(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ["json", "jpeg", "jpg", "png", "txt"].contains(&ending))
        && path.file_name().is_some_and(|name| name != "expected.json")
}
