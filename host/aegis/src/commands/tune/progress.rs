//! How `aegis tune` tells of itself while it runs: the measurement under way, and a line for each
//! that has ended.

use std::{cell::RefCell, rc::Rc, time::Duration};

use aegis_loadtest::run::Tick;
use aegis_tune::{
    measure::{Load, Run},
    report::ms,
    search::{Stage, Watch},
    setting::Setting,
};

use crate::commands::status_line::StatusLine;

/// What is under way.
pub(super) struct Progress {
    status: StatusLine,
    budget: Duration,
    p99_ms: f64,
    spent: Duration,
    now: String,
    /// Whose figures the last lines are.
    heading: Option<(Stage, Setting)>,
}

impl Progress {
    pub(super) fn new(budget: Duration, p99_ms: f64) -> Self {
        Self {
            status: StatusLine::new(),
            budget,
            p99_ms,
            spent: Duration::ZERO,
            now: String::new(),
            heading: None,
        }
    }

    /// A line that stays.
    pub(super) fn says(&mut self, words: &str) {
        self.status.stays(words);
    }

    /// A server starts.
    pub(super) fn starts(&mut self) {
        let line = format!("{}{}: a server starts", self.clock(), self.now);
        self.status.now(&line);
    }

    /// A second of a measurement.
    pub(super) fn tick(&mut self, phase: &str, tick: &Tick) {
        let line = format!(
            "{}{}: {phase} {}/{} s, {:.0}/s, {} under way, {} failed",
            self.clock(),
            self.now,
            tick.elapsed.as_secs(),
            tick.whole.as_secs(),
            tick.rps,
            tick.under_way,
            tick.failed
        );
        self.status.now(&line);
    }

    fn clock(&self) -> String {
        let clock = |span: Duration| format!("{}:{:02}", span.as_secs() / 60, span.as_secs() % 60);
        format!("[{} of {}] ", clock(self.spent), clock(self.budget))
    }
}

/// The search's side of it.
pub(super) struct Watching(pub(super) Rc<RefCell<Progress>>);

impl Watch for Watching {
    fn begins(&mut self, stage: Stage, setting: &Setting, load: Load, spent: Duration) {
        let mut progress = self.0.borrow_mut();
        progress.spent = spent;
        progress.now = format!("{setting}, {load}");
        if progress.heading != Some((stage, *setting)) {
            progress.heading = Some((stage, *setting));
            let line = format!("{}{}: {setting}", progress.clock(), stage.words());
            progress.status.stays(&line);
        }
    }

    fn measured(&mut self, _setting: &Setting, load: Load, run: &Run) {
        let mut progress = self.0.borrow_mut();
        let over = run.p99_ms.is_none_or(|p99| p99 > progress.p99_ms);
        let batch = run
            .mean_batch
            .map_or_else(String::new, |mean| format!(", {mean:.1} requests a run"));
        let failed = if run.failure_percent > 0.0 {
            format!(", {:.2} % failed", run.failure_percent)
        } else {
            String::new()
        };
        let line = format!(
            "  {load}: {:.0}/s, P50 {} ms, P95 {} ms, P99 {} ms{}{batch}{failed}",
            run.rps,
            ms(run.p50_ms),
            ms(run.p95_ms),
            ms(run.p99_ms),
            if over { " (over)" } else { "" },
        );
        progress.status.stays(&line);
    }

    fn refused(&mut self, _setting: &Setting, why: &str) {
        self.0.borrow_mut().says(&format!("  not served: {why}"));
    }

    fn skips(&mut self, stage: Stage, why: &str) {
        let line = format!("{}: left out: {why}", stage.words());
        self.0.borrow_mut().says(&line);
    }
}
