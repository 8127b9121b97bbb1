//! The report for people.

use super::{BARE, Report};

pub(super) fn of(report: &Report) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = writeln!(text, "machine: {}", report.machine.line());
    for warning in report.machine.warnings() {
        let _ = writeln!(text, "WARNING: {warning}");
    }
    let _ = writeln!(
        text,
        "{} rounds of {} ms a side, {} session(s) of one thread in process\n",
        report.rounds, report.window_ms, report.sessions
    );
    if !report.bare.is_empty() {
        let _ = writeln!(
            text,
            "a bare loop            rows/s at batch 1          8         32"
        );
    }
    for network in report.bare.chunks(BARE.len()) {
        let Some(first) = network.first() else {
            continue;
        };
        let _ = write!(text, "{:<29}", first.network);
        for row in network {
            let _ = write!(text, " {:10.0}", row.rows_per_second);
        }
        text.push('\n');
    }
    for (title, rows) in [
        ("in process", &report.in_process),
        ("over HTTP", &report.over_http),
    ] {
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "\n{title:<14} callers   off: req/s  median us   p99 us    on: req/s  median us   p99 us   batch   gain   of bare   CPU us off    on"
        );
        for row in rows {
            let number = |value: Option<f64>, digits: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            let _ = writeln!(
                text,
                "{:<14} {:>7} {:12.0} {:10.0} {:8.0} {:12.0} {:10.0} {:8.0} {:>7} {:6.2} {:>9} {:>12} {:>5}",
                row.network,
                row.callers,
                row.off.requests_per_second,
                row.off.median_us,
                row.off.p99_us,
                row.on.requests_per_second,
                row.on.median_us,
                row.on.p99_us,
                number(row.on.mean_batch, 1),
                row.gain,
                number(row.shared.map(|shared| shared.of_bare), 2),
                number(row.off.cpu_us, 1),
                number(row.on.cpu_us, 1),
            );
        }
    }
    if !report.in_process.is_empty() {
        let _ = writeln!(
            text,
            "\nthe least a host does callers   req/s  median us   p99 us   batch   of bare   Aegis of it"
        );
    }
    for row in &report.in_process {
        let Some(shared) = &row.shared else {
            continue;
        };
        let _ = writeln!(
            text,
            "{:<21} {:>7} {:>7.0} {:>10.0} {:>8.0} {:>7.1} {:>9.2} {:>13.2}",
            row.network,
            row.callers,
            shared.least.requests_per_second,
            shared.least.median_us,
            shared.least.p99_us,
            shared.least.mean_batch.unwrap_or_default(),
            shared.least_of_bare,
            shared.of_least,
        );
    }
    if !report.beside_fastapi.is_empty() {
        let _ = writeln!(
            text,
            "\nbeside FastAPI connections  Aegis: req/s  median us   p99 us   FastAPI: req/s  median us   p99 us  ratio   CPU us Aegis  FastAPI"
        );
    }
    for row in &report.beside_fastapi {
        let _ = writeln!(
            text,
            "{:<14} {:>11} {:13.0} {:10.0} {:8.0} {:16.0} {:10.0} {:8.0} {:6.2} {:14.1} {:8.1}",
            row.network,
            row.connections,
            row.aegis.requests_per_second,
            row.aegis.median_us,
            row.aegis.p99_us,
            row.fastapi.requests_per_second,
            row.fastapi.median_us,
            row.fastapi.p99_us,
            row.ratio,
            row.aegis.cpu_us.unwrap_or_default(),
            row.fastapi.cpu_us.unwrap_or_default(),
        );
    }
    if !report.beside_triton.is_empty() {
        let _ = writeln!(
            text,
            "\nbeside Triton connections  Aegis: req/s  median us   p99 us    reuse   direct   Triton: off    delay       on   of its best    reuse   direct   CPU us Aegis    reuse   direct  Triton's least   of its least    reuse"
        );
    }
    for row in &report.beside_triton {
        let [off, delay, on] = row.triton.map(|figures| figures.requests_per_second);
        let least = row.triton.iter().filter_map(|figures| figures.cpu_us);
        let _ = writeln!(
            text,
            "{:<13} {:>11} {:13.0} {:10.0} {:8.0} {:8.0} {:8.0} {off:13.0} {delay:8.0} {on:8.0} {:13.2} {:8.2} {:8.2} {:14.1} {:8.1} {:8.1} {:15.1} {:14.2} {:8.2}",
            row.network,
            row.connections,
            row.aegis.requests_per_second,
            row.aegis.median_us,
            row.aegis.p99_us,
            row.reuse.requests_per_second,
            row.direct.requests_per_second,
            row.ratio,
            row.reuse_ratio,
            row.direct_ratio,
            row.aegis.cpu_us.unwrap_or_default(),
            row.reuse.cpu_us.unwrap_or_default(),
            row.direct.cpu_us.unwrap_or_default(),
            least.fold(f64::INFINITY, f64::min),
            row.cpu_ratio,
            row.reuse_cpu_ratio,
        );
    }
    text
}
