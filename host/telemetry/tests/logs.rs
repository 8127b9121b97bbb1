//! What log lines look like, as another process sees them: this test runs itself again as that
//! process, since a log can be set up once in each.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::process::Command;

use aegis_telemetry::{LogError, LogFormat, Telemetry, init_logs};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const FORMAT: &str = "AEGIS_TELEMETRY_TEST_LOG";

/// The standard error of a process that logs in this format with the filter `info`.
fn logged(format: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_logs", "--nocapture"])
        .env(FORMAT, format)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_process_that_logs() {
    let Ok(format) = std::env::var(FORMAT) else {
        return;
    };
    let format: LogFormat = format.parse().unwrap();
    init_logs(format, "info").unwrap();
    let span = tracing::info_span!("request", request_id = "r-1");
    span.in_scope(|| {
        tracing::info!(
            model = "digits",
            model_version = 3,
            "handler \"said\"\nthis"
        )
    });
    tracing::debug!("not to be seen");
    let mut headers = http::HeaderMap::new();
    headers.insert("traceparent", TRACEPARENT.parse().unwrap());
    let request = Telemetry::new().unwrap().tracer().request(&headers, true);
    let lines = request
        .trace()
        .scope(async { tracing::info!("of a trace") });
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(lines);
    assert!(matches!(
        init_logs(format, "info"),
        Err(LogError::AlreadySet(_))
    ));
}

#[test]
fn json_lines_hold_the_events_fields_and_its_request() {
    let stderr = logged("json");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(!lines[0].contains("trace_id"), "{stderr}");
    let ids = r#"{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","timestamp":"#;
    assert!(lines[1].starts_with(ids), "{stderr}");
    assert!(lines[1].contains(r#""message":"of a trace""#), "{stderr}");
    for part in [
        r#""level":"INFO""#,
        r#""message":"handler \"said\"\nthis""#,
        r#""model":"digits""#,
        r#""model_version":3"#,
        r#""request_id":"r-1""#,
    ] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
}

#[test]
fn text_lines_have_no_colour_where_no_terminal_is() {
    let stderr = logged("text");
    assert!(
        stderr.contains("INFO") && stderr.contains("request_id=\"r-1\""),
        "{stderr}"
    );
    assert!(
        !stderr.contains('\u{1b}') && !stderr.contains("not to be seen"),
        "{stderr}"
    );
    let ids = "of a trace trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7\n";
    assert!(stderr.ends_with(ids), "{stderr}");
}
