//! What log lines look like, as another process sees them: this test runs itself again as that
//! process, since a log can be set up once in each.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Command;

use aegis_telemetry::{LogError, LogFormat, init_logs};

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
    assert!(matches!(
        init_logs(format, "info"),
        Err(LogError::AlreadySet(_))
    ));
}

#[test]
fn json_lines_hold_the_events_fields_and_its_request() {
    let stderr = logged("json");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{stderr}");
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
}
