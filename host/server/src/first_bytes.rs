//! A connection's first bytes, within a time. hyper bounds how long a head may take only
//! once it knows that HTTP/1 is spoken: before that, a client that says nothing, or half of
//! HTTP/2's preface, would keep its place for ever.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How an HTTP/2 connection begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails to be read if its protocol is not known in time.
pub(crate) struct FirstBytes<S> {
    stream: S,
    /// Gone once the protocol is known.
    deadline: Option<Pin<Box<Sleep>>>,
    /// What of the preface has come.
    preface: usize,
}

impl<S> FirstBytes<S> {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(stream: S, time: Duration) -> FirstBytes<S> {
        FirstBytes {
            stream,
            deadline: Some(Box::pin(sleep(time))),
            preface: 0,
        }
    }

    /// Takes note of bytes that came: whole or broken, the preface tells the protocol.
    fn came(&mut self, bytes: &[u8]) {
        let rest = PREFACE.get(self.preface..).unwrap_or_default();
        self.preface += bytes.len();
        if bytes.len() >= rest.len() || !rest.starts_with(bytes) {
            self.deadline = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else {
            return read;
        };
        match read {
            Poll::Pending => deadline.as_mut().poll(context).map(|()| {
                Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no request came in time",
                ))
            }),
            Poll::Ready(ended) => {
                self.came(buffer.filled().get(before..).unwrap_or_default());
                Poll::Ready(ended)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    /// Whether the connection is still there, long after the time, when these bytes have
    /// come and no more.
    async fn lives_after(bytes: &[u8]) -> bool {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = FirstBytes::new(server, TIME);
        client.write_all(bytes).await.unwrap();
        let mut read = vec![0; bytes.len()];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(read, bytes);
        match tokio::time::timeout(TIME * 3, server.read_u8()).await {
            Err(_) => true,
            Ok(ended) => {
                assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
                false
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_half_a_preface_end_the_connection() {
        assert!(!lives_after(b"").await);
        assert!(!lives_after(b"PRI * HT").await);
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_protocol_is_known_the_protocol_keeps_the_time() {
        assert!(lives_after(b"G").await);
        assert!(lives_after(b"PUT").await);
        assert!(lives_after(PREFACE).await);
    }
}
