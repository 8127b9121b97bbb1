//! The objects that change (traffic rules), and how they change without losing another's update:
//! read with a tag, put on the condition that the tag still holds.
//!
//! Object stores do this by ETag (`PutMode::Update`). `LocalFileSystem` does not implement it, so
//! in a folder a lock file makes read, compare and write one step. It is an advisory lock of the
//! operating system: it binds every process that uses this code, and ends with the process that
//! holds it. The tag there is the digest of the content, not the ETag: a file's ETag is made of
//! inode, time and size, all of which can recur within one tick of the clock.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, PutMode, PutOptions, UpdateVersion};

use super::{Local, Store};
use crate::blocking::blocking;
use crate::digest::Digest;
use crate::error::{RegistryError, Result};

/// What an object was when it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tag {
    /// There was none.
    Absent,
    Stored(UpdateVersion),
    Content(Digest),
}

/// In the root of a folder store. Never removed: removing a lock file opens a race.
const LOCK_FILE: &str = ".lock";

impl Store {
    /// The object and its tag; `None` and [`Tag::Absent`] if there is none.
    pub(crate) async fn read_tagged(&self, key: &Key) -> Result<(Option<Bytes>, Tag)> {
        let found = self.get(key).await?;
        if self.local.is_some() {
            let bytes = found.map(|(bytes, _)| bytes);
            let tag = content_tag(bytes.as_ref());
            return Ok((bytes, tag));
        }
        Ok(match found {
            Some((bytes, known_by)) => (Some(bytes), Tag::Stored(known_by)),
            None => (None, Tag::Absent),
        })
    }

    /// Writes the object if it is still what it was when `tag` was read; whether it was.
    ///
    /// To be called from a task that is not cancelled: the lock is let go when the future is
    /// dropped, while a write that has begun goes on.
    pub(crate) async fn put_tagged(&self, key: &Key, tag: &Tag, bytes: Vec<u8>) -> Result<bool> {
        let Some(local) = &self.local else {
            return match tag {
                Tag::Stored(version) => self.update(key, version.clone(), bytes).await,
                Tag::Absent | Tag::Content(_) => self.create(key, bytes).await,
            };
        };
        let _lock = local.lock().await?;
        let current = self.get(key).await?.map(|(bytes, _)| bytes);
        if content_tag(current.as_ref()) != *tag {
            return Ok(false);
        }
        self.overwrite(key, bytes).await?;
        Ok(true)
    }

    async fn update(&self, key: &Key, version: UpdateVersion, bytes: Vec<u8>) -> Result<bool> {
        let options = PutOptions::from(PutMode::Update(version));
        match self.objects.put_opts(key, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::Precondition { .. }
                | object_store::Error::AlreadyExists { .. }
                | object_store::Error::NotFound { .. },
            ) => Ok(false),
            Err(error) => Err(RegistryError::store(format!(
                "changing `{key}` in the store"
            ))(error)),
        }
    }
}

fn content_tag(bytes: Option<&Bytes>) -> Tag {
    bytes.map_or(Tag::Absent, |bytes| Tag::Content(Digest::of(bytes)))
}

impl Local {
    /// The folder's lock, held until the file is dropped.
    async fn lock(&self) -> Result<File> {
        let path = self.root.join(LOCK_FILE);
        blocking(move || lock(&path)).await?
    }
}

/// Opens and locks a file, waiting for whoever holds it. Blocks.
fn lock(path: &Path) -> Result<File> {
    let doing = || format!("locking {}", path.display());
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(RegistryError::io(doing()))?;
    file.lock().map_err(RegistryError::io(doing()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    async fn check(store: Store) {
        let key = Key::from("models/m/traffic.json");
        let (none, absent) = store.read_tagged(&key).await.unwrap();
        assert_eq!((none, &absent), (None, &Tag::Absent));

        assert!(
            store
                .put_tagged(&key, &absent, b"one".to_vec())
                .await
                .unwrap()
        );
        assert!(
            !store
                .put_tagged(&key, &absent, b"two".to_vec())
                .await
                .unwrap()
        );
        let (bytes, first) = store.read_tagged(&key).await.unwrap();
        assert_eq!(bytes.unwrap(), "one");

        assert!(
            store
                .put_tagged(&key, &first, b"two".to_vec())
                .await
                .unwrap()
        );
        assert!(
            !store
                .put_tagged(&key, &first, b"three".to_vec())
                .await
                .unwrap()
        );
        assert_eq!(store.read_tagged(&key).await.unwrap().0.unwrap(), "two");

        // Many writers add a line each; none is lost.
        let writers = (0..8).map(|writer| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                loop {
                    let (bytes, tag) = store.read_tagged(&key).await.unwrap();
                    let mut text = bytes.unwrap().to_vec();
                    text.extend_from_slice(format!("\n{writer}").as_bytes());
                    if store.put_tagged(&key, &tag, text).await.unwrap() {
                        return;
                    }
                }
            })
        });
        futures_util::future::join_all(writers).await;
        let text = store.read_tagged(&key).await.unwrap().0.unwrap();
        assert_eq!(text.split(|byte| *byte == b'\n').count(), 9);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_update_is_lost_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        check(Store::folder(folder.path()).unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_update_is_lost_in_an_object_store() {
        check(Store::shared(Arc::new(InMemory::new()))).await;
    }
}
