//! A server of the program's own, for one setting: `aegis serve` in a process of its own, on loopback,
//! with a temporary folder. It ends when it is dropped, and by itself when this process is gone.

use std::{
    collections::VecDeque,
    path::Path,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::settings::ServeArgs;

/// The hidden command that a server is started by.
pub(crate) const COMMAND: &str = "serve-for-parent";

/// How long a server may take to end when asked to, before it is killed.
const END: Duration = Duration::from_secs(5);
/// Lines that are kept of what it complains of.
const KEPT: usize = 20;

/// Variables that are a server's own for its callers, its operators or its collector, and not for a
/// copy of it beside.
fn is_private(name: &str) -> bool {
    name.starts_with("OTEL_")
        || name.starts_with("AEGIS_OTLP_")
        || [
            "AEGIS_CONFIG",
            "AEGIS_ADMIN_LISTEN",
            "AEGIS_DRAIN_DELAY_MS",
            "AEGIS_SERVER",
            "AEGIS_TOKEN",
            "AEGIS_TOKEN_FILE",
            "AEGIS_TOKENS",
            "AEGIS_TRACE_RATIO",
            "AEGIS_TRACE_SAMPLER",
        ]
        .contains(&name)
}

/// What holds of the environment for a private server.
pub(super) fn environment() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().filter(|(name, _)| !is_private(&name.to_string_lossy()))
}

/// The flags of a private server, behind the command.
pub(super) fn flags(data: &Path, package: &Path) -> Vec<std::ffi::OsString> {
    let mut flags: Vec<std::ffi::OsString> = [
        "--listen=127.0.0.1:0",
        "--management=off",
        "--log-format=text",
        "--log-filter=error",
        "--grace-period-s=2",
        "--data",
    ]
    .map(Into::into)
    .to_vec();
    flags.extend([data.into(), "--models".into(), package.into()]);
    flags
}

/// A running server.
pub(super) struct Server {
    child: Child,
    /// `http://HOST:PORT`.
    pub(super) url: String,
    complaints: Complaints,
}

/// The last lines of a server's standard error.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<VecDeque<String>>>);

impl Complaints {
    /// Reads to the end, so that the server never waits for somebody to read.
    fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let kept = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock();
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
    }

    fn last(&self) -> String {
        let kept = self.0.lock();
        let line = kept.back().map(|line| line.trim_start_matches("aegis: "));
        line.unwrap_or("it said nothing").to_owned()
    }
}

impl Server {
    /// Starts one on `package` and waits until it is ready. `data` may be that of one before, whose
    /// compiled code is then used again.
    pub(super) async fn start(data: &Path, package: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut child = Command::new(program)
            .arg(COMMAND)
            .args(flags(data, package))
            .env_clear()
            .envs(environment())
            // Its end is a line that closes: see `run`.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-c is for this process, which then ends the server in its own time.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting a server")?;
        let complaints = Complaints::default();
        if let Some(stream) = child.stderr.take() {
            complaints.follow(stream);
        }
        let Some(stdout) = child.stdout.take() else {
            bail!("a server without an output");
        };
        let mut lines = BufReader::new(stdout).lines();
        let url = loop {
            let Some(line) = lines.next_line().await? else {
                let status = child.wait().await?;
                // What it said last may still be on its way.
                tokio::time::sleep(Duration::from_millis(50)).await;
                bail!("{} ({status})", complaints.last());
            };
            if let Some(url) = line.strip_prefix("ready on ") {
                break url.to_owned();
            }
        };
        drain(lines);
        Ok(Self {
            child,
            url,
            complaints,
        })
    }

    /// Why it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!(
            "its server ended ({status}): {}",
            self.complaints.last()
        ))
    }

    /// Ends it and waits for its end.
    pub(super) async fn end(mut self) {
        drop(self.child.stdin.take());
        if timeout(END, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Reads what a server prints later, so that it never waits for somebody to read.
fn drain(mut lines: tokio::io::Lines<BufReader<ChildStdout>>) {
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}

/// `aegis serve` that ends when its standard input does: whoever started it holds the other end, and
/// the system lets go of it however that process ends.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let this = rustix::process::getpid();
            let _ = rustix::process::kill_process(this, rustix::process::Signal::TERM);
        })?;
    crate::commands::serve::run(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_server_has_nothing_of_a_servers_credentials_or_collectors() {
        for name in [
            "AEGIS_TOKENS",
            "AEGIS_OTLP_ENDPOINT",
            "OTEL_SERVICE_NAME",
            "AEGIS_CONFIG",
        ] {
            assert!(is_private(name), "{name}");
        }
        for name in ["AEGIS_ONNXRUNTIME", "AEGIS_INFERENCE_THREADS", "PATH"] {
            assert!(!is_private(name), "{name}");
        }
    }
}
