//! Where signatures are asked for: whose they must be, and whose a version's is. An upload is held
//! to them when it is complete, and a version again each time it is laid out, since others may
//! write to the store.

use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::package::PackageDir;
use crate::record::VersionRecord;
use crate::registry::{Inner, Registry};
use crate::signature::{SignatureError, Signer, TrustedKeys, is_signature};

/// What there is to say of a version's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureState {
    /// It has none, and none is asked for.
    Unsigned,
    /// It has one, and no trusted keys are set to hold it to.
    NotChecked,
    /// It is signed by one who is trusted.
    Verified(Signer),
    /// It is not, and so is not served.
    Refused(SignatureError),
}

impl Registry {
    /// From now on only packages signed with one of these keys are taken and laid out. To be said
    /// before the registry is used, and once.
    pub fn with_trusted_keys(self, keys: TrustedKeys) -> Self {
        let _ = self.0.trusted.set(keys);
        self
    }

    /// Whose signature a version has. Read from the store once, then remembered: neither a version
    /// nor the keys change.
    pub async fn signature(&self, record: &VersionRecord) -> Result<SignatureState> {
        self.0.signature(record).await
    }
}

impl Inner {
    async fn signature(&self, record: &VersionRecord) -> Result<SignatureState> {
        let signature = record.files.iter().find(|file| is_signature(&file.path));
        let Some(trusted) = self.trusted.get() else {
            return Ok(match signature {
                Some(_) => SignatureState::NotChecked,
                None => SignatureState::Unsigned,
            });
        };
        if let Some(known) = self.signatures.lock().get(&record.digest) {
            return Ok(known.clone());
        }
        let bytes = match signature {
            None => None,
            Some(file) => match self.store.read_blob(&file.digest).await? {
                Some(bytes) if Digest::of(&bytes) == file.digest => Some(bytes),
                // Not to be remembered: it may be repaired.
                wrong => {
                    let problem = match wrong {
                        Some(_) => "it is corrupt in the store",
                        None => "it is missing from the store",
                    };
                    let refused = SignatureError::Unreadable(problem.to_owned());
                    return Ok(SignatureState::Refused(refused));
                }
            },
        };
        let state = match trusted.verify(bytes.as_deref(), &record.manifest, &record.files) {
            Ok(signer) => SignatureState::Verified(signer),
            Err(refused) => SignatureState::Refused(refused),
        };
        let mut signatures = self.signatures.lock();
        // A bound on what is remembered; it costs reading again, after that many versions.
        if signatures.len() >= REMEMBERED {
            signatures.clear();
        }
        signatures.insert(record.digest, state.clone());
        Ok(state)
    }

    /// Refuses a version that nobody trusted signed. Its files are laid out, and are right.
    pub(crate) async fn hold_to_signature(
        &self,
        record: &VersionRecord,
        dir: &PackageDir,
    ) -> Result<()> {
        let Some(trusted) = self.trusted.get() else {
            return Ok(());
        };
        let signature = dir.signature().await?;
        match trusted.verify(signature.as_deref(), &record.manifest, &record.files) {
            Ok(signer) => {
                tracing::debug!(model = %record.name, version = %record.version, signer = signer.name, "signature verified");
                Ok(())
            }
            Err(source) => Err(RegistryError::UntrustedVersion {
                name: record.name.clone(),
                version: record.version,
                source,
            }),
        }
    }
}

/// How many versions' signatures are remembered.
const REMEMBERED: usize = 10_000;
