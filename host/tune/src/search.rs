//! The search: from the setting in force outwards, one thing after the other, as far as each step
//! brings something; then the best few and the one in force again, by turns, to tell a difference
//! from noise. It ends early when it is stopped or when its time is over, with what it has.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::{
    goal::Goal,
    measure::{Load, Measure, Run, Unmeasured},
    proposal::Proposal,
    setting::{Batching, Setting},
    space::Space,
    trial::{Figures, Trial},
};

/// Throughput that rises by less than this from one load to the next has stopped rising.
const RISE: f64 = 1.02;
/// Settings beside the one in force that are measured again at the end.
const FINALISTS: usize = 2;
/// How much a single measurement may be lucky or not: a setting that looks no worse than the one in force by this share
/// may be the better one.
const LUCK: f64 = 0.2;
/// A step that brings nothing is forgiven once: the next one may.
const MISSES: u32 = 2;
/// Runs that are this full on average gain nothing by waiting for more.
const FULL: f64 = 0.8;
/// The largest run that a graph with automatic batching takes.
const AUTO_BATCH: u32 = 32;

/// What is asked of a search.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The setting in force.
    pub baseline: Setting,
    /// What a setting must keep.
    pub goal: Goal,
    /// The loads to drive, rising.
    pub loads: Vec<Load>,
    /// Where settings may lie.
    pub space: Space,
    /// How long all measurements together may take.
    pub budget: Duration,
    /// How long one measurement takes, as far as that is known before the first.
    pub cell: Duration,
    /// How often the last few are measured again; at least 2.
    pub repeats: u32,
}

/// What the search is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The setting in force.
    Baseline,
    /// How many rows share a run.
    Batch,
    /// How long a request waits for others.
    Wait,
    /// Sessions and threads.
    Parallel,
    /// The best few again.
    Repeats,
}

impl Stage {
    /// The stage in a word or two.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Baseline => "as it is set",
            Self::Batch => "batch size",
            Self::Wait => "wait",
            Self::Parallel => "sessions and threads",
            Self::Repeats => "repeats",
        }
    }
}

/// Is told how the search gets on.
pub trait Watch {
    /// A measurement begins, `spent` of the budget being used.
    fn begins(&mut self, _stage: Stage, _setting: &Setting, _load: Load, _spent: Duration) {}
    /// It has ended.
    fn measured(&mut self, _setting: &Setting, _load: Load, _run: &Run) {}
    /// A setting that is not served.
    fn refused(&mut self, _setting: &Setting, _why: &str) {}
    /// Something is left out, and why.
    fn skips(&mut self, _stage: Stage, _why: &str) {}
}

/// How the search came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// It looked at all that promised something.
    Whole,
    /// Its time was over; the rest is left out.
    Budget,
    /// Somebody stopped it.
    Stopped,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// What was measured, the setting in force first.
    pub trials: Vec<Trial>,
    /// What was left out, and why.
    pub skipped: Vec<(Stage, String)>,
    /// How it ended.
    pub ended: Ended,
    /// How long all measurements together took.
    #[serde(serialize_with = "seconds")]
    pub spent: Duration,
    /// What to do.
    pub proposal: Proposal,
}

fn seconds<S: serde::Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(span.as_secs_f64())
}

/// A search that found nothing out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SearchError {
    /// The setting in force is not served, so that there is nothing to compare with.
    #[error("the model as it is set cannot be measured: {0}")]
    Baseline(String),
    /// Nothing to drive with.
    #[error("no loads to drive: give at least one")]
    NoLoads,
}

/// Searches.
///
/// # Errors
/// Where the setting in force cannot be measured.
pub async fn search<M: Measure>(
    asked: &Asked,
    bench: &mut M,
    watch: &mut dyn Watch,
) -> Result<Found, SearchError> {
    if asked.loads.is_empty() {
        return Err(SearchError::NoLoads);
    }
    let mut search = Search {
        asked,
        bench,
        watch,
        trials: vec![Trial::new(asked.baseline)],
        skipped: Vec::new(),
        spent: Duration::ZERO,
        longest: asked.cell,
    };
    let mut ended = search.stages().await.err().unwrap_or(Ended::Whole);
    if let Some(why) = search.baseline().refused.clone() {
        return Err(SearchError::Baseline(why));
    }
    if ended != Ended::Stopped
        && let Err(early) = search.repeat().await
    {
        ended = early;
    }
    let proposal = Proposal::of(&search.trials, &asked.goal, asked.repeats);
    let Search {
        mut trials,
        skipped,
        spent,
        ..
    } = search;
    // Of a setting that it was stopped at before its first figure there is nothing to tell.
    let mut index = 0;
    trials.retain(|trial| {
        index += 1;
        index == 1 || !trial.points.is_empty() || trial.refused.is_some()
    });
    Ok(Found {
        trials,
        skipped,
        ended,
        spent,
        proposal,
    })
}

struct Search<'a, M> {
    asked: &'a Asked,
    bench: &'a mut M,
    watch: &'a mut dyn Watch,
    trials: Vec<Trial>,
    skipped: Vec<(Stage, String)>,
    spent: Duration,
    /// The longest measurement so far.
    longest: Duration,
}

/// How good a setting is: those that meet the goal by what they serve, the others by how near they
/// come to it, so that there is a way towards the goal too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Score {
    Misses { p99_ms: f64 },
    Meets { rps: f64 },
}

impl Score {
    /// Whether it is better by a share, and not by a hair.
    fn is_better_by(self, share: f64, than: Self) -> bool {
        match (self, than) {
            (Self::Meets { rps }, Self::Meets { rps: other }) => rps > other * (1.0 + share),
            (Self::Misses { p99_ms }, Self::Misses { p99_ms: other }) => {
                p99_ms * (1.0 + share) < other
            }
            (Self::Meets { .. }, Self::Misses { .. }) => true,
            (Self::Misses { .. }, Self::Meets { .. }) => false,
        }
    }
}

impl<M: Measure> Search<'_, M> {
    /// Everything but the repeats.
    async fn stages(&mut self) -> Result<(), Ended> {
        self.climb(Stage::Baseline, self.asked.baseline).await?;
        if self.baseline().refused.is_some() {
            return Ok(());
        }
        self.batch_sizes().await?;
        self.waits().await?;
        let before = self.best().setting;
        self.parallel().await?;
        let best = self.best().setting;
        if (best.sessions, best.threads) != (before.sessions, before.threads) {
            self.neighbours(best).await?;
        }
        Ok(())
    }

    async fn batch_sizes(&mut self) -> Result<(), Ended> {
        let from = self.asked.baseline;
        if self.asked.space.plain_batching {
            for batching in [Batching::Auto, Batching::Off] {
                self.climb(Stage::Batch, from.batched(batching)).await?;
            }
        }
        let (mut misses, mut tried) = (0, false);
        for size in self.asked.space.sizes().collect::<Vec<_>>() {
            // A bound twice as high as what comes together by itself changes nothing.
            if let Some(reach) = self.reach()
                && f64::from(size) >= reach * 2.0
                && tried
            {
                self.skip(
                    Stage::Batch,
                    format!(
                        "batches of {size} and more: runs had {reach:.1} requests on average at most"
                    ),
                );
                break;
            }
            tried = true;
            let setting = from.batched(Batching::On {
                max_batch_size: size,
                max_latency_ms: 0,
            });
            misses = if self.climb(Stage::Batch, setting).await? {
                0
            } else {
                misses + 1
            };
            if misses == MISSES {
                break;
            }
        }
        Ok(())
    }

    /// Waiting is tried where runs have room for more, more of them would gain something, and the
    /// objective leaves time for it.
    async fn waits(&mut self) -> Result<(), Ended> {
        let best = self.best();
        let (setting, mean) = (best.setting, self.mean_batch(best));
        let (size, alone) = match setting.batching {
            Batching::Off => (0, true),
            Batching::Auto => (AUTO_BATCH, mean.is_some_and(|mean| mean < 1.05)),
            Batching::On { max_batch_size, .. } => (max_batch_size, false),
        };
        if alone {
            self.skip(
                Stage::Wait,
                "requests run alone, so there is nobody to wait for".to_owned(),
            );
            return Ok(());
        }
        if mean.is_some_and(|mean| mean >= f64::from(size) * FULL) {
            self.skip(
                Stage::Wait,
                format!(
                    "runs are full without it ({:.1} of {size} requests)",
                    mean.unwrap_or_default()
                ),
            );
            return Ok(());
        }
        let objective = Duration::from_secs_f64(self.asked.goal.p99_ms() / 1000.0);
        let waits: Vec<u32> = Space::waits(objective).collect();
        if waits.is_empty() {
            self.skip(
                Stage::Wait,
                "even a millisecond is more than a quarter of the objective".to_owned(),
            );
        }
        for wait in waits {
            let waiting = setting.batched(Batching::On {
                max_batch_size: size,
                max_latency_ms: wait,
            });
            if !self.climb(Stage::Wait, waiting).await? {
                break;
            }
        }
        Ok(())
    }

    async fn parallel(&mut self) -> Result<(), Ended> {
        let from = self.best().setting;
        if self.asked.space.cores == 1 {
            self.skip(
                Stage::Parallel,
                "there is one thread to compute on".to_owned(),
            );
        } else if !self.asked.space.threads {
            self.skip(
                Stage::Parallel,
                "threads: a run of this backend does not share itself out over several".to_owned(),
            );
        }
        for choices in [self.asked.space.whole(), self.asked.space.half()] {
            let mut misses = 0;
            for (sessions, threads) in choices {
                let better = self
                    .climb(Stage::Parallel, from.parallel(sessions, threads))
                    .await?;
                misses = if better { 0 } else { misses + 1 };
                if misses == MISSES {
                    break;
                }
            }
        }
        Ok(())
    }

    /// With other sessions another batch size may be best: the next to both sides.
    async fn neighbours(&mut self, of: Setting) -> Result<(), Ended> {
        let Batching::On {
            max_batch_size,
            max_latency_ms,
        } = of.batching
        else {
            return Ok(());
        };
        let sizes: Vec<u32> = self.asked.space.sizes().collect();
        for size in [max_batch_size / 2, max_batch_size.saturating_mul(2)] {
            if sizes.contains(&size) {
                let batching = Batching::On {
                    max_batch_size: size,
                    max_latency_ms,
                };
                self.climb(Stage::Batch, of.batched(batching)).await?;
            }
        }
        Ok(())
    }

    /// Measures a setting under rising loads, until its P99 is over the objective or its throughput
    /// rises no more; true if it is now the best by what a change must gain. One that was measured
    /// before is not measured again.
    async fn climb(&mut self, stage: Stage, setting: Setting) -> Result<bool, Ended> {
        let known = |trial: &Trial| trial.setting == setting;
        if stage != Stage::Baseline && self.trials.iter().any(known) {
            return Ok(false);
        }
        let before = self.score(self.best());
        if stage != Stage::Baseline {
            self.trials.push(Trial::new(setting));
        }
        let index = self.trials.len() - 1;
        self.rise(stage, index).await?;
        let gain = self.asked.goal.min_gain_percent() / 100.0;
        let now = self.trials.get(index).and_then(|trial| self.score(trial));
        Ok(match (now, before) {
            (Some(now), Some(before)) => now.is_better_by(gain, before),
            (now, _) => now.is_some(),
        })
    }

    async fn rise(&mut self, stage: Stage, index: usize) -> Result<(), Ended> {
        let loads = &self.asked.loads;
        let first = if index == 0 { 0 } else { self.first_load() };
        let mut best = 0.0;
        let mut met: Option<Load> = None;
        for load in loads.iter().skip(first).copied() {
            let Some(figures) = self.once(stage, index, load).await? else {
                return Ok(());
            };
            if !self.asked.goal.meets(&figures) {
                if let Some(between) = met.and_then(|met| met.midway(load)) {
                    self.once(stage, index, between).await?;
                }
                break;
            }
            if figures.rps < best * RISE {
                return Ok(());
            }
            best = figures.rps;
            met = Some(load);
        }
        if met.is_some() {
            return Ok(());
        }
        // Where others did well it misses: it may still do so under less.
        for load in loads.iter().take(first).rev().copied() {
            match self.once(stage, index, load).await? {
                Some(figures) if !self.asked.goal.meets(&figures) => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// Where a setting's loads begin: a step below the best load of the setting in force, as under
    /// less than that no setting shows what it can do.
    fn first_load(&self) -> usize {
        let best = self.baseline().best(&self.asked.goal);
        let Some((best, _)) = best else { return 0 };
        let at = self
            .asked
            .loads
            .iter()
            .rposition(|load| load.size() <= best.size());
        at.unwrap_or_default().saturating_sub(1)
    }

    /// The best of the search and the setting in force again, by turns, until each has its repeats at
    /// one load. Nothing, where nothing may be better.
    async fn repeat(&mut self) -> Result<(), Ended> {
        let finalists = self.finalists();
        if finalists.len() < 2 {
            return Ok(());
        }
        // More rounds than repeats: a load that misses the goal when repeated gives way to a lower one.
        for round in 0..self.asked.repeats as usize * 2 {
            if finalists.iter().all(|index| self.is_settled(*index)) {
                break;
            }
            // Whoever goes first in one round goes last in the next: a machine that gets slower or
            // faster is so for all.
            let mut turns = finalists.clone();
            turns.rotate_left(round % finalists.len());
            for index in turns {
                let goal = &self.asked.goal;
                let trial = self.trials.get(index);
                let load = trial.and_then(|trial| trial.best(goal).or_else(|| trial.quickest()));
                if let Some((load, _)) = load {
                    self.once(Stage::Repeats, index, load).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether enough is known of a finalist.
    fn is_settled(&self, index: usize) -> bool {
        let Some(trial) = self.trials.get(index).filter(|t| t.refused.is_none()) else {
            return true;
        };
        let figures = trial
            .best(&self.asked.goal)
            .or_else(|| trial.quickest())
            .map(|(_, figures)| figures);
        figures
            .is_none_or(|figures| figures.repeated && figures.runs >= self.asked.repeats as usize)
    }

    /// The setting in force, and the best of those that may be better.
    fn finalists(&self) -> Vec<usize> {
        // One that answered nothing in time is worse than any.
        let now = self.score(self.baseline()).unwrap_or(Score::Misses {
            p99_ms: f64::INFINITY,
        });
        let mut better: Vec<(usize, f64)> = self
            .trials
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, trial)| trial.refused.is_none())
            .filter_map(|(index, trial)| match self.score(trial)? {
                score @ Score::Meets { rps } if score.is_better_by(-LUCK, now) => {
                    Some((index, rps))
                }
                _ => None,
            })
            .collect();
        better.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let better = better.into_iter().take(FINALISTS).map(|(index, _)| index);
        std::iter::once(0).chain(better).collect()
    }

    /// Measures once. None: the setting is refused, now or before.
    async fn once(
        &mut self,
        stage: Stage,
        index: usize,
        load: Load,
    ) -> Result<Option<Figures>, Ended> {
        let Some(trial) = self.trials.get(index).filter(|t| t.refused.is_none()) else {
            return Ok(None);
        };
        let setting = trial.setting;
        if self.spent + self.longest + self.reserve(stage) > self.asked.budget {
            return Err(Ended::Budget);
        }
        self.watch.begins(stage, &setting, load, self.spent);
        let (took, ended) = match self.bench.measure(&setting, load).await {
            Ok(run) => {
                self.watch.measured(&setting, load, &run);
                (run.took, Ok(run))
            }
            Err(Unmeasured::Refused { why, took }) => {
                self.watch.refused(&setting, &why);
                (took, Err(why))
            }
            Err(Unmeasured::Stopped) => return Err(Ended::Stopped),
        };
        self.spent += took;
        self.longest = self.longest.max(took);
        let Some(trial) = self.trials.get_mut(index) else {
            return Ok(None);
        };
        match ended {
            Ok(run) => {
                let repeat = stage == Stage::Repeats;
                trial.add(load, Run { repeat, ..run });
                let point = trial.points.iter().find(|point| point.load == load);
                Ok(point.map(|point| point.figures()))
            }
            Err(why) => {
                trial.refused = Some(why);
                Ok(None)
            }
        }
    }

    /// What of the budget is kept for the repeats, without which nothing is proposed; but never more
    /// than a third of it.
    fn reserve(&self, stage: Stage) -> Duration {
        if matches!(stage, Stage::Baseline | Stage::Repeats) {
            return Duration::ZERO;
        }
        let repeats = (1 + FINALISTS as u32).saturating_mul(self.asked.repeats);
        self.longest
            .saturating_mul(repeats)
            .min(self.asked.budget / 3)
    }

    fn baseline(&self) -> &Trial {
        // The first is there from the start.
        self.trials.first().unwrap_or_else(|| unreachable!())
    }

    fn score(&self, trial: &Trial) -> Option<Score> {
        if let Some((_, figures)) = trial.best(&self.asked.goal) {
            return Some(Score::Meets { rps: figures.rps });
        }
        let (_, figures) = trial.quickest()?;
        let p99_ms = figures.p99_ms?;
        Some(Score::Misses { p99_ms })
    }

    /// The best setting so far; of equals the earliest, which is the nearest to the one in force.
    fn best(&self) -> &Trial {
        self.trials
            .iter()
            .filter(|trial| trial.refused.is_none())
            .reduce(|best, trial| match (self.score(trial), self.score(best)) {
                (Some(score), Some(other)) if score.is_better_by(0.0, other) => trial,
                (Some(_), None) => trial,
                _ => best,
            })
            .unwrap_or(self.baseline())
    }

    /// Requests in one run of a setting on average, at its best load.
    fn mean_batch(&self, trial: &Trial) -> Option<f64> {
        trial.best(&self.asked.goal)?.1.mean_batch
    }

    /// The most requests that runs had on average, under any load that meets the goal: what comes
    /// together by itself. None where that is not seen, as runs were full or nothing shared one.
    fn reach(&self) -> Option<f64> {
        let mut reach: Option<f64> = None;
        for trial in &self.trials {
            let most = match trial.setting.batching {
                Batching::Off => continue,
                Batching::Auto => AUTO_BATCH,
                Batching::On { max_batch_size, .. } => max_batch_size,
            };
            let figures = trial.points.iter().map(|point| point.figures());
            let means = figures
                .filter(|figures| self.asked.goal.meets(figures))
                .filter_map(|figures| figures.mean_batch);
            for mean in means {
                if mean >= f64::from(most) * FULL {
                    return None;
                }
                // Automatic batching that found no gain says nothing of what others would reach.
                if mean > 1.0 {
                    reach = Some(reach.unwrap_or_default().max(mean));
                }
            }
        }
        reach
    }

    fn skip(&mut self, stage: Stage, why: String) {
        self.watch.skips(stage, &why);
        self.skipped.push((stage, why));
    }
}

#[cfg(test)]
mod tests;
