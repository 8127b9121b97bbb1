//! What can be wrong with a signature or a key, each with its own words.

use std::io;
use std::path::PathBuf;

use crate::path::PackagePath;
use crate::text::quoted_list;

/// Why a package is not taken for signed by somebody who is trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is no signature.
    #[error(
        "the package is not signed, and only packages signed by a trusted key are taken here; sign it with \
         `aegis sign`, which writes model.sig beside model.toml"
    )]
    Unsigned,
    /// The signature is not in the form of OpenSSF Model Signing.
    #[error("model.sig is not a signature of OpenSSF Model Signing 1.0 by a key: {0}")]
    Unreadable(String),
    /// It names a key that is not trusted.
    #[error(
        "the package is signed with the key {key}, which is not trusted here; trusted are {}",
        quoted_list(.trusted.iter().map(String::as_str))
    )]
    Untrusted {
        /// The fingerprint that the signature names.
        key: String,
        /// The names of the keys that are trusted.
        trusted: Vec<String>,
    },
    /// It names no key, and no trusted key made it.
    #[error(
        "the signature is not by a trusted key, or what it holds was altered; trusted are {}",
        quoted_list(.trusted.iter().map(String::as_str))
    )]
    NotByTrusted {
        /// The names of the keys that are trusted.
        trusted: Vec<String>,
    },
    /// It names a trusted key that did not make it.
    #[error(
        "the signature says that it is by `{key}` and is not: model.sig was altered, or made by somebody else; sign \
         the package again"
    )]
    Wrong {
        /// The name of the key.
        key: String,
    },
    /// Files are not what was signed.
    #[error(
        "the package was altered after it was signed: {}; upload what was signed, or sign what is uploaded",
        quoted_list(.0.iter().map(PackagePath::as_str))
    )]
    Altered(Vec<PackagePath>),
    /// Files are not part of what was signed.
    #[error(
        "the signature does not cover {}; sign the whole package folder",
        quoted_list(.0.iter().map(PackagePath::as_str))
    )]
    NotCovered(Vec<PackagePath>),
}

impl SignatureError {
    /// A word for programs; it never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned_package",
            Self::Unreadable(_) => "invalid_signature_file",
            Self::Untrusted { .. } | Self::NotByTrusted { .. } => "untrusted_key",
            Self::Wrong { .. } => "wrong_signature",
            Self::Altered(_) => "altered_after_signing",
            Self::NotCovered(_) => "partly_signed",
        }
    }
}

/// Why a file is no key to sign or verify with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// It cannot be read.
    #[error("the key {} cannot be read: {source}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no key of a kind that is known.
    #[error("{} is not a key to sign models with: {problem}", .file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}
