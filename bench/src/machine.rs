//! The machine that was measured on, and what processor time a process has used.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// Above this, something else was running and the figures are doubtful.
const QUIET: f64 = 0.5;

/// The machine, as it was when the run began.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// The load average over one minute, where the system tells.
    pub(crate) load: Option<f64>,
    /// Whether this program was built with optimisation.
    pub(crate) optimised: bool,
}

impl Machine {
    pub(crate) fn read() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(
                || "unknown processor".to_owned(),
                |(_, name)| name.to_owned(),
            );
        let kernel = read("/proc/sys/kernel/osrelease");
        Machine {
            processor,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok()),
            optimised: !cfg!(debug_assertions),
        }
    }

    /// What makes the figures doubtful.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.load.is_none_or(|load| load > QUIET) {
            warnings.push(format!(
                "the load average is {}, not known to be under {QUIET}: something else may be running and the figures are doubtful",
                self.load_text()
            ));
        }
        if !self.optimised {
            warnings.push("this is a debug build: the figures mean nothing".to_owned());
        }
        if std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0") {
            warnings.push("RUST_BACKTRACE is set, which slows errors down: unset it".to_owned());
        }
        warnings
    }

    fn load_text(&self) -> String {
        self.load
            .map_or_else(|| "unknown".to_owned(), |load| format!("{load:.2}"))
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, Linux {}, load {}{}",
            self.processor,
            self.cores,
            self.kernel,
            self.load_text(),
            if self.optimised { "" } else { ", DEBUG BUILD" }
        )
    }
}

/// Processor time that a process has used, in microseconds, all its threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CpuTime {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// What a process holds of memory, in bytes, and how many threads it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// Of it, what is the process's own.
    pub(crate) anonymous: u64,
    /// Of it, pages of files: programs, libraries, compiled handlers. The system can take these
    /// back and read them again.
    pub(crate) file: u64,
    pub(crate) threads: u64,
}

impl Memory {
    pub(crate) fn of(process: u32) -> anyhow::Result<Memory> {
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).context(path)?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_ascii_whitespace().nth(1));
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Ok(Memory {
            resident: field("VmRSS:") << 10,
            anonymous: field("RssAnon:") << 10,
            file: field("RssFile:") << 10,
            threads: field("Threads:"),
        })
    }

    pub(crate) fn line(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "{:6.0} MiB resident ({:.0} its own, {:.0} of files), {} threads",
            mib(self.resident),
            mib(self.anonymous),
            mib(self.file),
            self.threads
        )
    }
}

/// The processes that a process has started.
pub(crate) fn children(process: u32) -> anyhow::Result<Vec<u32>> {
    let path = format!("/proc/{process}/task/{process}/children");
    let all = fs::read_to_string(&path).context(path)?;
    let all = all.split_ascii_whitespace().map(|id| Ok(id.parse()?));
    all.collect()
}

/// Linux counts these in hundredths of a second, whatever the kernel's own clock (proc(5)).
const MICROSECONDS_PER_TICK: f64 = 10_000.0;

impl CpuTime {
    /// Of this process.
    pub(crate) fn own() -> anyhow::Result<CpuTime> {
        CpuTime::at("/proc/self/stat")
    }

    /// Of several others together.
    pub(crate) fn of_all(processes: &[u32]) -> anyhow::Result<CpuTime> {
        let mut all = CpuTime::default();
        for process in processes {
            let one = CpuTime::of(*process)?;
            all.user += one.user;
            all.system += one.system;
        }
        Ok(all)
    }

    /// Of another.
    pub(crate) fn of(process: u32) -> anyhow::Result<CpuTime> {
        CpuTime::at(&format!("/proc/{process}/stat"))
    }

    fn at(path: &str) -> anyhow::Result<CpuTime> {
        let stat = fs::read_to_string(path).context(path.to_owned())?;
        parse(&stat).with_context(|| format!("{path} is not as proc(5) describes it"))
    }

    pub(crate) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }

    /// Of one of so many requests.
    pub(crate) fn per(self, requests: u64) -> CpuTime {
        let requests = requests.max(1) as f64;
        CpuTime {
            user: self.user / requests,
            system: self.system / requests,
        }
    }
}

/// Fields 14 and 15. The second field is the program's name in parentheses and may hold
/// anything, so what comes before its end is cut off.
fn parse(stat: &str) -> Option<CpuTime> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || Some(fields.next()?.parse::<f64>().ok()? * MICROSECONDS_PER_TICK);
    Some(CpuTime {
        user: ticks()?,
        system: ticks()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 100 0 0 0 7 3 0 0 20 0 1 0";
        assert_eq!(
            parse(stat),
            Some(CpuTime {
                user: 70_000.0,
                system: 30_000.0
            })
        );
        assert_eq!(parse("12 (x) S 1"), None);
    }
}
