//! What a server's process has of the system, and whether that stays as it was.

use std::{collections::BTreeSet, fs};

use crate::{harness::Server, hostile::words::honest};

/// What a process has of the system, when it rests.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) resident_kib: u64,
    pub(super) threads: usize,
    pub(super) files: usize,
    /// Series of metrics, but for those of the model whose versions come and go.
    pub(super) series: usize,
    /// Versions of that model that have series.
    pub(super) live_versions: usize,
}

/// Looks that one is the least of.
const LOOKS: usize = 25;

impl Held {
    /// The least of a while with only honest requests: used instances are taken apart behind
    /// the last request, and the allocator gives back what it has too much of as it is used.
    pub(super) async fn of(server: &Server) -> Held {
        let mut least = Held::now(server).await;
        for _ in 0..LOOKS {
            honest(server, "raw").await;
            let now = Held::now(server).await;
            least.resident_kib = least.resident_kib.min(now.resident_kib);
            least.threads = least.threads.min(now.threads);
            least.files = least.files.min(now.files);
        }
        least
    }

    async fn now(server: &Server) -> Held {
        let metrics = server.metrics().await.text;
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        let (of_live, series): (Vec<_>, Vec<_>) =
            series.partition(|line| line.contains("model=\"live\""));
        let version = |line: &str| {
            let (_, rest) = line.split_once("model_version=\"")?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let live_versions: BTreeSet<_> = of_live.into_iter().filter_map(version).collect();
        let entries = |of: &str| {
            let folder = format!("/proc/{}/{of}", server.pid());
            fs::read_dir(folder).unwrap().count()
        };
        Held {
            resident_kib: server.memory_kib("VmRSS"),
            threads: entries("task"),
            files: entries("fd"),
            series: series.len(),
            live_versions: live_versions.len(),
        }
    }
}

/// Memory at both ends, in KiB. The allocator keeps some of what it had for a while, and gives
/// some back at times: so it is the median of three looks.
pub(super) fn ends(held: &[Held]) -> (u64, u64) {
    let median = |of: &[Held]| {
        let mut sizes: Vec<_> = of.iter().map(|held| held.resident_kib).collect();
        sizes.sort_unstable();
        sizes[sizes.len() / 2]
    };
    (median(&held[..3]), median(&held[held.len() - 3..]))
}

/// Whether memory is at the end within 5 % of what it was.
pub(super) fn is_flat(held: &[Held]) -> bool {
    let (early, late) = ends(held);
    late * 100 <= early * 105
}
