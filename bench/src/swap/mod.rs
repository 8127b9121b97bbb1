//! What a swap of versions does to those who ask: latency while a model's live version is replaced over and over, as
//! a ratio to latency without, and memory over many swaps.
//!
//! A swap is what a team does: upload a version, make it stable, delete the one before. Windows with swaps and
//! without take turns, and ratios are of one round. Of the two models that are asked one is swapped, the other is a
//! bystander. Clients and server share the machine.

mod memory;
mod operator;

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use self::operator::{Operator, Package};
use crate::{
    cases::{self, Question},
    http::Connection,
    machine::Machine,
    program::{Checkout, Program, Running, find, get, wait},
    say,
    stats::{Summary, median},
    steady::{Asked, Steady, on_this_thread},
};

/// What p99 may become while versions are swapped, as a multiple of p99 without.
const AIM: f64 = 2.0;

/// The time that an operator has before a window is measured.
const LEAD: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A few seconds: sees that everything runs and answers right. Its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Rounds; in each, every side has its turn. 0 leaves latency out.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a turn.
    #[arg(long, default_value_t = 4000)]
    window_ms: u64,
    /// Connections of each of the two models.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests a second on each of them.
    #[arg(long, default_value_t = 50)]
    rate: u64,
    /// From the end of one swap to the beginning of the next, while latency is measured. 0: as many as go.
    #[arg(long, default_value_t = 500)]
    pause_ms: u64,
    /// Swaps over which memory is looked at, of each kind. 0 leaves memory out.
    #[arg(long, default_value_t = 200)]
    memory_swaps: usize,
    /// Flags for `aegis serve`, in one string.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    flags: String,
    #[command(flatten)]
    checkout: Checkout,
}

/// What the versions of a swapped model differ in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The manifest: the handler is compiled already.
    Manifest,
    /// The handler too, which is compiled at each upload.
    Handler,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Manifest, Kind::Handler];

    fn name(self) -> &'static str {
        match self {
            Kind::Manifest => "another manifest",
            Kind::Handler => "another handler",
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    std::env::set_current_dir(&args.checkout.root)?;
    let machine = Machine::read();
    for warning in machine.warnings() {
        say(&warning);
    }
    let aegis = find(args.checkout.aegis.clone())?;
    let folder = tempfile::Builder::new().prefix("aegis-swap-").tempdir()?;
    let (rounds, window, swaps, settle) = if args.quick {
        (1, Duration::from_millis(400), 10, Duration::ZERO)
    } else {
        let window = Duration::from_millis(args.window_ms);
        (args.rounds, window, args.memory_swaps, memory::SETTLE)
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "machine: {}", machine.line())?;
    for warning in machine.warnings() {
        writeln!(out, "WARNING: {warning}")?;
    }
    writeln!(
        out,
        "digits (swapped) and spam (not), {} requests/s each on {} connections",
        args.rate * args.connections as u64,
        args.connections,
    )?;
    if rounds > 0 {
        let started = Started::new(args, &aegis, folder.path(), "latency")?;
        let measured = started.explain(latency(args, &started, rounds, window))?;
        writeln!(out, "\n{rounds} rounds of {} ms a side", window.as_millis())?;
        print(&mut out, &measured)?;
    }
    if swaps > 0 {
        writeln!(
            out,
            "\nmemory of the server, MiB, at rest after so many swaps; the second half after the warm-up over the first"
        )?;
        for kind in Kind::ALL {
            let started = Started::new(args, &aegis, folder.path(), kind.name())?;
            let looked = started.explain(memory::over(&started, kind, swaps, settle))?;
            memory::print(&mut out, &looked)?;
        }
    }
    Ok(())
}

/// A server with both models, and what they are asked.
struct Started {
    process: Running,
    address: SocketAddr,
    log: std::path::PathBuf,
    swapped: Steady,
    bystander: Steady,
}

impl Started {
    fn new(args: &Args, aegis: &Path, folder: &Path, name: &str) -> anyhow::Result<Started> {
        let program = Program {
            aegis,
            onnxruntime: args.checkout.onnxruntime.as_deref(),
            log: folder.join(format!("{name}.log")),
        };
        // Every mail that is spam is a line of the log.
        let flags = ["--log-filter", "warn"].into_iter();
        let flags = flags.chain(args.flags.split_whitespace());
        let flags: Vec<_> = flags.map(AsRef::as_ref).collect();
        let data = folder.join(format!("{name}.data"));
        let (mut process, address) = program.start(&data, &flags)?;
        let asked = on_this_thread(async {
            wait(&mut process, address, &get("/readyz"), None).await?;
            Package::read("models/spam", "spam.wasm", "spam.onnx")?
                .upload(address, Kind::Manifest, 0)
                .await?;
            Operator::new(address, Kind::Manifest)?.swap().await?;
            let case = cases::read(Path::new("models/digits/digits-golden.json"))?
                .into_iter()
                .next()
                .context("no cases")?;
            let mail = fs::read("models/spam/samples/mail.json").context("a mail")?;
            let mail = Question::json(String::from_utf8(mail)?);
            let request = mail.request("/predict?identifier=spam");
            let mut connection = Connection::open(address).await?;
            let answer = connection.ask(&request).await?;
            let spam = mail.answered(answer.body)?;
            Ok([(case, "digits"), (spam, "spam")])
        });
        let [swapped, bystander] = program.explain(asked)?.map(|(case, model)| Steady {
            address,
            request: case.request(&format!("/predict?identifier={model}")),
            case,
            connections: args.connections,
            rate: args.rate,
        });
        Ok(Started {
            process,
            address,
            log: program.log.clone(),
            swapped,
            bystander,
        })
    }

    fn explain<T>(&self, ended: anyhow::Result<T>) -> anyhow::Result<T> {
        ended.with_context(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(10).collect();
            format!(
                "the end of the server's log, backwards:\n{}",
                last.join("\n")
            )
        })
    }

    /// Both models asked for one window.
    fn ask(&self, window: Duration) -> anyhow::Result<[Asked; 2]> {
        thread::scope(|scope| {
            let bystander = scope.spawn(|| self.bystander.ask(window));
            let swapped = self.swapped.ask(window)?;
            match bystander.join() {
                Ok(bystander) => Ok([swapped, bystander?]),
                Err(_) => bail!("a client died"),
            }
        })
    }
}

/// A side's windows: latency of the swapped model and of the bystander.
#[derive(Default)]
struct Side {
    windows: Vec<[Summary; 2]>,
    requests: usize,
    swaps: Vec<Duration>,
}

/// Sides: without swaps, then each kind.
fn latency(
    args: &Args,
    started: &Started,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<[Side; 3]> {
    let mut sides: [Side; 3] = Default::default();
    let kinds = [None, Some(Kind::Manifest), Some(Kind::Handler)];
    // Every side once, uncounted: slots of the pool, the cache of compiled code.
    for round in 0..=rounds {
        for turn in 0..sides.len() {
            // Who begins changes from round to round, so that none gains by its place.
            let index = (round + turn) % sides.len();
            let (Some(side), Some(kind)) = (sides.get_mut(index), kinds.get(index)) else {
                continue;
            };
            let (asked, swaps) = turn_of(args, started, *kind, window)?;
            if round == 0 {
                continue;
            }
            side.requests += asked.iter().map(|asked| asked.samples.len()).sum::<usize>();
            let [swapped, bystander] = &asked;
            side.windows
                .push([swapped.summary()?, bystander.summary()?]);
            side.swaps.extend(swaps);
        }
    }
    Ok(sides)
}

fn turn_of(
    args: &Args,
    started: &Started,
    kind: Option<Kind>,
    window: Duration,
) -> anyhow::Result<([Asked; 2], Vec<Duration>)> {
    let Some(kind) = kind else {
        thread::sleep(LEAD);
        return Ok((started.ask(window)?, Vec::new()));
    };
    let mut operator = Operator::new(started.address, kind)?;
    let until = Instant::now() + LEAD + window;
    thread::scope(|scope| {
        let operating = scope.spawn(|| on_this_thread(operator.until(until, args.pause_ms)));
        thread::sleep(LEAD);
        let asked = started.ask(window)?;
        match operating.join() {
            Ok(swaps) => Ok((asked, swaps?)),
            Err(_) => bail!("the operator died"),
        }
    })
}

fn print(out: &mut impl std::io::Write, sides: &[Side; 3]) -> anyhow::Result<()> {
    let [without, manifest, handler] = sides;
    writeln!(
        out,
        "swaps              swaps  median ms   model     requests  median us   p99 us   median ratio   p99 ratio (least..most)"
    )?;
    let rows = [
        ("none", without),
        (Kind::Manifest.name(), manifest),
        (Kind::Handler.name(), handler),
    ];
    for (name, side) in rows {
        for (model, title) in ["digits", "spam"].into_iter().enumerate() {
            let of = |side: &Side, figure: fn(&Summary) -> f64| -> Vec<f64> {
                let windows = side.windows.iter();
                windows
                    .filter_map(|window| window.get(model).map(figure))
                    .collect()
            };
            let ratios = |figure: fn(&Summary) -> f64| -> Vec<f64> {
                let pairs = of(side, figure).into_iter().zip(of(without, figure));
                pairs.map(|(own, other)| own / other.max(1.0)).collect()
            };
            let p99 = ratios(|summary| summary.p99);
            let least = p99.iter().copied().fold(f64::INFINITY, f64::min);
            let most = p99.iter().copied().fold(0.0, f64::max);
            let ratio = median(p99);
            writeln!(
                out,
                "{name:<17} {:6} {:10.1}   {title:<8} {:9} {:10.0} {:8.0} {:14.2} {ratio:11.2} ({least:.2}..{most:.2}){}",
                side.swaps.len(),
                median(side.swaps.iter().map(|took| took.as_secs_f64() * 1e3)),
                side.requests / 2,
                median(of(side, |summary| summary.median)),
                median(of(side, |summary| summary.p99)),
                median(ratios(|summary| summary.median)),
                if ratio <= AIM { "" } else { "  OVER" },
            )?;
        }
    }
    writeln!(
        out,
        "requests that failed: 0; answered wrongly: 0; aim: p99 at most {AIM} times what it is without"
    )?;
    Ok(())
}
