//! What the process takes of the machine, under the names that Prometheus' client libraries use,
//! and what it was built as. Read from `/proc` when somebody scrapes; where there is no such thing,
//! or it cannot be read, the series are absent.

use std::fs;
use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, ObservableCounter, ObservableGauge};

use crate::label;
use crate::table::{MetricSpec, metric};

/// Registers how to read all of it.
pub(crate) fn observe(meter: &Meter) {
    let spec = &metric::PROCESS_CPU;
    // The meter keeps the callbacks; the instruments are only tokens.
    let _token: ObservableCounter<f64> = meter
        .f64_observable_counter(spec.name)
        .with_description(spec.help)
        .with_unit(spec.unit)
        .with_callback(|observer| {
            if let Some(seconds) = Stat::read().and_then(|stat| stat.cpu_seconds()) {
                observer.observe(seconds, &[]);
            }
        })
        .build();
    gauge(meter, &metric::PROCESS_MEMORY, resident_bytes);
    gauge(meter, &metric::PROCESS_START, started);
    gauge(meter, &metric::PROCESS_THREADS, || {
        Stat::read()?.number(Stat::THREADS)
    });
    gauge(meter, &metric::PROCESS_OPEN_FDS, open_fds);
    gauge(meter, &metric::PROCESS_MAX_FDS, max_fds);
    let built = label::attributes([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("profile", PROFILE.to_owned()),
        ("arch", std::env::consts::ARCH.to_owned()),
    ]);
    with_labels(meter, &metric::BUILD_INFO, built, || Some(1.0));
}

/// Whether the figures of this process say anything about its speed.
const PROFILE: &str = if cfg!(debug_assertions) {
    "debug"
} else {
    "release"
};

fn gauge(meter: &Meter, spec: &MetricSpec, read: fn() -> Option<f64>) {
    with_labels(meter, spec, Vec::new(), read);
}

fn with_labels(meter: &Meter, spec: &MetricSpec, labels: Vec<KeyValue>, read: fn() -> Option<f64>) {
    let _token: ObservableGauge<f64> = meter
        .f64_observable_gauge(spec.name)
        .with_description(spec.help)
        .with_unit(spec.unit)
        .with_callback(move |observer| {
            if let Some(value) = read() {
                observer.observe(value, &labels);
            }
        })
        .build();
}

/// `/proc/self/stat` from its third field on: what stands before may hold anything.
struct Stat(String);

impl Stat {
    // By proc_pid_stat(5), which counts from 1.
    const USER_TICKS: usize = 14;
    const SYSTEM_TICKS: usize = 15;
    const THREADS: usize = 20;
    const START_TICKS: usize = 22;

    fn read() -> Option<Stat> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, rest) = text.rsplit_once(')')?;
        Some(Stat(rest.to_owned()))
    }

    fn number(&self, field: usize) -> Option<f64> {
        let word = self.0.split_ascii_whitespace().nth(field - 3)?;
        word.parse().ok()
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let ticks = self.number(Self::USER_TICKS)? + self.number(Self::SYSTEM_TICKS)?;
        Some(ticks / ticks_per_second())
    }
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn resident_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

/// When the process began, in seconds since 1970; the same at every scrape.
fn started() -> Option<f64> {
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = text
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .trim()
            .parse()
            .ok()?;
        Some(boot + Stat::read()?.number(Stat::START_TICKS)? / ticks_per_second())
    })
}

/// Without the one that reading the folder takes.
fn open_fds() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(count.saturating_sub(1) as f64)
}

/// No limit is the largest number, as Prometheus' own client has it.
fn max_fds() -> Option<f64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Some(limit.current.unwrap_or(u64::MAX) as f64)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::fs::File;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn time_computed_is_counted_in_seconds() {
        let cpu = || Stat::read().unwrap().cpu_seconds().unwrap();
        let (before, begun) = (cpu(), Instant::now());
        while cpu() < before + 0.05 {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
    }

    #[test]
    fn files_opened_are_counted() {
        let before = open_fds().unwrap();
        // Other tests open files as well, but not so many.
        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        assert!(open_fds().unwrap() >= before + 50.0);
        drop(files);
        assert!(max_fds().unwrap() >= 100.0);
    }

    #[test]
    fn memory_used_is_counted_in_bytes() {
        let before = resident_bytes().unwrap();
        let block = vec![1_u8; 64 << 20];
        assert!(resident_bytes().unwrap() >= before + f64::from(48 << 20));
        assert_eq!(std::hint::black_box(block).len(), 64 << 20);
    }

    #[test]
    fn the_process_began_a_little_while_ago() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - started().unwrap();
        assert!((-2.0..24.0 * 3600.0).contains(&age), "{age}");
        assert!(Stat::read().unwrap().number(Stat::THREADS).unwrap() >= 1.0);
    }
}
