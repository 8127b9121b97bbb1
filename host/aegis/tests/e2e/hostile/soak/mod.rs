//! Honest and hostile requests mixed, many thousand of them: every answer is the one that is
//! due, and the process is at the end what it was at the beginning.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::words::{Word, honest, hosts_of_all};
use crate::harness::{Server, Start};

/// Requests over which memory must stay flat, in CI; `AEGIS_SOAK_REQUESTS` asks for more.
const REQUESTS: usize = 10_000;

/// How often the process is looked at in the course of them.
const PARTS: usize = 10;

/// How many parts there may be before those that are flat: until then slots and the allocator's
/// areas are still touched for the first time, in an order that chance decides. A leak ends no
/// sooner for being waited for: what grows by a twentieth in every [`REQUESTS`] fails.
const WARM_UP_PARTS: usize = 40;

/// Requests under way at once.
const CONNECTIONS: usize = 8;

/// What takes longer than this is asked for seldom, so that the others get on.
const QUICK: Duration = Duration::from_millis(20);

/// One hostile request in so many is a long one, and one that the clock ends.
const LONG_EVERY: usize = 20;
const SLOW_EVERY: usize = 1000;

/// The words by how long they take.
struct Mix {
    quick: Vec<Word>,
    long: Vec<Word>,
    slow: Vec<Word>,
    asked: AtomicUsize,
}

impl Mix {
    /// Asks for each word once.
    async fn measure(server: &Server) -> Mix {
        let mut mix = Mix {
            quick: Vec::new(),
            long: Vec::new(),
            slow: Vec::new(),
            asked: AtomicUsize::new(0),
        };
        for word in Word::all() {
            let start = Instant::now();
            word.hold(&word.ask(server, &word.word).await);
            if word.is_slow() {
                mix.slow.push(word);
            } else if start.elapsed() > QUICK {
                mix.long.push(word);
            } else {
                mix.quick.push(word);
            }
        }
        mix
    }

    /// Sends `requests`, every other one hostile.
    async fn send(self: &Arc<Mix>, server: &Arc<Server>, requests: usize) {
        let left = Arc::new(AtomicUsize::new(requests));
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (mix, server, left) = (Arc::clone(self), Arc::clone(server), Arc::clone(&left));
                tokio::spawn(async move {
                    let step = |left: usize| left.checked_sub(1);
                    let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
                    while left.fetch_update(set, get, step).is_ok() {
                        mix.one(&server).await;
                    }
                })
            })
            .collect();
        for connection in connections {
            connection.await.unwrap();
        }
    }

    async fn one(&self, server: &Server) {
        let turn = self.asked.fetch_add(1, Ordering::Relaxed);
        if turn.is_multiple_of(2) {
            match turn / 2 % 3 {
                0 => assert_eq!(server.ask("counter", "").await.is(200).text(), "0"),
                1 => assert_eq!(server.ask("raw", "").await.is(200).text(), "answered"),
                _ => drop(server.ask("hostile&do=digits", "").await.is(200)),
            }
            return;
        }
        let turn = turn / 2;
        let (list, turn) = if turn % SLOW_EVERY == SLOW_EVERY - 1 {
            (&self.slow, turn / SLOW_EVERY)
        } else if turn % LONG_EVERY == LONG_EVERY - 1 && !self.long.is_empty() {
            (&self.long, turn / LONG_EVERY)
        } else {
            (&self.quick, turn)
        };
        let word = &list[turn % list.len()];
        word.hold(&word.ask(server, &word.word).await);
    }
}

/// What a process has of the system, when it rests.
#[derive(Debug)]
struct Held {
    resident_kib: u64,
    threads: usize,
    files: usize,
    series: usize,
}

impl Held {
    /// The least of a while with only honest requests: used instances are taken apart behind
    /// the last request, and the allocator gives back what it has too much of as it is used.
    async fn of(server: &Server) -> Held {
        let mut least = Held::now(server).await;
        for _ in 0..50 {
            honest(server, "raw").await;
            let now = Held::now(server).await;
            least.resident_kib = least.resident_kib.min(now.resident_kib);
            least.threads = least.threads.min(now.threads);
            least.files = least.files.min(now.files);
        }
        least
    }

    async fn now(server: &Server) -> Held {
        let series = server.metrics().await.text;
        let entries = |of: &str| {
            let folder = format!("/proc/{}/{of}", server.pid());
            fs::read_dir(folder).unwrap().count()
        };
        Held {
            resident_kib: server.memory_kib("VmRSS"),
            threads: entries("task"),
            files: entries("fd"),
            series: series.lines().filter(|line| !line.starts_with('#')).count(),
        }
    }
}

/// Whether memory is the same within 5 % at both ends. The allocator keeps some of what it had
/// for a while, and gives some back at times: so it is the median of three looks.
fn is_flat(held: &[Held]) -> bool {
    let median = |of: &[Held]| {
        let mut sizes: Vec<_> = of.iter().map(|held| held.resident_kib).collect();
        sizes.sort_unstable();
        sizes[sizes.len() / 2]
    };
    let (early, late) = (median(&held[..3]), median(&held[held.len() - 3..]));
    late * 100 <= early * 105
}

/// Has every slot of the pool touched, as it keeps what was touched up to a bound.
async fn fill_slots(server: &Server) {
    for _ in 0..3 {
        for asked in [
            "hostile&do=alloc&n=8",
            "hostile-slow&do=alloc&n=8",
            "raw-slow&do=n",
        ] {
            let at_once = (0..16).map(|_| server.ask(asked, ""));
            futures_util::future::join_all(at_once).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_over_honest_and_hostile_requests_mixed() {
    let asked = std::env::var("AEGIS_SOAK_REQUESTS").ok();
    let requests = asked.map_or(REQUESTS, |asked| asked.parse().unwrap());
    let start = Start::new()
        .flag("--log-filter", "warn,aegis::commands=info")
        // A slot keeps what its guests touched, up to a bound: with few slots that is had soon.
        .flag("--max-instances", "24")
        .flag("--warm-instances", "2");
    let server = Arc::new(hosts_of_all(start).await);
    let mix = Arc::new(Mix::measure(&server).await);
    fill_slots(&server).await;
    let begun = Instant::now();
    let mut held = Vec::new();
    loop {
        mix.send(&server, requests / PARTS).await;
        held.push(Held::of(&server).await);
        eprintln!("{:.0?} {:?}", begun.elapsed(), held.last());
        if held.len() > PARTS && is_flat(&held[held.len() - PARTS..]) {
            break;
        }
        assert!(held.len() < WARM_UP_PARTS + PARTS, "memory is not flat");
    }
    eprintln!(
        "{requests} requests; {} quick words, {} long, {} slow",
        mix.quick.len(),
        mix.long.len(),
        mix.slow.len(),
    );
    let (warm, end) = (&held[held.len() - PARTS], &held[held.len() - 1]);
    for guest in ["hostile", "raw"] {
        honest(&server, guest).await;
    }
    assert_eq!(end.series, warm.series);
    // Idle connections and threads come and go; they are not more than there are callers.
    assert!(end.files <= warm.files + CONNECTIONS, "{warm:?} {end:?}");
    assert!(end.threads <= warm.threads + 4, "{warm:?} {end:?}");
}
