//! The outer form of a signature: Sigstore's bundle with a DSSE envelope in it. Here is who signed
//! which bytes; what the bytes say is for `statement`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::error::SignatureError;
use super::key::{PublicKey, SecretKey};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// One signer signs once; the form allows more.
const MAX_SIGNATURES: usize = 8;

/// A bundle, decoded. Nothing of it is verified yet.
pub(super) struct Bundle {
    hint: Option<String>,
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleJson {
    media_type: String,
    verification_material: MaterialJson,
    dsse_envelope: EnvelopeJson,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MaterialJson {
    public_key: Option<PublicKeyJson>,
    /// Of a transparency log, which signing by key has none of.
    #[serde(default)]
    tlog_entries: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct PublicKeyJson {
    #[serde(default)]
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeJson {
    payload: String,
    payload_type: String,
    signatures: Vec<SignatureJson>,
}

#[derive(Serialize, Deserialize)]
struct SignatureJson {
    sig: String,
}

impl Bundle {
    pub(super) fn from_json(json: &[u8]) -> Result<Self, SignatureError> {
        let unreadable = |problem: String| SignatureError::Unreadable(problem);
        let json: BundleJson =
            serde_json::from_slice(json).map_err(|error| unreadable(error.to_string()))?;
        if json.media_type != MEDIA_TYPE {
            return Err(unreadable(format!(
                "its mediaType is {:?}, not {MEDIA_TYPE:?}",
                json.media_type
            )));
        }
        let envelope = json.dsse_envelope;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(unreadable(format!(
                "its payloadType is {:?}, not {PAYLOAD_TYPE:?}",
                envelope.payload_type
            )));
        }
        let Some(key) = json.verification_material.public_key else {
            return Err(unreadable(
                "it was made with a certificate or an identity; sign with a key (`model_signing sign key`)"
                    .to_owned(),
            ));
        };
        let decode = |what: &str, text: &str| {
            let decoded = BASE64.decode(text);
            decoded.map_err(|_| unreadable(format!("its {what} is not base64")))
        };
        if !(1..=MAX_SIGNATURES).contains(&envelope.signatures.len()) {
            return Err(unreadable(format!(
                "it has {} signatures; one is right",
                envelope.signatures.len()
            )));
        }
        let signatures = envelope.signatures.iter();
        Ok(Self {
            hint: key.hint.filter(|hint| !hint.is_empty()),
            payload: decode("payload", &envelope.payload)?,
            signatures: signatures
                .map(|signature| decode("signature", &signature.sig))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The fingerprint of the key it says it was made with. A claim: it only says where to look.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What is signed.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether the key made one of its signatures.
    pub(super) fn is_by(&self, key: &PublicKey) -> bool {
        let message = pae(&self.payload);
        self.signatures
            .iter()
            .any(|signature| key.verifies(&message, signature))
    }
}

/// The JSON of a bundle in which `key` signs `payload`; `None` if the key cannot.
pub(super) fn signed(payload: &[u8], key: &SecretKey) -> Option<Vec<u8>> {
    let signature = key.sign(&pae(payload))?;
    let json = BundleJson {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: MaterialJson {
            public_key: Some(PublicKeyJson {
                hint: Some(key.public()?.fingerprint().to_owned()),
            }),
            tlog_entries: Vec::new(),
        },
        dsse_envelope: EnvelopeJson {
            payload: BASE64.encode(payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![SignatureJson {
                sig: BASE64.encode(signature),
            }],
        },
    };
    serde_json::to_vec(&json).ok()
}

/// DSSE's pre-authentication encoding, of
/// <https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md>: what is signed is not the
/// payload alone but also what kind of thing it is.
fn pae(payload: &[u8]) -> Vec<u8> {
    let (kind, length) = (PAYLOAD_TYPE, payload.len());
    let mut message = format!("DSSEv1 {} {kind} {length} ", kind.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn key() -> SecretKey {
        SecretKey::P256(p256::SecretKey::from_slice(&[7; 32]).unwrap().into())
    }

    #[test]
    fn the_signed_words_are_those_of_dsse() {
        let words = String::from_utf8(pae(b"hello")).unwrap();
        assert_eq!(words, "DSSEv1 28 application/vnd.in-toto+json 5 hello");
    }

    proptest! {
        #[test]
        fn what_is_signed_comes_back_and_is_by_its_key_alone(payload in any::<Vec<u8>>()) {
            let bundle = Bundle::from_json(&signed(&payload, &key()).unwrap()).unwrap();
            prop_assert_eq!(bundle.payload(), payload);
            prop_assert!(bundle.is_by(&key().public().unwrap()));
            let other = SecretKey::P384(p384::SecretKey::from_slice(&[8; 48]).unwrap().into());
            prop_assert!(!bundle.is_by(&other.public().unwrap()));
        }

        #[test]
        fn any_bytes_are_a_bundle_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = Bundle::from_json(&bytes);
        }

        #[test]
        fn a_byte_changed_anywhere_is_never_taken_for_the_same(at in 0usize..10_000, flip in 1u8..=255) {
            let good = signed(b"payload", &key()).unwrap();
            let at = at % good.len();
            let mut bad = good.clone();
            if let Some(byte) = bad.get_mut(at) {
                *byte ^= flip;
            }
            // It is refused, or says what was signed by that key and nothing else.
            if let Ok(bundle) = Bundle::from_json(&bad)
                && bundle.is_by(&key().public().unwrap())
            {
                prop_assert_eq!(bundle.payload(), b"payload");
            }
        }
    }
}
