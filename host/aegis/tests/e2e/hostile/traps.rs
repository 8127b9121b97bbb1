//! Guests that trap: what is told to the caller, the metrics and the log.

use super::{fault_line, misbehave, outcomes, server, still_serves, traps};

#[tokio::test]
async fn every_trap_is_a_clean_500_with_its_backtrace_in_the_log() {
    let server = server("timeout_ms = 20000\ntensor_mib = 8").await;
    for (what, reason, said) in [
        ("trap", "unreachable", "unreachable"),
        ("panic", "unreachable", "unreachable"),
        ("exit", "exit", "exit"),
        ("recurse", "stack_overflow", "stack"),
        ("many-tensors&n=1024", "host_refused", ""),
        ("bad-utf8", "other", "utf-8"),
    ] {
        let before = traps(&server, reason).await;
        let id = what.split('&').next().unwrap();
        let answer = misbehave(&server, what, id).await;
        let message = answer.refused(500, "handler_trap");
        assert!(message.contains("crashed"), "{message}");
        assert_eq!(answer.header("aegis-model-version"), "1");
        assert_eq!(traps(&server, reason).await, before + 1.0, "{what}");

        let line = fault_line(&server, id).await;
        assert_eq!(
            (&line["model"], &line["version"]),
            (&"hostile".into(), &1.into())
        );
        assert!(line["message"].as_str().unwrap().contains(said), "{line}");
        // Only a call's end, its results being read, has no guest code on the stack.
        if what != "bad-utf8" {
            assert!(
                line["backtrace"].as_str().unwrap().contains("hostile"),
                "{line}"
            );
        }
        still_serves(&server).await;
    }
    let words = server.logged_of("panic", "the handler gives up").await;
    assert_eq!(words["stream"], "stderr");
    assert_eq!(outcomes(&server, "trap").await, 6.0);
}
