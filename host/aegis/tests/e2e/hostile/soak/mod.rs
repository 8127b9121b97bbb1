//! A server under everything at once, for a minute in CI and for as long as `scripts/soak.sh`
//! is told: honest requests of several models that share runs, hostile ones, callers that hang
//! up, versions that are uploaded, swapped and deleted. Every answer is the one that is due to
//! this request, none is lost, and the process is at the end what it was at the beginning.

mod asks;
mod held;
mod operator;
mod tally;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use self::{
    asks::Asks,
    held::{Held, ends, is_flat},
    operator::{KEPT, Live},
    tally::{Kind, Problem, Tally},
};
use super::words::{Word, honest, hosts_of_all};
use crate::harness::{Server, Start};

/// Minutes over which memory must stay flat, in CI; `AEGIS_SOAK_MINUTES` asks for more.
const MINUTES: f64 = 0.3;

/// How often the process is looked at in the course of them.
const PARTS: usize = 10;

/// How long there may be load before that over which memory is flat: until then slots and the
/// allocator's areas are still touched for the first time, in an order that chance decides. A
/// leak ends no sooner for being waited for: what grows by a twentieth in every [`PARTS`] fails.
const WARM_UP: Duration = Duration::from_secs(120);

/// Requests under way at once, but for bursts.
const CONNECTIONS: usize = 8;

/// Requests that a connection sends at once to the model that is asked in bursts.
const BURST: usize = 6;

/// What takes longer than this is asked for seldom, so that the others get on.
const QUICK: Duration = Duration::from_millis(20);

/// One hostile request in so many is a long one, and one that the clock ends.
const LONG_EVERY: usize = 20;
const SLOW_EVERY: usize = 1000;

/// The longest that a caller waits who hangs up, in microseconds.
const PATIENCE: usize = 6000;

/// The words by how long they take, and all that is asked beside them.
struct Mix {
    quick: Vec<Word>,
    long: Vec<Word>,
    slow: Vec<Word>,
    asks: Asks,
    live: Live,
    turn: AtomicUsize,
    tally: Tally,
}

impl Mix {
    /// Asks for each word once.
    async fn measure(server: &Server) -> Mix {
        let mut mix = Mix {
            quick: Vec::new(),
            long: Vec::new(),
            slow: Vec::new(),
            asks: Asks::read(),
            live: Live::default(),
            turn: AtomicUsize::new(0),
            tally: Tally::default(),
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

    /// Load for so long, with swaps meanwhile.
    async fn send(self: &Arc<Mix>, server: &Arc<Server>, time: Duration) {
        let until = Instant::now() + time;
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (mix, server) = (Arc::clone(self), Arc::clone(server));
                tokio::spawn(async move {
                    while Instant::now() < until && mix.tally.is_well() {
                        mix.turn(&server).await;
                    }
                })
            })
            .collect();
        let loaded = Arc::new(AtomicBool::new(true));
        let swaps = {
            let (mix, server, loaded) = (Arc::clone(self), Arc::clone(server), Arc::clone(&loaded));
            tokio::spawn(async move {
                let ended = || !loaded.load(Ordering::Relaxed) || !mix.tally.is_well();
                mix.live.swap(&server, ended).await;
            })
        };
        for connection in connections {
            connection.await.unwrap();
        }
        loaded.store(false, Ordering::Relaxed);
        if let Err(panicked) = swaps.await {
            self.tally.say(format!("the swaps: {panicked}"));
        }
    }

    /// What a connection does next: every other time something hostile.
    async fn turn(self: &Arc<Mix>, server: &Arc<Server>) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (kind, turn) = if turn.is_multiple_of(2) {
            (Kind::Hostile, turn / 2)
        } else {
            const HONEST: [Kind; 6] = [
                Kind::Digits,
                Kind::Spam,
                Kind::Shared,
                Kind::Live,
                Kind::Others,
                Kind::HungUp,
            ];
            (HONEST[turn / 2 % HONEST.len()], turn / 2 / HONEST.len())
        };
        let burst = if kind == Kind::Shared { BURST } else { 1 };
        let sent: Vec<_> = (0..burst)
            .map(|place| {
                let (mix, server) = (Arc::clone(self), Arc::clone(server));
                let turn = turn * burst + place;
                // In a task of its own, as it panics where an answer has not even the right shape.
                tokio::spawn(async move { mix.one(&server, kind, turn).await })
            })
            .collect();
        for sent in sent {
            let ended = sent.await.unwrap_or_else(|panicked| {
                let words = panicked.to_string();
                Some(Err(Problem::Wrong(words)))
            });
            self.tally.note(kind, ended);
        }
    }

    /// One request; nothing if its caller hung up.
    async fn one(&self, server: &Server, kind: Kind, turn: usize) -> Option<Result<(), Problem>> {
        Some(match kind {
            Kind::Digits => self.asks.digits(server, turn).await,
            Kind::Spam => self.asks.spam(server, turn).await,
            Kind::Shared => asks::shared(server, turn).await,
            Kind::Live => asks::live(server, &self.live, turn).await,
            Kind::Others => {
                honest(server, ["hostile", "raw"][turn % 2]).await;
                Ok(())
            }
            Kind::Hostile => {
                let word = self.word(turn);
                word.hold(&word.ask(server, &word.word).await);
                Ok(())
            }
            Kind::HungUp => return self.hang_up(server, turn).await,
        })
    }

    /// Asks, and drops the connection after a while that differs, unless the answer was sooner.
    async fn hang_up(&self, server: &Server, turn: usize) -> Option<Result<(), Problem>> {
        let patience = Duration::from_micros((turn * 7919 % PATIENCE) as u64);
        let asked = async {
            match turn % 4 {
                0 => self.asks.digits(server, turn).await,
                1 => asks::shared(server, turn).await,
                2 => asks::live(server, &self.live, turn).await,
                _ => asks::tarry(server, turn).await,
            }
        };
        tokio::time::timeout(patience, asked).await.ok()
    }

    fn word(&self, turn: usize) -> &Word {
        let (list, turn) = if turn % SLOW_EVERY == SLOW_EVERY - 1 {
            (&self.slow, turn / SLOW_EVERY)
        } else if turn % LONG_EVERY == LONG_EVERY - 1 && !self.long.is_empty() {
            (&self.long, turn / LONG_EVERY)
        } else {
            (&self.quick, turn)
        };
        &list[turn % list.len()]
    }
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

/// Nothing is left under way of those who hung up.
async fn rests(server: &Server) {
    crate::harness::eventually("rest", async || {
        let metrics = server.metrics().await;
        let labels = [("endpoint", "/predict")];
        let under_way = metrics.sum("http_requests_in_flight", &labels);
        let waiting = metrics.sum("aegis_inference_queue_depth", &[]);
        (under_way == Some(0.0) && waiting == Some(0.0)).then_some(())
    })
    .await;
}

/// What is said at the end.
async fn report(server: &Server, mix: &Mix, begun: Instant, held: &[Held]) -> String {
    let metrics = server.metrics().await;
    let batch = |figure: &str| {
        let name = format!("aegis_inference_batch_size_{figure}");
        metrics.sum(&name, &[("model", "shared")]).unwrap()
    };
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let window = &held[held.len() - PARTS..];
    let (early, late) = ends(window);
    let (first, last) = (&window[0], &window[PARTS - 1]);
    format!(
        "{}\n| over all {:.1} minutes | |\n|---|---|\n\
         | swaps of the live version | {} |\n| versions deleted | {} |\n\
         | uploads refused, as they should be | {} |\n\
         | requests in a run of the bursts' network, mean | {:.2} |\n\
         | resident memory, after warm-up and at the end, MiB | {} and {} ({:+.1} %) |\n\
         | threads | {} and {} |\n| open files | {} and {} |\n\
         | series of metrics, but for the live model's | {} and {} |\n\
         | versions of the live model that have any | {} and {} |\n",
        mix.tally,
        begun.elapsed().as_secs_f64() / 60.0,
        count(&mix.live.swaps),
        count(&mix.live.deleted),
        count(&mix.live.refused),
        batch("sum") / batch("count"),
        early >> 10,
        late >> 10,
        late as f64 * 100.0 / early as f64 - 100.0,
        first.threads,
        last.threads,
        first.files,
        last.files,
        first.series,
        last.series,
        first.live_versions,
        last.live_versions,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_everything_at_once_no_answer_is_wrong_or_lost_and_memory_stays_flat() {
    let asked = std::env::var("AEGIS_SOAK_MINUTES").ok();
    let minutes = asked.map_or(MINUTES, |asked| asked.parse().unwrap());
    let part = Duration::from_secs_f64(minutes * 60.0 / PARTS as f64);
    let start = Start::new()
        .flag("--log-filter", "warn,aegis::commands=info")
        // A slot keeps what its guests touched, up to a bound: with few slots that is had soon.
        .flag("--max-instances", "24")
        .flag("--warm-instances", "2");
    let server = Arc::new(hosts_of_all(start).await);
    asks::upload(&server).await;
    let mix = Arc::new(Mix::measure(&server).await);
    mix.live.upload(&server).await;
    fill_slots(&server).await;
    let begun = Instant::now();
    let mut held = Vec::new();
    loop {
        mix.send(&server, part).await;
        if let Some(status) = server.exited() {
            let log = server.log_text();
            let last: Vec<_> = log.lines().rev().take(20).collect();
            panic!(
                "the server ended with {status}; its last lines, the last one first:\n{}",
                last.join("\n")
            );
        }
        held.push(Held::of(&server).await);
        eprintln!("{:.0?} {:?}", begun.elapsed(), held.last());
        if !mix.tally.is_well() || held.len() > PARTS && is_flat(&held[held.len() - PARTS..]) {
            break;
        }
        let warm_up = begun.elapsed().saturating_sub(part * PARTS as u32);
        if held.len() > PARTS && warm_up > WARM_UP.max(part * PARTS as u32) {
            break;
        }
    }
    rests(&server).await;
    if held.len() >= PARTS {
        eprintln!("\n{}", report(&server, &mix, begun, &held).await);
    }
    let words = mix.tally.words();
    assert!(words.is_empty(), "{}", words.join("\n"));
    let window = &held[held.len() - PARTS..];
    assert!(is_flat(window), "memory is not flat");
    let (warm, end) = (&window[0], &window[PARTS - 1]);
    for guest in ["hostile", "raw"] {
        honest(&server, guest).await;
    }
    assert_eq!(end.series, warm.series);
    // Those that were deleted have none.
    assert!(end.live_versions <= KEPT + 1, "{end:?}");
    // Idle connections and threads come and go; they are not more than there are callers.
    assert!(
        end.files <= warm.files + CONNECTIONS * BURST,
        "{warm:?} {end:?}"
    );
    assert!(end.threads <= warm.threads + 4, "{warm:?} {end:?}");
}
