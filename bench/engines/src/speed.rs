//! Times real models on every engine: load, memory, one call at batch 1, 8 and 32, and whether the answers are right.
//! Each engine gets a process of its own, so that memory is its own, and several turns, so that other load on the
//! machine hits all alike.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{Kind, Session, rten},
    onnx::Signature,
    recipe::{check, furthest, inputs, model_name},
    tensor::Tensor,
};

const ENGINES: [&str; 6] = [
    "onnxruntime",
    "tract",
    "tract-fixed",
    "tract-fixed-reused",
    "rten",
    "rten-in-pool",
];
/// Turns that each engine gets; the best of the turns' medians counts.
const TURNS: usize = 3;
/// How long one batch size is called again and again in one turn, and the calls it gets at the least and the most.
const CALLING: Duration = Duration::from_millis(400);
const CALLS: std::ops::RangeInclusive<usize> = 5..=20_000;
#[derive(Serialize, Deserialize)]
struct Timing {
    batch: usize,
    /// The first call with this batch: where a plan is made for each shape, the making is in it.
    first_ms: f64,
    /// Median of the calls, microseconds of the clock.
    wall_us: f64,
    /// Mean of the calls, microseconds of processor time of the whole process.
    cpu_us: f64,
}

#[derive(Serialize, Deserialize)]
struct Measured {
    load_ms: f64,
    load_cpu_ms: f64,
    /// Resident memory before the model was loaded, after, and at its highest, MiB.
    before_mib: f64,
    loaded_mib: f64,
    peak_mib: f64,
    timings: Vec<Timing>,
    /// Batches that failed, with the engine's words.
    failed: Vec<String>,
    /// What the model's own check said: "goldens: 1e-7 off" or its like.
    check: String,
    /// The first batch's outputs, to be laid beside the reference's.
    sample: Vec<Vec<f64>>,
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A line of `/proc/self/status`, MiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or_default();
    line.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<f64>().ok())
        .unwrap_or(f64::NAN)
        / 1024.0
}

fn time(session: &mut dyn Session, inputs: &[Tensor], batch: usize) -> Result<Timing> {
    let mut walls = Vec::new();
    let first = Instant::now();
    session.run(inputs)?;
    let first_ms = first.elapsed().as_secs_f64() * 1e3;
    session.run(inputs)?;
    let (start, cpu) = (Instant::now(), cpu_time());
    while walls.len() < *CALLS.start() || (start.elapsed() < CALLING && walls.len() < *CALLS.end())
    {
        let call = Instant::now();
        std::hint::black_box(session.run(inputs)?);
        walls.push(call.elapsed());
    }
    let cpu_us = (cpu_time() - cpu).as_secs_f64() * 1e6 / walls.len() as f64;
    walls.sort();
    Ok(Timing {
        batch,
        first_ms,
        wall_us: walls[walls.len() / 2].as_secs_f64() * 1e6,
        cpu_us,
    })
}

fn measure(kind: Kind, path: &Path, batches: &[usize]) -> Result<Measured> {
    let model = std::fs::read(path)?;
    let signature = Signature::read(&model)?;
    let before_mib = memory("VmRSS:");
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut session = kind.load(&model, &signature)?;
    let (load, load_cpu) = (start.elapsed(), cpu_time() - cpu);
    let loaded_mib = memory("VmRSS:");
    let mut measured = Measured {
        load_ms: load.as_secs_f64() * 1e3,
        load_cpu_ms: load_cpu.as_secs_f64() * 1e3,
        before_mib,
        loaded_mib,
        peak_mib: 0.0,
        timings: Vec::new(),
        failed: Vec::new(),
        check: check(path, &mut *session).unwrap_or_else(|error| format!("{error:#}")),
        sample: Vec::new(),
    };
    for &batch in batches {
        let inputs = inputs(path, &signature, batch)?;
        match time(&mut *session, &inputs, batch) {
            Ok(timing) => measured.timings.push(timing),
            Err(error) => measured.failed.push(format!("batch {batch}: {error:#}")),
        }
        if measured.sample.is_empty()
            && let Ok(outputs) = session.run(&inputs)
        {
            measured.sample = outputs.iter().map(Tensor::as_f64).collect();
        }
    }
    measured.peak_mib = memory("VmHWM:");
    Ok(measured)
}

/// The worker: measures one engine on one model and prints JSON.
pub fn work(kind: Kind, path: &Path, batches: &str) -> Result<()> {
    let batches = batches
        .split(',')
        .map(|batch| Ok(batch.parse()?))
        .collect::<Result<Vec<usize>>>()?;
    let measured = match kind {
        Kind::RtenInPool => rten::pool().run(|| measure(kind, path, &batches))?,
        _ => measure(kind, path, &batches)?,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

fn ask(engine: &str, path: &Path, batches: &str) -> Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .arg("speed-worker")
        .arg(engine)
        .arg(path)
        .arg(batches)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{}",
            said.lines()
                .filter(|line| !line.trim().is_empty())
                .take(6)
                .collect::<Vec<_>>()
                .join(" / ")
        );
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Measures every model in both folders that is there, and prints a table of each.
pub fn run(shared: &Path, made: &Path) -> Result<()> {
    let models: [(PathBuf, &str); 7] = [
        (shared.join("digits-mlp.onnx"), "1,8,32"),
        (shared.join("spam.onnx"), "1,8,32"),
        (made.join("mlp-64-1024-1024-10.onnx"), "1,8,32"),
        (made.join("minilm.onnx"), "1,8,32"),
        (made.join("efficientnet-lite0.onnx"), "1,8"),
        (made.join("silero_vad_op18_ifless.onnx"), "1,8,32"),
        (made.join("silero_vad_openvino_16k.onnx"), "1"),
    ];
    for (path, batches) in models.iter().filter(|(path, _)| path.is_file()) {
        println!("\n### {}\n", model_name(path));
        println!(
            "| engine | load ms (cpu) | memory MiB: before, loaded, peak | {} | from ONNX Runtime | check |",
            batches
                .split(',')
                .map(|b| format!("batch {b}: wall µs (cpu) first ms"))
                .collect::<Vec<_>>()
                .join(" | ")
        );
        println!(
            "|---|---|---|{}---|---|",
            "---|".repeat(batches.split(',').count())
        );
        let mut best: BTreeMap<usize, Measured> = BTreeMap::new();
        let mut errors: BTreeMap<usize, String> = BTreeMap::new();
        for _ in 0..TURNS {
            for (index, engine) in ENGINES.iter().enumerate() {
                if errors.contains_key(&index) {
                    continue;
                }
                match ask(engine, path, batches) {
                    Err(error) => {
                        errors.insert(index, format!("{error:#}"));
                    }
                    Ok(new) => match best.get_mut(&index) {
                        None => {
                            best.insert(index, new);
                        }
                        Some(old) => keep_best(old, new),
                    },
                }
            }
        }
        let reference = best.get(&0).map(|measured| measured.sample.clone());
        for (index, engine) in ENGINES.iter().enumerate() {
            match best.get(&index) {
                Some(measured) => {
                    println!("{}", row(engine, measured, reference.as_deref(), batches))
                }
                None => println!(
                    "| {engine} | fails: {} |",
                    errors.get(&index).map(String::as_str).unwrap_or("")
                ),
            }
        }
    }
    Ok(())
}

fn keep_best(old: &mut Measured, new: Measured) {
    old.load_ms = old.load_ms.min(new.load_ms);
    old.load_cpu_ms = old.load_cpu_ms.min(new.load_cpu_ms);
    for (old, new) in old.timings.iter_mut().zip(new.timings) {
        old.first_ms = old.first_ms.min(new.first_ms);
        old.wall_us = old.wall_us.min(new.wall_us);
        old.cpu_us = old.cpu_us.min(new.cpu_us);
    }
}

fn row(engine: &str, measured: &Measured, reference: Option<&[Vec<f64>]>, batches: &str) -> String {
    let cells: Vec<String> = batches
        .split(',')
        .map(|batch| {
            let timing = measured
                .timings
                .iter()
                .find(|timing| timing.batch.to_string() == batch);
            timing.map_or("fails".into(), |t| {
                format!("{:.1} ({:.1}) {:.1}", t.wall_us, t.cpu_us, t.first_ms)
            })
        })
        .collect();
    let off = reference.map_or(f64::NAN, |reference| {
        reference
            .iter()
            .zip(&measured.sample)
            .map(|(a, b)| furthest(a, b))
            .fold(0.0, f64::max)
    });
    format!(
        "| {engine} | {:.1} ({:.1}) | {:.0}, {:.0}, {:.0} | {} | {off:.0e} | {} {} |",
        measured.load_ms,
        measured.load_cpu_ms,
        measured.before_mib,
        measured.loaded_mib,
        measured.peak_mib,
        cells.join(" | "),
        measured.check,
        measured.failed.join("; ")
    )
}
