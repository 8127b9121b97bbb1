//! The real program, asked over loopback, with its real handlers before the networks.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{Args, Asked, CALLERS, Figures, Network, Report, Row, in_turns};
use crate::{
    cases::{Case, Question},
    fixture::MAX_CONCURRENCY,
    http::Connection,
    load::Loaded,
    machine::CpuTime,
    program::{Program, Running, find, get, wait},
    say,
};

/// The two sides of a network over HTTP.
const WAYS: [(&str, Option<bool>); 2] = [("off", Some(false)), ("on", None)];

/// Digits once more, as the second of the sides and without their handler.
pub(super) const DIRECT: &str = "direct";

/// And with one whose instances serve one request after another.
pub(super) const REUSE: &str = "reuse";

/// What stands before a network.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// Its handler, a fresh instance of it for each request.
    Handler,
    /// Its handler, in instances that serve again.
    ReusedHandler,
    Nothing,
}

/// The program under way, with every network twice.
pub(super) struct Server {
    process: Running,
    address: SocketAddr,
    pub(super) served: Vec<Served>,
}

/// A network that it serves.
pub(super) struct Served {
    pub(super) name: &'static str,
    pub(super) onnx: PathBuf,
    /// Whether the handler of digits asks it.
    pub(super) digits: bool,
    /// Questions and right answers, for the load generator.
    pub(super) cases: PathBuf,
    /// One of them.
    pub(super) first: Case,
}

impl Server {
    /// Starts it and has every question answered once, while nothing else is asked.
    pub(super) fn start(
        networks: &[Network],
        args: &Args,
        folder: &Path,
    ) -> anyhow::Result<Server> {
        let aegis = find(args.checkout.aegis.clone())?;
        let models = folder.join("models");
        for network in networks {
            for (way, batching) in WAYS {
                write_package(&models, network, way, batching, Before::Handler)
                    .with_context(|| format!("the package {}", network.package.display()))?;
            }
            if matches!(network.asked, Asked::Digits(_)) {
                write_package(&models, network, DIRECT, None, Before::Nothing)?;
                write_package(&models, network, REUSE, None, Before::ReusedHandler)?;
            }
        }
        let program = Program {
            aegis: &aegis,
            onnxruntime: args.checkout.onnxruntime.as_deref(),
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
        let answered = on_this_thread(async {
            wait(&mut process, address, &get("/readyz"), None).await?;
            let mut served = Vec::new();
            for network in networks {
                let cases = right_answers(address, network)
                    .await
                    .with_context(|| network.name)?;
                let file = folder.join(format!("{}.cases.json", network.name));
                fs::write(&file, serde_json::to_vec(&cases)?)?;
                served.push(Served {
                    name: network.name,
                    onnx: network.onnx.clone(),
                    digits: matches!(network.asked, Asked::Digits(_)),
                    cases: file,
                    first: cases.into_iter().next().context("no cases")?,
                });
            }
            Ok(served)
        })?;
        Ok(Server {
            served: program.explain(answered)?,
            process,
            address,
        })
    }

    /// One turn with a network as it is, or without shared runs.
    pub(super) fn turn(
        &self,
        network: &Served,
        way: &str,
        connections: usize,
        window: Duration,
    ) -> anyhow::Result<Figures> {
        self.asked(network, way, &network.cases, connections, window)
    }

    /// One turn in which these are asked.
    pub(super) fn asked(
        &self,
        network: &Served,
        way: &str,
        cases: &Path,
        connections: usize,
        window: Duration,
    ) -> anyhow::Result<Figures> {
        let model = format!("{}-{way}", network.name);
        let before = on_this_thread(runs(self.address, &model))??;
        let target = Target {
            address: self.address,
            path: format!("/predict?identifier={model}"),
            processes: vec![self.process.0.id()],
        };
        let figures = target.turn(cases, connections, window)?;
        let after = on_this_thread(runs(self.address, &model))??;
        Ok(Figures {
            mean_batch: Some((after.rows - before.rows) / (after.runs - before.runs).max(1.0)),
            ..figures
        })
    }
}

/// Measures every network, without shared runs and with.
pub(super) fn measure(
    report: &mut Report,
    server: &Server,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<()> {
    for network in &server.served {
        for callers in CALLERS {
            say(&format!(
                "{}: over HTTP, {callers} connections",
                network.name
            ));
            let measured = in_turns(rounds, ["off", "on"], |way| {
                server.turn(network, way, callers, window)
            })?;
            report
                .over_http
                .push(Row::of(network.name, callers, &measured));
        }
    }
    Ok(())
}

pub(super) fn on_this_thread<F: Future>(future: F) -> anyhow::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future))
}

/// What is known to be right; else what the network answers while nothing else is asked. Both sides must say so.
async fn right_answers(address: SocketAddr, network: &Network) -> anyhow::Result<Vec<Case>> {
    let [alone, again] = WAYS.map(|(way, _)| format!("/predict?identifier={}-{way}", network.name));
    let mut connection = Connection::open(address).await?;
    let cases = match &network.asked {
        Asked::Digits(cases) => cases.clone(),
        Asked::Questions(questions) => {
            let mut cases = Vec::new();
            for question in questions {
                let answer = ask(&mut connection, &question.request(&alone)).await?;
                cases.push(Question::clone(question).answered(&answer)?);
            }
            cases
        }
    };
    for case in &cases {
        for path in [&alone, &again] {
            case.check(&ask(&mut connection, &case.request(path)).await?)?;
        }
    }
    Ok(cases)
}

pub(super) async fn ask(connection: &mut Connection, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let answer = connection.ask(request).await?;
    if answer.status != 200 {
        let body = String::from_utf8_lossy(answer.body);
        bail!("the server answered {}: {body}", answer.status);
    }
    Ok(answer.body.to_vec())
}

/// The package as it is, under another name and by ONNX Runtime, with nothing said of batching, or that there is none.
/// Its limits are such that no side waits at the door or is late.
fn write_package(
    models: &Path,
    network: &Network,
    way: &str,
    batching: Option<bool>,
    before: Before,
) -> anyhow::Result<()> {
    let name = format!("{}-{way}", network.name);
    let package = models.join(&name);
    fs::create_dir_all(&package)?;
    let read = fs::read_to_string(network.package.join("model.toml")).context("model.toml")?;
    let mut manifest: toml::Table = toml::from_str(&read)?;
    let handler = manifest.remove("handler");
    if before != Before::Nothing {
        let handler = handler.context("its model.toml names no handler")?;
        let file = handler.as_str().context("its handler is no file's name")?;
        let from = network.package.join(file);
        fs::copy(&from, package.join(file)).with_context(|| {
            format!(
                "{}: {} builds it",
                from.display(),
                network.script.unwrap_or("scripts/handlers.sh")
            )
        })?;
        manifest.insert("handler".to_owned(), handler);
    }
    fs::copy(&network.onnx, package.join("network.onnx"))?;
    manifest.insert("name".to_owned(), name.into());
    let graph = manifest
        .get_mut("graph")
        .and_then(|graphs| graphs.as_array_mut()?.first_mut()?.as_table_mut())
        .context("its model.toml has no graph")?;
    graph.insert("file".to_owned(), "network.onnx".into());
    graph.insert("backend".to_owned(), "onnxruntime".into());
    graph.remove("batching");
    if let Some(batching) = batching {
        graph.insert("batching".to_owned(), batching.into());
    }
    if before == Before::ReusedHandler {
        let sandbox: toml::Table = [("reuse".to_owned(), true.into())].into_iter().collect();
        manifest.insert("sandbox".to_owned(), sandbox.into());
    }
    let limits = manifest
        .entry("limits")
        .or_insert_with(|| toml::Table::new().into())
        .as_table_mut()
        .context("its limits are no table")?;
    for (limit, value) in [
        ("max_concurrency", 256),
        ("max_queue", 256),
        ("timeout_ms", 30_000),
    ] {
        limits.insert(limit.to_owned(), value.into());
    }
    fs::write(package.join("model.toml"), toml::to_string(&manifest)?)?;
    Ok(())
}

/// What a graph's histogram of batch sizes has counted.
struct Runs {
    rows: f64,
    runs: f64,
}

async fn runs(address: SocketAddr, model: &str) -> anyhow::Result<Runs> {
    let mut connection = Connection::open(address).await?;
    let text = ask(&mut connection, &get("/metrics")).await?;
    let text = String::from_utf8(text)?;
    let label = format!("model=\"{model}\"");
    let value = |series: &str| -> anyhow::Result<f64> {
        let line = text
            .lines()
            .find(|line| line.starts_with(series) && line.contains(&label))
            .with_context(|| format!("the metrics have no {series} of {model}"))?;
        let (_, value) = line.rsplit_once(' ').context("a series without a value")?;
        Ok(value.parse()?)
    };
    Ok(Runs {
        rows: value("aegis_inference_batch_size_sum{")?,
        runs: value("aegis_inference_batch_size_count{")?,
    })
}

/// What the load generator asks, and whose processor time counts.
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) processes: Vec<u32>,
}

impl Target {
    pub(super) fn turn(
        &self,
        cases: &Path,
        connections: usize,
        window: Duration,
    ) -> anyhow::Result<Figures> {
        let before = CpuTime::of_all(&self.processes)?;
        let output = Command::new(std::env::current_exe()?)
            .arg("load")
            .args(["--address", &self.address.to_string()])
            .args(["--path", &self.path])
            .arg("--cases")
            .arg(cases)
            .args(["--connections", &connections.to_string()])
            .args(["--warm-up-ms", &(window / 5).as_millis().to_string()])
            .args(["--measure-ms", &window.as_millis().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .context("the load generator does not start")?;
        let cpu = CpuTime::of_all(&self.processes)?.since(before);
        if !output.status.success() {
            bail!("the load generator failed on {}", self.path);
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
}
