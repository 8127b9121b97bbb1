//! A bare connection, for what no HTTP client would send.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A connection.
pub(crate) struct Raw(TcpStream);

/// How long a connection may stay silent before that counts as an answer.
const SILENCE: Duration = Duration::from_secs(20);

impl Raw {
    pub(crate) async fn connect(address: &str) -> Raw {
        Raw(TcpStream::connect(address).await.expect("a connection"))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("sent");
    }

    /// Sends, unless the server reads no more; whether it went.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(Duration::from_secs(2), self.0.write_all(bytes.as_ref())).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// What comes until the server closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset after the answer is an end too.
        let _ = timeout(SILENCE, self.0.read_to_end(&mut bytes))
            .await
            .expect("the server closes the connection");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What comes until `end` has come `times` times.
    pub(crate) async fn read_until(&mut self, end: &str, times: usize) -> String {
        let mut text = String::new();
        let mut piece = [0; 4096];
        while text.matches(end).count() < times {
            let read = timeout(SILENCE, self.0.read(&mut piece))
                .await
                .unwrap_or_else(|_| panic!("no `{end}` in {text}"))
                .expect("a piece");
            assert_ne!(read, 0, "closed after {text}");
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        text
    }
}
