//! [`Traffic`]: the mutable rule that says which versions of a model answer, and its history. Here
//! are its form and what may hold together; storing it without losing an update is the registry's
//! business, choosing a version for a request the server's.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use crate::rollout::{Rollout, RolloutPlan};
use crate::version::Version;

/// Which versions of a model answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Traffic {
    /// The version that answers all that no other rule takes; `None`: nothing is served.
    pub stable: Option<Version>,
    /// The version on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The version that takes over while the one chosen is unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Version>,
    /// The version that gets copies of requests, whose answers nobody sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// How the canary goes on by itself, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Versions whose deletion has begun. They can be given no role again. Kept here, because one
    /// object changed by conditional put is the only place where two changes meet in an order.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) deleting: BTreeSet<Version>,
    /// The last changes, oldest first, at most [`Traffic::HISTORY`].
    #[serde(default)]
    pub history: Vec<TrafficChange>,
}

/// A version on trial and its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The version.
    pub version: Version,
    /// Its share of the requests.
    pub weight: Weight,
}

/// A version that gets copies of a share of the requests, beside whoever answers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// The version.
    pub version: Version,
    /// The share of the requests that are copied.
    pub weight: Weight,
}

/// What is asked to become of a rule, all of it at once. What is `None` stays as it is; of a part that
/// can be taken away, `Some(None)` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficEdit {
    /// Another stable version.
    pub stable: Option<Version>,
    /// Another canary, another share for it, or none.
    pub canary: Option<Option<Canary>>,
    /// Another fallback, or none.
    pub fallback: Option<Option<Version>>,
    /// Another shadow, or none.
    pub shadow: Option<Option<Shadow>>,
    /// A canary that goes on by itself; in the place of `canary`.
    pub rollout: Option<RolloutPlan>,
}

impl TrafficEdit {
    /// The versions that are to get a part.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        let canary = self.canary.flatten().map(|canary| canary.version);
        let shadow = self.shadow.flatten().map(|shadow| shadow.version);
        let rollout = self.rollout.as_ref().map(|plan| plan.version);
        [
            self.stable,
            canary,
            rollout,
            self.fallback.flatten(),
            shadow,
        ]
        .into_iter()
        .flatten()
    }
}

/// A share of the requests: 0 to 100 % in steps of 0.1. In JSON a number of percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

/// A number that cannot be a share.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0} is not a weight; weights are percent, 0 to 100 in steps of 0.1")]
pub struct InvalidWeight(f64);

/// One change of the rule: what was done, and how things stood after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrafficChange {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who, where that is known.
    #[serde(default)]
    pub by: Option<String>,
    /// What was done.
    pub action: TrafficAction,
    /// To which version, where it was done to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The stable version after it.
    pub stable: Option<Version>,
    /// The canary after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The fallback after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Version>,
    /// The shadow after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// Why, where it was not somebody's wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a change did, for the history.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) action: TrafficAction,
    /// To which version, where it was done to one.
    pub(crate) version: Option<Version>,
    pub(crate) why: Option<String>,
}

impl Done {
    pub(crate) fn new(action: TrafficAction, version: Option<Version>) -> Done {
        let why = None;
        Done {
            action,
            version,
            why,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrafficAction {
    /// The first version was uploaded, and serves.
    FirstVersion,
    /// A version was made stable.
    SetStable,
    /// The canary was set, changed or withdrawn.
    SetCanary,
    /// The fallback was set or removed.
    SetFallback,
    /// The shadow was set, changed or removed.
    SetShadow,
    /// The stable version before the last one is stable again.
    Rollback,
    /// A canary was set that goes on by itself.
    BeginRollout,
    /// Such a canary took its next step.
    AdvanceRollout,
    /// Such a canary was made stable.
    EndRollout,
    /// Such a canary was worse than stable, and is withdrawn.
    WithdrawRollout,
    /// A version was deleted.
    DeleteVersion,
    /// The whole model was deleted.
    DeleteModel,
}

impl Traffic {
    /// The most changes that the history keeps. At about 200 bytes each the rule stays a file of
    /// tens of kilobytes that is cheap to poll.
    pub const HISTORY: usize = 100;

    /// What `version` is in the rule, if anything, and what frees it of that.
    pub(crate) fn role(&self, version: Version) -> Option<(&'static str, &'static str)> {
        if self.stable == Some(version) {
            return Some((
                "stable version",
                "make another version stable, or delete the whole model",
            ));
        }
        if self.canary.is_some_and(|canary| canary.version == version) {
            return Some(("canary", "withdraw the canary"));
        }
        if self.shadow.is_some_and(|shadow| shadow.version == version) {
            return Some(("shadow", "set another shadow or none"));
        }
        (self.fallback == Some(version)).then_some(("fallback", "set another fallback or none"))
    }

    /// The versions that have a part in the rule.
    pub fn versions(&self) -> impl Iterator<Item = Version> {
        let canary = self.canary.map(|canary| canary.version);
        let shadow = self.shadow.map(|shadow| shadow.version);
        [self.stable, canary, self.fallback, shadow]
            .into_iter()
            .flatten()
    }

    /// What is asked, done; `None` if all is as it is asked already.
    ///
    /// # Errors
    /// What makes no sense, in words.
    pub(crate) fn edit(&mut self, edit: &TrafficEdit) -> Result<Option<Done>, String> {
        let before = (self.roles(), self.rollout.is_some());
        let mut done = None;
        // The first that changes gives the change its name.
        let mut note = |changed: bool, action, version| {
            if changed {
                done = done.take().or(Some(Done::new(action, version)));
            }
        };
        if let Some(stable) = edit.stable {
            note(
                self.stable != Some(stable),
                TrafficAction::SetStable,
                Some(stable),
            );
            self.make_stable(stable);
        }
        if let Some(canary) = edit.canary {
            let version = canary.or(self.canary).map(|canary| canary.version);
            // Whoever sets a share by hand means it to stay.
            let changed = self.rollout.take().is_some() || self.canary != canary;
            note(changed, TrafficAction::SetCanary, version);
            self.canary = canary;
        }
        if let Some(shadow) = edit.shadow {
            let version = shadow.or(self.shadow).map(|shadow| shadow.version);
            note(self.shadow != shadow, TrafficAction::SetShadow, version);
            self.shadow = shadow;
        }
        if let Some(fallback) = edit.fallback {
            let version = fallback.or(self.fallback);
            note(
                self.fallback != fallback,
                TrafficAction::SetFallback,
                version,
            );
            self.fallback = fallback;
        }
        if let Some(plan) = &edit.rollout {
            done = Some(self.begin(plan)?);
        }
        self.problem().map_or(Ok(()), Err)?;
        self.settle();
        Ok(done.filter(|_| before != (self.roles(), self.rollout.is_some())))
    }

    /// What the last stable version before the present one was, as far as the history goes.
    pub fn stable_before(&self) -> Option<Version> {
        let mut stables = self.history.iter().rev().filter_map(|change| change.stable);
        stables.find(|stable| Some(*stable) != self.stable && !self.deleting.contains(stable))
    }

    /// What does not go together, if anything.
    fn problem(&self) -> Option<String> {
        let (Some(stable), canary, shadow) = (
            self.stable,
            self.canary.map(|canary| canary.version),
            self.shadow.map(|shadow| shadow.version),
        ) else {
            return (self.canary.is_some() || self.shadow.is_some()).then(|| {
                "no version is stable; a canary and a shadow go beside one that is".to_owned()
            });
        };
        if canary == Some(stable) {
            return Some(format!(
                "version {stable} is stable already; a canary is another version"
            ));
        }
        if shadow == Some(stable) {
            return Some(format!(
                "version {stable} is stable; a shadow is another version, to compare with it"
            ));
        }
        None
    }

    fn roles(
        &self,
    ) -> (
        Option<Version>,
        Option<Canary>,
        Option<Version>,
        Option<Shadow>,
    ) {
        (self.stable, self.canary, self.fallback, self.shadow)
    }

    /// Makes `version` stable. A canary or a shadow of that version has then arrived, and is one no more.
    pub(crate) fn make_stable(&mut self, version: Version) {
        self.stable = Some(version);
        self.canary = self.canary.filter(|canary| canary.version != version);
        self.shadow = self.shadow.filter(|shadow| shadow.version != version);
    }

    /// Adds the change that was just made to the history.
    pub(crate) fn note(&mut self, done: Done, at: OffsetDateTime, by: Option<&str>) {
        let Done {
            action,
            version,
            why,
        } = done;
        let (stable, canary, fallback, shadow) = self.roles();
        let by = by.map(str::to_owned);
        self.history.push(TrafficChange {
            at,
            by,
            action,
            version,
            stable,
            canary,
            fallback,
            shadow,
            why,
        });
        let surplus = self.history.len().saturating_sub(Self::HISTORY);
        self.history.drain(..surplus);
    }
}

impl Weight {
    /// No requests.
    pub const ZERO: Self = Self(0);
    /// All requests.
    pub const ALL: Self = Self(1000);

    /// That many percent.
    pub fn from_percent(percent: f64) -> Result<Self, InvalidWeight> {
        let tenths = (percent * 10.0).round();
        if !(0.0..=1000.0).contains(&tenths) || (percent * 10.0 - tenths).abs() > 1e-6 {
            return Err(InvalidWeight(percent));
        }
        // Exact: a whole number from 0 to 1000.
        Ok(Self(tenths as u16))
    }

    /// The share in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    /// The share in thousandths: 0 to 1000.
    pub fn per_mille(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.percent())
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_percent(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn version(number: u64) -> Version {
        Version::new(number).unwrap()
    }

    #[test]
    fn weights_go_in_tenths_of_a_percent() {
        assert_eq!(Weight::from_percent(12.5).unwrap().per_mille(), 125);
        assert_eq!(Weight::from_percent(100.0).unwrap(), Weight::ALL);
        for bad in [-0.1, 100.1, 0.05, f64::NAN, f64::INFINITY] {
            assert!(Weight::from_percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_canary_made_stable_is_no_canary_any_more() {
        let mut traffic = Traffic::default();
        traffic.make_stable(version(1));
        traffic.canary = Some(Canary {
            version: version(2),
            weight: Weight::ALL,
        });
        traffic.make_stable(version(3));
        assert!(traffic.canary.is_some());
        traffic.make_stable(version(2));
        assert_eq!((traffic.stable, traffic.canary), (Some(version(2)), None));
    }

    #[test]
    fn the_history_keeps_the_last_changes_only() {
        let mut traffic = Traffic::default();
        for number in 1..=250 {
            traffic.make_stable(version(number));
            let done = Done::new(TrafficAction::SetStable, Some(version(number)));
            traffic.note(done, OffsetDateTime::UNIX_EPOCH, Some("ann"));
        }
        assert_eq!(traffic.history.len(), Traffic::HISTORY);
        assert_eq!(traffic.history.first().unwrap().stable, Some(version(151)));
        assert_eq!(traffic.history.last().unwrap().stable, Some(version(250)));
    }

    proptest! {
        #[test]
        fn every_weight_survives_json(tenths in 0u16..=1000) {
            let weight = Weight::from_percent(f64::from(tenths) / 10.0).unwrap();
            prop_assert_eq!(weight.per_mille(), tenths);
            let json = serde_json::to_string(&weight).unwrap();
            prop_assert_eq!(serde_json::from_str::<Weight>(&json).unwrap(), weight);
        }
    }
}
