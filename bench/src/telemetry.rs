//! What telemetry costs: the same server told nothing, and told to send metrics, and to trace a
//! hundredth of the requests or all of them, to a collector that takes everything or is away.
//!
//! The servers are the real program, one for each way, all there at once and asked in turns, so
//! that a machine that grows slower does so for all. Ratios are of the sides of one round.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{
    cases::{self, Case},
    load::Loaded,
    machine::{CpuTime, Machine},
    program::{Checkout, Program, Running, find, wait},
    say,
    stats::median,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A few seconds: sees that everything runs and answers right. Its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// Rounds; in each, every side has its turn.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a turn.
    #[arg(long, default_value_t = 2000)]
    window_ms: u64,
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// How the collector is spoken to: http or grpc. The one that is made here speaks http only.
    #[arg(long, default_value = "http")]
    protocol: String,
    /// A collector to send to, instead of the one that is made here.
    #[arg(long, value_name = "URL")]
    collector: Option<String>,
    #[command(flatten)]
    checkout: Checkout,
}

/// A server that is told this much.
struct Side {
    name: &'static str,
    process: Running,
    address: SocketAddr,
    turns: Vec<Turn>,
}

/// What one side did in one round.
#[derive(Clone, Copy)]
struct Turn {
    requests_per_second: f64,
    median_us: f64,
    p99_us: f64,
    /// The server's processor time for one request.
    cpu_us: f64,
}

/// Measures every side and prints a table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    std::env::set_current_dir(&args.checkout.root)?;
    let machine = Machine::read();
    for warning in machine.warnings() {
        say(&warning);
    }
    let aegis = find(args.checkout.aegis.clone())?;
    let folder = tempfile::Builder::new()
        .prefix("aegis-telemetry-")
        .tempdir()?;
    let (rounds, window) = if args.quick {
        (1, 300)
    } else {
        (args.rounds, args.window_ms)
    };
    let cases = cases::read(Path::new("models/digits/digits-golden.json"))?;
    let cases_file = folder.path().join("cases.json");
    std::fs::write(&cases_file, serde_json::to_vec(&cases)?)?;
    let first = cases.first().context("no cases")?;
    let collector = match &args.collector {
        Some(url) => url.clone(),
        None if args.protocol != "http" => {
            bail!("the benchmark's own collector speaks http only: name one with --collector")
        }
        None => format!("http://{}", sink()?),
    };
    let away = format!("http://{}", closed_port()?);
    let ways: [(&str, Option<&str>, &[&str]); 5] = [
        ("off", None, &[]),
        (
            "metrics",
            Some(collector.as_str()),
            &["--trace-sampler", "always_off"],
        ),
        (
            "traces, 1 %",
            Some(collector.as_str()),
            &["--trace-ratio", "0.01"],
        ),
        (
            "traces, all",
            Some(collector.as_str()),
            &["--trace-ratio", "1"],
        ),
        (
            "all, no collector",
            Some(away.as_str()),
            &["--trace-ratio", "1"],
        ),
    ];
    let mut sides = Vec::new();
    for (name, collector, flags) in ways {
        let index = sides.len();
        let program = Program {
            aegis: &aegis,
            onnxruntime: args.checkout.onnxruntime.as_deref(),
            log: folder.path().join(format!("{index}.log")),
        };
        let mut all = vec![
            "--models",
            "models/digits",
            "--predict-max-concurrency",
            "64",
            "--otlp-interval-ms",
            "1000",
            "--otlp-protocol",
            args.protocol.as_str(),
        ];
        if let Some(collector) = collector {
            all.extend(["--otlp-endpoint", collector]);
        }
        all.extend(flags);
        let all: Vec<&OsStr> = all.into_iter().map(AsRef::as_ref).collect();
        let data = folder.path().join(format!("{index}.data"));
        let (mut process, address) = program.start(&data, &all)?;
        program.explain(ready(&mut process, address, first))?;
        sides.push(Side {
            name,
            process,
            address,
            turns: Vec::new(),
        });
    }
    let count = sides.len();
    for round in 0..rounds {
        for turn in 0..count {
            // Who begins changes from round to round, so that none gains by its place.
            if let Some(side) = sides.get_mut((round + turn) % count) {
                side.turn(&cases_file, args.connections, window)
                    .with_context(|| side.name)?;
            }
        }
    }
    print(&machine, args, rounds, window, &sides)
}

fn ready(process: &mut Running, address: SocketAddr, case: &Case) -> anyhow::Result<()> {
    let request = case.request("/predict?identifier=digits");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(wait(process, address, &request, Some(case)))
}

impl Side {
    fn turn(&mut self, cases: &Path, connections: usize, window: u64) -> anyhow::Result<()> {
        let server = self.process.0.id();
        let before = CpuTime::of(server)?;
        let output = Command::new(std::env::current_exe()?)
            .arg("load")
            .args(["--address", &self.address.to_string()])
            .args(["--path", "/predict?identifier=digits"])
            .arg("--cases")
            .arg(cases)
            .args(["--connections", &connections.to_string()])
            .args(["--warm-up-ms", &(window / 5).to_string()])
            .args(["--measure-ms", &window.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .context("the load generator does not start")?;
        // What is sent a second later is this side's as well.
        thread::sleep(Duration::from_millis(1200));
        let cpu = CpuTime::of(server)?.since(before);
        if !output.status.success() {
            bail!("the load generator failed");
        }
        let loaded: Loaded = serde_json::from_slice(&output.stdout)?;
        let cpu = cpu.per(loaded.all_requests);
        self.turns.push(Turn {
            requests_per_second: loaded.requests_per_second,
            median_us: loaded.latency.median,
            p99_us: loaded.latency.p99,
            cpu_us: cpu.user + cpu.system,
        });
        Ok(())
    }

    fn median(&self, figure: fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().map(figure))
    }

    /// The rounds' ratios of a figure to another side's: their median, least and greatest.
    fn ratio(&self, to: &Side, figure: fn(&Turn) -> f64) -> [f64; 3] {
        let ratios: Vec<f64> = (self.turns.iter().zip(&to.turns))
            .map(|(own, other)| figure(own) / figure(other).max(f64::MIN_POSITIVE))
            .collect();
        [
            median(ratios.iter().copied()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        ]
    }
}

fn print(
    machine: &Machine,
    args: &Args,
    rounds: usize,
    window: u64,
    sides: &[Side],
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "machine: {}", machine.line())?;
    for warning in machine.warnings() {
        writeln!(out, "WARNING: {warning}")?;
    }
    writeln!(
        out,
        "digits over HTTP, {} connections, {rounds} rounds of {window} ms a side, OTLP by {}\n",
        args.connections, args.protocol
    )?;
    writeln!(
        out,
        "telemetry            requests/s   of off (least..most)      median us     p99 us   server CPU us   of off (least..most)"
    )?;
    let Some(off) = sides.first() else {
        return Ok(());
    };
    for side in sides {
        let [speed, slowest, quickest] = side.ratio(off, |turn| turn.requests_per_second);
        let [cpu, least, most] = side.ratio(off, |turn| turn.cpu_us);
        writeln!(
            out,
            "{:<18} {:12.0} {speed:8.3} ({slowest:.3}..{quickest:.3}) {:14.1} {:10.1} {:15.1} {cpu:8.3} ({least:.3}..{most:.3})",
            side.name,
            side.median(|turn| turn.requests_per_second),
            side.median(|turn| turn.median_us),
            side.median(|turn| turn.p99_us),
            side.median(|turn| turn.cpu_us),
        )?;
    }
    Ok(())
}

/// A port on which nothing listens; for as long as nobody else takes it.
fn closed_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A collector that takes whatever it is sent over HTTP and looks at none of it.
fn sink() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                // A connection that ends is none of the benchmark's affair.
                let _ = swallow(connection);
            });
        }
    });
    Ok(address)
}

fn swallow(connection: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0);
                }
                Some(_) => {}
                None => break,
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        writer.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
        line.clear();
    }
    Ok(())
}
