//! An upload's body on its way to the multipart reader, which keeps what it reads until it
//! makes sense of it: a part's header, or what stands before the first boundary, of any
//! length. Here that gets a bound.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::Stream;

/// What may be read without a part, or a piece of one, coming out of it. The headers of a
/// part take a few hundred bytes, and one read from a connection half of this at most.
pub(crate) const MAX_UNREAD: usize = 1 << 20;

/// After so much the reader is made to look at what it has before it reads on.
const LOOK: usize = 64 << 10;

/// How much was read since the last part or piece of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread(Arc<AtomicUsize>);

impl Unread {
    /// Something came out.
    pub(crate) fn read(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the bound was met.
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MAX_UNREAD
    }

    /// `body`, which fails when the bound is met.
    pub(crate) fn of(&self, body: Body) -> Body {
        Body::from_stream(Watched {
            body: body.into_data_stream(),
            unread: self.clone(),
            looked: false,
        })
    }
}

struct Watched {
    body: BodyDataStream,
    unread: Unread,
    looked: bool,
}

impl Stream for Watched {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.unread.is_over() {
            return Poll::Ready(Some(Err("too much without a part".into())));
        }
        // The reader takes all there is before it looks; so for a moment there is nothing.
        if !self.looked && self.unread.0.load(Ordering::Relaxed) >= LOOK {
            self.looked = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.looked = false;
        let polled = Pin::new(&mut self.body).poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.unread.0.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        polled.map(|item| item.map(|result| result.map_err(Into::into)))
    }
}
