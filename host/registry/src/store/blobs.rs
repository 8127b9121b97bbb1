//! Blobs: the bytes of a version's files under their digest. What goes in is hashed on the way, and
//! what comes out is hashed once it is there, so a wrong blob is neither made nor believed.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload};

use super::{Local, READS, Store, may_pass};
use crate::blocking::blocking;
use crate::digest::{Digest, Hasher};
use crate::error::{RegistryError, Result};
use crate::rules::pause;

/// Files up to this size are stored by one put, larger ones in parts of it. S3 wants parts of at
/// least 5 MiB and at most 10,000 of them, so files of up to 80 GB go in.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// A blob as listed.
pub(crate) struct StoredBlob {
    pub(crate) digest: Digest,
    pub(crate) written: SystemTime,
    pub(crate) size: u64,
    key: Key,
}

/// What fetching a blob gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Fetched {
    /// It is there, and it is right.
    Verified,
    /// It is there, and it is something else.
    Corrupt { found: Digest, bytes: u64 },
    /// It is not there.
    Missing,
}

/// Why a download failed.
enum Download {
    Store(object_store::Error),
    /// On this machine; another attempt is no help.
    Here(RegistryError),
}

impl From<RegistryError> for Download {
    fn from(error: RegistryError) -> Self {
        Self::Here(error)
    }
}

fn key(digest: &Digest) -> Key {
    Key::from_iter(["blobs", "sha256", &digest.hex()])
}

impl Store {
    /// Stores the file at `path`; the digest of what was read and stored, which is only left in the
    /// store if it is `expected`.
    ///
    /// It is stored also if it is there already: that repairs a damaged blob, and makes a blob that
    /// no record uses yet young again, which keeps the collector from it.
    pub(crate) async fn put_blob(&self, expected: Digest, path: &Path) -> Result<Digest> {
        let doing = || format!("storing {}", path.display());
        let opened = path.to_owned();
        let mut file = blocking(move || std::fs::File::open(opened))
            .await?
            .map_err(RegistryError::io(doing()))?;
        let mut hasher = Hasher::default();

        let first;
        (file, hasher, first) = next_part(file, hasher)
            .await?
            .map_err(RegistryError::io(doing()))?;
        if first.len() < PART_BYTES {
            let (found, _) = hasher.finish();
            if found == expected {
                let put = self.objects.put(&key(&expected), first.into()).await;
                put.map_err(RegistryError::store(doing()))?;
            }
            return Ok(found);
        }

        let mut upload = self
            .begin(key(&expected))
            .await
            .map_err(RegistryError::store(doing()))?;
        let mut part = first;
        while !part.is_empty() {
            if let Err(error) = upload.put(PutPayload::from(part)).await {
                upload.abort().await;
                return Err(RegistryError::store(doing())(error));
            }
            match next_part(file, hasher).await? {
                Ok(next) => (file, hasher, part) = next,
                Err(error) => {
                    upload.abort().await;
                    return Err(RegistryError::io(doing())(error));
                }
            }
        }
        let (found, _) = hasher.finish();
        if found != expected {
            upload.abort().await;
            return Ok(found);
        }
        if let Err(error) = upload.complete().await {
            upload.abort().await;
            return Err(RegistryError::store(doing())(error));
        }
        Ok(found)
    }

    /// Puts the blob at `target`, which must not exist, and verifies what came. From a folder store
    /// it is linked where that can be done, so that it takes no room twice.
    pub(crate) async fn fetch_blob(&self, digest: Digest, target: &Path) -> Result<Fetched> {
        let doing = || format!("fetching {digest} to {}", target.display());
        match &self.local {
            Some(local) => {
                let source = local.path_of(&digest)?;
                let linked = target.to_owned();
                match blocking(move || link_or_copy(&source, &linked)).await? {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Ok(Fetched::Missing);
                    }
                    Err(error) => return Err(RegistryError::io(doing())(error)),
                }
            }
            None => return self.download(digest, target).await,
        }
        verify(digest, target).await
    }

    /// Brings the blob over the network, and again where it failed or came otherwise than it was
    /// stored: what a proxy or a cable did to it, it need not do twice.
    async fn download(&self, digest: Digest, target: &Path) -> Result<Fetched> {
        let doing = || format!("fetching {digest} to {}", target.display());
        for attempt in 1.. {
            let last = attempt == READS;
            match self.try_download(&digest, target).await {
                Ok(false) => return Ok(Fetched::Missing),
                Ok(true) => match verify(digest, target).await? {
                    Fetched::Corrupt { .. } if !last => {}
                    fetched => return Ok(fetched),
                },
                Err(Download::Store(error)) if !last && may_pass(&error) => {
                    tracing::info!(%digest, %error, attempt, "a blob did not come whole; fetching it again");
                }
                Err(Download::Store(error)) => return Err(RegistryError::store(doing())(error)),
                Err(Download::Here(error)) => return Err(error),
            }
            let wrong = target.to_owned();
            let _ = blocking(move || std::fs::remove_file(wrong)).await?;
            pause(attempt).await;
        }
        Ok(Fetched::Missing)
    }

    /// Writes the blob to `target`; false if the store has no such blob.
    async fn try_download(&self, digest: &Digest, target: &Path) -> Result<bool, Download> {
        let doing = || format!("writing {}", target.display());
        let found = match self.objects.get(&key(digest)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(Download::Store(error)),
        };
        let created = target.to_owned();
        let mut file = blocking(move || std::fs::File::create_new(created))
            .await?
            .map_err(RegistryError::io(doing()))?;
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(Download::Store)? {
            let written = blocking(move || file.write_all(&piece).map(|()| file)).await?;
            file = written.map_err(RegistryError::io(doing()))?;
        }
        Ok(true)
    }

    /// The content of a small blob, right or wrong; `None` if there is none.
    pub(crate) async fn read_blob(&self, digest: &Digest) -> Result<Option<Bytes>> {
        Ok(self.get(&key(digest)).await?.map(|(bytes, _)| bytes))
    }

    /// The size in bytes of the blob of that digest; `None` if there is none. What is in it only
    /// reading it can tell.
    pub(crate) async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        match self.objects.head(&key(digest)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(RegistryError::store(format!(
                "looking for {digest} in the store"
            ))(error)),
        }
    }

    /// Every blob.
    pub(crate) async fn blobs(&self) -> Result<Vec<StoredBlob>> {
        let objects = self.list_under(Key::from_iter(["blobs", "sha256"])).await?;
        let blob = |object: ObjectMeta| {
            let digest = Digest::from_hex(object.location.filename()?).ok()?;
            Some(StoredBlob {
                digest,
                written: object.last_modified.into(),
                size: object.size,
                key: object.location,
            })
        };
        Ok(objects.into_iter().filter_map(blob).collect())
    }

    /// Removes a blob unless it was stored again since it was listed; whether it did. That it is gone
    /// already is no error.
    pub(crate) async fn delete_blob(&self, blob: &StoredBlob) -> Result<bool> {
        match self.objects.head(&blob.key).await {
            Ok(found) if SystemTime::from(found.last_modified) != blob.written => Ok(false),
            Ok(_) => self.remove(&blob.key).await,
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(RegistryError::store(format!(
                "looking at `{}` in the store",
                blob.key
            ))(error)),
        }
    }
}

impl Local {
    fn path_of(&self, digest: &Digest) -> Result<PathBuf> {
        let path = self.files.path_to_filesystem(&key(digest));
        path.map_err(RegistryError::store(format!(
            "finding {digest} in the registry folder"
        )))
    }
}

/// Compares the file with the digest it should have.
pub(crate) async fn verify(expected: Digest, path: &Path) -> Result<Fetched> {
    let read = path.to_owned();
    match blocking(move || Digest::of_file(&read)).await? {
        Ok((found, _)) if found == expected => Ok(Fetched::Verified),
        Ok((found, bytes)) => Ok(Fetched::Corrupt { found, bytes }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fetched::Missing),
        Err(error) => Err(RegistryError::io(format!("reading {}", path.display()))(
            error,
        )),
    }
}

/// Where the folder is on another file system, or that knows no links, copies.
fn link_or_copy(source: &Path, target: &Path) -> io::Result<()> {
    match std::fs::hard_link(source, target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => std::fs::copy(source, target).map(drop),
        Ok(()) => Ok(()),
    }
}

type Part = (std::fs::File, Hasher, Bytes);

/// Reads and hashes up to [`PART_BYTES`]; nothing at the end of the file.
async fn next_part(mut file: std::fs::File, mut hasher: Hasher) -> Result<io::Result<Part>> {
    blocking(move || {
        let mut part = Vec::new();
        Read::take(&mut file, PART_BYTES as u64).read_to_end(&mut part)?;
        hasher.update(&part);
        Ok((file, hasher, Bytes::from(part)))
    })
    .await
}
