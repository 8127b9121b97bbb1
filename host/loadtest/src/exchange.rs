//! One request and its whole answer, which is read and thrown away piece by piece, so that a large
//! answer takes no memory.

use http::StatusCode;
use tokio::time::{Instant, timeout_at};

use crate::{failure::FailureKind, target::Target};

/// The part of a refusing answer that is kept for people, in bytes.
const MAX_WORDS: usize = 512;

/// An answer that came whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The beginning of its body.
    pub(crate) words: Vec<u8>,
}

/// Sends request number `turn` and reads the answer to its end, or to `deadline`.
pub(crate) async fn exchange(
    client: &reqwest::Client,
    target: &Target,
    turn: usize,
    deadline: Instant,
) -> Result<Answer, FailureKind> {
    let whole = async {
        let mut response = target.request(client, turn).send().await?;
        let mut words = Vec::new();
        while let Some(piece) = response.chunk().await? {
            let room = MAX_WORDS.saturating_sub(words.len()).min(piece.len());
            words.extend_from_slice(piece.get(..room).unwrap_or_default());
        }
        Ok(Answer {
            status: response.status(),
            words,
        })
    };
    match timeout_at(deadline, whole).await {
        Err(_) => Err(FailureKind::Timeout),
        Ok(Err(error)) => Err(FailureKind::of(&error)),
        Ok(Ok(answer)) => Ok(answer),
    }
}

impl Answer {
    /// A success or the failure that its status is.
    pub(crate) fn judged(&self) -> Result<(), FailureKind> {
        if self.status.is_success() {
            Ok(())
        } else {
            Err(FailureKind::Status(self.status.as_u16()))
        }
    }
}
