//! SIGTERM: not ready, finish what is in flight, stop; within the grace period.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::harness::{Answer, Package, Raw, Server, Start, eventually, send};

/// A request that takes this long, once it is in flight.
async fn sleeping(server: &Server, milliseconds: u32) -> JoinHandle<reqwest::Result<Answer>> {
    server
        .upload(&Package::hostile("slow", "timeout_ms = 25000"))
        .await
        .is(201);
    let request = server.prediction(&format!("slow&do=sleep&n={milliseconds}"));
    let asked = tokio::spawn(async move { Ok(Answer::read(request.send().await?).await) });
    eventually("a request in flight", async || {
        let metrics = server.metrics().await;
        let labels = [("endpoint", "/predict")];
        (metrics.sum("http_requests_in_flight", &labels) == Some(1.0)).then_some(())
    })
    .await;
    asked
}

#[tokio::test]
async fn what_is_in_flight_is_finished_while_the_server_says_it_is_not_ready() {
    let mut server = Start::new().flag("--drain-delay-ms", "1000").ready().await;
    let asked = sleeping(&server, 2500).await;
    server.terminate();
    eventually("not ready", async || {
        let answer = server.get("/readyz").await;
        (answer.status == 503 && answer.text() == "draining\n").then_some(())
    })
    .await;
    // Those who have not noticed yet are answered too.
    assert_eq!(
        server.get("/health").await.is(503).json()["status"],
        "draining"
    );
    server.get("/livez").await.is(200);
    server.ask("slow", "").await.is(200);

    asked.await.unwrap().expect("an answer").is(200);
    assert_eq!(server.ended().await.code(), Some(0));
    server
        .logged("its end", |line| line["message"] == "stopped")
        .await;
}

#[tokio::test]
async fn without_a_delay_new_connections_are_refused_at_once() {
    let mut server = Start::new().ready().await;
    let asked = sleeping(&server, 1500).await;
    // Open and idle: it must not keep the server from ending.
    let _idle = server.raw().await;
    server.terminate();
    eventually("a closed door", async || {
        tokio::net::TcpStream::connect(&server.address)
            .await
            .is_err()
            .then_some(())
    })
    .await;
    assert!(!asked.is_finished());
    asked.await.unwrap().expect("an answer").is(200);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn when_the_grace_period_ends_first_the_exit_status_says_so() {
    let mut server = Start::new().flag("--grace-period-s", "0").ready().await;
    let asked = sleeping(&server, 20_000).await;
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(3));
    assert!(asked.await.unwrap().is_err(), "the connection was cut");
    server
        .logged("what was cut off", |line| line["requests"] == 1)
        .await;
}

#[tokio::test]
async fn an_upload_in_flight_is_finished_too() {
    let mut server = Start::new().ready().await;
    let package = Package::guest("vocabulary");
    let request = server
        .request(reqwest::Method::POST, "/v1/models/vocabulary/versions")
        .multipart(package.form());
    let uploading = tokio::spawn(send(request));
    eventually("an upload in flight", async || {
        let metrics = server.metrics().await;
        let labels = [("endpoint", "/v1/models/{model}/versions")];
        (metrics.sum("http_requests_in_flight", &labels) == Some(1.0)).then_some(())
    })
    .await;
    server.terminate();
    uploading.await.unwrap().is(201);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let mut server = Start::new().flag("--grace-period-s", "20").ready().await;
    let address = Arc::<str>::from(server.address.as_str());
    let mut kept_alive = Raw::connect(&address).await;
    kept_alive
        .send("GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    kept_alive.read_until("ok\n", 1).await;
    let start = std::time::Instant::now();
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}
