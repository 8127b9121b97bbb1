//! [`Rollout`]: a canary that goes on by itself, step by step, until it is stable or withdrawn. It stands in the traffic
//! rule, so that a step, the share it gives and who takes it change in one conditional put: of two replicas that would
//! both take the next step one finds the other's, and no clock has to be right for that. The clocks only say when a
//! driver that was not heard of may be followed by another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::Result;
use crate::name::ModelName;
use crate::registry::Registry;
use crate::traffic::{Canary, Done, Traffic, TrafficAction, Weight};
use crate::version::Version;

/// What a rollout is asked to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// The version that is rolled out.
    pub version: Version,
    /// The shares it gets one after the other, rising. At 100 % it is made stable.
    pub steps: Vec<Weight>,
    /// How long each step lasts at least, in seconds.
    pub every_s: u64,
    /// The requests that each of both versions must have had in a step.
    pub min_requests: u64,
}

/// A rollout under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rollout {
    /// What was asked.
    #[serde(flatten)]
    pub plan: RolloutPlan,
    /// Which of the steps it is at, from 0.
    pub step: usize,
    /// Since when it is at that.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Which replica judges it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Lease>,
}

/// The right to take a rollout's next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it.
    pub holder: String,
    /// Until when nobody else may take it, by the holder's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

impl RolloutPlan {
    /// The most steps.
    pub const MOST_STEPS: usize = 50;

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let wanted = "steps are percents that rise, from above 0 to 100, such as 1,5,25,50,100";
        let rise = self.steps.is_sorted_by(|one, next| one < next);
        if self.steps.is_empty() || !rise || self.steps.first() == Some(&Weight::ZERO) {
            return Some(wanted.to_owned());
        }
        if self.steps.len() > Self::MOST_STEPS {
            return Some(format!(
                "{} steps are more than a rollout may have, {}",
                self.steps.len(),
                Self::MOST_STEPS
            ));
        }
        (self.every_s == 0).then(|| "a step lasts a second at least".to_owned())
    }

    fn canary(&self, step: usize) -> Option<Canary> {
        let weight = *self.steps.get(step)?;
        let version = self.version;
        (weight < Weight::ALL).then_some(Canary { version, weight })
    }
}

impl Rollout {
    /// How many steps have both versions answer, so that they can be compared.
    pub fn compared_steps(&self) -> usize {
        let both = |weight: &&Weight| **weight < Weight::ALL;
        self.plan.steps.iter().filter(both).count()
    }
}

impl Traffic {
    /// Begins a rollout.
    pub(crate) fn begin(&mut self, plan: &RolloutPlan) -> Result<Done, String> {
        plan.problem().map_or(Ok(()), Err)?;
        match self.stable {
            None => return Err("no version is stable to compare a canary with".to_owned()),
            Some(stable) if stable == plan.version => {
                return Err(format!(
                    "version {stable} is stable already; a canary is another version"
                ));
            }
            Some(_) => {}
        }
        self.rollout = Some(Rollout {
            plan: plan.clone(),
            step: 0,
            since: OffsetDateTime::now_utc(),
            driver: None,
        });
        self.take_step(0);
        Ok(Done::new(TrafficAction::BeginRollout, Some(plan.version)))
    }

    /// Gives the version what it has at that step; after the last the rollout is over.
    fn take_step(&mut self, step: usize) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let version = rollout.plan.version;
        let given = rollout.plan.steps.get(step).copied();
        rollout.step = step;
        rollout.since = OffsetDateTime::now_utc();
        match given {
            Some(Weight::ALL) => self.make_stable(version),
            Some(weight) => self.canary = Some(Canary { version, weight }),
            None => self.rollout = None,
        }
        self.settle();
    }

    /// A rollout whose canary somebody changed by hand is over: they decide from here on.
    pub(crate) fn settle(&mut self) {
        let canary = self.canary;
        self.rollout.take_if(|rollout| {
            let given = rollout.plan.canary(rollout.step);
            given.is_none() || given != canary
        });
    }

    /// The rollout, if `holder` is the one who may move it on from `step`.
    fn driven_by(&self, holder: &str, step: usize) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| {
            let drives = |lease: &Lease| lease.holder == holder;
            rollout.step == step && rollout.driver.as_ref().is_some_and(drives)
        })
    }
}

impl Registry {
    /// Takes or keeps, for `span`, the right to move a model's rollout on. `None` where there is no rollout or another
    /// holds that right.
    pub async fn drive_rollout(
        &self,
        name: &ModelName,
        holder: &str,
        span: Duration,
    ) -> Result<Option<Traffic>> {
        let taken = AtomicBool::new(false);
        let traffic = self
            .0
            .edit_traffic(name, |traffic, _| {
                let at = OffsetDateTime::now_utc();
                let rollout = traffic.rollout.as_mut().filter(|rollout| {
                    let other = |lease: &Lease| lease.holder != holder && lease.until > at;
                    !rollout.driver.as_ref().is_some_and(other)
                });
                let may = rollout.is_some();
                taken.store(may, Ordering::Relaxed);
                if let Some(rollout) = rollout {
                    rollout.driver = Some(Lease {
                        holder: holder.to_owned(),
                        until: at + span,
                    });
                }
                Ok(may)
            })
            .await?;
        Ok(taken.into_inner().then_some(traffic))
    }

    /// Moves a rollout on from `step`, to the next share or to the end; gives the rule, and whether this changed it: not if
    /// the rollout is elsewhere by now, or `holder` is no longer the one who drives it.
    pub async fn advance_rollout(
        &self,
        name: &ModelName,
        holder: &str,
        step: usize,
    ) -> Result<(Traffic, bool)> {
        self.move_rollout(name, holder, step, move |traffic, version| {
            traffic.take_step(step.saturating_add(1));
            let action = match traffic.stable == Some(version) {
                true => TrafficAction::EndRollout,
                false => TrafficAction::AdvanceRollout,
            };
            Done::new(action, Some(version))
        })
        .await
    }

    /// Withdraws the canary of a rollout, for the reason `why`, which the history keeps; gives what
    /// [`Registry::advance_rollout`] does.
    pub async fn withdraw_rollout(
        &self,
        name: &ModelName,
        holder: &str,
        step: usize,
        why: &str,
    ) -> Result<(Traffic, bool)> {
        let why = why.to_owned();
        self.move_rollout(name, holder, step, move |traffic, version| {
            (traffic.canary, traffic.rollout) = (None, None);
            Done {
                action: TrafficAction::WithdrawRollout,
                version: Some(version),
                why: Some(why.clone()),
            }
        })
        .await
    }

    async fn move_rollout(
        &self,
        name: &ModelName,
        holder: &str,
        step: usize,
        go: impl Fn(&mut Traffic, Version) -> Done + Send + Sync + 'static,
    ) -> Result<(Traffic, bool)> {
        let moved = Arc::new(AtomicBool::new(false));
        let (by, holder) = (driver_name(holder), holder.to_owned());
        let told = Arc::clone(&moved);
        let change = move |traffic: &mut Traffic| {
            let driven = traffic.driven_by(&holder, step);
            let version = driven.map(|rollout| rollout.plan.version);
            // The last attempt is the one that counts.
            told.store(version.is_some(), Ordering::Relaxed);
            Ok(version.map(|version| go(traffic, version)))
        };
        let traffic = self.change(name, Some(&by), change).await?;
        Ok((traffic, moved.load(Ordering::Relaxed)))
    }
}

/// Who stands in the history for what a rollout did.
fn driver_name(holder: &str) -> String {
    format!("rollout, driven by {holder}")
}
