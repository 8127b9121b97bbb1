//! [`RegistryError`]: everything that can go wrong, each with a stable code and the kind of answer
//! it deserves. Messages say what was wrong, with which value, and what would be right.

use std::error::Error;
use std::io;

use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::name::{InvalidName, ModelName};
use crate::path::{InvalidPath, PackagePath};
use crate::signature::SignatureError;
use crate::text::quoted_list;
use crate::version::{InvalidVersion, Version};

/// What the registry's operations return.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// Why an operation of the registry failed. [`kind`](Self::kind) says what sort of answer the
/// caller deserves, [`code`](Self::code) is for programs and never changes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A word is not a model's name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A word is not a version.
    #[error(transparent)]
    InvalidVersion(#[from] InvalidVersion),
    /// A part of an upload has an impossible file name.
    #[error(transparent)]
    InvalidPath(#[from] InvalidPath),
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The files do not make a package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The package is not signed by one who is trusted.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A version is there that nobody trusted signed.
    #[error("version {version} of `{name}` is not loaded: {source}")]
    UntrustedVersion {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// What is wrong with its signature.
        source: SignatureError,
    },
    /// A traffic rule that cannot hold.
    #[error("{0}")]
    InvalidTraffic(String),
    /// No model of that name.
    #[error("there is no model `{name}`")]
    ModelNotFound {
        /// The name asked for.
        name: ModelName,
    },
    /// The model is there, the version is not.
    #[error("model `{name}` has no version {version}")]
    VersionNotFound {
        /// The model.
        name: ModelName,
        /// The version asked for.
        version: Version,
    },
    /// The version answers requests and cannot be deleted.
    #[error("version {version} of `{name}` is its {role}; {remedy}, then delete it")]
    VersionInUse {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// What it is in the traffic rule.
        role: &'static str,
        /// What to do first.
        remedy: &'static str,
    },
    /// Others kept changing the same object.
    #[error("`{key}` was changed by others {attempts} times in a row; try again")]
    Contended {
        /// The object's key in the store.
        key: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A stored file is not what it was when it was uploaded.
    #[error(
        "file `{path}` of version {version} of `{name}` is corrupt in the store: expected {expected}, found {found} \
         ({found_bytes} bytes); upload the same package again to repair it"
    )]
    CorruptBlob {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// The file in the package.
        path: PackagePath,
        /// The digest it was stored under.
        expected: Digest,
        /// The digest of what is there now.
        found: Digest,
        /// The size of what is there now.
        found_bytes: u64,
    },
    /// A stored file is gone.
    #[error(
        "file `{path}` of version {version} of `{name}` is missing from the store ({expected}); upload the same \
         package again to repair it"
    )]
    MissingBlob {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// The file in the package.
        path: PackagePath,
        /// The digest it was stored under.
        expected: Digest,
    },
    /// An object of the store cannot be understood.
    #[error("`{key}` in the store cannot be read: {problem}")]
    CorruptRecord {
        /// The object's key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A staged file changed between its upload and its commit.
    #[error(
        "file `{path}` changed on disk while it was being stored: expected {expected}, found {found}"
    )]
    StagedFileChanged {
        /// The file in the package.
        path: PackagePath,
        /// The digest of what was uploaded.
        expected: Digest,
        /// The digest of what was read back.
        found: Digest,
    },
    /// There is no room.
    #[error("no room left while {doing}: {source}; free some space or delete old versions")]
    StorageFull {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store has less of a file than it was given, and says that all is well.
    #[error(
        "the store keeps {kept} of {size} bytes of `{path}` and reports no error; it cannot be relied on"
    )]
    NotKept {
        /// The file in the package.
        path: PackagePath,
        /// Its size.
        size: u64,
        /// The size of what the store has.
        kept: u64,
    },
    /// The file system failed.
    #[error("{doing} failed: {source}")]
    Io {
        /// What was being done, and to which file.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store failed.
    #[error("{doing} failed: {source}")]
    Store {
        /// What was being done, and to which object.
        doing: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The work was cut short by the process ending.
    #[error("the server is shutting down; the change may or may not have been made")]
    Interrupted,
}

/// Why the files of an upload do not make a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// No `model.toml`.
    #[error("the package has no model.toml; upload it as a part with the file name `model.toml`")]
    MissingManifest,
    /// The manifest is of another model.
    #[error(
        "the upload is to model `{given}`, but model.toml says name = \"{manifest}\"; make them the same"
    )]
    NameMismatch {
        /// The model the upload is to.
        given: ModelName,
        /// The name in the manifest.
        manifest: ModelName,
    },
    /// Files the manifest names are not there.
    #[error("model.toml names files that the package does not have: {}", quoted_list(.0.iter().map(PackagePath::as_str)))]
    MissingFiles(Vec<PackagePath>),
    /// Files are there that the manifest does not name.
    #[error(
        "the package has files that model.toml does not name: {}; leave them out, or name them there",
        quoted_list(.0.iter().map(PackagePath::as_str))
    )]
    UnknownFiles(Vec<PackagePath>),
    /// A file that must have content has none.
    #[error("file `{0}` is empty")]
    EmptyFile(PackagePath),
    /// Two files cannot be in one folder.
    #[error(
        "files `{earlier}` and `{path}` cannot be in one package: they are the same, differ only in case, or one is a folder of the other"
    )]
    DuplicateFile {
        /// The file that came first.
        earlier: PackagePath,
        /// The file that came second.
        path: PackagePath,
    },
    /// A file was not sent to its end.
    #[error("file `{0}` was cut off; send the whole package again")]
    Incomplete(PackagePath),
    /// Too many files.
    #[error("the package has more than {max} files; at most {max} are taken")]
    TooManyFiles {
        /// The most that is taken.
        max: usize,
    },
    /// One file is too large.
    #[error("file `{path}` is larger than {max} bytes, the most that is taken of one file")]
    FileTooLarge {
        /// The file.
        path: PackagePath,
        /// The most that is taken.
        max: u64,
    },
    /// All files together are too large.
    #[error("the package is larger than {max} bytes, the most that is taken of one package")]
    PackageTooLarge {
        /// The most that is taken.
        max: u64,
    },
}

/// What sort of answer an error deserves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself makes no sense (HTTP 400).
    BadRequest,
    /// What was named does not exist (404).
    NotFound,
    /// The state of things forbids it now (409).
    Conflict,
    /// Over a limit of size or number (413).
    TooLarge,
    /// Understood, but what was sent is wrong (422).
    Unprocessable,
    /// There is no room to store it (507).
    StorageFull,
    /// The store does not answer, or not as it should: later it may (503).
    Unavailable,
    /// Not the caller's doing (500).
    Internal,
}

impl RegistryError {
    /// What sort of answer this deserves.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidName(_) | Self::InvalidVersion(_) | Self::InvalidPath(_) => {
                ErrorKind::BadRequest
            }
            Self::ModelNotFound { .. } | Self::VersionNotFound { .. } => ErrorKind::NotFound,
            Self::VersionInUse { .. } | Self::Contended { .. } | Self::UntrustedVersion { .. } => {
                ErrorKind::Conflict
            }
            Self::Manifest(ManifestError::TooLarge { .. }) => ErrorKind::TooLarge,
            Self::Package(
                PackageError::TooManyFiles { .. }
                | PackageError::FileTooLarge { .. }
                | PackageError::PackageTooLarge { .. },
            ) => ErrorKind::TooLarge,
            Self::Manifest(_) | Self::Package(_) | Self::Signature(_) | Self::InvalidTraffic(_) => {
                ErrorKind::Unprocessable
            }
            Self::StorageFull { .. } => ErrorKind::StorageFull,
            // What a store says of credentials or of what it cannot do is not over by itself.
            Self::Store {
                source: object_store::Error::Generic { .. },
                ..
            } => ErrorKind::Unavailable,
            Self::CorruptBlob { .. }
            | Self::MissingBlob { .. }
            | Self::CorruptRecord { .. }
            | Self::StagedFileChanged { .. }
            | Self::NotKept { .. }
            | Self::Io { .. }
            | Self::Store { .. }
            | Self::Interrupted => ErrorKind::Internal,
        }
    }

    /// A word for programs, such as `version_not_found`. A code once given never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidName(_) => "invalid_model_name",
            Self::InvalidVersion(_) => "invalid_version",
            Self::InvalidPath(_) => "invalid_file_name",
            Self::Manifest(ManifestError::TooLarge { .. }) => "manifest_too_large",
            Self::Manifest(_) => "invalid_manifest",
            Self::Package(error) => error.code(),
            Self::Signature(error) => error.code(),
            Self::UntrustedVersion { .. } => "untrusted_version",
            Self::InvalidTraffic(_) => "invalid_traffic",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::VersionNotFound { .. } => "version_not_found",
            Self::VersionInUse { .. } => "version_in_use",
            Self::Contended { .. } => "contended",
            Self::CorruptBlob { .. } => "corrupt_blob",
            Self::MissingBlob { .. } => "missing_blob",
            Self::CorruptRecord { .. } => "corrupt_record",
            Self::StagedFileChanged { .. } => "staged_file_changed",
            Self::NotKept { .. } => "not_kept",
            Self::StorageFull { .. } => "storage_full",
            Self::Io { .. } => "io_error",
            Self::Store { .. } => "store_error",
            Self::Interrupted => "interrupted",
        }
    }

    /// For `map_err`: a failure of the file system while `doing` something.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let doing = doing.into();
            if is_full(&source) {
                return Self::StorageFull {
                    doing,
                    source: source.into(),
                };
            }
            Self::Io { doing, source }
        }
    }

    /// For `map_err`: a failure of the store while `doing` something.
    pub(crate) fn store(doing: impl Into<String>) -> impl FnOnce(object_store::Error) -> Self {
        move |source| {
            let doing = doing.into();
            if is_full(&source) {
                return Self::StorageFull {
                    doing,
                    source: source.into(),
                };
            }
            Self::Store { doing, source }
        }
    }
}

impl PackageError {
    /// A word for programs; it never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingManifest => "missing_manifest",
            Self::NameMismatch { .. } => "name_mismatch",
            Self::MissingFiles(_) => "missing_files",
            Self::UnknownFiles(_) => "unknown_files",
            Self::EmptyFile(_) => "empty_file",
            Self::DuplicateFile { .. } => "duplicate_file",
            Self::Incomplete(_) => "upload_incomplete",
            Self::TooManyFiles { .. } => "too_many_files",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::PackageTooLarge { .. } => "package_too_large",
        }
    }
}

/// Whether somewhere down its causes the error is a full disk or a spent quota.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let io_error = error.downcast_ref::<io::Error>();
    if io_error.is_some_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }) {
        return true;
    }
    error.source().is_some_and(is_full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures_at_any_depth() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(
            RegistryError::io("writing")(full()).kind(),
            ErrorKind::StorageFull
        );
        let wrapped = object_store::Error::Generic {
            store: "local",
            source: Box::new(full()),
        };
        assert_eq!(
            RegistryError::store("writing")(wrapped).code(),
            "storage_full"
        );
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(
            RegistryError::io("writing")(denied).kind(),
            ErrorKind::Internal
        );
    }
}
