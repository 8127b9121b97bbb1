//! A well-behaved model beside a hostile one: its latency alone and while the other is asked, over
//! and over, to do each of the things that `tests/guests/hostile.txt` lists.
//!
//! The neighbour is digits, asked at a fixed modest rate on a few connections: an open loop, so
//! that a server which holds up one request also pays for those due meanwhile. Windows alone and
//! beside take turns, as the machine's pace changes. Both clients are threads of this program and
//! share the machine's cores with the server.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{
    cases,
    http::{Connection, post},
    machine::Machine,
    program::{Checkout, Program, find, get, upload, wait},
    say,
    stats::{Summary, median},
    steady::{Steady, on_this_thread},
};

/// What the neighbour's p99 may become beside a hostile guest, as a multiple of its own.
const AIM: f64 = 2.0;

/// The hostile guest's limits: those that the tests of the same list run it under.
const LIMITS: &str = "memory_mib = 64\ntensor_mib = 8\nlog_kib = 8\nresponse_mib = 1";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these words. May be given more than once.
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// Pairs of windows, alone and beside, for each word.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a window.
    #[arg(long, default_value_t = 4000)]
    window_ms: u64,
    /// The neighbour's requests a second on each of its connections.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// The neighbour's connections.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Clients that ask the hostile guest, each with its next request as soon as it has an answer.
    #[arg(long, default_value_t = 2)]
    hostile: usize,
    /// The list of what to ask it.
    #[arg(long, value_name = "FILE", default_value = "tests/guests/hostile.txt")]
    words: PathBuf,
    /// Flags for `aegis serve`, in one string.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    flags: String,
    #[command(flatten)]
    checkout: Checkout,
}

/// One line of the list: a word and the query that asks for it.
struct Word {
    word: String,
    query: String,
}

/// Measures every word and prints a table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    std::env::set_current_dir(&args.checkout.root)?;
    let machine = Machine::read();
    for warning in machine.warnings() {
        say(&warning);
    }
    let words = read_words(&args.words, &args.only)?;
    let aegis = find(args.checkout.aegis.clone())?;
    let folder = tempfile::Builder::new()
        .prefix("aegis-neighbours-")
        .tempdir()?;
    let program = Program {
        aegis: &aegis,
        onnxruntime: args.checkout.onnxruntime.as_deref(),
        log: folder.path().join("aegis.log"),
    };
    let flags: Vec<_> = args.flags.split_whitespace().map(AsRef::as_ref).collect();
    let (mut process, address) = program.start(&folder.path().join("data"), &flags)?;
    let prepared = program.explain(prepare(args, &mut process, address))?;
    say(&format!(
        "{}; digits at {} requests/s on {} connections, {} hostile clients, {} x {} ms a side",
        machine.line(),
        args.rate * args.connections as u64,
        args.connections,
        args.hostile,
        args.rounds,
        args.window_ms
    ));
    say(
        "word               alone: median     p99 us   beside: median     p99 us   p99 ratio   hostile answers/s",
    );
    let mut missed = Vec::new();
    for word in &words {
        let measured = program
            .explain(beside(args, address, &prepared, word))
            .with_context(|| word.word.clone())?;
        say(&measured.line(&word.word));
        if measured.ratio() > AIM {
            missed.push(word.word.as_str());
        }
    }
    say(&format!(
        "{} of {} words are within {AIM} times; not: {}",
        words.len() - missed.len(),
        words.len(),
        missed.join(", ")
    ));
    Ok(())
}

fn read_words(path: &Path, only: &[String]) -> anyhow::Result<Vec<Word>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let words: Vec<Word> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let mut columns = line.split_whitespace().map(str::to_owned);
            Some(Word {
                word: columns.next()?,
                query: columns.next()?,
            })
        })
        .filter(|word| only.is_empty() || only.contains(&word.word))
        .collect();
    if words.is_empty() {
        bail!("{} has none of the words asked for", path.display());
    }
    Ok(words)
}

/// Uploads both models; gives the neighbour.
fn prepare(
    args: &Args,
    process: &mut crate::program::Running,
    address: SocketAddr,
) -> anyhow::Result<Steady> {
    let read = |path: &str| {
        std::fs::read(path).with_context(|| format!("{path}; scripts/handlers.sh builds it"))
    };
    let manifest = |name: &str, limits: &str| {
        format!(
            "name = \"{name}\"\nhandler = \"handler.wasm\"\n[[graph]]\nname = \"digits\"\n\
             file = \"digits.onnx\"\nbackend = \"auto\"\n[limits]\n{limits}\n"
        )
    };
    let models = [
        ("neighbour", "models/digits/digits.wasm", ""),
        ("hostile", "target/guests/hostile.wasm", LIMITS),
    ];
    let case = cases::read(Path::new("models/digits/digits-golden.json"))?
        .into_iter()
        .next()
        .context("no cases")?;
    let request = case.request("/predict?identifier=neighbour");
    on_this_thread(async {
        wait(process, address, &get("/readyz"), None).await?;
        for (name, handler, limits) in models {
            let files = [
                ("model.toml", manifest(name, limits).into_bytes()),
                ("handler.wasm", read(handler)?),
                ("digits.onnx", read("models/digits/digits.onnx")?),
            ];
            let mut connection = Connection::open(address).await?;
            let answer = connection.ask(&upload(name, &files)).await?;
            if answer.status != 201 {
                bail!("{name}: {}", String::from_utf8_lossy(answer.body));
            }
        }
        wait(process, address, &request, Some(&case)).await
    })?;
    Ok(Steady {
        address,
        case,
        request,
        connections: args.connections,
        rate: args.rate,
    })
}

/// One word's figures: medians of the rounds. A round in which the machine itself stood still for a moment thus says
/// nothing, as long as it is one of several.
struct Measured {
    alone: Summary,
    beside: Summary,
    /// The rounds' ratios of p99 beside to p99 alone.
    ratios: Vec<f64>,
    hostile_per_second: f64,
}

impl Measured {
    fn ratio(&self) -> f64 {
        median(self.ratios.iter().copied())
    }

    fn line(&self, word: &str) -> String {
        let met = if self.ratio() <= AIM { "" } else { "  OVER" };
        format!(
            "{word:<18} {:14.0} {:10.0} {:16.0} {:10.0} {:11.2} {:19.1}{met}",
            self.alone.median,
            self.alone.p99,
            self.beside.median,
            self.beside.p99,
            self.ratio(),
            self.hostile_per_second
        )
    }
}

fn beside(
    args: &Args,
    address: SocketAddr,
    neighbour: &Steady,
    word: &Word,
) -> anyhow::Result<Measured> {
    let window = Duration::from_millis(args.window_ms);
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    let mut answers = 0;
    for _ in 0..args.rounds {
        alone.push(neighbour.ask(window)?.summary()?);
        let hostile = Hostile::start(args.hostile, address, word);
        // The first answers of the other are under way before anything is measured.
        thread::sleep(Duration::from_millis(200));
        hostile.answers.store(0, Ordering::Relaxed);
        together.push(neighbour.ask(window)?.summary()?);
        answers += hostile.answers.load(Ordering::Relaxed);
        hostile.end()?;
        // What it left is taken apart before the next window alone.
        thread::sleep(Duration::from_millis(200));
    }
    let rounds = alone.iter().zip(&together);
    Ok(Measured {
        ratios: rounds
            .map(|(alone, beside)| beside.p99 / alone.p99.max(1.0))
            .collect(),
        alone: Summary::median_of(&alone),
        beside: Summary::median_of(&together),
        hostile_per_second: answers as f64 / (window.as_secs_f64() * args.rounds as f64),
    })
}

/// Clients that ask the hostile guest until they are ended.
struct Hostile {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<anyhow::Result<()>>>,
}

impl Hostile {
    fn start(clients: usize, address: SocketAddr, word: &Word) -> Hostile {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU64::new(0));
        let path = format!("/predict?identifier=hostile&{}", word.query);
        let request = Arc::new(post(&path, "text/plain", b""));
        let clients = (0..clients)
            .map(|_| {
                let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
                let request = Arc::clone(&request);
                thread::spawn(move || {
                    on_this_thread(async {
                        let mut connection = Connection::open(address).await?;
                        while !stop.load(Ordering::Relaxed) {
                            // Whatever it answers; only that it does.
                            connection.ask(&request).await?;
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
            })
            .collect();
        Hostile {
            stop,
            answers,
            clients,
        }
    }

    fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            match client.join() {
                Ok(ended) => ended.context("the hostile guest's client")?,
                Err(_) => bail!("the hostile guest's client died"),
            }
        }
        Ok(())
    }
}
