//! The load generator: a process of its own that asks on so many kept connections, each with
//! its next request as soon as it has its answer. Every answer is held to the right one.
//!
//! It runs on one thread and shares the machine with the server, so at saturation the two sides
//! of a comparison pay the same for it.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{
    cases::Case,
    http::Connection,
    stats::{Samples, Summary},
};

/// What to ask, where and for how long.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[arg(long)]
    address: SocketAddr,
    /// What is posted to.
    #[arg(long)]
    path: String,
    /// Requests and right answers, as the benchmark writes them.
    #[arg(long)]
    cases: PathBuf,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    warm_up_ms: u64,
    #[arg(long)]
    measure_ms: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Answers in the measured time.
    pub(crate) requests: u64,
    /// Answers altogether.
    pub(crate) all_requests: u64,
    pub(crate) requests_per_second: f64,
    pub(crate) latency: Summary,
}

/// Asks, and prints a [`Loaded`] as JSON.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let loaded = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(load(args))?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&loaded)?)?;
    Ok(())
}

/// A case and its request's bytes.
struct Prepared {
    case: Case,
    request: Vec<u8>,
}

async fn load(args: Args) -> anyhow::Result<Loaded> {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&args.cases)?)?;
    let prepared: Arc<Vec<Prepared>> = Arc::new(
        cases
            .into_iter()
            .map(|case| Prepared {
                request: case.request(&args.path),
                case,
            })
            .collect(),
    );
    let mut connections = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        connections.push(Connection::open(args.address).await?);
    }
    let from = Instant::now() + Duration::from_millis(args.warm_up_ms);
    let time = Duration::from_millis(args.measure_ms);
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(first, connection)| {
            tokio::spawn(ask(
                connection,
                Arc::clone(&prepared),
                first,
                from,
                from + time,
            ))
        })
        .collect();
    let mut samples = Samples::default();
    let mut all_requests = 0;
    for task in tasks {
        let (counted, all) = task.await??;
        samples.extend(&counted);
        all_requests += all;
    }
    Ok(Loaded {
        requests: samples.len() as u64,
        all_requests,
        requests_per_second: samples.len() as f64 / time.as_secs_f64(),
        latency: samples.summary(),
    })
}

/// One connection's requests until `until`; answers after `from` are counted.
async fn ask(
    mut connection: Connection,
    prepared: Arc<Vec<Prepared>>,
    first: usize,
    from: Instant,
    until: Instant,
) -> anyhow::Result<(Samples, u64)> {
    let mut samples = Samples::with_capacity(1 << 16);
    let mut all = 0;
    for next in prepared.iter().cycle().skip(first) {
        let start = Instant::now();
        let answer = connection.ask(&next.request).await?;
        let end = Instant::now();
        if answer.status != 200 {
            let body = String::from_utf8_lossy(answer.body);
            bail!("the server answered {}: {body}", answer.status);
        }
        next.case.check(answer.body).context("over HTTP")?;
        all += 1;
        if end >= until {
            break;
        }
        if end >= from {
            samples.push(end - start);
        }
    }
    Ok((samples, all))
}
