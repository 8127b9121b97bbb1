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

/// How long one call may take, and one piece of an answer. A call carries 8 MiB at most, and a
/// client that tries again by itself gives up before.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Watched {
    objects: Arc<dyn ObjectStore>,
}

/// What is wrong with a store that does not answer as it should.
#[derive(Debug, thiserror::Error)]
enum Misbehaved {
    #[error("the store did not answer within {} s", PATIENCE.as_secs())]
    Stalled,
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
    pub(super) fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let bounded = tokio::time::timeout(PATIENCE, call).await;
    bounded.unwrap_or_else(|_| Err(Misbehaved::Stalled.into()))
}

/// The stream, with an error in the place of a piece that does not come; it ends there.
fn piece_by_piece<T: Send + 'static>(
    pieces: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let next = |pieces: Option<BoxStream<'static, Result<T>>>| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout(PATIENCE, pieces.next()).await {
            Ok(piece) => piece.map(|piece| (piece, Some(pieces))),
            Err(_) => Some((Err(Misbehaved::Stalled.into()), None)),
        }
    };
    stream::unfold(Some(pieces), next).boxed()
}

/// The same answer, which fails where it ends too early.
fn whole(found: GetResult, key: Key) -> GetResult {
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
            let counted = piece_by_piece(pieces)
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
        in_time(self.objects.put_opts(key, bytes, options)).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = in_time(self.objects.put_multipart_opts(key, options)).await?;
        Ok(Box::new(WatchedUpload(upload)))
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        // To ask what there is brings no bytes.
        let head = options.head;
        let found = in_time(self.objects.get_opts(key, options)).await?;
        Ok(match head {
            true => found,
            false => whole(found, key.clone()),
        })
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        piece_by_piece(self.objects.delete_stream(keys))
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        piece_by_piece(self.objects.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        in_time(self.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        in_time(self.objects.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct WatchedUpload(Box<dyn MultipartUpload>);

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, bytes: PutPayload) -> UploadPart {
        Box::pin(in_time(self.0.put_part(bytes)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        in_time(self.0.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        in_time(self.0.abort()).await
    }
}
