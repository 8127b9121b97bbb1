//! A thousand models in one server: what they hold of memory, how long a start takes with them in
//! the registry, and what a request pays that brings an unloaded one back.
//!
//! The handlers are two components made distinct by a custom section each, so that nothing is
//! shared that a thousand teams would not share: the tests' counter without a graph, and for
//! every tenth model the digits handler with its network.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    cases::{self, Case},
    http::{Connection, post},
    machine::Memory,
    program::{Checkout, Program, Running, distinct, find, get, upload, wait},
    say,
    stats::Samples,
};

/// One model in so many is digits.
const DIGITS_EVERY: usize = 10;

/// Requests over all models under a memory budget.
const REQUESTS: usize = 10_000;

/// Connections of those requests.
const CONNECTIONS: usize = 8;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many models.
    #[arg(long, default_value_t = 1000)]
    models: usize,
    /// Memory budget of the last part, in MiB: about a third of what the estimate of all is.
    #[arg(long, default_value_t = 300)]
    budget_mib: u64,
    /// A data folder to keep between runs: models that are there are not uploaded again.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    checkout: Checkout,
}

/// Measures, saying each figure as it is found.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    std::env::set_current_dir(&args.checkout.root)?;
    let aegis = find(args.checkout.aegis.clone())?;
    let folder = tempfile::Builder::new()
        .prefix("aegis-density-")
        .tempdir()?;
    let program = Program {
        aegis: &aegis,
        onnxruntime: args.checkout.onnxruntime.as_deref(),
        log: folder.path().join("aegis.log"),
    };
    let data = match &args.data {
        Some(data) => data.clone(),
        None => folder.path().join("data"),
    };
    program.explain(
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?
            .block_on(measure(&program, args, &data)),
    )
}

async fn measure(program: &Program<'_>, args: &Args, data: &Path) -> anyhow::Result<()> {
    let fleet = Fleet::read(args.models)?;
    fill(program, &fleet, data).await?;

    say("--- prewarm off");
    let mut server = Started::new(program, data, &["--prewarm-model", "false"]).await?;
    server.memory("nothing loaded")?;
    let first = server.ask_each(&fleet).await?;
    say(&format!(
        "a model's first request, which loads it: median {:.1} ms, p99 {:.1} ms",
        first.median / 1e3,
        first.p99 / 1e3
    ));
    server.memory("all loaded and asked once")?;
    let again = server.ask_each(&fleet).await?;
    say(&format!(
        "its second request: median {:.3} ms, p99 {:.3} ms",
        again.median / 1e3,
        again.p99 / 1e3
    ));
    server.load(&fleet, Duration::from_secs(5)).await?;
    server.memory("all loaded, after 5 s of load on one of them")?;
    server.scrape().await?;
    server.memory("and after a scrape of the metrics")?;
    drop(server);

    say("--- prewarm on");
    let mut server = Started::new(program, data, &["--prewarm-model", "true"]).await?;
    server.memory("all loaded")?;
    server.ask_each(&fleet).await?;
    server.memory("all asked once")?;
    drop(server);

    let budget = args.budget_mib.to_string();
    say(&format!("--- a memory budget of {budget} MiB"));
    let flags = ["--memory-budget-mib", &budget];
    let mut server = Started::new(program, data, &flags).await?;
    server.memory("as many loaded as fit")?;
    server.ask_all_over(&fleet).await?;
    server.memory("after them")?;
    let text = server.scrape().await?;
    for line in text.lines() {
        if line.starts_with("aegis_model_unloads_total{")
            || line.starts_with("aegis_models_resident_bytes")
        {
            say(line);
        }
    }
    Ok(())
}

/// The models.
struct Fleet {
    counter: Vec<u8>,
    digits: Vec<u8>,
    network: Vec<u8>,
    cases: Vec<Case>,
    models: usize,
}

impl Fleet {
    fn read(models: usize) -> anyhow::Result<Fleet> {
        let read = |path: &str| {
            std::fs::read(path).with_context(|| format!("{path}; scripts/handlers.sh builds it"))
        };
        Ok(Fleet {
            counter: read("target/guests/counter.wasm")?,
            digits: read("models/digits/digits.wasm")?,
            network: read("models/digits/digits.onnx")?,
            cases: cases::read(Path::new("models/digits/digits-golden.json"))?,
            models,
        })
    }

    fn is_digits(index: usize) -> bool {
        index.is_multiple_of(DIGITS_EVERY)
    }

    fn name(index: usize) -> String {
        format!("model-{index:04}")
    }

    fn upload(&self, index: usize) -> Vec<u8> {
        let name = Fleet::name(index);
        let mut manifest = format!("name = \"{name}\"\nhandler = \"handler.wasm\"\n");
        let mut files = Vec::new();
        if Fleet::is_digits(index) {
            manifest.push_str(
                "[[graph]]\nname = \"digits\"\nfile = \"network.onnx\"\nbackend = \"auto\"\n",
            );
            files.push(("handler.wasm", distinct(&self.digits, &name)));
            files.push(("network.onnx", self.network.clone()));
        } else {
            files.push(("handler.wasm", distinct(&self.counter, &name)));
        }
        files.push(("model.toml", manifest.into_bytes()));
        upload(&name, &files)
    }

    /// A request to one model.
    fn request(&self, index: usize) -> Vec<u8> {
        let path = format!("/predict?identifier={}", Fleet::name(index));
        match self.cases.first() {
            Some(case) if Fleet::is_digits(index) => case.request(&path),
            _ => post(&path, "text/plain", b""),
        }
    }

    fn check(&self, index: usize, status: u16, body: &[u8]) -> anyhow::Result<()> {
        if status != 200 {
            let body = String::from_utf8_lossy(body);
            bail!("{} answered {status}: {body}", Fleet::name(index));
        }
        match self.cases.first() {
            Some(case) if Fleet::is_digits(index) => case.check(body),
            _ if body == b"0" => Ok(()),
            _ => bail!("not a fresh instance: {}", String::from_utf8_lossy(body)),
        }
    }
}

/// Uploads every model that the data folder has not.
async fn fill(program: &Program<'_>, fleet: &Fleet, data: &Path) -> anyhow::Result<()> {
    let missing: Vec<usize> = (0..fleet.models)
        .filter(|index| !data.join("models").join(Fleet::name(*index)).is_dir())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("uploading {} models", missing.len()));
    let server = Started::new(program, data, &["--prewarm-model", "false"]).await?;
    let begun = Instant::now();
    let mut connection = Connection::open(server.address).await?;
    for index in missing.iter().copied() {
        let answer = connection.ask(&fleet.upload(index)).await?;
        if answer.status >= 300 {
            let body = String::from_utf8_lossy(answer.body);
            bail!("upload {index} was answered {}: {body}", answer.status);
        }
    }
    say(&format!(
        "uploaded in {:.0} s, one after the other",
        begun.elapsed().as_secs_f64()
    ));
    server.memory("all uploaded")
}

/// A server that is ready.
struct Started {
    process: Running,
    address: SocketAddr,
}

impl Started {
    async fn new(program: &Program<'_>, data: &Path, flags: &[&str]) -> anyhow::Result<Started> {
        let begun = Instant::now();
        let flags: Vec<&OsStr> = flags.iter().map(OsStr::new).collect();
        let (mut process, address) = program.start(data, &flags)?;
        wait(&mut process, address, &get("/livez"), None).await?;
        let alive = begun.elapsed();
        wait(&mut process, address, &get("/readyz"), None).await?;
        say(&format!(
            "start: alive after {:.0} ms, ready after {:.0} ms",
            alive.as_secs_f64() * 1e3,
            begun.elapsed().as_secs_f64() * 1e3
        ));
        Ok(Started { process, address })
    }

    fn memory(&self, when: &str) -> anyhow::Result<()> {
        let memory = Memory::of(self.process.0.id())?;
        say(&format!("{}: {when}", memory.line()));
        Ok(())
    }

    /// Asks every model once, one after the other.
    async fn ask_each(&mut self, fleet: &Fleet) -> anyhow::Result<crate::stats::Summary> {
        let mut connection = Connection::open(self.address).await?;
        let mut samples = Samples::default();
        for index in 0..fleet.models {
            let request = fleet.request(index);
            let begun = Instant::now();
            let answer = connection.ask(&request).await?;
            samples.push(begun.elapsed());
            fleet.check(index, answer.status, answer.body)?;
        }
        Ok(samples.summary())
    }

    /// Asks the first model, which is digits, on several connections for a while.
    async fn load(&mut self, fleet: &Fleet, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            let (address, request) = (self.address, fleet.request(0));
            tasks.push(tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut answers = 0u64;
                while Instant::now() < until {
                    let answer = connection.ask(&request).await?;
                    if answer.status != 200 {
                        bail!("under load: {}", answer.status);
                    }
                    answers += 1;
                }
                Ok(answers)
            }));
        }
        let mut answers = 0;
        for task in tasks {
            answers += task.await??;
        }
        say(&format!(
            "digits on {CONNECTIONS} connections: {:.0} requests/s",
            answers as f64 / time.as_secs_f64()
        ));
        Ok(())
    }

    /// Many requests, each to some model, on several connections; every one must be answered.
    async fn ask_all_over(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        let mut chances = Chances(0x9e37_79b9_7f4a_7c15);
        let wanted: Vec<usize> = (0..REQUESTS).map(|_| chances.below(fleet.models)).collect();
        let process = self.process.0.id();
        let mut greatest = Memory::default();
        let mut samples = Samples::default();
        let begun = Instant::now();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(self.address).await?);
        }
        for round in wanted.chunks(CONNECTIONS) {
            let asked = connections
                .iter_mut()
                .zip(round)
                .map(|(connection, index)| async {
                    let begun = Instant::now();
                    let answer = connection.ask(&fleet.request(*index)).await?;
                    fleet.check(*index, answer.status, answer.body)?;
                    anyhow::Ok(begun.elapsed())
                });
            for took in together(asked.collect()).await {
                samples.push(took?);
            }
            let memory = Memory::of(process)?;
            if memory.resident > greatest.resident {
                greatest = memory;
            }
        }
        let summary = samples.summary();
        say(&format!(
            "{REQUESTS} requests to {} models at random, no error: {:.1} s, median {:.2} ms, p99 {:.1} ms",
            fleet.models,
            begun.elapsed().as_secs_f64(),
            summary.median / 1e3,
            summary.p99 / 1e3
        ));
        say(&format!("{}: at the most", greatest.line()));
        Ok(())
    }

    async fn scrape(&mut self) -> anyhow::Result<String> {
        let begun = Instant::now();
        let mut connection = Connection::open(self.address).await?;
        let answer = connection.ask(&get("/metrics")).await?;
        let text = String::from_utf8_lossy(answer.body).into_owned();
        say(&format!(
            "a scrape: {} KiB in {:.0} ms",
            text.len() >> 10,
            begun.elapsed().as_secs_f64() * 1e3
        ));
        Ok(text)
    }
}

/// Runs futures beside each other on this task, in order of their results.
async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut going: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, output) in &mut going {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    going.into_iter().filter_map(|(_, output)| output).collect()
}

/// Numbers that are the same in every run (xorshift64).
struct Chances(u64);

impl Chances {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
