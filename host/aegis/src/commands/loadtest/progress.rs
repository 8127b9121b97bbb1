//! How `aegis loadtest` tells of itself while it runs, and the rows that are kept as cells end.

use std::{fs::File, io::Write as _, time::Duration};

use aegis_loadtest::{
    csv,
    probe::Probed,
    report::CellResult,
    run::{Phase, Tick, Watcher},
};
use anyhow::Context as _;

use crate::commands::status_line::{StatusLine, span};

/// Writes progress and rows.
pub(crate) struct Progress {
    /// How long it may take, until that is told.
    longest: Option<Duration>,
    status: StatusLine,
    rows: Option<File>,
    /// What became of the rows; told at the end, as a full disk is no reason to stop measuring.
    written: std::io::Result<()>,
}

impl Progress {
    /// Begins the rows, which say so where their replicas are `simulated`.
    pub(crate) fn new(
        longest: Duration,
        mut rows: Option<File>,
        simulated: bool,
    ) -> anyhow::Result<Self> {
        if let Some(rows) = &mut rows {
            writeln!(rows, "{}", csv::head(simulated)).context("writing the head of --csv")?;
        }
        Ok(Self {
            longest: Some(longest),
            status: StatusLine::new(),
            rows,
            written: Ok(()),
        })
    }

    /// Whether the rows were written.
    pub(crate) fn ended(self) -> anyhow::Result<()> {
        self.written.context("writing the rows of --csv")
    }
}

impl Watcher for Progress {
    fn troubled(&mut self, first: Probed) {
        if let Probed::Troubled(kind) = first {
            self.status.stays(&format!(
                "aegis: the server is there and its first answer was a failure ({}); driving it all the same",
                kind.meaning()
            ));
        }
    }

    fn tick(&mut self, tick: &Tick) {
        if let Some(longest) = self.longest.take() {
            let longest = span(longest);
            self.status.stays(&format!(
                "aegis: this takes up to {longest}; ctrl-c ends it with what was measured"
            ));
        }
        self.status.now(&line(tick));
    }

    fn cell(&mut self, result: &CellResult) {
        let p95 = result
            .p95_ms
            .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        self.status.stays(&format!(
            "{} {}: {} requests, {:.1}/s, P95 {p95}, {:.2} % failed",
            result.judgement.verdict.word(),
            result.cell,
            result.requests,
            result.rps,
            result.failure_percent
        ));
        if let (Some(rows), Ok(())) = (&mut self.rows, &self.written) {
            self.written = writeln!(rows, "{}", csv::row(result));
        }
    }

    fn pause(&mut self, pause: Duration) {
        self.status
            .stays(&format!("aegis: nothing is sent for {}", span(pause)));
    }
}

fn line(tick: &Tick) -> String {
    let phase = match tick.phase {
        Phase::WarmUp => "warming up",
        Phase::Measuring => "measuring",
        Phase::LastAnswers => "last answers",
    };
    let p95 = tick
        .p95_ms
        .map_or_else(String::new, |ms| format!(", P95 {ms:.1} ms"));
    let replicas = tick
        .replicas
        .map_or_else(String::new, |replicas| format!(", {replicas} replicas"));
    format!(
        "[{}/{}] {}: {phase} {}/{} s, {:.0}/s, {} under way, {} failed{p95}{replicas}",
        tick.number,
        tick.of,
        tick.cell,
        tick.elapsed.as_secs(),
        tick.whole.as_secs(),
        tick.rps,
        tick.under_way,
        tick.failed
    )
}
