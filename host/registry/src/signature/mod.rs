//! Signatures of packages, in the form that OpenSSF Model Signing 1.0 has for keys: `model.sig`
//! beside `model.toml`, a Sigstore bundle around a DSSE envelope around an in-toto statement that
//! lists the digest of every file. The `model_signing` tool verifies what is signed here, and what it signs is verified
//! here.
//!
//! [`TrustedKeys`] says whose signatures count, `bundle` is the file's outer form and its
//! cryptography, `statement` what is signed, [`sign`] makes it of a folder.

mod bundle;
mod error;
mod key;
mod sign;
mod statement;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

pub use error::{InvalidKey, SignatureError};
pub use sign::{PrivateKey, SignError, sign};

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::path::PackagePath;
use crate::record::FileRecord;
use bundle::Bundle;
use key::PublicKey;
use statement::Statement;

/// The file of a package's signature.
pub const SIGNATURE_FILE: &str = "model.sig";

/// The largest signature that is read, in bytes. A file takes about 200 of them, and a folder may
/// hold many that are not uploaded.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// Whose signatures count.
#[derive(Clone, Debug)]
pub struct TrustedKeys(Arc<Vec<(Signer, PublicKey)>>);

/// Whose signature it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// What the operator calls the key: the name of its file, without the ending.
    pub name: String,
    /// The key's fingerprint, 64 hexadecimal digits: the SHA-256 of its public PEM file as OpenSSL
    /// writes it, and what `model_signing` puts into its signatures as `hint`.
    pub key: String,
}

impl TrustedKeys {
    /// Reads public keys, each from a PEM file. Blocks.
    pub fn read(files: &[PathBuf]) -> Result<Self, InvalidKey> {
        let read = |file: &PathBuf| {
            let pem = std::fs::read_to_string(file).map_err(|source| InvalidKey::Unreadable {
                file: file.clone(),
                source,
            })?;
            Self::one(file, &pem)
        };
        let keys = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Arc::new(keys)))
    }

    fn one(file: &Path, pem: &str) -> Result<(Signer, PublicKey), InvalidKey> {
        let key = PublicKey::from_pem(pem).map_err(|problem| InvalidKey::Wrong {
            file: file.to_owned(),
            problem,
        })?;
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem.strip_suffix(".pub").unwrap_or(&stem).to_owned();
        let fingerprint = key.fingerprint().to_owned();
        Ok((
            Signer {
                name,
                key: fingerprint,
            },
            key,
        ))
    }

    /// Whose keys they are.
    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter().map(|(signer, _)| signer)
    }

    /// Whose signature `signature` is, if it is one of these and covers every file of the package
    /// as it is. `manifest` is the package's own, and `files` all its files.
    ///
    /// What is signed and not in the package (samples, a readme) is no fault: what the manifest
    /// does not name is not uploaded, and the manifest is signed.
    pub(crate) fn verify(
        &self,
        signature: Option<&[u8]>,
        manifest: &Manifest,
        files: &[FileRecord],
    ) -> Result<Signer, SignatureError> {
        let bundle = Bundle::from_json(signature.ok_or(SignatureError::Unsigned)?)?;
        let signer = self.signer_of(&bundle)?;
        let signed = Statement::from_json(bundle.payload())?;

        let named = manifest.files();
        // A signature cannot cover itself. A package that gives the file another use has one that
        // nothing covers.
        let needs_none = |file: &&FileRecord| {
            file.path.as_str() == SIGNATURE_FILE && !named.contains(&&file.path)
        };
        let (mut altered, mut uncovered) = (Vec::new(), Vec::new());
        for file in files.iter().filter(|file| !needs_none(file)) {
            match signed.digest(&file.path) {
                Some(digest) if digest == file.digest => {}
                Some(_) => altered.push(file.path.clone()),
                None => uncovered.push(file.path.clone()),
            }
        }
        if !altered.is_empty() {
            return Err(SignatureError::Altered(altered));
        }
        if !uncovered.is_empty() {
            return Err(SignatureError::NotCovered(uncovered));
        }
        Ok(signer.clone())
    }

    /// The key that made the bundle's signature. Where the bundle names its key, that one is meant.
    fn signer_of(&self, bundle: &Bundle) -> Result<&Signer, SignatureError> {
        let candidates = self
            .0
            .iter()
            .filter(|(signer, _)| bundle.hint().is_none_or(|hint| hint == signer.key));
        let mut meant = None;
        for (signer, key) in candidates {
            if bundle.is_by(key) {
                return Ok(signer);
            }
            meant = Some(signer);
        }
        match (bundle.hint(), meant) {
            (Some(_), Some(signer)) => Err(SignatureError::Wrong {
                key: signer.name.clone(),
            }),
            (Some(hint), None) => Err(SignatureError::Untrusted {
                key: hint.chars().take(64).collect(),
                trusted: self.names(),
            }),
            (None, _) => Err(SignatureError::NotByTrusted {
                trusted: self.names(),
            }),
        }
    }

    fn names(&self) -> Vec<String> {
        self.signers().map(|signer| signer.name.clone()).collect()
    }
}

/// Whether the file of that path is a package's signature, which a package may have beside what its
/// manifest names.
pub(crate) fn is_signature(path: &PackagePath) -> bool {
    path.as_str() == SIGNATURE_FILE
}

/// The digest that a statement gives the model as a whole: of its files' digests, in its order.
fn root_digest<'d>(digests: impl IntoIterator<Item = &'d Digest>) -> Digest {
    let bytes: Vec<u8> = digests
        .into_iter()
        .flat_map(|digest| *digest.as_bytes())
        .collect();
    Digest::of(&bytes)
}
