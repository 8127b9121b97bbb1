//! Numbers in Grafana's units, short.

/// A value in a panel's unit.
pub(crate) fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "s" => seconds(value),
        "percentunit" => format!("{} %", rounded(value * 100.0)),
        "reqps" => format!("{}/s", thousands(value)),
        _ => thousands(value),
    }
}

fn seconds(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        0.0 => return "0 s".to_owned(),
        ..0.001 => (value * 1e6, "µs"),
        ..1.0 => (value * 1e3, "ms"),
        _ => (value, "s"),
    };
    format!("{} {unit}", rounded(scaled))
}

fn thousands(value: f64) -> String {
    if value.abs() >= 1000.0 {
        format!("{} k", rounded(value / 1000.0))
    } else {
        rounded(value)
    }
}

/// Three digits, without zeros at the end.
fn rounded(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}
