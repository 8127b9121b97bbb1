//! Request bodies: read whole within a bound, or drained so that a refusal can be read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use aegis_telemetry::Limit;
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use parking_lot::Mutex;

use super::{
    body_room::{BodyRoom, Held},
    error::ApiError,
};

/// How much of a refused body is still read, and for how long: a client that is cut off
/// while it sends often never reads the answer.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Reads a whole body of at most `limit` bytes, giving up after `time`. What has come counts
/// against `room` for as long as the [`Held`] lives.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    time: Duration,
    room: &BodyRoom,
) -> Result<(Vec<u8>, Held), ApiError> {
    let announced = announced_length(headers);
    if announced.is_some_and(|length| length > limit as u64) {
        drain(body).await;
        return Err(too_large(limit));
    }
    // The announced length is a hint: it reserves no more than 64 KiB before bytes come.
    let mut whole = Vec::with_capacity(announced.unwrap_or(0).min(64 << 10) as usize);
    // Taken as bytes come, not as they are announced: an announcement costs its sender nothing.
    let mut held = room.hold();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(incomplete)?.into_data() else {
                continue;
            };
            if whole.len() + data.len() > limit {
                return Err(too_large(limit));
            }
            held.grow_to(whole.len() + data.len())?;
            whole.extend_from_slice(&data);
        }
        Ok(())
    };
    let ended = tokio::time::timeout(time, reading).await;
    match ended {
        Ok(Ok(())) => Ok((whole, held)),
        Ok(Err(error)) => {
            drain(body).await;
            Err(error)
        }
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the body did not arrive within {} ms", time.as_millis()),
        )
        .for_limit(Limit::Timeout)),
    }
}

fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// A body of more than `limit` bytes.
pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is larger than {limit} bytes, the most that is taken"),
    )
    .for_limit(Limit::RequestBytes)
}

fn incomplete(error: axum::Error) -> ApiError {
    ApiError::bad_request("incomplete_body", format!("the body was cut off: {error}"))
}

/// Reads and forgets the rest of a body, within bounds.
pub(crate) async fn drain(mut body: Body) {
    let mut left = DRAIN_BYTES;
    let draining = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Out of time: the connection is closed with the body unread.
    let _ = tokio::time::timeout(DRAIN_TIME, draining).await;
}

/// A body that its reader may give up on: what is left can then still be drained.
#[derive(Clone)]
pub(crate) struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    pub(crate) fn new(body: Body) -> SharedBody {
        SharedBody(Arc::new(Mutex::new(body)))
    }

    /// Drains what is left.
    pub(crate) async fn drain(self) {
        let body = std::mem::take(&mut *self.0.lock());
        drain(body).await;
    }
}

impl Stream for SharedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut body = self.0.lock();
        loop {
            return match std::task::ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => Poll::Ready(None),
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match Frame::into_data(frame) {
                    Ok(data) => Poll::Ready(Some(Ok(data))),
                    Err(_trailers) => continue,
                },
            };
        }
    }
}
