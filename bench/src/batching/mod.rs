//! What sharing runs gains, and what the scheduler takes of it: requests a second through `Graph::compute` beside a
//! bare loop over ONNX Runtime that is handed whole batches; over HTTP, the real program with a sandboxed handler before
//! the graph; and beside that the same work as people write it by hand, and as Triton does it.
//!
//! Every network is there twice, with `batching = false` and as it is without a word about it. Sides take turns within
//! a round; ratios are of one round.

mod bare_loop;
mod fastapi;
mod hand_over;
mod in_process;
mod over_http;
mod table;
mod triton;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{
    bare,
    cases::{self, Case, Digit, Question, most_probable},
    machine::Machine,
    onnx,
    program::Checkout,
    say,
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
    /// Only the parts beside other servers.
    #[arg(long, conflicts_with = "in_process")]
    beside: bool,
    /// Sessions of each graph in process, instead of one.
    #[arg(long, default_value_t = 1)]
    sessions: usize,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text")]
    output: crate::Output,
    #[command(flatten)]
    checkout: Checkout,
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
    /// The package whose handler asks it over HTTP.
    package: PathBuf,
    /// What fetches the package, if it is not committed.
    script: Option<&'static str>,
    asked: Asked,
}

/// What is asked over HTTP.
enum Asked {
    /// Digits, by their handler; the network's answers are known.
    Digits(Vec<Case>),
    /// Something else: right is what is answered alone.
    Questions(Vec<Question>),
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
    beside_fastapi: Vec<Beside>,
    beside_triton: Vec<triton::Row>,
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
    /// In process.
    shared: Option<Shared>,
}

/// What shared runs in process come to.
#[derive(Clone, Copy, Default, Serialize)]
struct Shared {
    /// Over a bare loop at the mean batch that was reached.
    of_bare: f64,
    /// The least that any host does, with as many callers.
    least: Figures,
    /// That over a bare loop at the mean batch that it reached.
    least_of_bare: f64,
    /// Aegis over the least.
    of_least: f64,
}

/// The real program, and what people write by hand.
#[derive(Serialize)]
struct Beside {
    network: &'static str,
    connections: usize,
    aegis: Figures,
    fastapi: Figures,
    /// Of a round, requests a second of Aegis over those of FastAPI.
    ratio: f64,
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
    std::env::set_current_dir(&args.checkout.root)?;
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
    let runtime = bare::runtime(args.checkout.onnxruntime.clone())?;
    let networks = networks(folder.path(), &args.only)?;
    let mut report = Report {
        machine,
        rounds,
        window_ms: window.as_millis() as u64,
        sessions: args.sessions,
        bare: Vec::new(),
        in_process: Vec::new(),
        over_http: Vec::new(),
        beside_fastapi: Vec::new(),
        beside_triton: Vec::new(),
    };
    for network in networks.iter().filter(|_| !args.beside) {
        say(&format!("{}: in process", network.name));
        in_process::measure(&mut report, &runtime, network, args, rounds, window)
            .with_context(|| network.name)?;
    }
    if !args.in_process {
        let server = over_http::Server::start(&networks, args, folder.path())?;
        if !args.beside {
            over_http::measure(&mut report, &server, rounds, window)?;
        }
        fastapi::measure(&mut report, &server, folder.path(), rounds, window)?;
        triton::measure(
            &mut report,
            &server,
            folder.path(),
            &runtime,
            rounds,
            window,
        )?;
    }
    let text = match args.output {
        crate::Output::Text => table::of(&report),
        crate::Output::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn networks(folder: &Path, only: &[String]) -> anyhow::Result<Vec<Network>> {
    let digits = cases::digits(Path::new("models/digits/digits-golden.json"))?;
    let mlp = folder.join("mlp.onnx");
    fs::write(&mlp, onnx::mlp())?;
    let by_digits = |name, onnx: PathBuf| {
        anyhow::Ok(Network {
            name,
            package: "models/digits".into(),
            script: None,
            asked: Asked::Digits(known(&onnx, &digits)?),
            onnx,
        })
    };
    let mut all = vec![
        by_digits("digits", "models/digits/digits.onnx".into())?,
        by_digits("mlp", mlp)?,
        Network {
            name: "spam",
            onnx: "models/spam/spam.onnx".into(),
            package: "models/spam".into(),
            script: None,
            asked: Asked::Questions(mails()?),
        },
        Network {
            name: "minilm",
            onnx: ".models/embeddings/minilm.onnx".into(),
            package: ".models/embeddings".into(),
            script: Some("scripts/embeddings.sh"),
            asked: Asked::Questions(SENTENCES.map(sentence).into()),
        },
        Network {
            name: "efficientnet",
            onnx: ".models/efficientnet/efficientnet-lite0.onnx".into(),
            package: ".models/efficientnet".into(),
            script: Some("scripts/efficientnet.sh"),
            asked: Asked::Questions(photos()?),
        },
    ];
    all.retain(|network| {
        let wanted = only.is_empty() || only.iter().any(|name| name == network.name);
        if wanted && !network.onnx.is_file() {
            say(&format!(
                "{} is left out: {} is not there{}",
                network.name,
                network.onnx.display(),
                network
                    .script
                    .map(|script| format!("; {script} brings it"))
                    .unwrap_or_default()
            ));
        }
        wanted && network.onnx.is_file()
    });
    if all.is_empty() {
        bail!("nothing to measure; there are digits, mlp, spam, minilm and efficientnet");
    }
    Ok(all)
}

/// The digits with the answers that ONNX Runtime alone gives: a network of random weights is right whatever it says.
fn known(onnx: &Path, digits: &[Digit]) -> anyhow::Result<Vec<Case>> {
    let mut bare = bare::Bare::open(onnx)?;
    let seen = digits.iter().map(|digit| {
        let probabilities = bare.run(&digit.pixels)?;
        let seen = Digit {
            digit: most_probable(&probabilities),
            ..digit.clone()
        };
        Ok(seen.case())
    });
    seen.collect()
}

/// The mails that the spam network's answers were recorded of.
fn mails() -> anyhow::Result<Vec<Question>> {
    #[derive(Deserialize)]
    struct Goldens {
        cases: Vec<Mail>,
    }
    #[derive(Deserialize, Serialize)]
    struct Mail {
        text: String,
    }
    let golden = Path::new("models/spam/spam-golden.json");
    let read = fs::read(golden).with_context(|| golden.display().to_string())?;
    let Goldens { cases } = serde_json::from_slice(&read)?;
    let mails = cases
        .iter()
        .map(|mail| Ok(Question::json(serde_json::to_string(mail)?)));
    mails.collect()
}

/// Each is 14 words of the tokenizer's, so [`TOKENS`] with the two that every text is put between.
const SENTENCES: [&str; 4] = [
    "the quick brown fox jumps over the lazy dog and runs into the woods",
    "he drove to the stadium in the rain and found that it was closed",
    "the weather is so lovely today that we will have lunch in the garden",
    "she wrote a long letter to her sister about the house by the river",
];

fn sentence(text: &str) -> Question {
    Question::json(format!("{{\"texts\":[\"{text}\"]}}"))
}

/// The example's photos.
fn photos() -> anyhow::Result<Vec<Question>> {
    let samples = Path::new("examples/efficientnet/samples");
    let photos = ["cat.jpg", "coffee.jpg"].map(|name| {
        let photo = samples.join(name);
        Ok(Question {
            content_type: "image/jpeg".to_owned(),
            body: fs::read(&photo).with_context(|| photo.display().to_string())?,
        })
    });
    photos.into_iter().collect()
}

/// Both sides in turns, a round after the other; who begins changes, so that neither gains by coming first.
fn in_turns<S: Copy, T>(
    rounds: usize,
    [first, second]: [S; 2],
    mut turn: impl FnMut(S) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<(T, T)>> {
    (0..rounds)
        .map(|round| {
            Ok(if round % 2 == 0 {
                let one = turn(first)?;
                (one, turn(second)?)
            } else {
                let other = turn(second)?;
                (turn(first)?, other)
            })
        })
        .collect()
}

/// A figure of the second side over that of the first, of the same round: the median.
fn median_ratio(rounds: &[(Figures, Figures)], figure: fn(&Figures) -> f64) -> f64 {
    median(
        rounds
            .iter()
            .map(|(first, second)| figure(second) / figure(first)),
    )
}

impl Row {
    fn of(network: &'static str, callers: usize, rounds: &[(Figures, Figures)]) -> Row {
        let gain = median_ratio(rounds, |figures| figures.requests_per_second);
        let (off, on): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
        Row {
            network,
            callers,
            gain,
            off: Figures::median_of(&off),
            on: Figures::median_of(&on),
            shared: None,
        }
    }
}

impl Shared {
    fn median_of(rounds: &[Shared]) -> Shared {
        let of = |figure: fn(&Shared) -> f64| median(rounds.iter().map(figure));
        let least: Vec<_> = rounds.iter().map(|round| round.least).collect();
        Shared {
            of_bare: of(|round| round.of_bare),
            least: Figures::median_of(&least),
            least_of_bare: of(|round| round.least_of_bare),
            of_least: of(|round| round.of_least),
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
