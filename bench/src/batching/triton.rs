//! Triton beside Aegis, on the same machine in the same rounds: its own HTTP front, core and batcher, and the backend of
//! `bench/triton` that hands batches to ONNX Runtime. It is sent tensors as JSON, with no code of anyone's before the
//! network; Aegis is asked through the model's handler in its sandbox, by a fresh instance for each request and by ones that
//! serve again, and without a handler, as Triton is.

use std::{
    env::consts::{DLL_PREFIX, DLL_SUFFIX},
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use aegis_inference::Runtime;
use anyhow::Context as _;
use serde::Serialize;

use super::{
    CALLERS, Figures, Report,
    over_http::{DIRECT, REUSE, Served, Server, Target, ask, on_this_thread},
};
use crate::{
    bare,
    cases::Case,
    http::Connection,
    program::{Program, Running, get, wait},
    say,
    stats::median,
};

/// Where `scripts/triton.sh` puts it.
const SERVER: &str = ".tools/triton/bin/tritonserver";

/// The backend's name; `bench/triton/Cargo.toml` has it too.
const BACKEND: &str = "triton_bare";

/// How a model may share runs in Triton: not at all, after a wait for company of 1 ms, and with what came while the run before
/// was under way. All are served at once; of each round and number of connections the best counts.
const SETTINGS: [(&str, &str); 3] = [
    ("off", ""),
    (
        "delay",
        "dynamic_batching { max_queue_delay_microseconds: 1000 }\n",
    ),
    ("on", "dynamic_batching { }\n"),
];

/// So many connections.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) network: &'static str,
    pub(super) connections: usize,
    pub(super) aegis: Figures,
    /// With instances that serve one request after another.
    pub(super) reuse: Figures,
    /// Without a handler, asked as Triton is.
    pub(super) direct: Figures,
    /// In the order of [`SETTINGS`].
    pub(super) triton: [Figures; SETTINGS.len()],
    /// Of a round, requests a second of Aegis over those of Triton's best.
    pub(super) ratio: f64,
    /// The same with instances that serve again.
    pub(super) reuse_ratio: f64,
    /// The same without a handler.
    pub(super) direct_ratio: f64,
    /// Of a round, Aegis' processor time for a request over that of Triton's best in this.
    pub(super) cpu_ratio: f64,
    /// The same with instances that serve again.
    pub(super) reuse_cpu_ratio: f64,
}

/// Measures the networks that the handler of digits asks.
pub(super) fn measure(
    report: &mut Report,
    aegis: &Server,
    folder: &Path,
    runtime: &Runtime,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<()> {
    let asked: Vec<&Served> = aegis.served.iter().filter(|served| served.digits).collect();
    if asked.is_empty() {
        return Ok(());
    }
    if !Path::new(SERVER).exists() {
        say("Triton is left out: scripts/triton.sh brings it into .tools/triton");
        return Ok(());
    }
    let library = bare::library(runtime)?.canonicalize()?;
    let triton = Triton::start(&asked, &folder.join("triton"), &library)?;
    for network in asked {
        let cases = triton.cases(network, folder)?;
        for connections in CALLERS {
            say(&format!(
                "{}: beside Triton, {connections} connections",
                network.name
            ));
            let mut measured = Vec::with_capacity(rounds);
            for round in 0..rounds {
                measured.push(turns(round, |side| match side {
                    Side::Aegis => aegis.turn(network, "on", connections, window),
                    Side::Reuse => aegis.turn(network, REUSE, connections, window),
                    Side::Direct => aegis.asked(network, DIRECT, &cases, connections, window),
                    Side::Triton(way) => {
                        let target = triton.target(network, way);
                        target.turn(&cases, connections, window)
                    }
                })?);
            }
            report
                .beside_triton
                .push(Row::of(network.name, connections, &measured));
        }
    }
    Ok(())
}

/// What is asked in turns.
#[derive(Clone, Copy)]
enum Side {
    Aegis,
    Reuse,
    Direct,
    /// By this setting.
    Triton(&'static str),
}

/// All sides, in the order that [`Row::of`] takes them in.
const SIDES: [Side; 3 + SETTINGS.len()] = [
    Side::Aegis,
    Side::Reuse,
    Side::Direct,
    Side::Triton(SETTINGS[0].0),
    Side::Triton(SETTINGS[1].0),
    Side::Triton(SETTINGS[2].0),
];

type Round = [Figures; SIDES.len()];

/// Every side once; who begins changes from round to round, so that none gains by coming first.
fn turns(
    round: usize,
    mut turn: impl FnMut(Side) -> anyhow::Result<Figures>,
) -> anyhow::Result<Round> {
    let mut figures = Round::default();
    let mut places: Vec<_> = figures.iter_mut().zip(SIDES).collect();
    places.rotate_left(round % SIDES.len());
    for (figure, side) in places {
        *figure = turn(side)?;
    }
    Ok(figures)
}

impl Row {
    fn of(network: &'static str, connections: usize, rounds: &[Round]) -> Row {
        let of = |side: fn(&Round) -> Figures| {
            let side: Vec<_> = rounds.iter().map(side).collect();
            Figures::median_of(&side)
        };
        // Of each round, a figure of one side over the greatest of Triton's.
        let to_best = |side: fn(&Round) -> Figures, figure: fn(&Figures) -> f64| {
            median(rounds.iter().map(|round| {
                let [_, _, _, triton @ ..] = round;
                figure(&side(round)) / triton.iter().map(figure).fold(0.0, f64::max)
            }))
        };
        let speed = |figures: &Figures| figures.requests_per_second;
        let per_cpu = |figures: &Figures| 1.0 / figures.cpu_us.unwrap_or(f64::INFINITY);
        Row {
            network,
            connections,
            aegis: of(|[aegis, ..]| *aegis),
            reuse: of(|[_, reuse, ..]| *reuse),
            direct: of(|[_, _, direct, ..]| *direct),
            triton: [
                of(|[_, _, _, off, ..]| *off),
                of(|[.., delay, _]| *delay),
                of(|[.., on]| *on),
            ],
            ratio: to_best(|[aegis, ..]| *aegis, speed),
            reuse_ratio: to_best(|[_, reuse, ..]| *reuse, speed),
            direct_ratio: to_best(|[_, _, direct, ..]| *direct, speed),
            cpu_ratio: 1.0 / to_best(|[aegis, ..]| *aegis, per_cpu),
            reuse_cpu_ratio: 1.0 / to_best(|[_, reuse, ..]| *reuse, per_cpu),
        }
    }
}

/// `tritonserver` with every network three times.
struct Triton {
    process: Running,
    address: SocketAddr,
}

impl Triton {
    fn start(networks: &[&Served], folder: &Path, onnxruntime: &Path) -> anyhow::Result<Triton> {
        let models = folder.join("models");
        for network in networks {
            for (way, batching) in SETTINGS {
                write_model(&models, network, way, batching)?;
            }
        }
        let backends = folder.join("backends");
        let backend = backends.join("bare");
        fs::create_dir_all(&backend)?;
        let built =
            std::env::current_exe()?.with_file_name(format!("{DLL_PREFIX}{BACKEND}{DLL_SUFFIX}"));
        fs::copy(&built, backend.join("libtriton_bare.so")).with_context(|| {
            format!(
                "{}: `cargo build --release -p aegis-bench-triton` builds it",
                built.display()
            )
        })?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = folder.join("triton.log");
        let process = Command::new(SERVER)
            .arg("--model-repository")
            .arg(&models)
            .arg("--backend-directory")
            .arg(&backends)
            .args(["--http-address", "127.0.0.1"])
            .args(["--http-port", &address.port().to_string()])
            .args(["--allow-grpc", "false", "--allow-metrics", "false"])
            .env("AEGIS_ONNXRUNTIME", onnxruntime)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("Triton does not start; scripts/triton.sh brings it anew")?;
        let mut triton = Triton {
            process: Running(process),
            address,
        };
        // It listens once all models are loaded.
        let ready = on_this_thread(wait(
            &mut triton.process,
            address,
            &get("/v2/health/ready"),
            None,
        ))?;
        let program = Program {
            aegis: Path::new(SERVER),
            onnxruntime: None,
            log,
        };
        program.explain(ready)?;
        Ok(triton)
    }

    fn target(&self, network: &Served, way: &str) -> Target {
        Target {
            address: self.address,
            path: format!("/v2/models/{}-{way}/infer", network.name),
            processes: vec![self.process.0.id()],
        }
    }

    /// The digits, as Triton is asked them. Each has been answered once, and rightly.
    fn cases(&self, network: &Served, folder: &Path) -> anyhow::Result<PathBuf> {
        let cases: Vec<Case> = serde_json::from_slice(&fs::read(&network.cases)?)?;
        let input = ports(&network.onnx)?.0;
        let cases: Vec<Case> = cases
            .iter()
            .map(|case| case.of_protocol(&input))
            .collect::<anyhow::Result<_>>()?;
        on_this_thread(async {
            let mut connection = Connection::open(self.address).await?;
            for (way, _) in SETTINGS {
                let path = self.target(network, way).path;
                for case in &cases {
                    case.check(&ask(&mut connection, &case.request(&path)).await?)?;
                }
            }
            anyhow::Ok(())
        })??;
        let file = folder.join(format!("{}.triton.json", network.name));
        fs::write(&file, serde_json::to_vec(&cases)?)?;
        Ok(file)
    }
}

/// The names of a network's input and output.
fn ports(onnx: &Path) -> anyhow::Result<(String, String)> {
    let session = bare::session(onnx)?;
    let first = |ports: &[ort::value::Outlet]| Some(ports.first()?.name().to_owned());
    first(session.inputs())
        .zip(first(session.outputs()))
        .with_context(|| format!("{} has no input or no output", onnx.display()))
}

/// A model of the repository, with as many instances as there are cores. Neither network's rows have another width.
fn write_model(models: &Path, network: &Served, way: &str, batching: &str) -> anyhow::Result<()> {
    let name = format!("{}-{way}", network.name);
    let version = models.join(&name).join("1");
    fs::create_dir_all(&version)?;
    fs::copy(&network.onnx, version.join("model.onnx"))?;
    let (input, output) = ports(&network.onnx)?;
    let cores = thread::available_parallelism()?;
    let config = format!(
        "backend: \"bare\"\nmax_batch_size: 32\n\
         input [ {{ name: \"{input}\" data_type: TYPE_FP32 dims: [ 64 ] }} ]\n\
         output [ {{ name: \"{output}\" data_type: TYPE_FP32 dims: [ 10 ] }} ]\n\
         instance_group [ {{ kind: KIND_CPU count: {cores} }} ]\n{batching}"
    );
    fs::write(models.join(&name).join("config.pbtxt"), config)?;
    Ok(())
}
