//! The host's side: starts a worker, tells it what to do, and says how it ended.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    thread,
};

use rustix::process::Signal;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::Semaphore,
};

use super::{
    Bounds, MAX_LINE, Order, WorkerCommand, WorkerError,
    child::{ANSWERED, OVER_MEMORY},
};

/// Workers at once. Each may take as much memory as its model's limits say, and a second
/// one keeps an upload from waiting behind a slow one; the server's default for uploads at
/// once is the same.
const AT_ONCE: usize = 2;

/// What a worker's complaints are kept to.
const MAX_COMPLAINT: usize = 4 << 10;

/// The only variables that a worker gets from this process: where native libraries find
/// others, and which processors of graphics are whose.
const PASSED_ON: [&str; 2] = ["LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"];

/// Starts workers, a few at a time. Cheap to clone; clones share the turns.
#[derive(Clone, Debug)]
pub struct Workers {
    command: WorkerCommand,
    scratch: PathBuf,
    turns: Arc<Semaphore>,
}

/// What a worker answered: a value, and bytes behind it.
#[derive(Debug)]
pub struct Answer<A> {
    /// The value.
    pub value: A,
    /// The bytes.
    pub payload: Vec<u8>,
}

impl Workers {
    /// Workers that are started by `command` and answer through files in the folder
    /// `scratch`, which have no names.
    pub fn new(command: WorkerCommand, scratch: PathBuf) -> Workers {
        Workers {
            command,
            scratch,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Has a worker do one `kind` of task, for the model `model` in logs. Dropping the
    /// future ends the worker.
    ///
    /// # Errors
    /// [`WorkerError`], which is also logged with what the worker complained of.
    pub async fn run<T: Serialize, A: DeserializeOwned + Send + 'static>(
        &self,
        kind: &str,
        model: &str,
        task: T,
        input: &[u8],
        bounds: Bounds,
    ) -> Result<Answer<A>, WorkerError> {
        let _turn = self
            .turns
            .acquire()
            .await
            .map_err(|_| host("the host is closing"))?;
        let answer = tempfile::tempfile_in(&self.scratch).map_err(host)?;
        let order = Order {
            parent: std::process::id(),
            bounds,
            input_bytes: input.len(),
            task,
        };
        let mut order = serde_json::to_vec(&order).map_err(host)?;
        order.push(b'\n');
        let (ended, complaint) = self.start(kind, &answer, &order, input, bounds).await?;
        let result = match ended {
            None => Err(WorkerError::Timeout),
            Some(status) if status.success() || is(status, ANSWERED) => {
                tokio::task::spawn_blocking(move || read(answer))
                    .await
                    .unwrap_or_else(|error| Err(host(error)))
            }
            Some(status) => Err(judge(status, &complaint)),
        };
        if let Err(error) = &result {
            tracing::warn!(
                worker = kind,
                model,
                time_ms = bounds.time.as_millis() as u64,
                memory_mib = bounds.memory_bytes >> 20,
                complaint = complaint.trim(),
                "a worker gave no answer: {error}"
            );
        }
        result
    }

    /// Runs one to its end, which is `None` if its time was over first.
    async fn start(
        &self,
        kind: &str,
        answer: &File,
        order: &[u8],
        input: &[u8],
        bounds: Bounds,
    ) -> Result<(Option<ExitStatus>, String), WorkerError> {
        let mut child = self
            .command(kind)
            .stdin(Stdio::piped())
            .stdout(answer.try_clone().map_err(host)?)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| host(format!("a worker cannot be started: {error}")))?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let tell = async {
            if let Some(mut stdin) = stdin {
                // A worker that ends before it has heard everything is judged by its end.
                let _ = stdin.write_all(order).await;
                let _ = stdin.write_all(input).await;
            }
        };
        let listen = async {
            let mut complaint = Vec::new();
            if let Some(mut stderr) = stderr {
                let mut piece = [0; 4096];
                // Read to its end, so that no worker waits for a full pipe.
                while let Ok(read @ 1..) = stderr.read(&mut piece).await {
                    let room = MAX_COMPLAINT.saturating_sub(complaint.len()).min(read);
                    complaint.extend_from_slice(piece.get(..room).unwrap_or_default());
                }
            }
            String::from_utf8_lossy(&complaint).into_owned()
        };
        let ended = tokio::time::timeout(bounds.time, async {
            tokio::join!(tell, listen, child.wait())
        })
        .await;
        match ended {
            Ok(((), complaint, status)) => Ok((Some(status.map_err(host)?), complaint)),
            Err(_) => {
                child.kill().await.map_err(host)?;
                Ok((None, String::new()))
            }
        }
    }

    fn command(&self, kind: &str) -> Command {
        let mut command = Command::new(&self.command.program);
        command
            .arg0("aegis")
            .args(&self.command.args)
            .arg(kind)
            .env_clear()
            // Arenas that are set aside must not count as memory until they are used.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            // Half of the processors, at least one: the compiler's threads leave the rest
            // to requests.
            .env("RAYON_NUM_THREADS", (cores() / 2).max(1).to_string());
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The answer in a worker's file.
fn read<A: DeserializeOwned>(mut file: File) -> Result<Answer<A>, WorkerError> {
    file.rewind().map_err(host)?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    reader
        .by_ref()
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .map_err(host)?;
    let value = serde_json::from_slice(&line).map_err(|error| WorkerError::Crashed {
        how: format!("its answer makes no sense: {error}"),
    })?;
    let mut payload = Vec::new();
    reader.read_to_end(&mut payload).map_err(host)?;
    Ok(Answer { value, payload })
}

fn is(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw())
}

/// What a worker's end without an answer means.
fn judge(status: ExitStatus, complaint: &str) -> WorkerError {
    // Nobody but the system kills a worker before its time is over, and it does so for
    // memory. Rust's words for an allocation that failed are its last.
    if is(status, OVER_MEMORY)
        || is(status, Signal::KILL)
        || is(status, Signal::XFSZ)
        || (is(status, Signal::ABORT) && complaint.contains("memory allocation of"))
    {
        return WorkerError::Memory;
    }
    if is(status, Signal::XCPU) {
        return WorkerError::Timeout;
    }
    let first = complaint.lines().find(|line| !line.trim().is_empty());
    WorkerError::Crashed {
        how: match first {
            Some(said) => format!("{status}, saying: {said}"),
            None => status.to_string(),
        },
    }
}

fn host(error: impl ToString) -> WorkerError {
    WorkerError::Host {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
