//! Claims about the store of sessions, with paused time.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(600);

/// Room for three sessions of one letter's key and 100 bytes.
const BOUNDS: SessionBounds = SessionBounds {
    value_bytes: 1000,
    sessions: 3,
    bytes: 3 * (1 + 100 + OVERHEAD),
    time_to_live: TTL,
};

/// A store, and what it said that it let go.
fn store(bounds: SessionBounds) -> (Arc<SessionStore>, Arc<Mutex<LetGo>>) {
    store_in(bounds, &GuestMemory::unbounded())
}

fn store_in(
    bounds: SessionBounds,
    memory: &Arc<GuestMemory>,
) -> (Arc<SessionStore>, Arc<Mutex<LetGo>>) {
    let all = Arc::new(Mutex::new(LetGo::default()));
    let told = Arc::clone(&all);
    let store = SessionStore::new(bounds, memory, move |gone| {
        let mut all = told.lock();
        all.expired += gone.expired;
        all.sessions += gone.sessions;
        all.bytes += gone.bytes;
    });
    (store, all)
}

fn value(store: &SessionStore, key: &str) -> Option<Vec<u8>> {
    store.get(key).unwrap().map(|found| found.value.to_vec())
}

fn keep(store: &SessionStore, key: &str, bytes: usize) -> u64 {
    store.set(key, vec![7; bytes], When::Always).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_session_is_kept_for_its_time_and_each_use_begins_it_anew() {
    let (store, gone) = store(BOUNDS);
    keep(&store, "used", 1);
    keep(&store, "left", 1);
    tokio::time::advance(TTL - Duration::from_secs(1)).await;
    assert!(value(&store, "used").is_some());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(value(&store, "left").is_none());
    assert!(value(&store, "used").is_some());
    tokio::time::advance(TTL).await;
    assert!(value(&store, "used").is_none());
    assert_eq!(store.size(), (0, 0));
    assert_eq!(gone.lock().expired, 2);
}

#[tokio::test(start_paused = true)]
async fn what_expires_goes_though_nobody_comes() {
    let (store, gone) = store(BOUNDS);
    keep(&store, "a", 1);
    tokio::time::sleep(TTL / 2).await;
    keep(&store, "b", 1);
    // Sleeping lets the task run; only its own looking counts here.
    tokio::time::sleep(TTL / 2 + Duration::from_millis(10)).await;
    assert_eq!(store.size().0, 1);
    tokio::time::sleep(TTL).await;
    assert_eq!((store.size(), gone.lock().expired), ((0, 0), 2));
    // And begins again with the next session.
    keep(&store, "c", 1);
    tokio::time::sleep(TTL + Duration::from_millis(10)).await;
    assert_eq!(store.size(), (0, 0));
    // The task does not hold the store.
    keep(&store, "d", 1);
    let last = Arc::downgrade(&store);
    drop(store);
    assert!(last.upgrade().is_none());
}

#[test]
fn beyond_their_number_the_least_recently_used_goes() {
    let (store, gone) = store(BOUNDS);
    for key in ["a", "b", "c"] {
        keep(&store, key, 1);
    }
    assert!(value(&store, "a").is_some());
    keep(&store, "d", 1);
    assert_eq!(value(&store, "b"), None);
    for key in ["a", "c", "d"] {
        assert!(value(&store, key).is_some(), "{key}");
    }
    assert_eq!(gone.lock().sessions, 1);
    // One that is there already takes nobody's place.
    keep(&store, "a", 2);
    assert_eq!((store.size().0, gone.lock().sessions), (3, 1));
}

#[test]
fn beyond_their_bytes_the_least_recently_used_go() {
    let (store, gone) = store(BOUNDS);
    keep(&store, "a", 100);
    keep(&store, "b", 100);
    keep(&store, "c", 201);
    assert_eq!(value(&store, "a"), None);
    assert!(value(&store, "b").is_some());
    keep(&store, "b", 500);
    assert_eq!(store.size(), (1, 1 + 500 + OVERHEAD));
    let gone = *gone.lock();
    assert_eq!((gone.bytes, gone.sessions), (2, 0));
}

#[test]
fn what_is_too_large_is_refused_and_changes_nothing() {
    let (store, _) = store(BOUNDS);
    keep(&store, "a", 100);
    let too_large = store.set("a", vec![0; 1001], When::Always).unwrap_err();
    assert_eq!(
        too_large.to_string(),
        "1001 bytes of one session, over the limit of 1000 (limits.session_kib)"
    );
    let for_all = store.set("a", vec![0; 700], When::Always).unwrap_err();
    assert!(matches!(for_all, Refused::TooLargeForAll { .. }));
    assert_eq!(value(&store, "a"), Some(vec![7; 100]));
    for key in ["", &"k".repeat(MAX_KEY + 1)] {
        let refused = Refused::Key { bytes: key.len() };
        assert_eq!(store.get(key), Err(refused.clone()));
        assert_eq!(
            store.set(key, Vec::new(), When::Always),
            Err(refused.clone())
        );
        assert_eq!(store.delete(key, When::Always), Err(refused));
    }
}

#[test]
fn where_the_hosts_memory_is_taken_nothing_more_is_kept_and_nothing_lost() {
    let memory = GuestMemory::new(2 << 20);
    let bounds = SessionBounds {
        value_bytes: 4 << 20,
        bytes: 64 << 20,
        ..BOUNDS
    };
    let (store, _) = store_in(bounds, &memory);
    keep(&store, "a", 1 << 20);
    let no_room = store.set("b", vec![0; 1 << 20], When::Always).unwrap_err();
    assert!(matches!(no_room, Refused::NoRoom { .. }), "{no_room}");
    assert!(value(&store, "a").is_some());
    let mut other = memory.share();
    assert!(!other.cover(1 << 20));
    drop(store);
    assert!(other.cover(2 << 20));
}

#[test]
fn of_two_requests_that_read_the_same_one_keeps_and_the_other_is_told() {
    let (store, _) = store(BOUNDS);
    let first = store.set("a", vec![1], When::Absent).unwrap();
    let both = store.get("a").unwrap().unwrap();
    assert_eq!(both.revision, first);
    let second = store
        .set("a", vec![2], When::Revision(both.revision))
        .unwrap();
    let conflict = Err(Refused::Conflict {
        current: Some(second),
    });
    assert_eq!(
        store.set("a", vec![3], When::Revision(both.revision)),
        conflict
    );
    assert_eq!(store.set("a", vec![3], When::Absent), conflict);
    assert_eq!(
        store.delete("a", When::Revision(both.revision)),
        conflict.map(|_| ())
    );
    assert_eq!(value(&store, "a"), Some(vec![2]));
    // What was deleted and kept again is not what was read before, though it looks the same.
    store.delete("a", When::Revision(second)).unwrap();
    store.set("a", vec![2], When::Absent).unwrap();
    assert!(store.set("a", vec![3], When::Revision(second)).is_err());
}

#[test]
fn of_many_threads_that_count_in_one_session_none_is_lost() {
    let (store, _) = store(BOUNDS);
    store.set("n", vec![0; 8], When::Absent).unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..250 {
                    loop {
                        let found = store.get("n").unwrap().unwrap();
                        let count = u64::from_le_bytes(found.value[..].try_into().unwrap()) + 1;
                        let value = count.to_le_bytes().to_vec();
                        if store
                            .set("n", value, When::Revision(found.revision))
                            .is_ok()
                        {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(value(&store, "n"), Some(1000_u64.to_le_bytes().to_vec()));
}

/// The store as anyone would write it who need not be quick: a list, the least recently used
/// first.
struct Plain {
    bounds: SessionBounds,
    list: Vec<(String, Vec<u8>, u64, Duration)>,
    now: Duration,
    last: u64,
    gone: LetGo,
}

impl Plain {
    fn bytes(&self) -> usize {
        let sizes = self
            .list
            .iter()
            .map(|(key, value, ..)| key.len() + value.len() + OVERHEAD);
        sizes.sum()
    }

    fn expire(&mut self) {
        let before = self.list.len();
        let (now, ttl) = (self.now, self.bounds.time_to_live);
        self.list.retain(|(.., used)| now - *used < ttl);
        self.gone.expired += (before - self.list.len()) as u64;
    }

    fn take(&mut self, key: &str) -> Option<(String, Vec<u8>, u64, Duration)> {
        let at = self.list.iter().position(|(found, ..)| found == key)?;
        Some(self.list.remove(at))
    }

    fn revision(&self, key: &str) -> Option<u64> {
        let found = self.list.iter().find(|(found, ..)| found == key);
        found.map(|(_, _, revision, _)| *revision)
    }

    fn holds(&self, key: &str, when: When) -> Result<(), Refused> {
        let current = self.revision(key);
        match when {
            When::Always => Ok(()),
            When::Absent if current.is_none() => Ok(()),
            When::Revision(revision) if current == Some(revision) => Ok(()),
            _ => Err(Refused::Conflict { current }),
        }
    }

    fn get(&mut self, key: &str) -> Option<(Vec<u8>, u64)> {
        self.expire();
        let (key, value, revision, _) = self.take(key)?;
        self.list.push((key, value.clone(), revision, self.now));
        Some((value, revision))
    }

    fn set(&mut self, key: &str, value: Vec<u8>, when: When) -> Result<u64, Refused> {
        let bytes = value.len();
        if bytes > self.bounds.value_bytes {
            let limit = self.bounds.value_bytes;
            return Err(Refused::TooLarge { bytes, limit });
        }
        let size = key.len() + bytes + OVERHEAD;
        if size > self.bounds.bytes {
            let limit = self.bounds.bytes;
            return Err(Refused::TooLargeForAll { bytes: size, limit });
        }
        self.expire();
        self.holds(key, when)?;
        self.take(key);
        while self.list.len() >= self.bounds.sessions {
            self.list.remove(0);
            self.gone.sessions += 1;
        }
        while self.bytes() + size > self.bounds.bytes {
            self.list.remove(0);
            self.gone.bytes += 1;
        }
        self.last += 1;
        self.list.push((key.to_owned(), value, self.last, self.now));
        Ok(self.last)
    }

    fn delete(&mut self, key: &str, when: When) -> Result<(), Refused> {
        self.expire();
        self.holds(key, when)?;
        self.take(key);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Set(u8, usize, Which),
    Delete(u8, Which),
    Wait(u64),
}

/// A condition, or the revision that the key has by then.
#[derive(Clone, Copy, Debug)]
enum Which {
    Plain(When),
    Current,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0_u8..6;
    let which = prop_oneof![
        2 => Just(Which::Plain(When::Always)),
        1 => Just(Which::Plain(When::Absent)),
        1 => (0_u64..9).prop_map(|revision| Which::Plain(When::Revision(revision))),
        2 => Just(Which::Current),
    ];
    let step = prop_oneof![
        3 => key.clone().prop_map(Step::Get),
        4 => (key.clone(), 0_usize..1100, which.clone()).prop_map(|(k, n, w)| Step::Set(k, n, w)),
        1 => (key, which).prop_map(|(k, w)| Step::Delete(k, w)),
        2 => (0_u64..700).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn the_store_is_the_plain_one_and_never_over_its_bounds(
        steps in steps(),
        sessions in 1_usize..5,
        bytes in 200_usize..3000,
    ) {
        let bounds = SessionBounds { sessions, bytes, ..BOUNDS };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (store, told) = store(bounds);
            let mut plain = Plain {
                bounds,
                list: Vec::new(),
                now: Duration::ZERO,
                last: 0,
                gone: LetGo::default(),
            };
            for step in steps {
                let when = |which, plain: &Plain, key: &str| match which {
                    Which::Plain(when) => when,
                    Which::Current => plain.revision(key).map_or(When::Absent, When::Revision),
                };
                match step {
                    Step::Get(key) => {
                        let key = format!("k{key}");
                        let found = store.get(&key).unwrap();
                        let found = found.map(|found| (found.value.to_vec(), found.revision));
                        prop_assert_eq!(found, plain.get(&key));
                    }
                    Step::Set(key, size, which) => {
                        let key = format!("k{key}");
                        let when = when(which, &plain, &key);
                        let value = vec![size as u8; size];
                        prop_assert_eq!(
                            store.set(&key, value.clone(), when),
                            plain.set(&key, value, when)
                        );
                    }
                    Step::Delete(key, which) => {
                        let key = format!("k{key}");
                        let when = when(which, &plain, &key);
                        prop_assert_eq!(store.delete(&key, when), plain.delete(&key, when));
                    }
                    Step::Wait(seconds) => {
                        let wait = Duration::from_secs(seconds);
                        tokio::time::advance(wait).await;
                        plain.now += wait;
                    }
                }
                let (count, held) = store.size();
                prop_assert!(count <= sessions && held <= bytes, "{} of {}", count, held);
            }
            // What is left, and what was said to have gone, is the same once both have looked.
            let _ = (store.get("none"), plain.get("none"));
            prop_assert_eq!(store.size(), (plain.list.len(), plain.bytes()));
            prop_assert_eq!(*told.lock(), plain.gone);
            Ok(())
        })?;
    }
}
