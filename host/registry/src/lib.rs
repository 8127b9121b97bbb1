//! The registry: model packages, their immutable versions, and the traffic rules that say which
//! version answers, kept in an object store (a local folder by default).
//!
//! An upload is staged ([`Registry::begin_upload`]), checked ([`Upload::finish`]), tried out by
//! whoever runs models (from [`Package::dir`]), and committed ([`Registry::commit`]). A version is
//! brought back as files by [`Registry::materialise`].
//!
//! It knows nothing of wasm, networks or HTTP: what a manifest's words mean is for others to say.

mod blocking;
mod collect;
mod commit;
mod delete;
mod diff;
mod digest;
mod error;
mod follow;
mod layout;
mod local_room;
pub mod manifest;
mod name;
mod package;
mod path;
mod record;
mod records;
mod registry;
mod report;
mod rollout;
mod rules;
mod signature;
mod signed;
mod store;
mod text;
mod traffic;
mod upload;
mod version;
mod workdir;

pub use collect::Collected;
pub use commit::{Commit, CommitMeta};
pub use diff::{FileDiff, FileState, KeyDiff, VersionDiff};
pub use digest::{Digest, InvalidDigest};
pub use error::{ErrorKind, PackageError, RegistryError, Result};
pub use follow::Follower;
pub use manifest::{Manifest, ManifestError};
pub use name::{InvalidName, ModelName};
pub use package::{Package, PackageDir};
pub use path::{InvalidPath, PackagePath};
pub use record::{FileRecord, VersionRecord, content_digest};
pub use registry::{Model, Registry};
pub use report::RolloutReport;
pub use rollout::{Lease, Rollout, RolloutPlan};
pub use signature::{
    InvalidKey, PrivateKey, SIGNATURE_FILE, SignError, SignatureError, Signer, TrustedKeys, sign,
};
pub use signed::SignatureState;
pub use store::{InvalidStoreUrl, StoreUrl};
pub use traffic::{
    Canary, InvalidWeight, Shadow, Traffic, TrafficAction, TrafficChange, TrafficEdit, Weight,
};
pub use upload::{PartWriter, Upload, UploadLimits};
pub use version::{InvalidVersion, Version};
