//! The same work as people write it by hand, FastAPI and onnxruntime (`bench/fastapi/app.py`), beside Aegis.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    Beside, CALLERS, Figures, Report, in_turns, median_ratio,
    over_http::{Served, Server, Target, on_this_thread},
};
use crate::{
    machine::children,
    program::{Running, wait},
    say,
};

/// Where `scripts/fastapi.sh` puts it.
const FOLDER: &str = ".tools/fastapi";

/// The longest that it may take to start, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Measures the networks that the handler of digits asks.
pub(super) fn measure(
    report: &mut Report,
    aegis: &Server,
    folder: &Path,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<()> {
    let asked: Vec<&Served> = aegis.served.iter().filter(|served| served.digits).collect();
    if !asked.is_empty() && !Path::new(FOLDER).join("python").exists() {
        say("FastAPI is left out: scripts/fastapi.sh brings it into .tools/fastapi");
        return Ok(());
    }
    for network in asked {
        let log = folder.join(format!("{}.fastapi.log", network.name));
        let fastapi = FastApi::start(network, log)?;
        let target = fastapi.target()?;
        for connections in CALLERS {
            say(&format!(
                "{}: beside FastAPI, {connections} connections",
                network.name
            ));
            let measured = in_turns(rounds, [true, false], |by_hand| {
                if by_hand {
                    target.turn(&network.cases, connections, window)
                } else {
                    aegis.turn(network, "on", connections, window)
                }
            })?;
            let ratio = median_ratio(&measured, |figures| figures.requests_per_second);
            let (by_hand, aegis): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
            report.beside_fastapi.push(Beside {
                network: network.name,
                connections,
                aegis: Figures::median_of(&aegis),
                fastapi: Figures::median_of(&by_hand),
                ratio,
            });
        }
    }
    Ok(())
}

/// Uvicorn with one worker a core.
struct FastApi {
    /// Its own process group, and it serves until its standard input ends: so it ends with the benchmark, also if that
    /// is killed.
    process: Running,
    address: SocketAddr,
}

impl FastApi {
    fn start(network: &Served, log: PathBuf) -> anyhow::Result<FastApi> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let workers = thread::available_parallelism()?.get();
        let process = Command::new(Path::new(FOLDER).join("python"))
            .arg("bench/fastapi/serve.py")
            .args([address.port().to_string(), workers.to_string()])
            .env("PYTHONPATH", Path::new(FOLDER).canonicalize()?)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NETWORK", network.onnx.canonicalize()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .process_group(0)
            .spawn()
            .context("FastAPI does not start; scripts/fastapi.sh brings it anew")?;
        let mut fastapi = FastApi {
            process: Running(process),
            address,
        };
        fastapi.ready(network, workers, &log).with_context(|| {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            format!("FastAPI; its log:\n{log}")
        })?;
        Ok(fastapi)
    }

    /// Waits for all workers, of which each says so, and for a right answer.
    fn ready(&mut self, network: &Served, workers: usize, log: &Path) -> anyhow::Result<()> {
        let begun = Instant::now();
        let started = || -> anyhow::Result<usize> {
            let log = std::fs::read_to_string(log)?;
            Ok(log.matches("Application startup complete").count())
        };
        while started()? < workers {
            if let Some(status) = self.process.0.try_wait()? {
                bail!("it ended: {status}");
            }
            if begun.elapsed() > PATIENCE {
                bail!("{workers} workers wanted in {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
        on_this_thread(wait(
            &mut self.process,
            self.address,
            &network.first.request("/predict"),
            Some(&network.first),
        ))?
    }

    fn target(&self) -> anyhow::Result<Target> {
        let parent = self.process.0.id();
        let mut processes = children(parent)?;
        processes.push(parent);
        Ok(Target {
            address: self.address,
            path: "/predict".to_owned(),
            processes,
        })
    }
}

impl Drop for FastApi {
    fn drop(&mut self) {
        // The end of its input asks it to end.
        drop(self.process.0.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < LAST_WORDS {
            if matches!(self.process.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if let Some(group) = i32::try_from(self.process.0.id())
            .ok()
            .and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
