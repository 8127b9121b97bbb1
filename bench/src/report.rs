//! What a run found, as a table for people; serialised, it is the JSON for programs.
//!
//! Each aim of the design stands beside the figure it is about, with whether it is met.

use serde::Serialize;

use crate::{
    in_process::{InProcess, Throughput},
    machine::Machine,
    over_http::{OverHttp, Side},
    start::{Start, Times},
    stats::Summary,
};

/// All of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    onnxruntime: String,
    quick: bool,
    pub(crate) in_process: Vec<InProcess>,
    pub(crate) over_http: Vec<OverHttp>,
    pub(crate) start: Option<Start>,
}

/// (b) - (a) at the median, for digits, in microseconds.
const AIM_OVER_BARE: f64 = 10.0;
/// The sandbox's processor time for each request, in microseconds.
const AIM_CPU: f64 = 20.0;
/// The connections that the aims for throughput are about.
const AIM_CONNECTIONS: usize = 32;
/// Start to first answer, in milliseconds.
const AIM_START: f64 = 500.0;
/// Upload to first answer, in milliseconds.
const AIM_UPLOAD: f64 = 1000.0;

/// (c) / (d) in requests a second.
fn aim_ratio(network: &str) -> f64 {
    match network {
        "digits" => 0.8,
        _ => 0.95,
    }
}

fn under(figure: f64, aim: f64, unit: &str) -> String {
    let met = if figure < aim { "met" } else { "MISSED" };
    format!("  aim: under {aim} {unit}: {met}")
}

fn at_least(figure: f64, aim: f64) -> String {
    let met = if figure >= aim { "met" } else { "MISSED" };
    format!("  aim: at least {aim}: {met}")
}

impl Report {
    pub(crate) fn new(machine: Machine, onnxruntime: String, quick: bool) -> Report {
        Report {
            machine,
            onnxruntime,
            quick,
            in_process: Vec::new(),
            over_http: Vec::new(),
            start: None,
        }
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "machine: {}\nONNX Runtime {}, aegis {}\n",
            self.machine.line(),
            self.onnxruntime,
            env!("CARGO_PKG_VERSION")
        );
        for warning in self.machine.warnings() {
            text += &format!("WARNING: {warning}\n");
        }
        if self.quick {
            text += "A quick run: the answers were checked, the figures mean little.\n";
        }
        for measured in &self.in_process {
            text += &paced(measured);
            text += &saturated(measured);
        }
        let mut networks: Vec<_> = self.over_http.iter().map(|row| row.network).collect();
        networks.dedup();
        for network in networks {
            let rows = self.over_http.iter().filter(|row| row.network == network);
            text += &over_http(network, rows);
        }
        if let Some(measured) = &self.start {
            text += &start(measured);
        }
        text
    }
}

fn paced(measured: &InProcess) -> String {
    let mut table = Table::new(
        &format!(
            "{}, in process, {} requests a row",
            measured.network, measured.requests
        ),
        &["median us", "p99 us", "median / (a)"],
    );
    let row = |label: &str, took: Summary| {
        let ratio = took.median / measured.bare.median.max(f64::MIN_POSITIVE);
        vec![
            label.to_owned(),
            format!("{:.2}", took.median),
            format!("{:.2}", took.p99),
            format!("{ratio:.2}"),
        ]
    };
    table.row(row("(a)  ONNX Runtime, bare, paced", measured.bare));
    table.row(row("     the same in a tight loop", measured.bare_loop));
    table.row(row("(b0) handler, native, paced", measured.native));
    table.row(row(
        "(b)  handler, sandboxed, fresh instance, paced",
        measured.sandboxed,
    ));
    let mut difference = row("(b) - (a)", measured.over_bare);
    difference.push(under(measured.over_bare.median, AIM_OVER_BARE, "us"));
    table.row(difference);
    table.row(row("(b) - (b0)", measured.over_native));
    table.text()
        + &format!(
            "instances that the request itself had to make: {:.1} %; networks run on the caller's thread: {:.1} %\n",
            measured.made_on_path * 100.0,
            measured.in_place * 100.0
        )
}

fn throughput(label: &str, measured: Throughput) -> Vec<String> {
    vec![
        label.to_owned(),
        format!("{:.0}", measured.requests_per_second),
        format!("{:.1}", measured.cpu()),
        format!("{:.1}", measured.cpu_system),
    ]
}

fn saturated(measured: &InProcess) -> String {
    let saturated = &measured.saturated;
    let mut table = Table::new(
        &format!("{}, in process, saturated", measured.network),
        &["requests/s", "CPU us/request", "of it kernel"],
    );
    table.row(throughput("(b0) handler, native", saturated.native));
    table.row(throughput(
        "(b)  handler, sandboxed, fresh instance",
        saturated.sandboxed,
    ));
    let kernel = saturated.sandboxed.cpu_system - saturated.native.cpu_system;
    table.row(vec![
        "(b) - (b0), the whole sandbox".to_owned(),
        String::new(),
        format!("{:.1}", saturated.sandbox_cpu),
        format!("{kernel:.1}"),
        under(saturated.sandbox_cpu, AIM_CPU, "us"),
    ]);
    table.text()
        + &format!(
            "instances that the request itself had to make: {:.1} %\n",
            saturated.made_on_path * 100.0
        )
}

fn over_http<'a>(network: &str, rows: impl Iterator<Item = &'a OverHttp>) -> String {
    let mut table = Table::new(
        &format!("{network}, over HTTP"),
        &[
            "requests/s",
            "median us",
            "p99 us",
            "server CPU us/request",
            "of it kernel",
        ],
    );
    let row = |label: String, side: Side| {
        vec![
            label,
            format!("{:.0}", side.throughput.requests_per_second),
            format!("{:.0}", side.latency.median),
            format!("{:.0}", side.latency.p99),
            format!("{:.1}", side.throughput.cpu()),
            format!("{:.1}", side.throughput.cpu_system),
        ]
    };
    for measured in rows {
        let n = measured.connections;
        let (with, without) = (measured.sandboxed, measured.native);
        table.row(row(format!("(c) sandboxed, {n} connections"), with));
        table.row(row(format!("(d) native, {n} connections"), without));
        let over =
            |with: f64, without: f64| format!("{:.2}", with / without.max(f64::MIN_POSITIVE));
        let mut ratio = vec![
            format!(
                "(c) / (d), rounds {:.2} to {:.2}",
                measured.ratio_least, measured.ratio_greatest
            ),
            format!("{:.2}", measured.ratio),
            over(with.latency.median, without.latency.median),
            over(with.latency.p99, without.latency.p99),
            over(with.throughput.cpu(), without.throughput.cpu()),
            String::new(),
        ];
        if n == AIM_CONNECTIONS {
            ratio.push(at_least(measured.ratio, aim_ratio(network)));
        }
        table.row(ratio);
    }
    table.text()
}

fn start(measured: &Start) -> String {
    let mut table = Table::new(
        &format!(
            "{}, the aegis program, {} runs",
            measured.network, measured.runs
        ),
        &["median ms", "greatest ms"],
    );
    let row = |label: &str, times: Times| {
        vec![
            label.to_owned(),
            format!("{:.0}", times.median),
            format!("{:.0}", times.greatest),
        ]
    };
    let mut first = row(
        "(e) start to first answer, code in the cache",
        measured.first_answer,
    );
    first.push(under(measured.first_answer.median, AIM_START, "ms"));
    table.row(first);
    table.row(row("(e) upload to 201", measured.upload));
    let mut upload = row("(e) upload to first answer", measured.upload_to_answer);
    upload.push(under(measured.upload_to_answer.median, AIM_UPLOAD, "ms"));
    table.row(upload);
    table.text()
}

/// Columns that line up: labels to the left, figures to the right, then whatever is said.
struct Table {
    figures: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: &str, head: &[&str]) -> Table {
        let mut first = vec![title.to_owned()];
        first.extend(head.iter().map(|column| (*column).to_owned()));
        Table {
            figures: head.len(),
            rows: vec![first],
        }
    }

    fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..=self.figures).map(width).collect();
        let mut text = String::from("\n");
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line += &match widths.get(column) {
                    Some(width) if column == 0 => format!("{cell:width$}"),
                    Some(width) => format!("  {cell:>width$}"),
                    None => cell.clone(),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_line_up_to_the_right_and_remarks_follow() {
        let mut table = Table::new("t", &["us"]);
        table.row(vec!["row".into(), "1234".into(), "  aim".into()]);
        assert_eq!(table.text(), "\nt      us\nrow  1234  aim\n");
    }

    #[test]
    fn an_aim_says_whether_it_is_met() {
        assert_eq!(under(9.9, 10.0, "us"), "  aim: under 10 us: met");
        assert_eq!(at_least(0.79, 0.8), "  aim: at least 0.8: MISSED");
    }
}
