//! What there is to tell at the end.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::plan::{Health, Kind};
use crate::harness::Tally;

#[derive(Default)]
pub(super) struct Report {
    events: BTreeMap<Kind, Took>,
    /// By what is bad about a version, and whether something else went wrong too.
    withdrawn: BTreeMap<(&'static str, bool), Vec<Duration>>,
    /// Versions that were well and withdrawn, and why.
    pub(super) unjust: Vec<String>,
    takeovers: Vec<Duration>,
}

#[derive(Default)]
struct Took {
    whole: Vec<Duration>,
    agreed: Vec<Duration>,
}

impl Report {
    pub(super) fn took(&mut self, kind: Kind, whole: Duration, agreed: Option<Duration>) {
        let took = self.events.entry(kind).or_default();
        took.whole.push(whole);
        took.agreed.extend(agreed);
    }

    pub(super) fn withdrawn(&mut self, health: Health, disturbed: bool, took: Duration, why: &str) {
        eprintln!("        withdrawn after {took:.1?}: {why}");
        let ailment = match health {
            Health::Well => return self.unjust.push(why.to_owned()),
            Health::Slow { .. } => "slow",
            Health::Failing { .. } => "fails",
            Health::Trapping { .. } => "traps",
        };
        self.withdrawn
            .entry((ailment, disturbed))
            .or_default()
            .push(took);
    }

    /// After a driver was killed.
    pub(super) fn taken_over(&mut self, took: Duration) {
        self.takeovers.push(took);
    }

    /// All of it in tables.
    pub(super) fn with<'a>(&'a self, tally: &'a Tally) -> Tables<'a> {
        Tables {
            report: self,
            tally,
        }
    }
}

pub(super) struct Tables<'a> {
    report: &'a Report,
    tally: &'a Tally,
}

/// The median and the longest, in seconds.
fn seconds(durations: &[Duration]) -> String {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let Some(longest) = sorted.last() else {
        return " | ".to_owned();
    };
    let median = sorted[(sorted.len() - 1) / 2];
    format!("{:.2} | {:.2}", median.as_secs_f64(), longest.as_secs_f64())
}

/// How many answers came from versions in which part.
fn parts(tally: &Tally) -> String {
    let mut parts = BTreeMap::<&str, u64>::new();
    for ((_, part), times) in &tally.answered_by {
        *parts.entry(part).or_default() += times;
    }
    let words = parts.iter().map(|(part, times)| format!("{times} {part}"));
    words.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tables { report, tally } = self;
        let failed: u64 = tally.failed.values().sum();
        writeln!(f, "| requests | failed | wrong |\n|---|---|---|")?;
        writeln!(
            f,
            "| {} | {failed} | {} |\n",
            tally.asked,
            tally.wrong.len()
        )?;
        for (why, times) in &tally.failed {
            writeln!(f, "- {times} failed: {why}")?;
        }
        writeln!(
            f,
            "| what happens | times | takes, median, s | longest | until all replicas agree, median, s | longest |\n\
             |---|---|---|---|---|---|"
        )?;
        for (kind, took) in &report.events {
            let (title, times) = (kind.title(), took.whole.len());
            let (whole, agreed) = (seconds(&took.whole), seconds(&took.agreed));
            writeln!(f, "| {title} | {times} | {whole} | {agreed} |")?;
        }
        writeln!(
            f,
            "\n| from its beginning to what ends it | times | median, s | longest |\n|---|---|---|---|"
        )?;
        for ((ailment, disturbed), took) in &report.withdrawn {
            let beside = match disturbed {
                true => ", and something else goes wrong",
                false => "",
            };
            let times = took.len();
            writeln!(
                f,
                "| the canary {ailment}{beside}: withdrawn | {times} | {} |",
                seconds(took)
            )?;
        }
        writeln!(
            f,
            "| a rollout's driver is dead: another drives | {} | {} |",
            report.takeovers.len(),
            seconds(&report.takeovers)
        )?;
        writeln!(
            f,
            "\nVersions that were well and withdrawn: {}. Answers by part: {}.",
            report.unjust.len(),
            parts(tally)
        )
    }
}
