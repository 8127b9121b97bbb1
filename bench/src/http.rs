//! As little of HTTP/1.1 as a client can do with, so that measuring costs little beside what is
//! measured: prepared requests, kept connections, and of an answer the status and the body.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A request's bytes.
pub(crate) fn post(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A kept connection, with one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            received: Vec::with_capacity(16 << 10),
        })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let (status, body) = loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some(head) = Head::read(&self.received)? {
                break (head.status, head.body);
            }
        };
        while self.received.len() < body.end {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                bail!("the server closed the connection within an answer");
            }
        }
        let body = self.received.get(body).unwrap_or_default();
        Ok(Answer { status, body })
    }
}

struct Head {
    status: u16,
    /// Where the body is, counted from the answer's first byte.
    body: std::ops::Range<usize>,
}

impl Head {
    /// `None` until the head is whole.
    fn read(received: &[u8]) -> anyhow::Result<Option<Head>> {
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(received.get(..end).unwrap_or_default())
            .context("an answer's head is not text")?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        // An answer without content has no length either.
        let length = length.or((status == Some(204)).then_some(0));
        match (status, length) {
            (Some(status), Some(length)) => Ok(Some(Head {
                status,
                body: end + 4..end + 4 + length,
            })),
            _ => bail!("an answer without status or content-length: {head}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        assert!(Head::read(&answer[..30]).unwrap().is_none());
        let head = Head::read(answer).unwrap().unwrap();
        assert_eq!(head.status, 200);
        assert_eq!(answer.get(head.body), Some(&b"{}"[..]));
        assert!(Head::read(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        let none = Head::read(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert!(none.unwrap().body.is_empty());
    }
}
