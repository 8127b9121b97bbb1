//! What a handler keeps between requests: seen by its own version only, within its limits,
//! and never half of two requests.

use std::sync::Arc;

use crate::harness::{Package, Server, Start, eventually, file};

/// A model around the guest `sessions`, with these limits.
fn package(name: &str, limits: &str) -> Package {
    let manifest = format!("name = \"{name}\"\nhandler = \"sessions.wasm\"\n[limits]\n{limits}\n");
    Package::new(name, &manifest).file("sessions.wasm", file("target/guests/sessions.wasm"))
}

/// What the guest says it found before it did this.
async fn found(server: &Server, query: &str, body: &str) -> String {
    server.ask(query, body).await.is(200).text()
}

async fn figure(server: &Server, name: &str, model: &str, more: &[(&str, &str)]) -> Option<f64> {
    let labels = [&[("model", model)][..], more].concat();
    server.metrics().await.sum(name, &labels)
}

#[tokio::test]
async fn what_is_kept_outlives_its_instance_and_is_forgotten_when_told_to() {
    let server = Start::new().ready().await;
    server.upload(&package("keeps", "")).await.is(201);
    // There at zero before anything is kept.
    assert_eq!(
        figure(&server, "aegis_sessions", "keeps", &[]).await,
        Some(0.0)
    );
    assert_eq!(
        found(&server, "keeps&do=keep&key=ann", "one").await,
        "nothing"
    );
    assert_eq!(found(&server, "keeps&do=keep&key=ann", "two").await, "one");
    assert_eq!(found(&server, "keeps&do=get&key=bob", "").await, "nothing");
    assert_eq!(
        figure(&server, "aegis_sessions", "keeps", &[]).await,
        Some(1.0)
    );
    let bytes = figure(&server, "aegis_session_bytes", "keeps", &[]).await;
    assert_eq!(bytes, Some(3.0 + 3.0 + 128.0));
    assert_eq!(found(&server, "keeps&do=forget&key=ann", "").await, "two");
    assert_eq!(found(&server, "keeps&do=get&key=ann", "").await, "nothing");
    assert_eq!(
        figure(&server, "aegis_session_bytes", "keeps", &[]).await,
        Some(0.0)
    );
}

#[tokio::test]
async fn only_handlers_that_can_keep_sessions_have_series_of_them() {
    let server = Start::new().ready().await;
    server.upload(&Package::guest("counter")).await.is(201);
    server.upload(&package("keeps", "")).await.is(201);
    assert_eq!(
        figure(&server, "aegis_sessions", "counter", &[]).await,
        None
    );
    for reason in ["expired", "sessions", "bytes"] {
        let labels = [("reason", reason)];
        let evictions = figure(&server, "aegis_session_evictions_total", "keeps", &labels).await;
        assert_eq!(evictions, Some(0.0), "{reason}");
    }
}

#[tokio::test]
async fn no_other_model_and_no_other_version_sees_what_is_kept() {
    let server = Start::new().ready().await;
    server.upload(&package("mine", "")).await.is(201);
    server.upload(&package("theirs", "")).await.is(201);
    found(&server, "mine&do=keep&key=ann", "first").await;
    assert_eq!(found(&server, "theirs&do=get&key=ann", "").await, "nothing");

    // Another limit is another version. A promotion begins every session anew …
    let second = package("mine", "session_kib = 5");
    server.upload(&second).await.is(201);
    assert_eq!(
        found(&server, "mine&version=2&do=get&key=ann", "").await,
        "nothing"
    );
    server.promote("mine", 2).await.is(200);
    assert_eq!(
        found(&server, "mine&do=keep&key=ann", "second").await,
        "nothing"
    );
    // … who names the version stays with it, and a way back finds what was left.
    assert_eq!(
        found(&server, "mine&version=1&do=get&key=ann", "").await,
        "first"
    );
    server.promote("mine", 1).await.is(200);
    assert_eq!(found(&server, "mine&do=get&key=ann", "").await, "first");

    // A model that is deleted takes its sessions along, though one of its name comes again.
    server.delete("/v1/models/mine").await.is(204);
    server.upload(&package("mine", "")).await.is(201);
    assert_eq!(found(&server, "mine&do=get&key=ann", "").await, "nothing");
}

#[tokio::test]
async fn what_is_over_a_limit_is_told_the_guest_and_counted_and_is_no_trap() {
    let server = Start::new().ready().await;
    let limits = "session_kib = 2\nsession_mib = 1";
    server.upload(&package("small", limits)).await.is(201);
    assert_eq!(
        found(&server, "small&do=fill&bytes=2048&key=ann", "").await,
        "nothing"
    );
    assert_eq!(
        found(&server, "small&do=fill&bytes=2049&key=ann", "").await,
        "refused: session `ann`: 2049 bytes of one session, over the limit of 2048 (limits.session_kib)"
    );
    let long = "k".repeat(257);
    assert!(
        found(&server, &format!("small&do=get&key={long}"), "")
            .await
            .ends_with("a session's key has 1 to 256 bytes, not 257")
    );
    assert!(
        found(&server, "small&do=get", "")
            .await
            .ends_with("bytes, not 0")
    );
    assert_eq!(server.refused_for("small", "session_bytes").await, 1.0);
    let traps = figure(&server, "aegis_handler_traps_total", "small", &[]).await;
    assert_eq!(traps, Some(0.0));
    // What was there is there.
    assert_eq!(
        found(&server, "small&do=get&key=ann", "").await,
        "x".repeat(2048)
    );
}

#[tokio::test]
async fn beyond_their_number_and_size_the_least_recently_used_go() {
    let server = Start::new().ready().await;
    server.upload(&package("few", "sessions = 2")).await.is(201);
    for key in ["a", "b"] {
        found(&server, &format!("few&do=keep&key={key}"), key).await;
    }
    assert_eq!(found(&server, "few&do=get&key=a", "").await, "a");
    found(&server, "few&do=keep&key=c", "c").await;
    assert_eq!(found(&server, "few&do=get&key=b", "").await, "nothing");
    assert_eq!(found(&server, "few&do=get&key=a", "").await, "a");
    let by = |reason| [("reason", reason)];
    let evictions = "aegis_session_evictions_total";
    assert_eq!(
        figure(&server, evictions, "few", &by("sessions")).await,
        Some(1.0)
    );

    let limits = "session_kib = 600\nsession_mib = 1";
    server.upload(&package("large", limits)).await.is(201);
    for key in ["a", "b"] {
        found(
            &server,
            &format!("large&do=fill&bytes=600000&key={key}"),
            "",
        )
        .await;
    }
    assert_eq!(found(&server, "large&do=get&key=a", "").await, "nothing");
    assert_eq!(
        figure(&server, evictions, "large", &by("bytes")).await,
        Some(1.0)
    );
}

#[tokio::test]
async fn a_session_that_nobody_uses_goes_by_itself_and_one_that_is_used_stays() {
    let server = Start::new().ready().await;
    server
        .upload(&package("short", "session_ttl_s = 2"))
        .await
        .is(201);
    found(&server, "short&do=keep&key=left", "left").await;
    found(&server, "short&do=keep&key=used", "used").await;
    let gone = eventually("the session's end", async || {
        assert_eq!(found(&server, "short&do=get&key=used", "").await, "used");
        let sessions = figure(&server, "aegis_sessions", "short", &[]).await;
        (sessions == Some(1.0)).then_some(())
    });
    gone.await;
    let labels = [("reason", "expired")];
    let expired = figure(&server, "aegis_session_evictions_total", "short", &labels).await;
    assert_eq!(expired, Some(1.0));
    // Nobody comes at all, and it goes too.
    eventually("the last one's end", async || {
        let sessions = figure(&server, "aegis_sessions", "short", &[]).await;
        (sessions == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_two_requests_of_one_session_at_once_one_is_kept_and_the_other_is_told() {
    let server = Arc::new(Start::new().ready().await);
    server
        .upload(&package("both", "timeout_ms = 20000"))
        .await
        .is(201);
    let slow = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.ask("both&do=keep&key=ann&ms=4000", "slow").await })
    };
    // It has read, and not kept, when the other comes and goes.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(
        found(&server, "both&do=keep&key=ann", "quick").await,
        "nothing"
    );
    let message = slow.await.unwrap().refused(422, "invalid_input");
    assert!(
        message.contains("session `ann` changed while this request ran"),
        "{message}"
    );
    assert!(message.contains("one after the other"), "{message}");
    assert_eq!(found(&server, "both&do=get&key=ann", "").await, "quick");
}

#[tokio::test]
async fn a_version_that_was_unloaded_finds_its_sessions_again() {
    let server = Start::new().flag("--memory-budget-mib", "1");
    let server = server.ready().await;
    server.upload(&package("keeps", "")).await.is(201);
    found(&server, "keeps&do=keep&key=ann", "kept").await;
    // There is room for two or three.
    for other in ["other-1", "other-2", "other-3", "other-4"] {
        server.upload(&package(other, "")).await.is(201);
    }
    eventually("the version's unloading", async || {
        let health = server.get("/health").await.json();
        (health["models"][0]["state"] == "unloaded").then_some(())
    })
    .await;
    assert_eq!(found(&server, "keeps&do=get&key=ann", "").await, "kept");
}
