//! Guests that misbehave before their first request: refused at upload, in time and by
//! name. And one that only the host's own call of it sets off.

use std::time::{Duration, Instant};

use super::{fault_line, traps};
use crate::harness::{Package, Server, Start, send};

/// Sees an upload refused within a bound that is far from never.
async fn refused(server: &Server, package: &Package, code: &str) -> String {
    let start = Instant::now();
    let answer = server.upload(package).await;
    assert!(start.elapsed() < Duration::from_secs(30), "{code}");
    assert!(answer.body.len() < 32 << 10, "{}", answer.body.len());
    answer.refused(422, code)
}

#[tokio::test]
async fn an_init_that_misbehaves_refuses_its_upload() {
    let server = Start::new().ready().await;
    for (what, said) in [
        ("loop", "no end within 700 ms"),
        ("spin", "no end within 700 ms"),
        ("flood", "no end within 700 ms"),
        ("exit", "exit"),
        ("panic", "gives up before it began"),
        ("abort", "unreachable"),
        ("recurse", "stack"),
        ("alloc", "32 MiB"),
        ("network", "wasi:nn/graph"),
        ("flag", "aegis:inference/signals"),
        ("session", "aegis:inference/sessions"),
    ] {
        let package = Package::guest("init_hostile").and(&format!(
            "[config]\ndo = \"{what}\"\n[limits]\ninit_timeout_ms = 700\nmemory_mib = 32"
        ));
        let message = refused(&server, &package, "init_failed").await;
        assert!(message.contains(said), "{what}: {message}");
    }
    let honest = Package::guest("init_hostile").and("[config]\ndo = \"nothing\"");
    server.upload(&honest).await.is(201);
    let answer = server.ask("init_hostile", "").await.is(200);
    assert_eq!(answer.text(), "started");
}

#[tokio::test]
async fn a_start_function_that_misbehaves_refuses_its_upload() {
    let server = Start::new().ready().await;
    for (does, said) in [
        ("1", "no end within 700 ms"),
        ("2", "unreachable"),
        ("3", "32 MiB"),
    ] {
        let does = format!("(global $start_does i32 (i32.const {does}))");
        let package = Package::raw("raw", &[("(global $start_does i32 (i32.const 0))", &does)])
            .and("[limits]\ninit_timeout_ms = 700\nmemory_mib = 32");
        let message = refused(&server, &package, "start_failed").await;
        assert!(message.contains(said), "{does}: {message}");
    }
    server.upload(&Package::raw("raw", &[])).await.is(201);
    assert_eq!(server.ask("raw", "").await.is(200).text(), "answered");
}

#[tokio::test]
async fn names_without_end_are_refused_in_few_words() {
    let server = Start::new().ready().await;
    let name = |n: usize| format!("x{n}-{}", "long".repeat(20_000));
    for (what, code) in [("import", "denied_imports"), ("export", "missing_export")] {
        let parts: String = (0..40)
            .map(|n| match what {
                "import" => format!("(import \"{}\" (instance))", name(n)),
                _ => format!("(instance $i{n}) (export \"{}\" (instance $i{n}))", name(n)),
            })
            .collect();
        let component = wat::parse_str(format!("(component {parts})")).unwrap();
        refused(&server, &Package::handler("odd", component), code).await;
    }
}

#[tokio::test]
async fn a_realloc_that_misbehaves_ends_its_own_request() {
    let server = Start::new().ready().await;
    server.upload(&Package::guest("counter")).await.is(201);
    for (does, status, code, reason) in [
        ("1", 504, "timeout", "time_limit"),
        ("2", 500, "handler_trap", "unreachable"),
        ("3", 500, "handler_trap", "other"),
    ] {
        let model = format!("realloc-{does}");
        let does = format!("(global $realloc_does i32 (i32.const {does}))");
        let package = Package::raw(
            &model,
            &[("(global $realloc_does i32 (i32.const 0))", &does)],
        )
        .and("[limits]\ntimeout_ms = 500");
        server.upload(&package).await.is(201);
        let request = server.prediction(&model).header("x-request-id", &model);
        send(request.body("a body")).await.refused(status, code);
        fault_line(&server, &model).await;
        let counted = server.metrics().await;
        let labels = [("model", model.as_str()), ("reason", reason)];
        assert_eq!(
            counted.sum("aegis_handler_traps_total", &labels),
            Some(1.0),
            "{does}"
        );
        assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
    }
}

#[tokio::test]
async fn an_answer_is_given_only_when_the_guest_is_done_with_it() {
    // `post-return` is the guest's last word: until it has ended there is no answer.
    let server = Start::new().ready().await;
    let raw = Package::raw("hostile", &[]).and("[limits]\ntimeout_ms = 500");
    server.upload(&raw).await.is(201);
    server.ask("hostile&do=t", "").await.refused(504, "timeout");
    server
        .ask("hostile&do=u", "")
        .await
        .refused(500, "handler_trap");
    assert_eq!(traps(&server, "time_limit").await, 1.0);
    assert_eq!(traps(&server, "unreachable").await, 1.0);
    assert_eq!(server.ask("hostile", "").await.is(200).text(), "answered");
}
