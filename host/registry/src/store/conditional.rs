//! The objects that change (traffic rules), and how they change without losing another's update:
//! read with a tag, put on the condition that the tag still holds. What is made once, and never by
//! two, is put on the condition that it is not there.
//!
//! A put whose answer is lost may have been done, which is settled by reading what is there.
//!
//! Object stores do this by ETag (`PutMode::Update`). `LocalFileSystem` does not implement it, so
//! in a folder a lock file makes read, compare and write one step. It is an advisory lock of the
//! operating system: it binds every process that uses this code, and ends with the process that
//! holds it. The tag there is the digest of the content, not the ETag: a file's ETag is made of
//! inode, time and size, all of which can recur within one tick of the clock.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, PutMode, PutOptions, UpdateVersion};
use tokio::time::Instant;

use super::http::Sent;
use super::{Local, Store, may_pass};
use crate::blocking::blocking;
use crate::digest::Digest;
use crate::error::{RegistryError, Result};
use crate::rules::pause;

/// What came of a put on a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was done.
    Done,
    /// It was not: the condition does not hold.
    Refused,
    /// The condition does not hold now. Whether it was done before somebody else changed the object is not known.
    Overtaken,
}

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

    /// Writes the object if it is still what it was when `tag` was read.
    ///
    /// To be called from a task that is not cancelled: the lock is let go when the future is
    /// dropped, while a write that has begun goes on.
    pub(crate) async fn put_tagged(&self, key: &Key, tag: &Tag, bytes: Vec<u8>) -> Result<Put> {
        let Some(local) = &self.local else {
            return match tag {
                Tag::Stored(version) => {
                    let condition = PutMode::Update(version.clone());
                    self.put_if(key, &condition, bytes.into()).await
                }
                Tag::Absent | Tag::Content(_) => {
                    self.put_if(key, &PutMode::Create, bytes.into()).await
                }
            };
        };
        let _lock = local.lock().await?;
        let current = self.get(key).await?.map(|(bytes, _)| bytes);
        if content_tag(current.as_ref()) != *tag {
            return Ok(Put::Refused);
        }
        self.overwrite(key, bytes).await?;
        Ok(Put::Done)
    }

    /// Writes the object if there is none of that key; whether it did. Where it says no, what is
    /// there may still come of this call, if another has changed it since.
    pub(crate) async fn create(&self, key: &Key, bytes: Vec<u8>) -> Result<bool> {
        let put = self.put_if(key, &PutMode::Create, bytes.into()).await?;
        Ok(put == Put::Done)
    }

    /// Puts on a condition, and again while no answer comes and what is there is still what it was.
    async fn put_if(&self, key: &Key, condition: &PutMode, bytes: Bytes) -> Result<Put> {
        let failed = || RegistryError::store(format!("changing `{key}` in the store"));
        let (began, sent) = (Instant::now(), Sent::default());
        for attempt in 1.. {
            let mut options = PutOptions::from(condition.clone());
            options.extensions.insert(sent.clone());
            let put = self
                .objects
                .put_opts(key, bytes.clone().into(), options)
                .await;
            let error = match put {
                Ok(_) => return Ok(Put::Done),
                Err(error) if is_refusal(condition, &error) => {
                    // To a second attempt a store says no because of the first, if that was done.
                    if attempt == 1 && !sent.again() {
                        return Ok(Put::Refused);
                    }
                    error
                }
                Err(error) if may_pass(&error) => error,
                Err(error) => return Err(failed()(error)),
            };
            let there = match self.try_get(key).await {
                Ok(there) => Some(there),
                Err(object_store::Error::NotFound { .. }) => None,
                // A refusal is no failure, so it is that nothing can be read; else the put's own
                // error tells more.
                Err(unread) if is_refusal(condition, &error) => return Err(failed()(unread)),
                Err(_) => return Err(failed()(error)),
            };
            if there.as_ref().is_some_and(|(now, _)| *now == bytes) {
                return Ok(Put::Done);
            }
            let known_by = there.map(|(_, known_by)| known_by);
            if is_refusal(condition, &error) || !holds(condition, known_by.as_ref()) {
                return Ok(Put::Overtaken);
            }
            if attempt == PUTS || began.elapsed() > LONGEST {
                return Err(failed()(error));
            }
            tracing::info!(%key, %error, attempt, "what became of a change is not known, and it is not there; making it again");
            pause(attempt).await;
        }
        Ok(Put::Overtaken)
    }
}

/// How often a put is made whose answer is lost.
const PUTS: u32 = 3;

/// After so long it is not made again: somebody waits for the answer.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether the store says that the condition does not hold.
fn is_refusal(condition: &PutMode, error: &object_store::Error) -> bool {
    use object_store::Error;
    match error {
        Error::Precondition { .. } | Error::AlreadyExists { .. } => true,
        // What is to be created cannot be missing; its bucket is.
        Error::NotFound { .. } => matches!(condition, PutMode::Update(_)),
        _ => false,
    }
}

/// Whether the object that is known by this, or none, is what the condition wants.
fn holds(condition: &PutMode, known_by: Option<&UpdateVersion>) -> bool {
    match condition {
        PutMode::Update(wanted) => known_by == Some(wanted),
        PutMode::Create => known_by.is_none(),
        PutMode::Overwrite => true,
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

        assert_eq!(
            store
                .put_tagged(&key, &absent, b"one".to_vec())
                .await
                .unwrap(),
            Put::Done
        );
        assert_eq!(
            store
                .put_tagged(&key, &absent, b"two".to_vec())
                .await
                .unwrap(),
            Put::Refused
        );
        let (bytes, first) = store.read_tagged(&key).await.unwrap();
        assert_eq!(bytes.unwrap(), "one");

        assert_eq!(
            store
                .put_tagged(&key, &first, b"two".to_vec())
                .await
                .unwrap(),
            Put::Done
        );
        assert_eq!(
            store
                .put_tagged(&key, &first, b"three".to_vec())
                .await
                .unwrap(),
            Put::Refused
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
                    if store.put_tagged(&key, &tag, text).await.unwrap() == Put::Done {
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
        let patience = Duration::from_secs(60);
        check(Store::shared(Arc::new(InMemory::new()), patience)).await;
    }
}
