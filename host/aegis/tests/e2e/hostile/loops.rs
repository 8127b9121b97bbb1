//! Guests without end: ended by the clock, and meanwhile in nobody's way.

use std::{sync::Arc, time::Duration};

use super::{fault_line, misbehave, outcomes, server, still_serves, traps};
use crate::harness::{Package, Start};

#[tokio::test]
async fn a_handler_that_never_ends_is_ended_by_its_time_limit() {
    let server = server("timeout_ms = 600").await;
    for (count, what) in [(1.0, "loop"), (2.0, "sleep")] {
        let message = misbehave(&server, what, what).await.refused(504, "timeout");
        assert!(message.contains(" ms"), "{message}");
        assert_eq!(traps(&server, "time_limit").await, count);
        assert_eq!(outcomes(&server, "timeout").await, count);
        fault_line(&server, what).await;
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn handlers_that_loop_keep_nobody_else_waiting() {
    let server = Start::new().flag("--worker-threads", "2").ready().await;
    let server = Arc::new(server);
    server
        .upload(&Package::hostile("hostile", "timeout_ms = 5000"))
        .await
        .is(201);
    server.upload(&Package::guest("counter")).await.is(201);
    let loops: Vec<_> = (0..4)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { misbehave(&server, "loop", "loop").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..3 {
        server.ask("counter", "").await.is(200);
        server.get("/livez").await.is(200);
    }
    assert!(
        loops.iter().all(|ended| !ended.is_finished()),
        "the loops were waited for"
    );
    for ended in loops {
        ended.await.unwrap().refused(504, "timeout");
    }
}
