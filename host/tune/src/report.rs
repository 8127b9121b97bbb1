//! What a tuning found, in words and as values for programs; the plots are [`crate::page`]'s.

use serde::Serialize;

use crate::{
    goal::Goal,
    measure::Load,
    proposal::{Next, Proposal},
    search::{Ended, Found},
    setting::Setting,
    trial::Figures,
};

/// A tuning and its circumstances, without which its figures say nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// The graph that was tuned.
    pub graph: String,
    /// What computed it.
    pub backend: String,
    /// On what: `cpu` or `gpu`.
    pub target: String,
    /// Threads that networks computed on together.
    pub cores: u32,
    /// The bodies that were sent.
    pub bodies: Vec<String>,
    /// What a setting had to keep.
    pub goal: Goal,
    /// How long each load was measured, in seconds.
    pub measured_seconds: f64,
    /// What was found.
    #[serde(flatten)]
    pub found: Found,
}

/// A line of the table: a setting at the load where it served most within the goal, or came nearest.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the setting is to the reader: in force, proposed, or nothing.
    pub mark: &'static str,
    /// The setting.
    pub setting: Setting,
    /// The load and what the setting did under it; none of one that is not served.
    pub at: Option<(Load, Figures)>,
    /// Whether that keeps the goal.
    pub meets: bool,
    /// Why it is not served.
    pub refused: Option<String>,
}

/// The setting that is in force.
pub const NOW: &str = "now";
/// The setting that is proposed.
pub const PROPOSED: &str = "proposed";

impl Report {
    /// One row for each setting, in the order in which they were measured.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let proposed = self.found.proposal.change();
        let trials = self.found.trials.iter().enumerate();
        trials.map(move |(index, trial)| {
            let best = trial.best(&self.goal);
            Row {
                mark: match index {
                    0 => NOW,
                    _ if proposed == Some(trial.setting) => PROPOSED,
                    _ => "",
                },
                setting: trial.setting,
                at: best.or_else(|| trial.quickest()),
                meets: best.is_some(),
                refused: trial.refused.clone(),
            }
        })
    }

    /// What to do, in words.
    #[must_use]
    pub fn proposal(&self) -> Vec<String> {
        let goal = self.goal.p99_ms();
        let mut words = match &self.found.proposal {
            Proposal::Change {
                setting,
                load,
                figures,
                gain_percent,
                noise_percent,
            } => {
                let gain = match gain_percent {
                    Some(gain) => format!(
                        "{gain:.0} % more than as it is set (differences below {noise_percent:.0} % are noise here)"
                    ),
                    None => "as it is set the model misses the objective".to_owned(),
                };
                vec![format!(
                    "Proposed: {setting}: {}; {gain}",
                    told(load, figures)
                )]
            }
            Proposal::Keep {
                load,
                figures,
                next,
            } => {
                let mut words = vec![format!(
                    "No change proposed: as it is set, {}.",
                    told(load, figures)
                )];
                words.push(match next {
                    Some(Next {
                        setting,
                        gain_percent,
                        noise_percent,
                    }) => format!(
                        "The best other, {setting}, came to {gain_percent:+.1} % when repeated; \
                         differences below {noise_percent:.1} % are noise here."
                    ),
                    None => format!(
                        "No other setting served {} % more within the objective.",
                        self.goal.min_gain_percent()
                    ),
                });
                words
            }
            Proposal::Unsure {
                setting,
                load,
                figures,
            } => vec![format!(
                "Nothing proposed: {setting} looked better ({}), but was not repeated often enough \
                 to tell that from noise.",
                told(load, figures)
            )],
            Proposal::Nothing { nearest: None } => {
                vec!["Nothing proposed: no request was answered.".to_owned()]
            }
            Proposal::Nothing {
                nearest: Some(nearest),
            } => vec![format!(
                "Nothing proposed: no setting keeps P99 within {goal} ms with at most {} % of the \
                 requests failing. The nearest was {}: {}, {:.2} % failed.",
                self.goal.max_failure_percent(),
                nearest.setting,
                told(&nearest.load, &nearest.figures),
                nearest.figures.failure_percent
            )],
        };
        match self.found.ended {
            Ended::Whole => {}
            Ended::Budget => words.push(
                "The time budget ended the search early: other settings may be better.".to_owned(),
            ),
            Ended::Stopped => words.push(
                "It was stopped: this is what was measured until then, and not the whole search."
                    .to_owned(),
            ),
        }
        words
    }

    /// What a reader should know before believing the figures, each once.
    #[must_use]
    pub fn cautions(&self) -> Vec<String> {
        let mut cautions: Vec<String> = Vec::new();
        for (stage, why) in &self.found.skipped {
            cautions.push(format!("not tried ({}): {why}", stage.words()));
        }
        for trial in &self.found.trials {
            if let Some(why) = &trial.refused {
                cautions.push(format!("not served with {}: {why}", trial.setting));
            }
        }
        let few = self.rows().filter(|row| {
            row.at.is_some_and(|(load, figures)| {
                let points = self
                    .found
                    .trials
                    .iter()
                    .filter(|t| t.setting == row.setting);
                let mut runs = points
                    .flat_map(|trial| &trial.points)
                    .filter(|point| point.load == load)
                    .flat_map(|point| &point.runs);
                figures.runs > 0 && runs.any(|run| run.requests < FEW)
            })
        });
        if few.count() > 0 {
            cautions.push(format!(
                "some P99 are of fewer than {FEW} requests and say little: measure longer (--duration)"
            ));
        }
        cautions
    }
}

/// With fewer requests than this a P99 is the word of one or two of them.
const FEW: u64 = 200;

/// Latencies and rates, as people read them.
#[must_use]
pub fn ms(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.2}"),
        Some(value) if value < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

fn told(load: &Load, figures: &Figures) -> String {
    format!(
        "{:.0} requests a second at a P99 of {} ms, with {load}",
        figures.rps,
        ms(figures.p99_ms)
    )
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::{
        fake::{ONE, run},
        measure::Run,
        search::Stage,
        setting::Batching,
        trial::Trial,
    };

    /// A report of two settings, the other twice as good.
    pub(crate) fn report(ended: Ended) -> Report {
        let goal = Goal::new(50.0, 0.5, 3.0).unwrap();
        let mut trials = vec![Trial::new(ONE), Trial::new(ONE.batched(Batching::Off))];
        for (trial, rps) in trials.iter_mut().zip([100.0, 200.0]) {
            for users in [1, 2, 4] {
                let run = run(rps * f64::from(users), f64::from(users) * 5.0);
                for repeat in [false, true, true] {
                    let run = run.clone();
                    trial.add(Load::Users(users), Run { repeat, ..run });
                }
            }
        }
        let mut refused = Trial::new(ONE.parallel(64, 1));
        refused.refused = Some("<no> memory".to_owned());
        trials.push(refused);
        let proposal = Proposal::of(&trials, &goal, 2);
        Report {
            model: "digits".to_owned(),
            graph: "digits".to_owned(),
            backend: "onnxruntime".to_owned(),
            target: "cpu".to_owned(),
            cores: 2,
            bodies: vec!["<a>.json".to_owned()],
            goal,
            measured_seconds: 3.0,
            found: Found {
                trials,
                skipped: vec![(Stage::Wait, "runs are full without it".to_owned())],
                ended,
                spent: Duration::from_secs(60),
                proposal,
            },
        }
    }

    #[test]
    fn a_change_is_told_with_what_it_gains_and_what_is_noise() {
        let report = report(Ended::Whole);
        let words = report.proposal().join("\n");
        assert!(
            words.starts_with("Proposed: no batching, 1 session × 1 thread: 800 requests a second"),
            "{words}"
        );
        assert!(words.contains("100 % more") && words.contains("noise"));
        let marks: Vec<_> = report.rows().map(|row| row.mark).collect();
        assert_eq!(marks, [NOW, PROPOSED, ""]);
    }

    #[test]
    fn what_was_left_out_or_refused_or_cut_short_is_said() {
        let stopped = report(Ended::Stopped);
        assert!(stopped.proposal().join("\n").contains("It was stopped"));
        let cautions = stopped.cautions().join("\n");
        assert!(cautions.contains("not tried (wait): runs are full"));
        assert!(cautions.contains("64 sessions × 1 thread: <no> memory"));
    }
}
