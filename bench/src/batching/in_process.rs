//! Callers that ask a graph of this process again as soon as they have their answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_inference::{
    BackendChoice, BackendKind, Batching, BatchingMode, Graph, GraphFiles, GraphSpec, NamedTensor,
    Runtime,
};

use super::{
    Args, BARE, BareRow, CALLERS, Figures, Network, Report, Row, Shared,
    bare_loop::{BareLoop, inputs},
    hand_over::HandOver,
    in_turns,
};
use crate::{
    say,
    stats::{Samples, median},
};

fn spec(network: &Network, sessions: usize, mode: BatchingMode) -> GraphSpec {
    let mut spec = GraphSpec::new(network.name, GraphFiles::Onnx(network.onnx.clone()));
    spec.backend = BackendChoice::Is(BackendKind::OnnxRuntime);
    spec.queue_capacity = 1024;
    spec.sessions = sessions;
    spec.batching = Batching {
        mode,
        ..Batching::default()
    };
    spec
}

/// Measures one network, without the server.
pub(super) fn measure(
    report: &mut Report,
    runtime: &Runtime,
    network: &Network,
    args: &Args,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<()> {
    let off = runtime.load(&spec(network, args.sessions, BatchingMode::Off))?;
    let on = runtime.load(&spec(network, args.sessions, BatchingMode::Auto))?;
    let (state, signature) = (on.batching(), on.signature().clone());
    say(&format!(
        "{}: up to {} rows a run{}",
        network.name,
        state.max_rows,
        state
            .warning
            .map(|warning| format!("; {warning}"))
            .unwrap_or_default()
    ));
    let mut bare = BareLoop::open(&network.onnx, &signature)?;
    for batch in BARE {
        let speeds = (0..rounds).map(|_| bare.rows_per_second(batch, window));
        let speeds = speeds.collect::<anyhow::Result<Vec<_>>>()?;
        report.bare.push(BareRow {
            network: network.name,
            batch,
            rows_per_second: median(speeds),
        });
    }
    let least = BareLoop::open(&network.onnx, &signature)?;
    let least = HandOver::start(least, state.max_rows as usize)?;
    let (off, on, least) = (Side::Graph(off), Side::Graph(on), Side::Least(least.into()));
    let inputs = inputs(&signature, 1)?;
    let executor = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    for callers in CALLERS {
        let measured = in_turns(rounds, [(&off, false), (&on, true)], |(graph, shared)| {
            let figures = executor.block_on(saturate(graph, &inputs, callers, window))?;
            let shared = match figures.mean_batch {
                Some(batch) if shared => {
                    let of_bare = figures.requests_per_second / bare.at(batch, window)?;
                    let least = executor.block_on(saturate(&least, &inputs, callers, window))?;
                    let batch = least.mean_batch.unwrap_or(1.0);
                    Shared {
                        of_bare,
                        least_of_bare: least.requests_per_second / bare.at(batch, window)?,
                        of_least: figures.requests_per_second / least.requests_per_second,
                        least,
                    }
                }
                _ => Shared::default(),
            };
            Ok((figures, shared))
        })?;
        let shared: Vec<_> = measured.iter().map(|(_, (_, shared))| *shared).collect();
        let figures: Vec<_> = (measured.iter())
            .map(|((off, _), (on, _))| (*off, *on))
            .collect();
        report.in_process.push(Row {
            shared: Some(Shared::median_of(&shared)),
            ..Row::of(network.name, callers, &figures)
        });
    }
    Ok(())
}

/// What callers ask.
#[derive(Clone)]
enum Side {
    Graph(Graph),
    Least(Arc<HandOver>),
}

impl Side {
    async fn compute(&self, inputs: Vec<NamedTensor>) -> anyhow::Result<()> {
        match self {
            Side::Graph(graph) => drop(graph.compute(inputs, None).await?),
            Side::Least(least) => drop(least.compute(inputs).await?),
        }
        Ok(())
    }

    /// Requests that were answered, and runs that were made.
    fn counts(&self) -> (u64, u64) {
        match self {
            Side::Graph(graph) => (graph.stats().answered, graph.stats().runs),
            Side::Least(least) => least.counts(),
        }
    }
}

/// So many callers, each with its next request as soon as it has its answer.
async fn saturate(
    side: &Side,
    inputs: &[NamedTensor],
    callers: usize,
    window: Duration,
) -> anyhow::Result<Figures> {
    let counting = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (side, inputs) = (side.clone(), inputs.to_vec());
            let (counting, ended) = (Arc::clone(&counting), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut samples = Samples::with_capacity(1 << 14);
                while !ended.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    side.compute(inputs.clone()).await?;
                    if counting.load(Ordering::Relaxed) {
                        samples.push(begun.elapsed());
                    }
                    // A task whose every run is in place would keep its thread.
                    tokio::task::consume_budget().await;
                }
                anyhow::Ok(samples)
            })
        })
        .collect();
    tokio::time::sleep(window / 5).await;
    let before = side.counts();
    counting.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    tokio::time::sleep(window).await;
    let took = begun.elapsed();
    counting.store(false, Ordering::Relaxed);
    let after = side.counts();
    ended.store(true, Ordering::Relaxed);
    let mut all = Samples::default();
    for task in tasks {
        all.extend(&task.await??);
    }
    let answered = (after.0 - before.0) as f64;
    let summary = all.summary();
    Ok(Figures {
        requests_per_second: answered / took.as_secs_f64(),
        median_us: summary.median,
        p99_us: summary.p99,
        mean_batch: Some(answered / (after.1 - before.1).max(1) as f64),
        cpu_us: None,
    })
}
