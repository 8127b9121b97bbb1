//! Callers, the door and a service of known capacity, in paused time.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::Admission;

/// What the service takes for one request, on average.
const TIME: Duration = Duration::from_millis(20);

/// Answers as many requests at a time as it has places, the others wait inside it.
struct Service {
    places: Arc<Semaphore>,
    /// Of Knuth's generator.
    seed: AtomicU64,
    answered: AtomicU64,
}

impl Service {
    async fn answer(&self) {
        let _place = self.places.acquire().await.unwrap();
        let seed = self
            .seed
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let chance =
            (seed.wrapping_mul(6_364_136_223_846_793_005) >> 33) as f64 / (1_u64 << 31) as f64;
        // A half to one and a half of it.
        sleep(TIME.mul_f64(0.5 + chance)).await;
        self.answered.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    admission: Arc<Admission>,
    service: Arc<Service>,
    _callers: JoinSet<()>,
}

/// More callers than anything has room for, each asking again as soon as it is answered.
fn world(capacity: usize) -> World {
    let admission = Arc::new(Admission::adaptive(200, 1000));
    let service = Arc::new(Service {
        places: Arc::new(Semaphore::new(capacity)),
        seed: AtomicU64::new(1),
        answered: AtomicU64::new(0),
    });
    let mut callers = JoinSet::new();
    for _ in 0..300 {
        let (admission, service) = (Arc::clone(&admission), Arc::clone(&service));
        callers.spawn(async move {
            loop {
                let soon = Instant::now() + Duration::from_secs(3600);
                let permit = admission.enter(soon.into_std()).await.unwrap();
                service.answer().await;
                permit.answered();
            }
        });
    }
    World {
        admission,
        service,
        _callers: callers,
    }
}

impl World {
    /// Lets time go by, then looks for a while: the limit and the answers of a second, both on average.
    async fn settled(&self) -> (f64, f64) {
        sleep(Duration::from_secs(60)).await;
        let (mut limits, before) = (0, self.service.answered.load(Ordering::Relaxed));
        for _ in 0..3000 {
            limits += self.admission.limit();
            sleep(Duration::from_millis(10)).await;
        }
        let answered = self.service.answered.load(Ordering::Relaxed) - before;
        (limits as f64 / 3000.0, answered as f64 / 30.0)
    }
}

/// The service is kept busy, and not more than some requests wait in it. Of the 300 callers, a fixed limit would have had
/// as many in it as it says.
fn found(capacity: f64, (limit, rate): (f64, f64)) {
    let full = capacity / TIME.as_secs_f64();
    assert!(
        rate > 0.93 * full,
        "{rate} a second of {full}, at a limit of {limit}"
    );
    assert!(
        (capacity..capacity + 12.0).contains(&limit),
        "{limit} for {capacity}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_limit_finds_what_the_service_can_do_and_finds_it_again_when_that_halves() {
    let world = world(32);
    found(32.0, world.settled().await);
    let gone = world.service.places.acquire_many(16).await.unwrap();
    found(16.0, world.settled().await);
    drop(gone);
    found(32.0, world.settled().await);
}
