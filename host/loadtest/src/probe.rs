//! One request with each body before any load: a server that is not there, or that refuses what it
//! is asked, is told at once and not after forty minutes. A server that is there and does badly is
//! what a load test measures, so it is let through with a word.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    exchange::exchange,
    failure::FailureKind,
    target::{Target, client},
};

/// More bodies than this are not tried beforehand.
const MAX_BODIES: usize = 32;

/// What the server made of the first requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It answered each body.
    Well,
    /// It is there and failed like this.
    Troubled(FailureKind),
}

/// A server that no load is sent to.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// Nobody there.
    #[error(
        "no server answers at {0}; start one with `aegis serve` (or `kubectl port-forward` to one), \
         or name another with --server or --url"
    )]
    Unreachable(String),
    /// It said that the request is wrong.
    #[error("the server refuses {body}: {status} {words}{hint}")]
    Refused {
        /// The body that was sent.
        body: String,
        /// The status it answered.
        status: StatusCode,
        /// What it said.
        words: String,
        /// What to do.
        hint: &'static str,
    },
    /// There is no client to ask with.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Asks once with each body.
///
/// # Errors
/// No server, or one that refuses a body as a caller's mistake.
pub async fn probe(target: &Target, timeout: Duration) -> Result<Probed, ProbeError> {
    let client = client(true)?;
    for (turn, body) in target.bodies().enumerate().take(MAX_BODIES) {
        let answer = match exchange(&client, target, turn, Instant::now() + timeout).await {
            Ok(answer) => answer,
            Err(FailureKind::Connect) => {
                return Err(ProbeError::Unreachable(target.authority()));
            }
            Err(kind) => return Ok(Probed::Troubled(kind)),
        };
        if callers_mistake(answer.status) {
            return Err(ProbeError::Refused {
                body: body.name.clone(),
                status: answer.status,
                words: String::from_utf8_lossy(&answer.words).trim().to_owned(),
                hint: hint(answer.status),
            });
        }
        if let Err(kind) = answer.judged() {
            return Ok(Probed::Troubled(kind));
        }
    }
    Ok(Probed::Well)
}

/// Asking again will not help; 408, 425 and 429 are about the moment.
fn callers_mistake(status: StatusCode) -> bool {
    let moment = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_redirection() || (status.is_client_error() && !moment.contains(&status))
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; put a token into AEGIS_TOKEN, or name its file with --token-file"
        }
        StatusCode::NOT_FOUND => "; `aegis models` lists the models there are",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "; give the body's media type with --content-type",
        status if status.is_redirection() => {
            "; redirects are not followed, as they would be measured: give the place with --url"
        }
        _ => "",
    }
}
