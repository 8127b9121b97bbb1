//! Rows (e): the real program, from its start to its first answer, and from an upload to the
//! model's first answer.

use std::{
    env::consts::EXE_SUFFIX,
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    fixture::{FILES, Fixture, Network},
    http::{Connection, post},
    over_http::Running,
    plan::Plan,
    stats::median,
};

/// Times in milliseconds, the medians and the greatest of the runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) network: &'static str,
    pub(crate) runs: usize,
    /// From starting the program to the first 200 of `/predict`, with the model's code in the
    /// cache.
    pub(crate) first_answer: Times,
    /// From an upload's first byte to its 201: stored, checked, compiled, loaded.
    pub(crate) upload: Times,
    /// From an upload's first byte to the model's first answer.
    pub(crate) upload_to_answer: Times,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) greatest: f64,
}

impl Times {
    fn of(runs: &[Duration]) -> Times {
        let millis = || runs.iter().map(|run| run.as_secs_f64() * 1e3);
        Times {
            median: median(millis()),
            greatest: millis().fold(0.0, f64::max),
        }
    }
}

/// The program to start: the one given, or the one beside this.
pub(crate) fn find(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name(format!("aegis{EXE_SUFFIX}")),
    };
    if !path.is_file() {
        bail!(
            "{} is not there, and the benchmark starts it: build it with `cargo build --release -p aegis`, or name it with --aegis",
            path.display()
        );
    }
    path.canonicalize().context("the aegis program")
}

/// Measures starts and uploads of the first network.
pub(crate) fn measure(
    aegis: &Path,
    fixture: &Fixture,
    onnxruntime: Option<&Path>,
    plan: &Plan,
) -> anyhow::Result<Start> {
    let network = fixture.networks.first().context("there is no network")?;
    let program = Program {
        aegis,
        onnxruntime,
        log: fixture.folder("aegis.log"),
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(measure_all(&program, fixture, network, plan))
        .with_context(|| {
            let log = std::fs::read_to_string(&program.log).unwrap_or_default();
            format!("{}; its log:\n{log}", aegis.display())
        })
}

async fn measure_all(
    program: &Program<'_>,
    fixture: &Fixture,
    network: &Network,
    plan: &Plan,
) -> anyhow::Result<Start> {
    let prepared = fixture.folder("prepared");
    // Fills the folder and the cache of compiled code.
    start_to_answer(program, &prepared, Some(&network.package), network).await?;
    let (mut starts, mut uploads, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.starts {
        starts.push(start_to_answer(program, &prepared, None, network).await?);
        let empty = fixture.folder(&format!("empty-{run}"));
        let (upload, answer) = upload_to_answer(program, &empty, network).await?;
        uploads.push(upload);
        answers.push(answer);
    }
    Ok(Start {
        network: network.name,
        runs: plan.starts,
        first_answer: Times::of(&starts),
        upload: Times::of(&uploads),
        upload_to_answer: Times::of(&answers),
    })
}

/// `aegis serve`, ready to be started.
struct Program<'a> {
    aegis: &'a Path,
    onnxruntime: Option<&'a Path>,
    log: PathBuf,
}

impl Program<'_> {
    fn start(&self, data: &Path, package: Option<&Path>) -> anyhow::Result<(Running, SocketAddr)> {
        // Free a moment ago; that another program takes it in between fails the run.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(self.aegis);
        command
            .arg("serve")
            .args(["--listen", &address.to_string()])
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&self.log)?);
        if let Some(package) = package {
            command.arg("--models").arg(package);
        }
        if let Some(path) = self.onnxruntime {
            command.arg("--onnxruntime").arg(path);
        }
        let running = Running(command.spawn()?);
        Ok((running, address))
    }
}

async fn start_to_answer(
    program: &Program<'_>,
    data: &Path,
    package: Option<&Path>,
    network: &Network,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let (mut running, address) = program.start(data, package)?;
    first_answer(&mut running, address, network).await?;
    Ok(begun.elapsed())
}

/// Until the upload is answered, and until the model answers.
async fn upload_to_answer(
    program: &Program<'_>,
    data: &Path,
    network: &Network,
) -> anyhow::Result<(Duration, Duration)> {
    let (mut running, address) = program.start(data, None)?;
    wait(
        &mut running,
        address,
        b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n",
        None,
    )
    .await?;
    let upload = upload_request(network)?;
    let mut connection = Connection::open(address).await?;
    let begun = Instant::now();
    let answer = connection.ask(&upload).await?;
    let uploaded = begun.elapsed();
    if answer.status != 201 {
        bail!(
            "the upload was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
    }
    first_answer(&mut running, address, network).await?;
    Ok((uploaded, begun.elapsed()))
}

async fn first_answer(
    running: &mut Running,
    address: SocketAddr,
    network: &Network,
) -> anyhow::Result<()> {
    let case = network.cases.first().context("there are no cases")?;
    let path = format!("/predict?identifier={}", network.name);
    let request = post(&path, "application/json", case.body.as_bytes());
    wait(running, address, &request, Some(case)).await
}

/// The longest that a start may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is 200; `case` says what it must be then.
async fn wait(
    running: &mut Running,
    address: SocketAddr,
    request: &[u8],
    case: Option<&crate::cases::Case>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut connection = None;
    let mut last = "nothing listened".to_owned();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = running.0.try_wait()? {
            bail!("it ended: {status}");
        }
        if connection.is_none() {
            connection = Connection::open(address).await.ok();
        }
        if let Some(open) = &mut connection {
            match open.ask(request).await {
                Ok(answer) if answer.status == 200 => {
                    return case.map_or(Ok(()), |case| case.check(answer.body));
                }
                Ok(answer) => last = format!("it answered {}", answer.status),
                Err(error) => {
                    last = error.to_string();
                    connection = None;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bail!("no answer in {} s; last {last}", PATIENCE.as_secs())
}

/// The package as `curl -F` sends it.
fn upload_request(network: &Network) -> anyhow::Result<Vec<u8>> {
    const BOUNDARY: &str = "aegis-bench-boundary-4c1f0b7e";
    let mut body = Vec::new();
    for file in FILES {
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{file}\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend(std::fs::read(network.package.join(file))?);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    let path = format!("/v1/models/{}/versions", network.name);
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    Ok(post(&path, &content_type, &body))
}
