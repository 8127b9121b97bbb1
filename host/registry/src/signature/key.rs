//! The keys of model signing: ECDSA over P-256, P-384 or P-521, each with the hash of its size, in
//! PEM files as OpenSSL writes them.

use p256::ecdsa::signature::{SignatureEncoding as _, Signer as _, Verifier as _};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding};

use crate::digest::Digest;

/// A key to verify with.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    curve: PublicCurve,
    fingerprint: String,
}

#[derive(Clone, Debug)]
enum PublicCurve {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

/// A key to sign with. It cannot be printed.
pub(super) enum SecretKey {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

impl PublicKey {
    pub(super) fn from_pem(pem: &str) -> Result<Self, &'static str> {
        let Some(block) = block(pem, "PUBLIC KEY") else {
            return Err(if pem.contains("PRIVATE KEY") {
                "it is a private key; name the public one (`openssl ec -in KEY.pem -pubout` makes it)"
            } else {
                "it has no `-----BEGIN PUBLIC KEY-----`"
            });
        };
        let curve = if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_pem(block) {
            PublicCurve::P256(key)
        } else if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_pem(block) {
            PublicCurve::P384(key)
        } else if let Ok(key) = p521::ecdsa::VerifyingKey::from_public_key_pem(block) {
            PublicCurve::P521(key)
        } else {
            return Err("it is not of an elliptic curve P-256, P-384 or P-521");
        };
        Self::new(curve).ok_or("it cannot be written as PEM again")
    }

    fn new(curve: PublicCurve) -> Option<Self> {
        let written = match &curve {
            PublicCurve::P256(key) => key.to_public_key_pem(LineEnding::LF),
            PublicCurve::P384(key) => key.to_public_key_pem(LineEnding::LF),
            PublicCurve::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        let fingerprint = Digest::of(written.ok()?.as_bytes()).hex();
        Some(Self { curve, fingerprint })
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether `signature`, in DER, is this key's of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.curve {
            PublicCurve::P256(key) => p256::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            PublicCurve::P384(key) => p384::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            PublicCurve::P521(key) => p521::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

impl SecretKey {
    pub(super) fn from_pem(pem: &str) -> Result<Self, &'static str> {
        if pem.contains("ENCRYPTED") {
            return Err("it is encrypted; `openssl ec -in KEY.pem` writes it without its password");
        }
        if let Some(block) = block(pem, "EC PRIVATE KEY") {
            if let Ok(key) = p256::SecretKey::from_sec1_pem(block) {
                return Ok(Self::P256(key.into()));
            }
            if let Ok(key) = p384::SecretKey::from_sec1_pem(block) {
                return Ok(Self::P384(key.into()));
            }
            if let Ok(key) = p521::SecretKey::from_sec1_pem(block) {
                return Ok(Self::P521(key.into()));
            }
        } else if let Some(block) = block(pem, "PRIVATE KEY") {
            if let Ok(key) = p256::SecretKey::from_pkcs8_pem(block) {
                return Ok(Self::P256(key.into()));
            }
            if let Ok(key) = p384::SecretKey::from_pkcs8_pem(block) {
                return Ok(Self::P384(key.into()));
            }
            if let Ok(key) = p521::SecretKey::from_pkcs8_pem(block) {
                return Ok(Self::P521(key.into()));
            }
        } else {
            return Err(
                "it has no `-----BEGIN PRIVATE KEY-----` or `-----BEGIN EC PRIVATE KEY-----`",
            );
        }
        Err("it is not of an elliptic curve P-256, P-384 or P-521")
    }

    /// The signature of `message` in DER: the same each time (RFC 6979), so that a package signed
    /// again is the same package.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::P256(key) => {
                let signed: Result<p256::ecdsa::DerSignature, _> = key.try_sign(message);
                Some(signed.ok()?.to_vec())
            }
            Self::P384(key) => {
                let signed: Result<p384::ecdsa::DerSignature, _> = key.try_sign(message);
                Some(signed.ok()?.to_vec())
            }
            Self::P521(key) => {
                let signed: Result<p521::ecdsa::DerSignature, _> = key.try_sign(message);
                Some(signed.ok()?.to_vec())
            }
        }
    }

    pub(super) fn public(&self) -> Option<PublicKey> {
        PublicKey::new(match self {
            Self::P256(key) => PublicCurve::P256(*key.verifying_key()),
            Self::P384(key) => PublicCurve::P384(*key.verifying_key()),
            Self::P521(key) => PublicCurve::P521(*key.verifying_key()),
        })
    }
}

/// The PEM block of that label, wherever it stands: OpenSSL writes the curve's parameters before a
/// key, in a block of their own.
fn block<'p>(pem: &'p str, label: &str) -> Option<&'p str> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let from = pem.get(pem.find(&begin)?..)?;
    from.get(..from.find(&end)? + end.len())
}
