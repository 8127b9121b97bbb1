//! `docs/metrics.md` is the table of metrics, written out.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::Path;

#[test]
fn the_page_of_metrics_is_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let expected = aegis_telemetry::metrics_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &expected).unwrap();
    }
    let committed = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        committed == expected,
        "docs/metrics.md is not what the table says; run: UPDATE_DOCS=1 cargo test -p aegis-telemetry --test docs"
    );
}
