//! Whatever a handler does, its caller gets a clean error, the metrics and the log say what
//! it was, and the next honest request is answered.

mod bombs;
mod escapes;
mod leaks;
mod loops;
mod soak;
mod start;
mod traps;
mod words;

use serde_json::Value;

use crate::harness::{Answer, Package, Server, Start, send};

/// What the guests of the lists are held to, but for their time.
const LIMITS: &str = "memory_mib = 64\ntensor_mib = 8\nlog_kib = 8\nresponse_mib = 1";

/// A server with the guest `hostile` under these limits.
async fn server(limits: &str) -> Server {
    let server = Start::new().ready().await;
    server
        .upload(&Package::hostile("hostile", limits))
        .await
        .is(201);
    server
}

/// Lets the guest misbehave under this request id.
async fn misbehave(server: &Server, what: &str, id: &str) -> Answer {
    let request = server.prediction(&format!("hostile&do={what}"));
    send(request.header("x-request-id", id)).await
}

/// An honest request is answered.
async fn still_serves(server: &Server) {
    let answer = server.ask("hostile&do=digits", "").await.ok();
    assert!(answer["first"].as_f64().unwrap() >= 0.0, "{answer}");
}

/// How often the model was stopped for this reason.
async fn traps(server: &Server, reason: &str) -> f64 {
    let labels = [("model", "hostile"), ("reason", reason)];
    let metrics = server.metrics().await;
    metrics
        .sum("aegis_handler_traps_total", &labels)
        .expect("there from the start")
}

async fn outcomes(server: &Server, outcome: &str) -> f64 {
    let labels = [
        ("model", "hostile"),
        ("model_version", "1"),
        ("outcome", outcome),
    ];
    let metrics = server.metrics().await;
    metrics
        .sum("aegis_inference_requests_total", &labels)
        .expect("there from the start")
}

/// The log line of a request that ended badly.
async fn fault_line(server: &Server, id: &str) -> Value {
    server
        .logged(&format!("the fault of {id}"), |line| {
            line["request_id"] == id && line["level"] == "ERROR"
        })
        .await
}
