//! What sharing runs gains, and what the scheduler takes of it: requests a second through `Graph::compute` beside a
//! bare loop over ONNX Runtime that is handed whole batches, and, over HTTP, the real program with a sandboxed handler
//! before the graph.
//!
//! Every network is there twice, with `batching = false` and as it is without a word about it. Sides take turns within
//! a round; ratios are of one round.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aegis_inference::{
    BackendChoice, BackendKind, Batching, BatchingMode, Dim, Graph, GraphFiles, GraphSpec,
    NamedTensor, Runtime, Shape, Signature, Tensor, TensorType, backend::onnxruntime_environment,
};
use anyhow::{Context as _, bail};
use ort::{
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::TensorRef,
};
use serde::Serialize;

use crate::{
    bare,
    cases::{self, Case, most_probable},
    fixture::MAX_CONCURRENCY,
    http::post,
    load::Loaded,
    machine::{CpuTime, Machine},
    onnx,
    program::{Program, Running, find, wait},
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
        in_process(&mut report, &runtime, network, args, rounds, window)
            .with_context(|| network.name)?;
    }
    if !args.in_process {
        over_http(&mut report, &networks, args, folder.path(), rounds, window)?;
    }
    let text = match args.output {
        crate::Output::Text => table(&report),
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

fn in_process(
    report: &mut Report,
    runtime: &Runtime,
    network: &Network,
    args: &Args,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<()> {
    let off = runtime.load(&spec(network, args.sessions, BatchingMode::Off))?;
    let on = runtime.load(&spec(network, args.sessions, BatchingMode::Auto))?;
    let state = on.batching();
    say(&format!(
        "{}: up to {} rows a run{}",
        network.name,
        state.max_rows,
        state
            .warning
            .map(|warning| format!("; {warning}"))
            .unwrap_or_default()
    ));
    let mut bare = BareLoop::open(&network.onnx, off.signature())?;
    for batch in BARE {
        let speeds = (0..rounds).map(|_| bare.rows_per_second(batch, window));
        let speeds = speeds.collect::<anyhow::Result<Vec<_>>>()?;
        report.bare.push(BareRow {
            network: network.name,
            batch,
            rows_per_second: median(speeds),
        });
    }
    let inputs = inputs(off.signature(), 1)?;
    let executor = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    for callers in CALLERS {
        let (mut offs, mut ons, mut gains, mut of_bare) = (vec![], vec![], vec![], vec![]);
        for round in 0..rounds {
            let side = |graph: &Graph| executor.block_on(saturate(graph, &inputs, callers, window));
            let (without, with) = if round % 2 == 0 {
                let without = side(&off)?;
                (without, side(&on)?)
            } else {
                let with = side(&on)?;
                (side(&off)?, with)
            };
            let batch = with.mean_batch.unwrap_or(1.0);
            gains.push(with.requests_per_second / without.requests_per_second);
            of_bare.push(with.requests_per_second / bare.at(batch, window)?);
            offs.push(without);
            ons.push(with);
        }
        report.in_process.push(Row {
            network: network.name,
            callers,
            off: Figures::median_of(&offs),
            on: Figures::median_of(&ons),
            gain: median(gains),
            of_bare: Some(median(of_bare)),
        });
    }
    Ok(())
}

/// So many callers, each with its next request as soon as it has its answer.
async fn saturate(
    graph: &Graph,
    inputs: &[NamedTensor],
    callers: usize,
    window: Duration,
) -> anyhow::Result<Figures> {
    let counting = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (graph, inputs) = (graph.clone(), inputs.to_vec());
            let (counting, ended) = (Arc::clone(&counting), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut samples = crate::stats::Samples::with_capacity(1 << 14);
                while !ended.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    graph.compute(inputs.clone(), None).await?;
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
    let before = graph.stats();
    counting.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    tokio::time::sleep(window).await;
    let took = begun.elapsed();
    counting.store(false, Ordering::Relaxed);
    let after = graph.stats();
    ended.store(true, Ordering::Relaxed);
    let mut all = crate::stats::Samples::default();
    for task in tasks {
        all.extend(&task.await??);
    }
    let answered = (after.answered - before.answered) as f64;
    let summary = all.summary();
    Ok(Figures {
        requests_per_second: answered / took.as_secs_f64(),
        median_us: summary.median,
        p99_us: summary.p99,
        mean_batch: Some(answered / (after.runs - before.runs).max(1) as f64),
        cpu_us: None,
    })
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

/// Made-up rows: numbers between 0 and 1, or ones for what counts tokens.
fn inputs(signature: &Signature, rows: u32) -> anyhow::Result<Vec<NamedTensor>> {
    signature
        .inputs
        .iter()
        .map(|port| {
            let dims: Vec<u32> = port
                .shape
                .iter()
                .enumerate()
                .map(|(axis, dim)| match dim {
                    _ if axis == 0 => rows,
                    Dim::Fixed(size) => *size,
                    Dim::Dynamic => TOKENS,
                })
                .collect();
            let count = Shape::new(&dims)?.elements();
            let tensor = match port.ty {
                Some(TensorType::Fp32) => {
                    let values: Vec<f32> = (0..count).map(|at| (at % 17) as f32 / 16.0).collect();
                    Tensor::from_slice(&dims, &values)?
                }
                Some(TensorType::I64) => Tensor::from_slice(&dims, &vec![1_i64; count])?,
                other => bail!("input `{}` is of type {other:?}", port.name),
            };
            Ok(NamedTensor::new(Arc::clone(&port.name), tensor))
        })
        .collect()
}

/// ONNX Runtime alone, one thread, the same rows over and over; outputs are copied out as every caller must.
struct BareLoop {
    session: Session,
    signature: Signature,
}

impl BareLoop {
    fn open(file: &Path, signature: &Signature) -> anyhow::Result<BareLoop> {
        let environment = onnxruntime_environment().context("ONNX Runtime is not loaded yet")?;
        let session = (|| {
            Session::builder(&environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_intra_op_spinning(false)?
                .with_inter_op_spinning(false)?
                .commit_from_file(file)
        })()
        .map_err(|error: ort::Error| anyhow::anyhow!("{}: {error}", file.display()))?;
        Ok(BareLoop {
            session,
            signature: signature.clone(),
        })
    }

    fn rows_per_second(&mut self, rows: u32, window: Duration) -> anyhow::Result<f64> {
        let inputs = inputs(&self.signature, rows)?;
        let dims = |input: &NamedTensor| -> Vec<i64> {
            let dims = input.tensor.shape().dims();
            dims.iter().map(|dim| i64::from(*dim)).collect()
        };
        let mut begun = Instant::now();
        let (mut runs, mut warm) = (0_u64, false);
        loop {
            let values = inputs
                .iter()
                .map(|input| {
                    Ok(match input.tensor.ty() {
                        TensorType::Fp32 => {
                            let values = bytemuck::cast_slice::<u8, f32>(input.tensor.bytes());
                            SessionInputValue::from(TensorRef::from_array_view((
                                dims(input),
                                values,
                            ))?)
                        }
                        _ => {
                            let values = bytemuck::cast_slice::<u8, i64>(input.tensor.bytes());
                            SessionInputValue::from(TensorRef::from_array_view((
                                dims(input),
                                values,
                            ))?)
                        }
                    })
                })
                .collect::<ort::Result<Vec<_>>>()?;
            let outputs = self.session.run(values.as_slice())?;
            for output in outputs.values() {
                let (_, values) = output.try_extract_tensor::<f32>()?;
                std::hint::black_box(values.to_vec());
            }
            runs += 1;
            let passed = begun.elapsed();
            if !warm && passed > window / 10 {
                (begun, runs, warm) = (Instant::now(), 0, true);
            } else if warm && passed >= window {
                return Ok(runs as f64 * f64::from(rows) / passed.as_secs_f64());
            }
        }
    }

    /// At a mean batch between two whole sizes: of the two, in proportion of the time that a row takes.
    fn at(&mut self, batch: f64, window: Duration) -> anyhow::Result<f64> {
        let below = batch.floor().max(1.0);
        let slower = self.rows_per_second(below as u32, window / 4)?;
        let part = batch - below;
        if part < 0.05 {
            return Ok(slower);
        }
        let quicker = self.rows_per_second(below as u32 + 1, window / 4)?;
        Ok(1.0 / ((1.0 - part) / slower + part / quicker))
    }
}

/// The two sides of a network over HTTP.
const WAYS: [(&str, &str); 2] = [("off", "batching = false\n"), ("on", "")];

fn over_http(
    report: &mut Report,
    networks: &[Network],
    args: &Args,
    folder: &Path,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<()> {
    let asked: Vec<&Network> = networks
        .iter()
        .filter(|network| network.cases.is_some())
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let aegis = find(args.aegis.clone())?;
    let models = folder.join("models");
    let mut cases_files = Vec::new();
    for network in &asked {
        let cases = right_answers(network)?;
        let file = folder.join(format!("{}.cases.json", network.name));
        fs::write(&file, serde_json::to_vec(&cases)?)?;
        cases_files.push((file, cases));
        for (way, batching) in WAYS {
            write_package(&models, network, way, batching)?;
        }
    }
    let program = Program {
        aegis: &aegis,
        onnxruntime: args.onnxruntime.as_deref(),
        log: folder.join("server.log"),
    };
    let concurrency = (2 * CALLERS.into_iter().max().unwrap_or(MAX_CONCURRENCY)).to_string();
    let flags: [&OsStr; 6] = [
        "--models".as_ref(),
        models.as_ref(),
        "--predict-max-concurrency".as_ref(),
        concurrency.as_ref(),
        "--max-instances".as_ref(),
        "512".as_ref(),
    ];
    let (mut process, address) = program.start(&folder.join("data"), &flags)?;
    for (network, (_, cases)) in asked.iter().zip(&cases_files) {
        for (way, _) in WAYS {
            let case = cases.first().context("no cases")?;
            let path = format!("/predict?identifier={}-{way}", network.name);
            let request = post(&path, "application/json", case.body.as_bytes());
            let waited = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(wait(&mut process, address, &request, Some(case)));
            program.explain(waited)?;
        }
    }
    for (network, (file, _)) in asked.iter().zip(&cases_files) {
        for callers in CALLERS {
            say(&format!(
                "{}: over HTTP, {callers} connections",
                network.name
            ));
            let (mut offs, mut ons, mut gains) = (vec![], vec![], vec![]);
            for round in 0..rounds {
                let side = |way| turn(&process, address, network.name, way, file, callers, window);
                let (without, with) = if round % 2 == 0 {
                    let without = side("off")?;
                    (without, side("on")?)
                } else {
                    let with = side("on")?;
                    (side("off")?, with)
                };
                gains.push(with.requests_per_second / without.requests_per_second);
                offs.push(without);
                ons.push(with);
            }
            report.over_http.push(Row {
                network: network.name,
                callers,
                off: Figures::median_of(&offs),
                on: Figures::median_of(&ons),
                gain: median(gains),
                of_bare: None,
            });
        }
    }
    Ok(())
}

/// The cases with the answers that ONNX Runtime alone gives: a network of random weights is right whatever it says.
fn right_answers(network: &Network) -> anyhow::Result<Vec<Case>> {
    let mut bare = bare::Bare::open(&network.onnx)?;
    let mut cases = network.cases.clone().unwrap_or_default();
    for case in &mut cases {
        case.digit = most_probable(&bare.run(&case.pixels)?);
    }
    Ok(cases)
}

fn write_package(
    models: &Path,
    network: &Network,
    way: &str,
    batching: &str,
) -> anyhow::Result<()> {
    let name = format!("{}-{way}", network.name);
    let package = models.join(&name);
    fs::create_dir_all(&package)?;
    fs::copy("models/digits/digits.wasm", package.join("digits.wasm"))
        .context("models/digits/digits.wasm: scripts/handlers.sh builds it")?;
    fs::copy(&network.onnx, package.join("network.onnx"))?;
    let manifest = format!(
        "name = \"{name}\"\nhandler = \"digits.wasm\"\n\n[[graph]]\nname = \"digits\"\nfile = \"network.onnx\"\n\
         backend = \"onnxruntime\"\n{batching}\n[limits]\nmax_concurrency = 256\nmax_queue = 256\n"
    );
    fs::write(package.join("model.toml"), manifest)?;
    Ok(())
}

fn turn(
    process: &Running,
    address: SocketAddr,
    network: &str,
    way: &str,
    cases: &Path,
    connections: usize,
    window: Duration,
) -> anyhow::Result<Figures> {
    let server = process.0.id();
    let before = CpuTime::of(server)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("load")
        .args(["--address", &address.to_string()])
        .args(["--identifier", &format!("{network}-{way}")])
        .arg("--cases")
        .arg(cases)
        .args(["--connections", &connections.to_string()])
        .args(["--warm-up-ms", &(window / 5).as_millis().to_string()])
        .args(["--measure-ms", &window.as_millis().to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("the load generator does not start")?;
    let cpu = CpuTime::of(server)?.since(before);
    if !output.status.success() {
        bail!("the load generator failed on {network}-{way}");
    }
    let loaded: Loaded = serde_json::from_slice(&output.stdout)?;
    let cpu = cpu.per(loaded.all_requests);
    Ok(Figures {
        requests_per_second: loaded.requests_per_second,
        median_us: loaded.latency.median,
        p99_us: loaded.latency.p99,
        mean_batch: None,
        cpu_us: Some(cpu.user + cpu.system),
    })
}

fn table(report: &Report) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = writeln!(text, "machine: {}", report.machine.line());
    for warning in report.machine.warnings() {
        let _ = writeln!(text, "WARNING: {warning}");
    }
    let _ = writeln!(
        text,
        "{} rounds of {} ms a side, {} session(s) of one thread in process\n",
        report.rounds, report.window_ms, report.sessions
    );
    let _ = writeln!(
        text,
        "a bare loop            rows/s at batch 1          8         32"
    );
    for network in report.bare.chunks(BARE.len()) {
        let Some(first) = network.first() else {
            continue;
        };
        let _ = write!(text, "{:<29}", first.network);
        for row in network {
            let _ = write!(text, " {:10.0}", row.rows_per_second);
        }
        text.push('\n');
    }
    for (title, rows) in [
        ("in process", &report.in_process),
        ("over HTTP", &report.over_http),
    ] {
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{title:<14} callers   off: req/s  median us   p99 us    on: req/s  median us   p99 us   batch   gain   of bare   CPU us off    on"
        );
        for row in rows {
            let number = |value: Option<f64>, digits: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let _ = writeln!(
                text,
                "{:<14} {:>7} {:12.0} {:10.0} {:8.0} {:12.0} {:10.0} {:8.0} {:>7} {:6.2} {:>9} {:>12} {:>5}",
                row.network,
                row.callers,
                row.off.requests_per_second,
                row.off.median_us,
                row.off.p99_us,
                row.on.requests_per_second,
                row.on.median_us,
                row.on.p99_us,
                number(row.on.mean_batch, 1),
                row.gain,
                number(row.of_bare, 2),
                number(row.off.cpu_us, 1),
                number(row.on.cpu_us, 1),
            );
        }
    }
    text
}
