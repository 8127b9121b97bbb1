//! Models asked at a fixed rate on a few connections: an open loop, so that a server which holds up one request
//! also pays for those due meanwhile. Each connection is a thread of this program.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    cases::Case,
    http::Connection,
    stats::{Samples, Summary},
};

/// A model and what it is asked.
pub(crate) struct Steady {
    pub(crate) address: SocketAddr,
    pub(crate) case: Case,
    pub(crate) request: Vec<u8>,
    pub(crate) connections: usize,
    /// Requests a second on each of them.
    pub(crate) rate: u64,
}

/// What came of a window's requests.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) samples: Samples,
    /// Requests that were answered with another status than 200, or not at all.
    pub(crate) failed: u64,
    /// Requests that were answered wrongly.
    pub(crate) wrong: u64,
    /// What the first of either was.
    first: Option<String>,
}

impl Asked {
    /// Latencies, where every request was answered right.
    pub(crate) fn summary(&self) -> anyhow::Result<Summary> {
        if let Some(first) = &self.first {
            bail!(
                "of {} requests {} failed and {} were answered wrongly; the first: {first}",
                self.samples.len(),
                self.failed,
                self.wrong
            );
        }
        Ok(self.samples.summary())
    }

    pub(crate) fn extend(&mut self, other: Asked) {
        self.samples.extend(&other.samples);
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.first = self.first.take().or(other.first);
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        self.first.get_or_insert_with(what);
    }
}

impl Steady {
    /// Asks for one window.
    pub(crate) fn ask(&self, window: Duration) -> anyhow::Result<Asked> {
        let period = Duration::from_secs(1) / u32::try_from(self.rate).unwrap_or(1).max(1);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|index| {
                    let offset = period * u32::try_from(index).unwrap_or(0)
                        / u32::try_from(self.connections).unwrap_or(1).max(1);
                    scope.spawn(move || on_this_thread(self.at_a_rate(period, offset, window)))
                })
                .collect();
            let mut asked = Asked::default();
            for thread in threads {
                let Ok(one) = thread.join() else {
                    bail!("a client died");
                };
                asked.extend(one?);
            }
            Ok(asked)
        })
    }

    /// One connection's requests, each due a period after the one before, whenever that is answered.
    async fn at_a_rate(
        &self,
        period: Duration,
        offset: Duration,
        window: Duration,
    ) -> anyhow::Result<Asked> {
        let mut connection = Connection::open(self.address).await?;
        let mut asked = Asked::default();
        let begun = Instant::now();
        let mut due = begun + offset;
        while due < begun + window {
            let now = Instant::now();
            // Asleep, not polling: this thread has nothing else to do. That it wakes late is no
            // fault of the server's, that the connection is still busy is.
            let from = if now < due {
                thread::sleep(due - now);
                Instant::now()
            } else {
                due
            };
            let answered = connection.ask(&self.request).await;
            asked.samples.push(from.elapsed());
            match answered {
                Ok(answer) if answer.status == 200 => {
                    if let Err(error) = self.case.check(answer.body) {
                        asked.wrong += 1;
                        asked.fault(|| format!("{error:#}"));
                    }
                }
                Ok(answer) => {
                    asked.failed += 1;
                    let body = String::from_utf8_lossy(answer.body);
                    asked.fault(|| format!("{}: {body}", answer.status));
                }
                Err(error) => {
                    asked.failed += 1;
                    asked.fault(|| format!("{error:#}"));
                    connection = Connection::open(self.address)
                        .await
                        .context("after a connection broke")?;
                }
            }
            due += period;
        }
        Ok(asked)
    }
}

/// Runs what a thread of its own does.
pub(crate) fn on_this_thread<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
