//! What to do, from what was measured: a change only where the repeated measurements keep the goal
//! and lie further above those of the setting in force than either's lie apart, all by their ratios.

use serde::Serialize;

use crate::{
    goal::Goal,
    measure::Load,
    setting::Setting,
    trial::{Figures, Trial},
};

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Proposal {
    /// Another setting.
    Change {
        /// Which.
        setting: Setting,
        /// Under which load it served most.
        load: Load,
        /// What it did there, repeated.
        figures: Figures,
        /// How much more it serves than the setting in force, in percent; none where that one does
        /// not meet the goal.
        gain_percent: Option<f64>,
        /// Differences below this are noise, in percent: what either's repeats differ by.
        noise_percent: f64,
    },
    /// The setting in force stays: it meets the goal, and nothing is better beyond the noise.
    Keep {
        /// The best of the others that were repeated, if any, and what they gained.
        next: Option<Next>,
        /// Under which load it serves most.
        load: Load,
        /// What it did there.
        figures: Figures,
    },
    /// Some setting looked better in one measurement, and there was no time to repeat it.
    Unsure {
        /// Which.
        setting: Setting,
        /// Under which load it served most.
        load: Load,
        /// What it did there.
        figures: Figures,
    },
    /// No setting meets the goal.
    Nothing {
        /// The one that came nearest.
        nearest: Option<Nearest>,
    },
}

/// A setting that was not better enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Next {
    /// Which.
    pub setting: Setting,
    /// How much more it served, in percent.
    pub gain_percent: f64,
    /// Differences below this are noise, in percent.
    pub noise_percent: f64,
}

/// A setting that came near.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// Which.
    pub setting: Setting,
    /// Under which load.
    pub load: Load,
    /// Its figures.
    pub figures: Figures,
}

impl Proposal {
    /// What to do, the first of `trials` being the setting in force. Figures count that were repeated
    /// at least `repeats` times.
    #[must_use]
    pub fn of(trials: &[Trial], goal: &Goal, repeats: u32) -> Self {
        let enough = |figures: &Figures| figures.repeated && figures.runs >= repeats as usize;
        let served = || {
            let served = trials.iter().filter(|trial| trial.refused.is_none());
            served.filter_map(|trial| Some((trial.setting, trial.best(goal)?)))
        };
        let most = |best: Option<(Setting, (Load, Figures))>, one: (Setting, (Load, Figures))| {
            match best {
                Some(best) if best.1.1.rps >= one.1.1.rps => Some(best),
                _ => Some(one),
            }
        };
        let now = trials
            .first()
            .and_then(|trial| Some((trial.setting, trial.best(goal)?)));
        let in_force = trials.first().map(|trial| trial.setting);
        let others = || served().filter(|(setting, _)| Some(*setting) != in_force);
        let repeated = others()
            .filter(|(_, (_, figures))| enough(figures))
            .fold(None, most);
        let once = others()
            .filter(|(_, (_, figures))| !enough(figures))
            .fold(None, most);
        let unsure = |(setting, (load, figures))| Self::Unsure {
            setting,
            load,
            figures,
        };
        let Some((_, (load, figures))) = now else {
            return match (repeated, once) {
                (Some((setting, (load, figures))), _) => Self::Change {
                    setting,
                    load,
                    figures,
                    gain_percent: None,
                    noise_percent: 0.0,
                },
                (None, Some(once)) => unsure(once),
                (None, None) => Self::Nothing {
                    nearest: nearest(trials),
                },
            };
        };
        let gain = |other: &Figures| (other.rps / figures.rps - 1.0) * 100.0;
        if !enough(&figures) {
            // Without repeats of the setting in force there is nothing to hold others' against.
            let promising = once.into_iter().chain(repeated);
            return match promising.fold(None, most) {
                Some(other) if gain(&other.1.1) > goal.min_gain_percent() => unsure(other),
                _ => Self::Keep {
                    next: None,
                    load,
                    figures,
                },
            };
        }
        let mut next = None;
        if let Some((setting, (at, other))) = repeated {
            // As a ratio of each one's own, as the gain is one: what varies by half at a thousand
            // requests a second is not in doubt against twenty.
            let spread = figures.spread_percent.max(other.spread_percent);
            let noise = spread.max(goal.min_gain_percent());
            if gain(&other) > noise {
                return Self::Change {
                    setting,
                    load: at,
                    figures: other,
                    gain_percent: Some(gain(&other)),
                    noise_percent: noise,
                };
            }
            next = Some(Next {
                setting,
                gain_percent: gain(&other),
                noise_percent: noise,
            });
        }
        // What looked better once and was not repeated; whatever was repeated has been answered.
        match once {
            Some(once) if next.is_none() && gain(&once.1.1) > goal.min_gain_percent() => {
                unsure(once)
            }
            _ => Self::Keep {
                next,
                load,
                figures,
            },
        }
    }

    /// The proposed change, if one is proposed.
    #[must_use]
    pub const fn change(&self) -> Option<Setting> {
        match self {
            Self::Change { setting, .. } => Some(*setting),
            _ => None,
        }
    }
}

fn nearest(trials: &[Trial]) -> Option<Nearest> {
    let ms = |figures: &Figures| figures.p99_ms.unwrap_or(f64::INFINITY);
    trials
        .iter()
        .filter_map(|trial| {
            let (load, figures) = trial.quickest()?;
            let setting = trial.setting;
            Some(Nearest {
                setting,
                load,
                figures,
            })
        })
        .min_by(|a, b| ms(&a.figures).total_cmp(&ms(&b.figures)))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;
    use crate::{
        fake::{ONE, run},
        measure::Run,
        setting::Batching,
    };

    const AT: Load = Load::Users(8);
    const TWO: Setting = ONE.parallel(2, 1);
    const THREE: Setting = ONE.batched(Batching::Off);

    fn goal() -> Goal {
        Goal::new(10.0, 1.0, 3.0).unwrap()
    }

    /// A setting with repeated runs of these requests a second and P99.
    fn trial(setting: Setting, runs: &[(f64, f64)]) -> Trial {
        let mut trial = Trial::new(setting);
        for (rps, p99) in runs {
            let run = run(*rps, *p99);
            trial.add(
                AT,
                Run {
                    repeat: true,
                    ..run
                },
            );
        }
        trial
    }

    #[test]
    fn what_serves_clearly_more_is_proposed_with_its_gain() {
        let trials = [
            trial(ONE, &[(100.0, 5.0), (101.0, 5.0), (99.0, 5.0)]),
            trial(TWO, &[(150.0, 6.0), (149.0, 6.0), (151.0, 6.0)]),
        ];
        let Proposal::Change {
            setting,
            gain_percent,
            noise_percent,
            ..
        } = Proposal::of(&trials, &goal(), 3)
        else {
            panic!("a change")
        };
        assert_eq!((setting, gain_percent), (TWO, Some(50.0)));
        // What the runs differ among themselves by is less than what a change must gain.
        assert_eq!(noise_percent, 3.0);
    }

    #[test]
    fn a_gain_that_the_repeats_differ_by_among_themselves_is_none() {
        let trials = [
            trial(ONE, &[(100.0, 5.0), (120.0, 5.0), (80.0, 5.0)]),
            trial(TWO, &[(115.0, 6.0), (114.0, 6.0), (116.0, 6.0)]),
        ];
        let Proposal::Keep {
            next: Some(next), ..
        } = Proposal::of(&trials, &goal(), 3)
        else {
            panic!("no change")
        };
        assert_eq!((next.setting, next.noise_percent), (TWO, 50.0));
    }

    #[test]
    fn thirty_times_as_much_is_a_gain_however_the_repeats_of_it_differ() {
        let trials = [
            trial(ONE, &[(20.0, 209.0), (19.8, 210.0)]),
            trial(TWO, &[(278.0, 30.0), (968.0, 16.0)]),
        ];
        let goal = Goal::new(5000.0, 1.0, 3.0).unwrap();
        assert_eq!(Proposal::of(&trials, &goal, 2).change(), Some(TWO));
    }

    #[test]
    fn more_throughput_over_the_objective_is_no_gain() {
        let trials = [
            trial(ONE, &[(100.0, 5.0); 3]),
            trial(TWO, &[(900.0, 10.1); 3]),
        ];
        let proposal = Proposal::of(&trials, &goal(), 3);
        assert!(matches!(proposal, Proposal::Keep { next: None, .. }));
    }

    #[test]
    fn a_setting_in_force_that_misses_gives_way_to_one_that_meets_however_slow() {
        let trials = [
            trial(ONE, &[(900.0, 50.0); 3]),
            trial(TWO, &[(100.0, 5.0); 3]),
            trial(THREE, &[(90.0, 5.0); 3]),
        ];
        let proposal = Proposal::of(&trials, &goal(), 3);
        assert_eq!(proposal.change(), Some(TWO));
        let Proposal::Change { gain_percent, .. } = proposal else {
            panic!("a change")
        };
        assert_eq!(gain_percent, None);
    }

    #[test]
    fn where_nothing_meets_the_nearest_is_told_and_nothing_proposed() {
        let trials = [
            trial(ONE, &[(900.0, 50.0); 3]),
            trial(TWO, &[(100.0, 12.0); 3]),
        ];
        let Proposal::Nothing {
            nearest: Some(nearest),
        } = Proposal::of(&trials, &goal(), 3)
        else {
            panic!("nothing")
        };
        assert_eq!(nearest.setting, TWO);
    }

    #[test]
    fn what_was_not_repeated_enough_is_not_proposed_but_told() {
        let trials = [
            trial(ONE, &[(100.0, 5.0); 3]),
            trial(TWO, &[(200.0, 5.0); 2]),
        ];
        let proposal = Proposal::of(&trials, &goal(), 3);
        assert!(
            matches!(proposal, Proposal::Unsure { setting, .. } if setting == TWO),
            "{proposal:?}"
        );
    }

    #[test]
    fn a_refused_setting_is_never_proposed_whatever_it_did_before() {
        let mut broken = trial(TWO, &[(900.0, 1.0); 3]);
        broken.refused = Some("its server ended".to_owned());
        let trials = [trial(ONE, &[(100.0, 5.0); 3]), broken];
        assert_eq!(Proposal::of(&trials, &goal(), 3).change(), None);
    }

    fn runs() -> impl Strategy<Value = Vec<(f64, f64)>> {
        prop::collection::vec((1.0..1000.0f64, 1.0..20.0f64), 1..5)
    }

    proptest! {
        #[test]
        fn whatever_was_measured_a_change_meets_the_goal_is_repeated_and_beyond_the_noise(
            one in runs(), two in runs(), three in runs(), repeats in 2u32..4,
        ) {
            let trials = [trial(ONE, &one), trial(TWO, &two), trial(THREE, &three)];
            let (goal, now) = (goal(), trials[0].best(&goal()));
            match Proposal::of(&trials, &goal, repeats) {
                Proposal::Change { setting, figures, gain_percent, noise_percent, .. } => {
                    prop_assert!(setting != ONE && goal.meets(&figures));
                    prop_assert!(figures.runs >= repeats as usize);
                    prop_assert_eq!(gain_percent.is_none(), now.is_none());
                    if let (Some(gain), Some((_, now))) = (gain_percent, now) {
                        prop_assert!(gain > noise_percent && gain > 3.0);
                        prop_assert!(gain > now.spread_percent.max(figures.spread_percent));
                    }
                }
                Proposal::Keep { figures, .. } => {
                    prop_assert!(goal.meets(&figures));
                    prop_assert!(now.is_some());
                }
                Proposal::Unsure { setting, figures, .. } => {
                    prop_assert!(setting != ONE && goal.meets(&figures));
                }
                Proposal::Nothing { .. } => {
                    prop_assert!(trials.iter().all(|trial| trial.best(&goal).is_none()));
                }
            }
        }
    }
}
