//! [`VersionRecord`]: what the store keeps of one version beside its files, and its JSON form. A
//! record never changes; deleting a version replaces it by a tombstone, which keeps its number
//! from being given again.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::name::ModelName;
use crate::path::PackagePath;
use crate::version::Version;

/// The form of records that this code writes, and the newest it reads.
const FORMAT: u32 = 1;

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its path in the package.
    pub path: PackagePath,
    /// The digest of its bytes, which is where the store keeps them.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct VersionRecord {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// The digest of the content; see [`content_digest`].
    pub digest: Digest,
    /// When it was uploaded.
    pub created_at: OffsetDateTime,
    /// Who uploaded it, where that is known.
    pub created_by: Option<String>,
    /// The manifest as it was uploaded.
    pub manifest_text: String,
    /// The manifest, read.
    pub manifest: Manifest,
    /// All files, `model.toml` among them, in order of path.
    pub files: Vec<FileRecord>,
}

/// The digest of a package's content: of the lines `<hex>  <path>\n`, one a file, `model.toml`
/// included, in order of path (by bytes). It is what this prints:
/// `sha256sum $(find . -type f -printf '%P\n' | LC_ALL=C sort) | sha256sum`.
pub fn content_digest(files: &[FileRecord]) -> Digest {
    let mut lines: Vec<_> = files.iter().collect();
    lines.sort_by(|a, b| a.path.cmp(&b.path));
    let text: String = lines
        .iter()
        .map(|file| format!("{}  {}\n", file.digest.hex(), file.path))
        .collect();
    Digest::of(text.as_bytes())
}

/// What stands under a version's key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stored {
    Live(Arc<VersionRecord>),
    /// The version was deleted.
    Deleted,
}

/// The JSON of a record. Keys that it does not know are left alone: a newer Aegis in the same fleet
/// may write more.
#[derive(Serialize, Deserialize)]
struct RecordJson {
    format: u32,
    name: ModelName,
    version: Version,
    digest: Digest,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(default)]
    created_by: Option<String>,
    manifest: String,
    files: Vec<FileRecord>,
}

/// What replaces the record of a deleted version.
#[derive(Serialize)]
pub(crate) struct Tombstone {
    format: u32,
    name: ModelName,
    version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    deleted: Deletion,
}

/// Who deleted a version, and when.
#[derive(Serialize)]
struct Deletion {
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    by: Option<String>,
}

impl VersionRecord {
    /// The record of that file.
    pub fn file(&self, path: &PackagePath) -> Option<&FileRecord> {
        self.files.iter().find(|file| file.path == *path)
    }

    /// The size of all files, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// The JSON that the store keeps.
impl Serialize for VersionRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RecordJson {
            format: FORMAT,
            name: self.name.clone(),
            version: self.version,
            digest: self.digest,
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            manifest: self.manifest_text.clone(),
            files: self.files.clone(),
        }
        .serialize(serializer)
    }
}

impl Stored {
    /// Reads what stands under the key of `version` of `name`; the error says what is wrong.
    pub(crate) fn from_json(
        name: &ModelName,
        version: Version,
        json: &[u8],
    ) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if format.is_some_and(|format| format > u64::from(FORMAT)) {
            return Err("it was written by a newer Aegis; upgrade this one".to_owned());
        }
        if value.get("deleted").is_some() {
            return Ok(Self::Deleted);
        }
        let json: RecordJson = serde_json::from_value(value).map_err(|error| error.to_string())?;
        checked(name, version, json).map(|record| Self::Live(Arc::new(record)))
    }
}

impl Tombstone {
    pub(crate) fn new(
        name: ModelName,
        version: Version,
        digest: Option<Digest>,
        at: OffsetDateTime,
        by: Option<String>,
    ) -> Self {
        Self {
            format: FORMAT,
            name,
            version,
            digest,
            deleted: Deletion { at, by },
        }
    }
}

/// Holds a record to its own digests: the store is shared, and what is read from it is served.
fn checked(name: &ModelName, version: Version, json: RecordJson) -> Result<VersionRecord, String> {
    if json.name != *name || json.version != version {
        return Err(format!(
            "it says it is version {} of `{}`",
            json.version, json.name
        ));
    }
    if content_digest(&json.files) != json.digest {
        return Err("its digest is not that of its files".to_owned());
    }
    let manifest_digest = Digest::of(json.manifest.as_bytes());
    let is_manifest = |file: &FileRecord| {
        file.path.as_str() == Manifest::FILE_NAME && file.digest == manifest_digest
    };
    if !json.files.iter().any(is_manifest) {
        return Err("its manifest is not the one among its files".to_owned());
    }
    let manifest = Manifest::parse(&json.manifest).map_err(|error| error.to_string())?;
    Ok(VersionRecord {
        name: json.name,
        version: json.version,
        digest: json.digest,
        created_at: json.created_at,
        created_by: json.created_by,
        manifest_text: json.manifest,
        manifest,
        files: json.files,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const MANIFEST: &str = "name = \"m\"\nhandler = \"m.wasm\"\n";

    fn file(path: &str, bytes: &[u8]) -> FileRecord {
        FileRecord {
            path: path.parse().unwrap(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        }
    }

    fn record() -> VersionRecord {
        let files = vec![
            file("m.wasm", b"wasm"),
            file("model.toml", MANIFEST.as_bytes()),
        ];
        VersionRecord {
            name: "m".parse().unwrap(),
            version: Version::FIRST,
            digest: content_digest(&files),
            created_at: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
            created_by: Some("ann".to_owned()),
            manifest_text: MANIFEST.to_owned(),
            manifest: Manifest::parse(MANIFEST).unwrap(),
            files,
        }
    }

    fn read(json: &str) -> Result<Stored, String> {
        Stored::from_json(&"m".parse().unwrap(), Version::FIRST, json.as_bytes())
    }

    #[test]
    fn the_content_digest_is_what_sha256sum_gives() {
        // printf a >a; printf b >b/c; sha256sum a b/c | sha256sum
        let files = [file("b/c", b"b"), file("a", b"a")];
        assert_eq!(
            content_digest(&files).hex(),
            Digest::of(
                b"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a\n\
                  3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b/c\n"
            )
            .hex()
        );
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let json = serde_json::to_string_pretty(&record()).unwrap();
        assert!(
            json.contains("\"created_at\": \"2023-11-14T22:13:20Z\""),
            "{json}"
        );
        assert_eq!(read(&json).unwrap(), Stored::Live(Arc::new(record())));
    }

    #[test]
    fn a_record_of_another_key_or_altered_is_refused() {
        let json = serde_json::to_string_pretty(&record()).unwrap();
        let other = Stored::from_json(&"n".parse().unwrap(), Version::FIRST, json.as_bytes());
        assert!(other.unwrap_err().contains("version 1 of `m`"));
        assert!(
            read(&json.replace("m.wasm\\\"", "n.wasm\\\""))
                .unwrap_err()
                .contains("manifest")
        );
        assert!(
            read(&json.replace("\"path\": \"m.wasm\"", "\"path\": \"n.wasm\""))
                .unwrap_err()
                .contains("digest")
        );
        assert!(read(&json.replace("\"path\": \"m.wasm\"", "\"path\": \"../m\"")).is_err());
        assert!(
            read(&json.replace("\"format\": 1", "\"format\": 2"))
                .unwrap_err()
                .contains("newer")
        );
        assert!(read("{}").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn what_a_newer_release_adds_does_not_hide_a_record() {
        let json = serde_json::to_string_pretty(&record()).unwrap();
        assert!(read(&json.replacen('{', "{\"more\": 1,", 1)).is_ok());
    }

    #[test]
    fn a_tombstone_is_read_as_deleted() {
        let tombstone = Tombstone::new(
            "m".parse().unwrap(),
            Version::FIRST,
            None,
            OffsetDateTime::UNIX_EPOCH,
            None,
        );
        assert_eq!(
            read(&serde_json::to_string(&tombstone).unwrap()).unwrap(),
            Stored::Deleted
        );
    }
}
