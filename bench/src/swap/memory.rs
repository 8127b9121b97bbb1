//! Memory over many swaps of a server under steady load.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::bail;

use super::{Kind, Operator, Started};
use crate::{
    machine::Memory,
    say,
    stats::median,
    steady::{Asked, on_this_thread},
};

/// Parts of the swaps, after each of which memory is looked at.
const PARTS: usize = 10;

/// The first parts warm the server up: slots of the pool, the threads' own reserves.
const WARM_UP: usize = 2;

/// After the last swap of a part, before memory is looked at: what was left of it is given back a second later. The
/// models are asked all the while.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// Looks at the end of a part, and from one to the next.
const LOOKS: usize = 5;
const BETWEEN: Duration = Duration::from_millis(300);

/// What memory may change by, from the mean of the first half of the parts after the warm-up to that of the second. One look is
/// no measure: which threads there are, and what the allocator keeps for each, is another from look to look.
const AIM: f64 = 0.05;

/// Memory after each part of the swaps of one kind.
pub(super) struct Looked {
    kind: Kind,
    parts: Vec<Part>,
    requests: u64,
    failed: u64,
    wrong: u64,
}

/// Memory at rest, in MiB, after so many swaps.
struct Part {
    swaps: usize,
    /// All that the server holds, as `ps` and a container's memory tell it.
    resident: f64,
    /// Of it, what no file has.
    own: f64,
}

/// Swaps so often while both models are asked, and looks at memory after each part.
pub(super) fn over(
    started: &Started,
    kind: Kind,
    swaps: usize,
    settle: Duration,
) -> anyhow::Result<Looked> {
    say(&format!("memory over {swaps} swaps: {}", kind.name()));
    let process = started.process.0.id();
    let stop = AtomicBool::new(false);
    let (asked, parts) = thread::scope(|scope| {
        let clients = scope.spawn(|| {
            let mut all: [Asked; 2] = Default::default();
            while !stop.load(Ordering::Relaxed) {
                let asked = started.ask(Duration::from_millis(500))?;
                all.iter_mut()
                    .zip(asked)
                    .for_each(|(all, one)| all.extend(one));
            }
            anyhow::Ok(all)
        });
        let parts = on_this_thread(async {
            let mut operator = Operator::new(started.address, kind)?;
            let mut parts = Vec::new();
            for part in 1..=PARTS {
                let (before, until) = (swaps * (part - 1) / PARTS, swaps * part / PARTS);
                for _ in before..until {
                    operator.swap().await?;
                }
                tokio::time::sleep(settle).await;
                let mut looks = Vec::new();
                for _ in 0..LOOKS {
                    looks.push(Memory::of(process)?);
                    tokio::time::sleep(BETWEEN).await;
                }
                let of = |bytes: fn(&Memory) -> u64| {
                    median(looks.iter().map(bytes).map(|bytes| bytes as f64)) / f64::from(1 << 20)
                };
                parts.push(Part {
                    swaps: until,
                    resident: of(|look| look.resident),
                    own: of(|look| look.anonymous),
                });
            }
            Ok(parts)
        });
        stop.store(true, Ordering::Relaxed);
        match clients.join() {
            Ok(asked) => Ok((asked?, parts?)),
            Err(_) => bail!("a client died"),
        }
    })?;
    // Minutes of memory's figures are worth keeping whatever became of a request: the row tells.
    let of = |count: fn(&Asked) -> u64| asked.iter().map(count).sum();
    for asked in &asked {
        if let Err(error) = asked.summary() {
            say(&format!("{error:#}"));
        }
    }
    Ok(Looked {
        kind,
        parts,
        requests: of(|asked| asked.samples.len() as u64),
        failed: of(|asked| asked.failed),
        wrong: of(|asked| asked.wrong),
    })
}

pub(super) fn print(out: &mut impl std::io::Write, looked: &Looked) -> anyhow::Result<()> {
    type Figure = fn(&Part) -> f64;
    let kinds: [(&str, Figure); 2] = [
        ("resident", |part| part.resident),
        ("its own", |part| part.own),
    ];
    for (what, mib) in kinds {
        write!(out, "{:<17} {what:<9}", looked.kind.name())?;
        for part in &looked.parts {
            write!(out, "  {:4}: {:6.1}", part.swaps, mib(part))?;
        }
        let warm = looked.parts.get(WARM_UP..).unwrap_or_default();
        let (first, second) = warm.split_at(warm.len() / 2);
        if !first.is_empty() {
            let mean = |half: &[Part]| half.iter().map(mib).sum::<f64>() / half.len() as f64;
            let change = mean(second) / mean(first) - 1.0;
            let met = if change.abs() <= AIM {
                "flat"
            } else {
                "NOT FLAT"
            };
            write!(out, "  {:+.1} %: {met}", change * 100.0)?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "  of {} requests {} failed, {} wrong",
        looked.requests, looked.failed, looked.wrong
    )?;
    Ok(())
}
