//! A store that is not taken at its word: each call, and each piece of an answer, has a bound of
//! time, and an answer that ends before it is whole is an error. What comes from a network can
//! stall for ever or stop short, and either would look like success, or like nothing at all.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

#[derive(Debug)]
pub(super) struct Watched {
    objects: Arc<dyn ObjectStore>,
    patience: Patience,
}

/// How long one call may take, what a client tries again by itself included, and one piece of an
/// answer. A call carries 8 MiB at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(pub(super) Duration);

/// What is wrong with a store that does not answer as it should.
#[derive(Debug, thiserror::Error)]
enum Misbehaved {
    #[error("the store did not answer within {} s", .0.as_secs_f64())]
    Stalled(Duration),
    #[error("the store sent {got} of {size} bytes of `{key}`")]
    Short { key: Key, got: u64, size: u64 },
}

impl From<Misbehaved> for Error {
    fn from(what: Misbehaved) -> Self {
        Self::Generic {
            store: "store",
            source: Box::new(what),
        }
    }
}

impl Watched {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, patience: Duration) -> Self {
        let patience = Patience(patience);
        Self { objects, patience }
    }
}

impl Patience {
    pub(super) async fn in_time<T>(
        self,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let bounded = tokio::time::timeout(self.0, call).await;
        bounded.unwrap_or_else(|_| Err(Misbehaved::Stalled(self.0).into()))
    }

    /// The stream, with an error in the place of a piece that does not come; it ends there.
    fn piece_by_piece<T: Send + 'static>(
        self,
        pieces: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let next = move |pieces: Option<BoxStream<'static, Result<T>>>| async move {
            let mut pieces = pieces?;
            match tokio::time::timeout(self.0, pieces.next()).await {
                Ok(piece) => piece.map(|piece| (piece, Some(pieces))),
                Err(_) => Some((Err(Misbehaved::Stalled(self.0).into()), None)),
            }
        };
        stream::unfold(Some(pieces), next).boxed()
    }
}

/// The same answer, which fails where it ends too early.
fn whole(found: GetResult, key: Key, patience: Patience) -> GetResult {
    let GetResult {
        payload,
        meta,
        range,
        attributes,
        extensions,
    } = found;
    let payload = match payload {
        GetResultPayload::Stream(pieces) => {
            let size = range.end.saturating_sub(range.start);
            let mut got = 0;
            let counted = patience
                .piece_by_piece(pieces)
                .map(Some)
                .chain(stream::iter([None]))
                .filter_map(move |piece| {
                    let checked = match piece {
                        Some(Ok(bytes)) => {
                            got += bytes.len() as u64;
                            Some(Ok(bytes))
                        }
                        Some(Err(error)) => {
                            // It is told once; that it is short as well is no news.
                            got = size;
                            Some(Err(error))
                        }
                        None if got < size => {
                            let key = key.clone();
                            Some(Err(Misbehaved::Short { key, got, size }.into()))
                        }
                        None => None,
                    };
                    std::future::ready(checked)
                });
            GetResultPayload::Stream(counted.boxed())
        }
        // A file of this machine.
        other => other,
    };
    GetResult {
        payload,
        meta,
        range,
        attributes,
        extensions,
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(
        &self,
        key: &Key,
        bytes: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.patience
            .in_time(self.objects.put_opts(key, bytes, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self
            .patience
            .in_time(self.objects.put_multipart_opts(key, options))
            .await?;
        let patience = self.patience;
        Ok(Box::new(WatchedUpload { upload, patience }))
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        // To ask what there is brings no bytes.
        let head = options.head;
        let found = self
            .patience
            .in_time(self.objects.get_opts(key, options))
            .await?;
        Ok(match head {
            true => found,
            false => whole(found, key.clone(), self.patience),
        })
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        self.patience
            .piece_by_piece(self.objects.delete_stream(keys))
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.patience.piece_by_piece(self.objects.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.patience
            .in_time(self.objects.list_with_delimiter(prefix))
            .await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.patience
            .in_time(self.objects.copy_opts(from, to, options))
            .await
    }
}

#[derive(Debug)]
struct WatchedUpload {
    upload: Box<dyn MultipartUpload>,
    patience: Patience,
}

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, bytes: PutPayload) -> UploadPart {
        Box::pin(self.patience.in_time(self.upload.put_part(bytes)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.patience.in_time(self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.patience.in_time(self.upload.abort()).await
    }
}
