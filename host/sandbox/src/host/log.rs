//! A guest's standard output and error as log lines with model, version and request id.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi_io::{
    async_trait,
    poll::Pollable,
    streams::{OutputStream, StreamResult},
};

use crate::{handler::HandlerContext, text::printable};

/// A line longer than this is logged in pieces, so that one line has a bounded size.
const MAX_LINE: usize = 4 << 10;

/// A line counts at least this much, as what the host writes around it is not free.
const LEAST_LINE: usize = 64;

/// The last bytes kept for the message of a failed `init` or start.
const KEPT_TAIL: usize = 4 << 10;

/// What one instance writes, and how much more it may.
pub(crate) struct GuestLog {
    state: Mutex<State>,
    limit: usize,
    /// Whether something was dropped; beside the lock, as every call's end asks.
    cut: AtomicBool,
}

struct State {
    request_id: Arc<str>,
    written: usize,
    tail: String,
}

impl GuestLog {
    pub(crate) fn new(limit: usize) -> GuestLog {
        GuestLog {
            state: Mutex::new(State {
                request_id: Arc::from(""),
                written: 0,
                tail: String::new(),
            }),
            limit,
            cut: AtomicBool::new(false),
        }
    }

    /// From here on, lines belong to this request, and the allowance starts anew.
    pub(crate) fn begin(&self, request_id: &Arc<str>) {
        let mut state = self.state.lock();
        state.request_id = Arc::clone(request_id);
        state.written = 0;
        self.cut.store(false, Ordering::Relaxed);
        state.tail.clear();
    }

    /// Whether the guest wrote more than it may.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// The last few KiB that the guest wrote.
    pub(crate) fn tail(&self) -> String {
        self.state.lock().tail.trim().to_owned()
    }

    pub(crate) fn stream(
        self: &Arc<Self>,
        handler: Arc<HandlerContext>,
        stream: &'static str,
    ) -> LogStream {
        LogStream {
            log: Arc::clone(self),
            handler,
            stream,
            line: Arc::new(Mutex::new(Vec::new())),
        }
    }

    /// Whether `bytes` more may be logged. Says so once when they may not.
    fn admit(&self, bytes: usize, handler: &HandlerContext) -> bool {
        let mut state = self.state.lock();
        if !self.was_cut() && state.written.saturating_add(bytes) <= self.limit {
            state.written += bytes;
            return true;
        }
        if !self.cut.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "aegis::guest",
                model = %handler.model,
                version = handler.version,
                request_id = %state.request_id,
                limit_bytes = self.limit,
                "the handler wrote more than its limit of log; the rest of this request's output is dropped"
            );
        }
        false
    }

    fn line(&self, line: &[u8], stream: &'static str, handler: &HandlerContext) {
        let text = String::from_utf8_lossy(line);
        let text = printable(&text);
        let mut state = self.state.lock();
        if state.tail.len() < KEPT_TAIL {
            state.tail.push_str(&text);
            state.tail.push('\n');
        }
        tracing::info!(
            target: "aegis::guest",
            model = %handler.model,
            version = handler.version,
            request_id = %state.request_id,
            stream,
            "{text}"
        );
    }
}

/// One of a guest's output streams.
pub(crate) struct LogStream {
    log: Arc<GuestLog>,
    handler: Arc<HandlerContext>,
    stream: &'static str,
    line: Arc<Mutex<Vec<u8>>>,
}

impl LogStream {
    fn again(&self) -> LogStream {
        LogStream {
            log: Arc::clone(&self.log),
            handler: Arc::clone(&self.handler),
            stream: self.stream,
            line: Arc::clone(&self.line),
        }
    }

    fn take(&self, bytes: &[u8]) {
        let mut line = self.line.lock();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            // What is admitted is what may be kept and logged; from the first line that is
            // not, the rest is dropped unread.
            let least = if ended {
                LEAST_LINE.saturating_sub(line.len())
            } else {
                0
            };
            if !self.log.admit(piece.len().max(least), &self.handler) {
                return;
            }
            for part in text.chunks(MAX_LINE) {
                if line.len() + part.len() > MAX_LINE {
                    self.log.line(&line, self.stream, &self.handler);
                    line.clear();
                }
                line.extend_from_slice(part);
            }
            if ended {
                self.log.line(&line, self.stream, &self.handler);
                line.clear();
            }
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        // The last holder logs an unfinished line.
        if Arc::strong_count(&self.line) == 1 {
            let line = self.line.lock();
            if !line.is_empty() {
                self.log.line(&line, self.stream, &self.handler);
            }
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.again())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.again())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_LINE)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
