//! What was measured of one setting, load by load; several runs of one load count as their median.

use serde::Serialize;

use crate::{
    goal::Goal,
    measure::{Load, Run},
    setting::Setting,
};

/// One setting and what was measured of it.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The setting.
    pub setting: Setting,
    /// What was measured, in order of load.
    pub points: Vec<Point>,
    /// Why it is not measured further: it is not served, or its server broke.
    pub refused: Option<String>,
}

/// One load of a setting.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The load.
    pub load: Load,
    /// Its runs, in the order in which they were made; at least one.
    pub runs: Vec<Run>,
}

/// What holds of a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Requests answered well, a second.
    pub rps: f64,
    /// Latencies, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The 95th percentile.
    pub p95_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// The share of requests that failed, in percent.
    pub failure_percent: f64,
    /// Requests in one run of the graph.
    pub mean_batch: Option<f64>,
    /// How far the runs' requests a second lie apart: the most over the least, in percent. Infinite
    /// (in JSON `null`) where a run answered nothing.
    pub spread_percent: f64,
    /// How many runs these figures are the medians of.
    pub runs: usize,
    /// Whether they are of the repeated measurements at the end, and of nothing else.
    pub repeated: bool,
}

impl Point {
    /// The medians of its runs; of the repeated ones alone once there are any. A setting is repeated
    /// because its first run was a good one, so that one would flatter it.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let repeated = self.runs.iter().any(|run| run.repeat);
        let runs: Vec<&Run> = self
            .runs
            .iter()
            .filter(|run| run.repeat == repeated)
            .collect();
        let each = |of: &dyn Fn(&Run) -> f64| median(runs.iter().map(|run| of(run)).collect());
        // Nothing answered is worse than any latency.
        let latency = |of: &dyn Fn(&Run) -> Option<f64>| {
            let median = each(&|run| of(run).unwrap_or(f64::INFINITY));
            median.is_finite().then_some(median)
        };
        let rates = || runs.iter().map(|run| run.rps);
        let (least, most) = (
            rates().fold(f64::INFINITY, f64::min),
            rates().fold(f64::NEG_INFINITY, f64::max),
        );
        let batches: Vec<f64> = runs.iter().filter_map(|run| run.mean_batch).collect();
        Figures {
            rps: each(&|run| run.rps),
            p50_ms: latency(&|run| run.p50_ms),
            p95_ms: latency(&|run| run.p95_ms),
            p99_ms: latency(&|run| run.p99_ms),
            failure_percent: each(&|run| run.failure_percent),
            mean_batch: (!batches.is_empty()).then(|| median(batches)),
            spread_percent: spread_percent(least, most),
            runs: runs.len(),
            repeated,
        }
    }
}

/// By how much `most` is over `least`, in percent.
fn spread_percent(least: f64, most: f64) -> f64 {
    if least > 0.0 {
        (most / least - 1.0) * 100.0
    } else {
        f64::INFINITY
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    if values.len() % 2 == 1 {
        at(middle)
    } else {
        let (below, above) = (at(middle.saturating_sub(1)), at(middle));
        // Of two infinite ones the difference would be no number.
        if below == above {
            below
        } else {
            (below + above) / 2.0
        }
    }
}

impl Trial {
    pub(crate) const fn new(setting: Setting) -> Self {
        Self {
            setting,
            points: Vec::new(),
            refused: None,
        }
    }

    pub(crate) fn add(&mut self, load: Load, run: Run) {
        if let Some(point) = self.points.iter_mut().find(|point| point.load == load) {
            point.runs.push(run);
            return;
        }
        let runs = vec![run];
        self.points.push(Point { load, runs });
        self.points
            .sort_by(|a, b| a.load.size().total_cmp(&b.load.size()));
    }

    /// The load at which most is answered within the goal. Once loads were repeated, only those count.
    #[must_use]
    pub fn best(&self, goal: &Goal) -> Option<(Load, Figures)> {
        let all = || {
            self.points
                .iter()
                .map(|point| (point.load, point.figures()))
        };
        let repeated = all().any(|(_, figures)| figures.repeated && goal.meets(&figures));
        all()
            .filter(|(_, figures)| goal.meets(figures) && (figures.repeated || !repeated))
            .max_by(|(_, a), (_, b)| a.rps.total_cmp(&b.rps))
    }

    /// The figures with the lowest P99, for a setting that meets the goal nowhere.
    #[must_use]
    pub fn quickest(&self) -> Option<(Load, Figures)> {
        self.points
            .iter()
            .map(|point| (point.load, point.figures()))
            .filter(|(_, figures)| figures.p99_ms.is_some())
            .min_by(|(_, a), (_, b)| {
                let ms = |figures: &Figures| figures.p99_ms.unwrap_or(f64::INFINITY);
                ms(a).total_cmp(&ms(b))
            })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use crate::{
        fake::{ONE, run},
        measure::Load,
    };

    #[test]
    fn several_runs_count_as_their_median_and_one_bad_one_does_not_decide() {
        let mut trial = Trial::new(ONE);
        for (rps, p99) in [(100.0, 10.0), (27.5, 900.0), (110.0, 12.0)] {
            trial.add(Load::Users(4), run(rps, p99));
        }
        let figures = trial.points.first().unwrap().figures();
        assert_eq!((figures.rps, figures.p99_ms), (100.0, Some(12.0)));
        assert_eq!((figures.spread_percent, figures.runs), (300.0, 3));
    }

    #[test]
    fn the_run_that_brought_a_setting_to_the_end_does_not_count_there() {
        let mut trial = Trial::new(ONE);
        trial.add(Load::Users(4), run(500.0, 1.0));
        for rps in [100.0, 102.0] {
            let repeat = true;
            let run = run(rps, 1.0);
            trial.add(Load::Users(4), Run { repeat, ..run });
        }
        let (_, figures) = trial.best(&Goal::new(10.0, 1.0, 3.0).unwrap()).unwrap();
        assert_eq!((figures.rps, figures.runs), (101.0, 2));
    }

    #[test]
    fn a_load_where_most_answers_failed_to_come_has_no_latency() {
        let mut trial = Trial::new(ONE);
        for p99_ms in [None, Some(1.0), None] {
            let run = run(1.0, 1.0);
            trial.add(Load::Users(4), Run { p99_ms, ..run });
        }
        assert_eq!(trial.points.first().unwrap().figures().p99_ms, None);
        assert!(trial.best(&Goal::new(10.0, 1.0, 3.0).unwrap()).is_none());
    }

    #[test]
    fn loads_are_in_order_whatever_the_order_they_were_driven_in() {
        let mut trial = Trial::new(ONE);
        for users in [8, 16, 4, 8] {
            trial.add(Load::Users(users), run(1.0, 1.0));
        }
        let loads: Vec<f64> = trial.points.iter().map(|point| point.load.size()).collect();
        assert_eq!(loads, [4.0, 8.0, 16.0]);
    }
}
