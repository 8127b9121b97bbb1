//! How far one sync may go: replicas at most and at least, and the policies of `behavior`.

use serde::Serialize;

use super::{
    history::ScaleEvents,
    spec::{Behavior, Hpa, Policy, PolicyKind, ScalingRules, SelectPolicy},
    time::Time,
};

/// The reason of the condition `ScalingLimited`, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum LimitReason {
    /// Nothing held it.
    DesiredWithinRange,
    /// It may not grow faster.
    ScaleUpLimit,
    /// It may not shrink faster.
    ScaleDownLimit,
    /// `maxReplicas`.
    TooManyReplicas,
    /// `minReplicas`.
    TooFewReplicas,
}

/// Without `behavior` (`convertDesiredReplicasWithRules`): at most twice as many, or 4.
pub(super) fn by_rules(hpa: &Hpa, current: i32, want: i32) -> (i32, LimitReason) {
    let growth = current.saturating_mul(2).max(4);
    let (most, reason) = if hpa.max_replicas > growth {
        (growth, LimitReason::ScaleUpLimit)
    } else {
        (hpa.max_replicas, LimitReason::TooManyReplicas)
    };
    if want < hpa.min_replicas {
        (hpa.min_replicas, LimitReason::TooFewReplicas)
    } else if want > most {
        (most, reason)
    } else {
        (want, LimitReason::DesiredWithinRange)
    }
}

/// With `behavior` (`convertDesiredReplicasWithBehaviorRate`).
pub(super) fn by_behavior(
    hpa: &Hpa,
    behavior: &Behavior,
    current: i32,
    want: i32,
    changes: &Changes<'_>,
) -> (i32, LimitReason) {
    if want > current {
        let limit = changes.up_to(current, &behavior.scale_up).max(current);
        let (most, reason) = if hpa.max_replicas > limit {
            (limit, LimitReason::ScaleUpLimit)
        } else {
            (hpa.max_replicas, LimitReason::TooManyReplicas)
        };
        if want > most {
            return (most, reason);
        }
    } else if want < current {
        let limit = changes.down_to(current, &behavior.scale_down).min(current);
        let (least, reason) = if hpa.min_replicas < limit {
            (limit, LimitReason::ScaleDownLimit)
        } else {
            (hpa.min_replicas, LimitReason::TooFewReplicas)
        };
        if want < least {
            return (least, reason);
        }
    }
    (want, LimitReason::DesiredWithinRange)
}

/// What was changed lately, in both directions.
pub(super) struct Changes<'a> {
    pub(super) up: &'a ScaleEvents,
    pub(super) down: &'a ScaleEvents,
    pub(super) now: Time,
}

impl Changes<'_> {
    /// How many replicas there were when the policy's period began.
    fn start(&self, current: i32, policy: &Policy) -> i32 {
        let period = Time::seconds(i64::from(policy.period_seconds));
        current - self.up.within(period, self.now) + self.down.within(period, self.now)
    }

    fn up_to(&self, current: i32, rules: &ScalingRules) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(current, policy);
            match policy.kind {
                PolicyKind::Pods => start.saturating_add(policy.value),
                // Up, or a small service would never grow.
                PolicyKind::Percent => {
                    (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32
                }
            }
        });
        match rules.select {
            SelectPolicy::Disabled => current,
            SelectPolicy::Max => limits.max().unwrap_or(current),
            SelectPolicy::Min => limits.min().unwrap_or(current),
        }
    }

    fn down_to(&self, current: i32, rules: &ScalingRules) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(current, policy);
            match policy.kind {
                PolicyKind::Pods => start.saturating_sub(policy.value),
                // Cut off: 10 % of 5 takes one away.
                PolicyKind::Percent => {
                    (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32
                }
            }
        });
        match rules.select {
            SelectPolicy::Disabled => current,
            // The largest change leaves the fewest.
            SelectPolicy::Max => limits.min().unwrap_or(current),
            SelectPolicy::Min => limits.max().unwrap_or(current),
        }
    }
}
