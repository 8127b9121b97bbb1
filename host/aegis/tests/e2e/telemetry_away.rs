//! A collector that is away, or never answers: no request feels it, what waits for it is bounded, and
//! what is lost is told in numbers.

use std::{net::TcpListener, time::Instant};

use futures_util::{StreamExt as _, stream};

use crate::harness::{Server, Start, eventually};

/// Asks so often, eight at a time; every request must be answered.
async fn ask(server: &Server, times: usize) {
    stream::iter(0..times)
        .for_each_concurrent(8, async |_| {
            server.ask("spam", "hello there").await.is(200);
        })
        .await;
}

/// Serves while its collector, at this port, takes nothing.
async fn serves_without(port: u16) {
    let started = Instant::now();
    let mut server = Start::new()
        .examples()
        .flag("--otlp-endpoint", &format!("http://127.0.0.1:{port}"))
        .flag("--otlp-timeout-ms", "300")
        .flag("--otlp-interval-ms", "100")
        .ready()
        .await;
    ask(&server, 200).await;
    let spans = async |server: &Server, outcome| {
        let metrics = server.metrics().await;
        metrics.sum("aegis_otlp_spans_total", &[("outcome", outcome)])
    };
    // The first batches have been given up on: what comes now comes while it is known to be away.
    eventually("spans given up on", async || {
        (spans(&server, "failed").await > Some(0.0)).then_some(())
    })
    .await;
    let before = server.memory_kib("VmRSS");
    // Six spans each: more than may wait.
    ask(&server, 4000).await;
    assert_eq!(spans(&server, "sent").await, Some(0.0));
    let lost = spans(&server, "failed").await.unwrap() + spans(&server, "dropped").await.unwrap();
    assert!(lost > 10_000.0, "{lost}");
    let grown = server.memory_kib("VmRSS").saturating_sub(before);
    // What waits is bounded by some 8 MB; the rest is what 4,000 requests leave behind anyway.
    assert!(grown < 64 << 10, "{grown} KiB");
    let metrics = server.metrics().await;
    let failed = metrics.sum("aegis_otlp_metric_exports_total", &[("outcome", "failed")]);
    assert!(failed > Some(0.0), "{failed:?}");
    // Told, and not for each span.
    server
        .logged("the loss", |line| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.starts_with("spans were lost"))
        })
        .await;
    let of_the_loss = |line: &serde_json::Value| {
        let target = line["target"].as_str();
        target.is_some_and(|target| target.starts_with("aegis_telemetry"))
    };
    let told: Vec<_> = server.log().into_iter().filter(of_the_loss).collect();
    // Three things are told of (spans lost, spans dropped, exports of metrics), each at once and
    // then at most once a minute.
    let minutes = usize::try_from(started.elapsed().as_secs() / 60).unwrap();
    let most = 3 * (1 + minutes);
    assert!(told.len() <= most, "more than {most}: {told:?}");
    // Nor is its end held up.
    let begun = Instant::now();
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_not_felt() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = gone.local_addr().unwrap().port();
    drop(gone);
    serves_without(port).await;
}

#[tokio::test]
async fn a_collector_that_never_answers_is_not_felt() {
    // The system takes its connections; nobody takes them from there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    serves_without(silent.local_addr().unwrap().port()).await;
    drop(silent);
}

#[tokio::test]
async fn a_wrong_collector_is_told_before_anything_starts() {
    use crate::harness::{Aegis, complained};
    for (url, part) in [
        ("https://collector:4318", "TLS is not built in"),
        ("collector:4317", "the URL of a collector"),
    ] {
        let output = Aegis::new(&["serve", "--otlp-endpoint", url]).run().await;
        let told = complained(&output);
        assert!(
            told.contains("flag --otlp-endpoint") && told.contains(part),
            "{told}"
        );
    }
}
