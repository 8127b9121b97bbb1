//! What a replica does not know it looks for in the store at once, however seldom it looks otherwise; and asking for
//! what is not there does not have the store asked more than a few times a second.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::harness::{Fate, Package, Start, StoreWire};
use crate::registry::tools::S3;

/// Answers its own number.
fn version(number: u64) -> Package {
    let answer = format!("\"version{number}\"");
    Package::raw("model", &[("\"answered\"", &answer)])
        .and(&format!("[config]\nnumber = \"{number}\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_replica_has_just_uploaded_is_found_by_the_first_who_asks() {
    let Some(s3) = S3::start().await else { return };
    let wire = StoreWire::before(&s3.variables()).await;
    let seldom = |variables| {
        let start = Start::new().store("s3://models", variables);
        start.flag("--store-poll-ms", "3600000").ready()
    };
    let one = seldom(s3.variables()).await;
    let other = seldom(wire.variables(s3.variables())).await;
    other.ask("model", "").await.refused(404, "model_not_found");

    one.upload(&version(1)).await.is(201);
    assert_eq!(other.ask("model", "").await.is(200).text(), "version1");
    one.upload(&version(2)).await.is(201);
    let named = other.ask("model&version=2", "").await.is(200);
    assert_eq!(named.text(), "version2");
    let missing = other.ask("model&version=3", "").await;
    missing.refused(404, "version_not_found");
    assert_eq!(other.ask("model", "").await.is(200).text(), "version1");

    // Many who ask for what is not there, all at once and for a second after.
    let (before, began) = (wire.asked(), Instant::now());
    while began.elapsed() < Duration::from_secs(1) {
        let asks = (0..50).map(async |number| {
            let (target, code) = match number % 2 {
                0 => (format!("nobody-{number}"), "model_not_found"),
                _ => (
                    format!("model&version={}", 100 + number),
                    "version_not_found",
                ),
            };
            other.ask(&target, "").await.refused(404, code);
        });
        join_all(asks).await;
    }
    let (asked, looks) = (wire.asked() - before, began.elapsed().as_millis() / 250 + 1);
    eprintln!("{asked} requests to the store in {:?}", began.elapsed());
    assert!(asked as u128 <= looks, "{asked} requests to the store");

    // A store that is away says nothing of it, and nobody waits for that.
    wire.all(Fate::Silence);
    let began = Instant::now();
    other
        .ask("nobody", "")
        .await
        .refused(404, "model_not_found");
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert_eq!(other.ask("model", "").await.is(200).text(), "version1");
    wire.restore();
}
