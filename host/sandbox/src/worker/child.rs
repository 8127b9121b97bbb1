//! The worker's side: bounds on itself, its order, its answer.

use std::{
    fs,
    io::{self, BufRead, Read, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, kill_process, nice, setrlimit,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Bounds, MAX_LINE, Order};

/// The signal by which a worker ends itself when it is over its memory. A signal ends the
/// process at once, whatever its threads do; nothing else sends this one.
pub(super) const OVER_MEMORY: Signal = Signal::USR1;

/// The signal by which a worker ends itself when it has answered. An ordinary exit would run
/// the destructors of native libraries, which race with those libraries' own threads: OpenVINO
/// crashes there now and then, and what was answered would be lost for it.
pub(super) const ANSWERED: Signal = Signal::USR2;

/// How often a worker looks at its memory and its parent. What it can take in between is
/// bounded by how fast the kernel hands out pages, some 5 GB a second: 25 MB.
const LOOK: Duration = Duration::from_millis(5);

/// Below everything that serves: a compiler beside requests gets a tenth of a processor
/// that both want, and all of one that nobody does.
const NICENESS: i32 = 10;

/// Files that a worker may have open: libraries and their plugins open a few dozen.
const MAX_FILES: u64 = 256;

/// Reads the order on standard input, does it within its bounds, and answers on standard
/// output. For a worker's `main`.
pub fn run<T: DeserializeOwned, A: Serialize>(
    work: impl FnOnce(T, Vec<u8>) -> (A, Vec<u8>),
) -> ExitCode {
    match obey(work) {
        Ok(()) => {
            end(ANSWERED);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn obey<T: DeserializeOwned, A: Serialize>(
    work: impl FnOnce(T, Vec<u8>) -> (A, Vec<u8>),
) -> io::Result<()> {
    // A core file of hostile bytes serves nobody, and lies around.
    limit(Resource::Core, 0)?;
    let _ = nice(NICENESS);
    let mut stdin = io::stdin().lock();
    let mut line = Vec::new();
    stdin.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    let order: Order<T> = serde_json::from_slice(&line)?;
    confine(order.bounds)?;
    watch(order.parent, order.bounds.memory_bytes)?;
    let mut input = Vec::with_capacity(order.input_bytes);
    stdin.read_to_end(&mut input)?;
    if input.len() != order.input_bytes {
        return Err(io::Error::other(format!(
            "{} bytes came of {}",
            input.len(),
            order.input_bytes
        )));
    }
    let (answer, payload) = work(order.task, input);
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &answer)?;
    stdout.write_all(b"\n")?;
    stdout.write_all(&payload)?;
    stdout.flush()
}

/// Hands the process's bounds to the kernel. They are wider than those that are watched:
/// they hold when the watch is too slow, and end the process without a word.
fn confine(bounds: Bounds) -> io::Result<()> {
    // Memory that is set aside and never touched counts here; thread stacks and the
    // allocators' own areas are such.
    const SET_ASIDE: u64 = 512 << 20;
    let memory = bounds.memory_bytes;
    limit(Resource::Data, memory + memory / 4 + SET_ASIDE)?;
    // Native code comes out of memory: it cannot be larger.
    limit(Resource::Fsize, memory)?;
    limit(Resource::Nofile, MAX_FILES)?;
    let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
    limit(Resource::Cpu, (bounds.time.as_secs() + 1) * cores)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = rustix::process::getrlimit(resource)
        .maximum
        .map_or(most, |already| already.min(most));
    setrlimit(
        resource,
        Rlimit {
            current: Some(most),
            maximum: Some(most),
        },
    )?;
    Ok(())
}

/// Ends this process when it is over its memory, and when its parent is gone.
///
/// The kernel's death signal would not do for the latter: it comes at the end of the
/// *thread* that started the worker, and threads of a server come and go.
fn watch(parent: u32, memory_bytes: u64) -> io::Result<()> {
    let page = rustix::param::page_size() as u64;
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || {
            loop {
                if getppid()
                    .map(Pid::as_raw_nonzero)
                    .map(|pid| pid.get().cast_unsigned())
                    != Some(parent)
                {
                    end(Signal::KILL);
                }
                if resident_pages().is_some_and(|pages| pages.saturating_mul(page) > memory_bytes) {
                    end(OVER_MEMORY);
                    end(Signal::KILL);
                }
                thread::sleep(LOOK);
            }
        })
        .map(drop)
}

/// Ends this process at once. It returns only where the signal is ignored, as an odd launcher
/// may have it.
fn end(by: Signal) {
    let _ = kill_process(getpid(), by);
}

/// The second number of `statm` (proc(5)).
fn resident_pages() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}
