//! The ways in which a request fails, and how often each happened.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::{self, Display},
    io,
};

use serde::{Serialize, Serializer};

/// Why a request is no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureKind {
    /// No connection came about.
    Connect,
    /// No complete answer within the time a request has.
    Timeout,
    /// The connection was closed before the answer was complete.
    Closed,
    /// What came back is not HTTP.
    NotHttp,
    /// A complete answer with a status other than 2xx.
    Status(u16),
    /// This machine had no file or port left for a connection: not the server's doing.
    ClientLimit,
}

impl Display for FailureKind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => to.write_str("connect"),
            Self::Timeout => to.write_str("timeout"),
            Self::Closed => to.write_str("closed"),
            Self::NotHttp => to.write_str("not-http"),
            Self::Status(status) => write!(to, "status-{status}"),
            Self::ClientLimit => to.write_str("client-limit"),
        }
    }
}

impl FailureKind {
    /// What it means, for people.
    #[must_use]
    pub fn meaning(self) -> String {
        match self {
            Self::Connect => "no connection came about".to_owned(),
            Self::Timeout => "no complete answer in time".to_owned(),
            Self::Closed => "the connection closed before the answer was complete".to_owned(),
            Self::NotHttp => "what came back is not HTTP".to_owned(),
            Self::Status(status) => format!("answered with status {status}"),
            Self::ClientLimit => {
                "this machine had no file or port left (see `ulimit -n`); not the server's doing"
                    .to_owned()
            }
        }
    }

    /// Tells the kind from what the HTTP client says.
    pub(crate) fn of(error: &reqwest::Error) -> Self {
        let mut kind = None;
        let mut source: Option<&(dyn Error + 'static)> = error.source();
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                if no_room_here(io) {
                    return Self::ClientLimit;
                }
            } else if cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_parse)
            {
                kind = Some(Self::NotHttp);
            }
            source = cause.source();
        }
        match kind {
            _ if error.is_connect() => Self::Connect,
            _ if error.is_timeout() => Self::Timeout,
            Some(kind) => kind,
            None => Self::Closed,
        }
    }
}

/// EMFILE, ENFILE and EADDRNOTAVAIL: the files of this process, of this machine, and its ports.
fn no_room_here(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23)) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// How often requests failed, by kind. Bounded, as kinds are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<FailureKind, u64>);

impl Failures {
    /// One more of a kind.
    pub fn add(&mut self, kind: FailureKind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// All of another count as well.
    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }

    /// How many there were of any kind.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// How many there were of one kind.
    #[must_use]
    pub fn of(&self, kind: FailureKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// Each kind that happened, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (FailureKind, u64)> + '_ {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

/// `12 timeout, 3 status-503`; empty where nothing failed.
impl Display for Failures {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, count)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(to, "{comma}{count} {kind}")?;
        }
        Ok(())
    }
}

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter().map(|(kind, count)| (kind.to_string(), count)))
    }
}
