//! What is signed: an in-toto statement whose predicate lists every file of the model with its
//! digest, and whose subject is the model as a whole. Of the ways in which `model_signing` can list
//! a model, the one that is its default is read: whole files, by SHA-256.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::SignatureError;
use super::root_digest;
use crate::digest::Digest;
use crate::path::PackagePath;

const TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
const METHOD: &str = "files";
const HASH: &str = "sha256";

/// The files that were signed, by their path from the model's folder.
pub(super) struct Statement(BTreeMap<String, Digest>);

#[derive(Serialize, Deserialize)]
struct StatementJson {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<SubjectJson>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: PredicateJson,
}

#[derive(Serialize, Deserialize)]
struct SubjectJson {
    name: String,
    digest: SubjectDigestJson,
}

#[derive(Serialize, Deserialize)]
struct SubjectDigestJson {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct PredicateJson {
    serialization: SerializationJson,
    resources: Vec<ResourceJson>,
}

#[derive(Serialize, Deserialize)]
struct SerializationJson {
    method: String,
    hash_type: String,
    #[serde(default)]
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct ResourceJson {
    name: String,
    algorithm: String,
    digest: String,
}

impl Statement {
    /// Reads a payload whose signature was verified.
    pub(super) fn from_json(payload: &[u8]) -> Result<Self, SignatureError> {
        let unreadable = |problem: String| SignatureError::Unreadable(problem);
        let value: serde_json::Value = serde_json::from_slice(payload)
            .map_err(|error| unreadable(format!("its payload is not JSON: {error}")))?;
        for (key, expected) in [("_type", TYPE), ("predicateType", PREDICATE_TYPE)] {
            let found = value.get(key).and_then(serde_json::Value::as_str);
            if found != Some(expected) {
                return Err(unreadable(format!(
                    "its {key} is {found:?}, not {expected:?}; sign with model_signing 1.0 or later"
                )));
            }
        }
        let json: StatementJson = serde_json::from_value(value)
            .map_err(|error| unreadable(format!("its statement: {error}")))?;
        let serialization = json.predicate.serialization;
        if (
            serialization.method.as_str(),
            serialization.hash_type.as_str(),
        ) != (METHOD, HASH)
        {
            return Err(unreadable(format!(
                "it lists {} by {}; sign whole files by {HASH}, which is the tool's default",
                serialization.method, serialization.hash_type
            )));
        }
        let mut files = BTreeMap::new();
        let mut digests = Vec::new();
        for resource in json.predicate.resources {
            let digest = Digest::from_hex(&resource.digest);
            let (HASH, Ok(digest)) = (resource.algorithm.as_str(), digest) else {
                return Err(unreadable(format!(
                    "the digest of {:?} is not a {HASH} in hexadecimal digits",
                    resource.name
                )));
            };
            digests.push(digest);
            if let Some(twice) = files.insert(resource.name.clone(), digest)
                && twice != digest
            {
                return Err(unreadable(format!(
                    "it has two digests of {:?}",
                    resource.name
                )));
            }
        }
        let root = root_digest(&digests).hex();
        match json.subject.as_slice() {
            [model] if model.digest.sha256 == root => Ok(Self(files)),
            [_] => Err(unreadable(
                "the digest of the model is not that of its files' digests".to_owned(),
            )),
            subjects => Err(unreadable(format!(
                "it is about {} models, not one",
                subjects.len()
            ))),
        }
    }

    /// What was signed of a file.
    pub(super) fn digest(&self, path: &PackagePath) -> Option<Digest> {
        self.0.get(path.as_str()).copied()
    }
}

/// The statement about a model's files, in the order given; `None` if it cannot be written.
pub(super) fn to_json(
    model: &str,
    files: &[(String, Digest)],
    ignored: &[&str],
) -> Option<Vec<u8>> {
    let root = root_digest(files.iter().map(|(_, digest)| digest));
    let resource = |(name, digest): &(String, Digest)| ResourceJson {
        name: name.clone(),
        algorithm: HASH.to_owned(),
        digest: digest.hex(),
    };
    let json = StatementJson {
        kind: TYPE.to_owned(),
        subject: vec![SubjectJson {
            name: model.to_owned(),
            digest: SubjectDigestJson { sha256: root.hex() },
        }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: PredicateJson {
            serialization: SerializationJson {
                method: METHOD.to_owned(),
                hash_type: HASH.to_owned(),
                allow_symlinks: false,
                ignore_paths: ignored.iter().map(|path| (*path).to_owned()).collect(),
            },
            resources: files.iter().map(resource).collect(),
        },
    };
    serde_json::to_vec(&json).ok()
}
