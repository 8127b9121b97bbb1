//! What sharing runs gains, and what the scheduler takes of it: requests a second through `Graph::compute` beside a
//! bare loop over ONNX Runtime that is handed whole batches, and, over HTTP, the real program with a sandboxed handler
//! before the graph.
//!
//! Every network is there twice, with `batching = false` and as it is without a word about it. Sides take turns within
//! a round; ratios are of one round.

mod bare_loop;
mod in_process;
mod over_http;
mod table;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    bare,
    cases::{self, Case},
    machine::Machine,
    onnx, say,
    stats::median,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A few seconds: sees that everything runs and answers right. Its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Rounds; in each, every side has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a turn.
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// Measure only this network. May be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Without the part over HTTP.
    #[arg(long)]
    in_process: bool,
    /// Sessions of each graph in process, instead of one.
    #[arg(long, default_value_t = 1)]
    sessions: usize,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text")]
    output: crate::Output,
    /// The `aegis` program; else the one beside this.
    #[arg(long, value_name = "FILE")]
    aegis: Option<PathBuf>,
    #[arg(long, value_name = "PATH", env = "AEGIS_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
    /// The checkout.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

/// The sizes that the bare loop is run at.
const BARE: [u32; 3] = [1, 8, 32];

/// Callers at once, in process and over HTTP.
const CALLERS: [usize; 4] = [1, 8, 32, 128];

/// What a dimension of any size beside the batch is: tokens, for the one network that has such.
const TOKENS: u32 = 16;

struct Network {
    name: &'static str,
    onnx: PathBuf,
    /// Asked over HTTP through the handler of digits, and what is right.
    cases: Option<Vec<Case>>,
}

/// All that was measured.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    rounds: usize,
    window_ms: u64,
    sessions: usize,
    bare: Vec<BareRow>,
    in_process: Vec<Row>,
    over_http: Vec<Row>,
}

/// The bare loop at one size of batch.
#[derive(Clone, Serialize)]
struct BareRow {
    network: &'static str,
    batch: u32,
    rows_per_second: f64,
}

/// So many callers, without and with shared runs.
#[derive(Serialize)]
struct Row {
    network: &'static str,
    callers: usize,
    off: Figures,
    on: Figures,
    /// Of a round, with over without.
    gain: f64,
    /// In process: with shared runs, over a bare loop at the mean batch that was reached.
    of_bare: Option<f64>,
}

/// One side: medians of the rounds.
#[derive(Clone, Copy, Default, Serialize)]
struct Figures {
    requests_per_second: f64,
    median_us: f64,
    p99_us: f64,
    /// Requests that a run answered, on average.
    mean_batch: Option<f64>,
    /// Over HTTP: the server's processor time for a request.
    cpu_us: Option<f64>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    std::env::set_current_dir(&args.root)?;
    let machine = Machine::read();
    for warning in machine.warnings() {
        say(&warning);
    }
    let folder = tempfile::Builder::new()
        .prefix("aegis-batching-")
        .tempdir()?;
    let (rounds, window) = if args.quick {
        (1, Duration::from_millis(100))
    } else {
        (args.rounds, Duration::from_millis(args.window_ms))
    };
    let runtime = bare::runtime(args.onnxruntime.clone())?;
    let networks = networks(folder.path(), &args.only)?;
    let mut report = Report {
        machine,
        rounds,
        window_ms: window.as_millis() as u64,
        sessions: args.sessions,
        bare: Vec::new(),
        in_process: Vec::new(),
        over_http: Vec::new(),
    };
    for network in &networks {
        say(&format!("{}: in process", network.name));
        in_process::measure(&mut report, &runtime, network, args, rounds, window)
            .with_context(|| network.name)?;
    }
    if !args.in_process {
        over_http::measure(&mut report, &networks, args, folder.path(), rounds, window)?;
    }
    let text = match args.output {
        crate::Output::Text => table::of(&report),
        crate::Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn networks(folder: &Path, only: &[String]) -> anyhow::Result<Vec<Network>> {
    let cases = cases::read(Path::new("models/digits/digits-golden.json"))?;
    let mlp = folder.join("mlp.onnx");
    fs::write(&mlp, onnx::mlp())?;
    let mut all = vec![
        Network {
            name: "digits",
            onnx: "models/digits/digits.onnx".into(),
            cases: Some(cases.clone()),
        },
        Network {
            name: "mlp",
            onnx: mlp,
            cases: Some(cases),
        },
        Network {
            name: "spam",
            onnx: "models/spam/spam.onnx".into(),
            cases: None,
        },
        Network {
            name: "minilm",
            onnx: ".models/embeddings/minilm.onnx".into(),
            cases: None,
        },
        Network {
            name: "efficientnet",
            onnx: ".models/efficientnet/efficientnet-lite0.onnx".into(),
            cases: None,
        },
    ];
    all.retain(|network| {
        let wanted = only.is_empty() || only.iter().any(|name| name == network.name);
        if wanted && !network.onnx.is_file() {
            say(&format!(
                "{} is left out: {} is not there",
                network.name,
                network.onnx.display()
            ));
        }
        wanted && network.onnx.is_file()
    });
    if all.is_empty() {
        bail!("nothing to measure; there are digits, mlp, spam, minilm and efficientnet");
    }
    Ok(all)
}

/// Both sides in turns, a round after the other; who begins changes, so that neither gains by coming first.
fn in_turns<T>(
    rounds: usize,
    mut side: impl FnMut(Side) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<(T, T)>> {
    (0..rounds)
        .map(|round| {
            Ok(if round % 2 == 0 {
                let off = side(Side::Off)?;
                (off, side(Side::On)?)
            } else {
                let on = side(Side::On)?;
                (side(Side::Off)?, on)
            })
        })
        .collect()
}

/// Without shared runs, or with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Off,
    On,
}

impl Row {
    fn of(network: &'static str, callers: usize, rounds: &[(Figures, Figures)]) -> Row {
        let gains = rounds
            .iter()
            .map(|(off, on)| on.requests_per_second / off.requests_per_second);
        let (off, on): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
        Row {
            network,
            callers,
            gain: median(gains),
            off: Figures::median_of(&off),
            on: Figures::median_of(&on),
            of_bare: None,
        }
    }
}

impl Figures {
    fn median_of(rounds: &[Figures]) -> Figures {
        let of = |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure));
        let maybe = |figure: fn(&Figures) -> Option<f64>| {
            let all: Option<Vec<f64>> = rounds.iter().map(figure).collect();
            all.map(median)
        };
        Figures {
            requests_per_second: of(|round| round.requests_per_second),
            median_us: of(|round| round.median_us),
            p99_us: of(|round| round.p99_us),
            mean_batch: maybe(|round| round.mean_batch),
            cpu_us: maybe(|round| round.cpu_us),
        }
    }
}
