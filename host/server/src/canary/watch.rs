//! What was seen of a rollout's step: by this replica's requests, and by what the others told of theirs.

use std::{collections::HashMap, sync::Arc};

use aegis_registry::RolloutReport;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    observed::{Counts, Observed},
    rule::{Decision, Looks, Rule},
    seen::Seen,
};

/// What one replica saw, as the others read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) stable: Counts,
    pub(super) canary: Counts,
    /// The looks that it has taken, if it judges.
    #[serde(default)]
    pub(super) looks: Looks,
    /// What speaks against the canary there, whatever its figures are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unwell: Option<String>,
}

/// A step under watch.
pub(super) struct Watch {
    step: usize,
    /// When the step began, which no other step did.
    since: OffsetDateTime,
    stable: Since,
    canary: Since,
    looks: Looks,
    seen: Seen,
    /// What was seen of here by the last look.
    seen_here: (Counts, Counts),
    /// What each of the others told last.
    told: HashMap<String, Figures>,
}

/// What was observed of a version since a moment.
struct Since {
    observed: Arc<Observed>,
    start: Counts,
}

impl Watch {
    /// Watches from now on.
    pub(super) fn begin(
        step: (usize, OffsetDateTime),
        stable: &Arc<Observed>,
        canary: &Arc<Observed>,
    ) -> Watch {
        Watch {
            step: step.0,
            since: step.1,
            stable: Since::now(stable),
            canary: Since::now(canary),
            looks: Looks::default(),
            seen: Seen::default(),
            seen_here: Default::default(),
            told: HashMap::new(),
        }
    }

    pub(super) fn is_of(
        &self,
        step: (usize, OffsetDateTime),
        stable: &Arc<Observed>,
        canary: &Arc<Observed>,
    ) -> bool {
        (self.step, self.since) == step
            && Arc::ptr_eq(&self.stable.observed, stable)
            && Arc::ptr_eq(&self.canary.observed, canary)
    }

    /// What this replica saw.
    pub(super) fn figures(&self, unwell: Option<String>) -> Figures {
        Figures {
            stable: self.stable.counts(),
            canary: self.canary.counts(),
            looks: self.looks,
            unwell,
        }
    }

    /// Takes what was told of the step by others than `me`. Reports that make no sense here are passed over.
    pub(super) fn hear(&mut self, me: &str, reports: Vec<RolloutReport>) {
        // What was seen at the same time is one moment's.
        let (mut stable, mut canary) = (Counts::default(), Counts::default());
        for report in reports.into_iter().filter(|report| report.replica != me) {
            let Ok(figures) = serde_json::from_value::<Figures>(report.figures) else {
                continue;
            };
            self.looks.go_on_from(figures.looks);
            let before = self.told.remove(&report.replica).unwrap_or_default();
            stable.add(&figures.stable.since(&before.stable));
            canary.add(&figures.canary.since(&before.canary));
            self.told.insert(report.replica, figures);
        }
        self.seen.add(stable, canary);
    }

    /// What speaks against the canary on another replica.
    pub(super) fn unwell_elsewhere(&self) -> Option<String> {
        self.told.iter().find_map(|(replica, figures)| {
            let unwell = figures.unwell.as_ref()?;
            Some(format!("on replica {replica} {unwell}"))
        })
    }

    /// What follows from all that was seen.
    pub(super) fn look(&mut self, rule: &Rule, time_is_up: bool) -> Decision {
        let now = (self.stable.counts(), self.canary.counts());
        let before = std::mem::replace(&mut self.seen_here, now.clone());
        self.seen
            .add(now.0.since(&before.0), now.1.since(&before.1));
        rule.look(&mut self.looks, &self.seen, time_is_up)
    }
}

impl Since {
    fn now(observed: &Arc<Observed>) -> Since {
        Since {
            start: observed.counts(),
            observed: Arc::clone(observed),
        }
    }

    fn counts(&self) -> Counts {
        self.observed.counts().since(&self.start)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::Duration;

    use aegis_registry::Version;
    use serde_json::json;

    use super::*;

    fn watch() -> (Watch, Arc<Observed>, Arc<Observed>) {
        let (stable, canary) = (Arc::<Observed>::default(), Arc::<Observed>::default());
        let step = (0, OffsetDateTime::UNIX_EPOCH);
        (Watch::begin(step, &stable, &canary), stable, canary)
    }

    fn see(observed: &Observed, failed: bool, times: u32) {
        for _ in 0..times {
            observed.record(failed, Duration::from_millis(1));
        }
    }

    fn report(replica: &str, figures: &Figures) -> RolloutReport {
        RolloutReport {
            replica: replica.to_owned(),
            version: Version::FIRST,
            step: 0,
            since: OffsetDateTime::UNIX_EPOCH,
            figures: serde_json::to_value(figures).unwrap(),
        }
    }

    #[test]
    fn whoever_judges_judges_by_what_all_replicas_saw() {
        let (mut judge, _, _) = watch();
        let rule = Rule::new(1, 100);
        assert!(matches!(judge.look(&rule, true), Decision::Continue(_)));
        let (other, stable, canary) = watch();
        see(&stable, false, 60);
        see(&canary, false, 60);
        let told = other.figures(None);
        judge.hear("me", vec![report("a", &told)]);
        assert!(matches!(judge.look(&rule, true), Decision::Continue(_)));
        // Its own report is of what it counts anyhow, and one of each replica is all there is.
        judge.hear("me", vec![report("a", &told), report("me", &told)]);
        assert!(matches!(judge.look(&rule, true), Decision::Continue(_)));
        judge.hear("me", vec![report("a", &told), report("b", &told)]);
        assert_eq!(judge.look(&rule, true), Decision::Advance);
    }

    #[test]
    fn failures_that_only_others_saw_withdraw_it() {
        let (mut judge, stable, canary) = watch();
        see(&stable, false, 50);
        see(&canary, false, 50);
        let (other, stable, canary) = watch();
        see(&stable, false, 50);
        see(&canary, true, 50);
        judge.hear("me", vec![report("a", &other.figures(None))]);
        let rule = Rule::new(1, 100);
        assert!(matches!(
            judge.look(&rule, false),
            Decision::Withdraw { .. }
        ));
        judge.hear(
            "me",
            vec![report(
                "a",
                &other.figures(Some("it does not load: no".to_owned())),
            )],
        );
        let unwell = judge.unwell_elsewhere().unwrap();
        assert_eq!(unwell, "on replica a it does not load: no");
    }

    #[test]
    fn looks_go_on_where_another_left_off() {
        let (mut first, stable, canary) = watch();
        see(&stable, false, 50);
        see(&canary, false, 50);
        let rule = Rule::new(1, 100);
        assert!(matches!(first.look(&rule, false), Decision::Continue(_)));
        let told = first.figures(None);
        assert_ne!(told.looks, Looks::default());
        let (mut next, _, _) = watch();
        next.hear("me", vec![report("gone", &told)]);
        assert_eq!(next.looks, told.looks);
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        let (mut judge, _, _) = watch();
        let odd = RolloutReport {
            figures: json!({"stable": 3}),
            ..report("a", &Figures::default())
        };
        judge.hear("me", vec![odd]);
        assert_eq!(judge.seen.canary().requests(), 0);
    }
}
