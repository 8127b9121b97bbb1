//! What the bodies of all requests and answers in memory may take together. Each body has
//! its own limit, but thousands of connections may hold one each.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use aegis_telemetry::Limit;
use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// The unit that room is counted in: small enough that small bodies cost little more than
/// they hold, large enough that any sensible room fits the semaphore's `u32`.
const UNIT: usize = 1 << 10;

/// An answer up to this size is not counted: it mostly fits the socket's own buffer.
const SMALL_ANSWER: usize = 4 << 10;

/// Room for bodies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BodyRoom {
    free: Arc<Semaphore>,
    bytes: usize,
}

/// A part of the room, given back when dropped.
pub(crate) struct Held {
    room: BodyRoom,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyRoom {
    pub(crate) fn new(bytes: usize) -> BodyRoom {
        BodyRoom {
            free: Arc::new(Semaphore::new(units(bytes))),
            bytes,
        }
    }

    /// Nothing of it yet.
    pub(crate) fn hold(&self) -> Held {
        Held {
            room: self.clone(),
            permit: None,
        }
    }

    /// Whether nobody holds any of it.
    pub(crate) fn is_free(&self) -> bool {
        self.free.available_permits() == units(self.bytes)
    }

    /// The body of an answer, which takes room until it is sent.
    pub(crate) fn answer(&self, bytes: Vec<u8>) -> Result<Body, ApiError> {
        if bytes.len() <= SMALL_ANSWER {
            return Ok(Body::from(bytes));
        }
        let mut held = self.hold();
        held.grow_to(bytes.len())?;
        Ok(Body::new(HeldBody {
            bytes: Some(Bytes::from(bytes)),
            _held: held,
        }))
    }
}

impl Held {
    /// Holds room for `bytes` in all.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        let wanted = bytes.div_ceil(UNIT);
        let has = self
            .permit
            .as_ref()
            .map_or(0, |permit| permit.num_permits());
        if wanted <= has {
            return Ok(());
        }
        let more = u32::try_from(wanted - has).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.room.free)
            .try_acquire_many_owned(more)
            .map_err(|_| no_room(self.room.bytes))?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

fn units(bytes: usize) -> usize {
    (bytes / UNIT).min(Semaphore::MAX_PERMITS)
}

fn no_room(bytes: usize) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "no_room",
        format!(
            "the bodies of requests and answers in flight take all of the {} MiB there is for \
             them; try again later",
            bytes >> 20
        ),
    )
    .for_limit(Limit::Bodies)
}

/// One piece, and the room it takes until it has been handed on to the connection.
struct HeldBody {
    bytes: Option<Bytes>,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_finds_no_room_is_told_and_takes_none() {
        let room = BodyRoom::new(4 << 10);
        let mut first = room.hold();
        first.grow_to(3 << 10).unwrap();
        let mut second = room.hold();
        second.grow_to(1000).unwrap();
        let error = second.grow_to(2000).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (503, "no_room"));
        drop(first);
        second.grow_to(2000).unwrap();
    }

    #[tokio::test]
    async fn an_answer_takes_room_until_it_is_gone() {
        let room = BodyRoom::new(8 << 10);
        let body = room.answer(vec![7; 8 << 10]).unwrap();
        assert_eq!(body.size_hint().exact(), Some(8 << 10));
        assert!(room.answer(vec![7; 5 << 10]).is_err());
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 8 << 10);
        assert!(room.answer(vec![7; 5 << 10]).is_ok());
    }

    proptest! {
        /// However bodies grow and go, no more is held than there is, and all of it comes back.
        #[test]
        fn room_is_never_lost_and_never_lent_twice(
            steps in proptest::collection::vec((0usize..4, 0usize..9000, any::<bool>()), 0..60),
        ) {
            let room = BodyRoom::new(16 << 10);
            let mut held: Vec<Held> = (0..4).map(|_| room.hold()).collect();
            for (which, bytes, leave) in steps {
                let one = held.get_mut(which).unwrap();
                if leave {
                    *one = room.hold();
                } else {
                    let _ = one.grow_to(bytes);
                }
                let taken: usize = held
                    .iter()
                    .filter_map(|one| one.permit.as_ref())
                    .map(OwnedSemaphorePermit::num_permits)
                    .sum();
                prop_assert_eq!(taken + room.free.available_permits(), 16);
            }
            drop(held);
            prop_assert_eq!(room.free.available_permits(), 16);
        }
    }
}
