//! Signing a package's folder: every file in it, as `model_signing` lists a model, so that its
//! `verify` finds the folder as it was signed. That is more than what is uploaded; what was not
//! signed would be an extra file to that tool.

use std::io;
use std::path::{Path, PathBuf};

use super::error::InvalidKey;
use super::key::SecretKey;
use super::{SIGNATURE_FILE, bundle, statement};
use crate::digest::Digest;

/// What `model_signing` leaves out unless told otherwise, beside the signature itself.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// A key to sign with.
pub struct PrivateKey(SecretKey);

/// Why a folder was not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A file or folder could not be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A link, or something else that is neither file nor folder.
    #[error(
        "{} is neither a file nor a folder, and cannot be signed; put the file itself there, or move it out of the package",
        .0.display()
    )]
    NotAFile(PathBuf),
    /// A name that JSON cannot hold.
    #[error("{} has a name that is not UTF-8", .0.display())]
    Name(PathBuf),
    /// The cryptography failed.
    #[error("the key does not sign")]
    Key,
}

impl PrivateKey {
    /// Reads a private key from a PEM file. Blocks.
    pub fn read(file: &Path) -> Result<Self, InvalidKey> {
        let pem = std::fs::read_to_string(file).map_err(|source| InvalidKey::Unreadable {
            file: file.to_owned(),
            source,
        })?;
        let key = SecretKey::from_pem(&pem).map_err(|problem| InvalidKey::Wrong {
            file: file.to_owned(),
            problem,
        })?;
        Ok(Self(key))
    }

    /// The fingerprint of its public key.
    pub fn fingerprint(&self) -> Option<String> {
        Some(self.0.public()?.fingerprint().to_owned())
    }
}

/// The content of the signature file of `folder`, and how many files it covers. Reads every file of
/// the folder; blocks.
pub fn sign(folder: &Path, key: &PrivateKey) -> Result<(Vec<u8>, usize), SignError> {
    let mut files = Vec::new();
    list(folder, &[], &mut files)?;
    // By their parts, as Python sorts paths: `a/b` before `a-b`.
    files.sort();
    let digest = |parts: &Vec<String>| {
        let path = parts
            .iter()
            .fold(folder.to_owned(), |path, part| path.join(part));
        match Digest::of_file(&path) {
            Ok((digest, _)) => Ok((parts.join("/"), digest)),
            Err(source) => Err(SignError::Unreadable { path, source }),
        }
    };
    let files = files.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
    let real = folder
        .canonicalize()
        .map_err(|source| SignError::Unreadable {
            path: folder.to_owned(),
            source,
        })?;
    let model = real.file_name().unwrap_or_default().to_string_lossy();
    let ignored: Vec<_> = [SIGNATURE_FILE].into_iter().chain(IGNORED).collect();
    let payload = statement::to_json(&model, &files, &ignored).ok_or(SignError::Key)?;
    let signed = bundle::signed(&payload, &key.0).ok_or(SignError::Key)?;
    Ok((signed, files.len()))
}

/// Adds the files under `folder`, each as the parts of its path.
fn list(folder: &Path, above: &[String], files: &mut Vec<Vec<String>>) -> Result<(), SignError> {
    let unreadable = |source| SignError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| SignError::Name(path.clone()))?;
        if above.is_empty() && (name == SIGNATURE_FILE || IGNORED.contains(&name)) {
            continue;
        }
        let mut parts = above.to_vec();
        parts.push(name.to_owned());
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            list(&path, &parts, files)?;
        } else if kind.is_file() {
            files.push(parts);
        } else {
            return Err(SignError::NotAFile(path));
        }
    }
    Ok(())
}
