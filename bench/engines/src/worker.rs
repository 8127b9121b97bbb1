//! A process of its own for an engine, so that a case that panics, crashes or hangs does not take the rest along.
//! What the process does with a case is [`crate::conformance`]'s.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::conformance::{Outcome, Trial};

/// How long one case may take. The slowest good one takes well under a second.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Address space a worker may take, bytes.
const MEMORY_LIMIT: u64 = 8 << 30;

/// An input that asks for terabytes shall end this process, not the machine.
pub fn limit_memory() {
    let limit = libc::rlimit {
        rlim_cur: MEMORY_LIMIT,
        rlim_max: MEMORY_LIMIT,
    };
    // SAFETY: `limit` is a valid limit that the call only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
}

pub struct Worker {
    child: Child,
    answers: mpsc::Receiver<String>,
}

impl Worker {
    /// Starts a process that answers for `engine`.
    pub fn start(engine: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["conformance-worker", engine])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let lines = BufReader::new(
            child
                .stdout
                .take()
                .context("the worker has no standard output")?,
        )
        .lines();
        let (send, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, answers })
    }

    /// What comes of one trial of one case. After a crash or a hang this worker is spent.
    pub fn ask(&mut self, trial: Trial, case: &Path) -> (Outcome, String) {
        let line = format!("{}\t{}\n", trial.word(), case.display());
        let asked = self.child.stdin.as_mut().map(|stdin| {
            stdin
                .write_all(line.as_bytes())
                .and_then(|()| stdin.flush())
        });
        if !matches!(asked, Some(Ok(()))) {
            return (Outcome::Crash, "the worker took no more cases".into());
        }
        match self.answers.recv_timeout(TIME_LIMIT) {
            Ok(answer) => serde_json::from_str(&answer)
                .unwrap_or((Outcome::Crash, format!("unreadable: {answer}"))),
            Err(mpsc::RecvTimeoutError::Timeout) => (
                Outcome::Hang,
                format!("no answer in {} s", TIME_LIMIT.as_secs()),
            ),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = self
                    .child
                    .wait()
                    .map(|status| status.to_string())
                    .unwrap_or_default();
                (Outcome::Crash, status)
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
