//! Objects that are stored in parts. A cloud keeps the parts of an upload that was never ended, and shows them to nobody
//! who does not know the upload's id. So a note of the id is stored before the first part and removed after the end:
//! a collection ends what an old note is still of.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{MultipartId, MultipartUpload, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::watched::Patience;
use super::{Store, to_json};
use crate::digest::Digest;
use crate::error::{RegistryError, Result};

/// Where the notes are.
const NOTES: &str = "uploads";

/// A note is written again after so long, so that no upload under way looks old.
const NOTE_AGAIN: Duration = Duration::from_secs(60);

/// What is to be ended.
#[derive(Serialize, Deserialize)]
struct Note {
    key: String,
    id: MultipartId,
}

/// A cloud's own calls for parts, which name the upload that is meant; each in bounded time.
pub(super) struct Parts {
    store: Arc<dyn MultipartStore>,
    patience: Patience,
}

impl Parts {
    pub(super) fn new(store: Arc<dyn MultipartStore>, patience: Duration) -> Self {
        let patience = Patience(patience);
        Self { store, patience }
    }

    async fn create(&self, key: &Key) -> object_store::Result<MultipartId> {
        let created = self.store.create_multipart(key);
        self.patience.in_time(created).await
    }

    /// That there is no such upload is no error: a completion that failed may have been made all the same.
    async fn abort(&self, key: &Key, id: &MultipartId) -> object_store::Result<()> {
        let aborted = self.store.abort_multipart(key, id);
        match self.patience.in_time(aborted).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            aborted => aborted,
        }
    }
}

/// An object on its way.
pub(super) enum InParts<'s> {
    /// To a store that leaves nothing behind, or nothing that it does not remove itself.
    Alone(Box<dyn MultipartUpload>),
    /// To one that does.
    Noted(Noted<'s>),
}

pub(super) struct Noted<'s> {
    store: &'s Store,
    parts: &'s Parts,
    key: Key,
    id: MultipartId,
    done: Vec<PartId>,
    note: Key,
    noted: Instant,
}

impl Store {
    /// Begins to store `key` in parts.
    pub(super) async fn begin(&self, key: Key) -> object_store::Result<InParts<'_>> {
        let Some(parts) = &self.parts else {
            return Ok(InParts::Alone(self.objects.put_multipart(&key).await?));
        };
        let id = parts.create(&key).await?;
        let upload = Noted {
            store: self,
            parts,
            // An id may have any characters, and be long.
            note: Key::from_iter([NOTES, &format!("{}.json", Digest::of(id.as_bytes()).hex())]),
            key,
            id,
            done: Vec::new(),
            noted: Instant::now(),
        };
        match upload.write_note().await {
            Ok(()) => Ok(InParts::Noted(upload)),
            Err(error) => {
                InParts::Noted(upload).abort().await;
                Err(error)
            }
        }
    }

    /// Uploads in parts whose end has not come for so long.
    pub(crate) async fn cut_off_uploads(&self, older_than: Duration) -> Result<Vec<Key>> {
        if self.parts.is_none() {
            return Ok(Vec::new());
        }
        let now = SystemTime::now();
        let notes = self.list_under(Key::from(NOTES)).await?.into_iter();
        Ok(notes
            .filter(|note| {
                let written = SystemTime::from(note.last_modified);
                now.duration_since(written).unwrap_or_default() >= older_than
            })
            .map(|note| note.location)
            .collect())
    }

    /// Has the store remove the parts of an upload that was cut off; whether this did it.
    pub(crate) async fn end_cut_off_upload(&self, note: &Key) -> Result<bool> {
        let (Some(parts), Some((bytes, _))) = (&self.parts, self.get(note).await?) else {
            return Ok(false);
        };
        let read = serde_json::from_slice(&bytes)
            .ok()
            .and_then(|Note { key, id }| Some((Key::parse(key).ok()?, id)));
        let Some((key, id)) = read else {
            tracing::warn!(%note, "a note of an upload cannot be read; the upload's parts stay");
            return Ok(false);
        };
        let aborted = parts.abort(&key, &id).await;
        aborted.map_err(RegistryError::store(format!(
            "removing the parts of `{key}` from the store"
        )))?;
        self.remove(note).await
    }
}

impl InParts<'_> {
    pub(super) async fn put(&mut self, part: PutPayload) -> object_store::Result<()> {
        match self {
            Self::Alone(upload) => upload.put_part(part).await,
            Self::Noted(upload) => upload.put(part).await,
        }
    }

    /// Makes the parts an object.
    pub(super) async fn complete(&mut self) -> object_store::Result<()> {
        match self {
            Self::Alone(upload) => upload.complete().await.map(drop),
            Self::Noted(upload) => upload.complete().await,
        }
    }

    /// Removes the parts. Where that fails a collection does it, if the store has to be told.
    pub(super) async fn abort(mut self) {
        let aborted = match &mut self {
            Self::Alone(upload) => upload.abort().await,
            Self::Noted(upload) => upload.abort().await,
        };
        if let Err(error) = aborted {
            tracing::warn!(%error, "the parts of a blob that was not stored could not be removed");
        }
    }
}

impl Noted<'_> {
    async fn write_note(&self) -> object_store::Result<()> {
        let note = Note {
            key: self.key.to_string(),
            id: self.id.clone(),
        };
        let json = to_json(&self.note, &note).map_err(|error| object_store::Error::Generic {
            store: "store",
            source: Box::new(error),
        })?;
        self.store
            .objects
            .put(&self.note, json.into())
            .await
            .map(drop)
    }

    async fn put(&mut self, part: PutPayload) -> object_store::Result<()> {
        if self.noted.elapsed() >= NOTE_AGAIN {
            self.write_note().await?;
            self.noted = Instant::now();
        }
        let Parts { store, patience } = self.parts;
        let put = store.put_part(&self.key, &self.id, self.done.len(), part);
        self.done.push(patience.in_time(put).await?);
        Ok(())
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        let Parts { store, patience } = self.parts;
        let done = std::mem::take(&mut self.done);
        let completed = store.complete_multipart(&self.key, &self.id, done);
        patience.in_time(completed).await?;
        self.forget().await;
        Ok(())
    }

    async fn abort(&self) -> object_store::Result<()> {
        self.parts.abort(&self.key, &self.id).await?;
        self.forget().await;
        Ok(())
    }

    /// Removes the note. One that stays is removed by a collection.
    async fn forget(&self) {
        if let Err(error) = self.store.remove(&self.note).await {
            tracing::info!(%error, "the note of an upload that has ended stays for now");
        }
    }
}
