//! The real program as a process: starting it, waiting until it answers, uploading to it.

use std::{
    env::consts::EXE_SUFFIX,
    ffi::OsStr,
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    cases::Case,
    http::{Connection, post},
};

/// What every part of the benchmark measures with.
#[derive(clap::Args)]
pub(crate) struct Checkout {
    /// The `aegis` program that is started and uploaded to; else the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) aegis: Option<PathBuf>,
    /// ONNX Runtime's library, or its folder. Else it is searched for, as `aegis serve` does.
    #[arg(long, value_name = "PATH", env = "AEGIS_ONNXRUNTIME")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// The checkout: where models/digits and .runtimes are.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) root: PathBuf,
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

/// A process that ends with its owner.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `aegis serve`, ready to be started.
pub(crate) struct Program<'a> {
    pub(crate) aegis: &'a Path,
    pub(crate) onnxruntime: Option<&'a Path>,
    /// Where its log goes.
    pub(crate) log: PathBuf,
}

impl Program<'_> {
    /// Starts it on a data folder, on a port of its own, with these flags beside.
    pub(crate) fn start(
        &self,
        data: &Path,
        flags: &[&OsStr],
    ) -> anyhow::Result<(Running, SocketAddr)> {
        // Free a moment ago; that another program takes it in between fails the run.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(self.aegis);
        command
            .arg("serve")
            .args(["--listen", &address.to_string()])
            .arg("--data")
            .arg(data)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&self.log)?);
        if let Some(path) = self.onnxruntime {
            command.arg("--onnxruntime").arg(path);
        }
        let running = Running(command.spawn()?);
        Ok((running, address))
    }

    /// Says what its log says, where something went wrong.
    pub(crate) fn explain<T>(&self, ended: anyhow::Result<T>) -> anyhow::Result<T> {
        ended.with_context(|| {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines
                .get(lines.len().saturating_sub(30)..)
                .unwrap_or_default();
            format!(
                "{}; the end of its log:\n{}",
                self.aegis.display(),
                last.join("\n")
            )
        })
    }
}

/// The longest that a start may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is 200; `case` says what it must be then.
pub(crate) async fn wait(
    running: &mut Running,
    address: SocketAddr,
    request: &[u8],
    case: Option<&Case>,
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

/// A request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A package as `curl -F` sends it.
pub(crate) fn upload(model: &str, files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    const BOUNDARY: &str = "aegis-bench-boundary-4c1f0b7e";
    let mut body = Vec::new();
    for (file, bytes) in files {
        let head = format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{file}\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    let path = format!("/v1/models/{model}/versions");
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    post(&path, &content_type, &body)
}

/// The component with a custom section that holds its name: other bytes, the same code.
pub(crate) fn distinct(component: &[u8], name: &str) -> Vec<u8> {
    // Both lengths are one byte of LEB128, being under 128.
    let title = b"aegis-bench";
    let length = 1 + title.len() + name.len();
    let mut bytes = component.to_vec();
    bytes.extend([0, length as u8, title.len() as u8]);
    bytes.extend(title);
    bytes.extend(name.as_bytes());
    bytes
}
