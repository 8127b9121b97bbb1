//! Pods as the controller sees them, and which of them count for a metric
//! (`groupPods` in `replica_calculator.go`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::time::Time;

/// After a pod's start, in seconds, its CPU may be that of starting
/// (`--horizontal-pod-autoscaler-cpu-initialization-period`).
pub const CPU_INITIALIZATION: Time = Time::seconds(300);
/// A pod that became unready sooner than this after its start was never ready
/// (`--horizontal-pod-autoscaler-initial-readiness-delay`).
pub const INITIAL_READINESS_DELAY: Time = Time::seconds(30);

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not scheduled, or its containers not started.
    Pending,
    /// Its containers run.
    #[default]
    Running,
    /// They ended well.
    Succeeded,
    /// They ended badly.
    Failed,
    /// Its node does not tell.
    Unknown,
}

/// The status of the condition `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ready {
    /// It takes requests.
    True,
    /// It takes none.
    False,
    /// Its node does not tell.
    Unknown,
}

/// The condition `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyCondition {
    /// What it says.
    pub status: Ready,
    /// Since when, `lastTransitionTime`.
    pub since: Time,
}

/// What metrics-server tells of one resource of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// In thousandths (millicores for `cpu`).
    pub milli: i64,
    /// When it was taken.
    pub timestamp: Time,
    /// Over how long.
    pub window: Time,
}

/// One pod that the scale target's selector finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `status.phase`.
    pub phase: Phase,
    /// Whether it has a `deletionTimestamp`.
    pub deleted: bool,
    /// `status.startTime`.
    pub start_time: Option<Time>,
    /// The condition `Ready`, if there is one.
    pub ready: Option<ReadyCondition>,
    /// Sum of its containers' requests by resource, in thousandths; without an entry where a
    /// container requests none.
    pub requests: BTreeMap<String, i64>,
    /// What it uses, by resource.
    pub usage: BTreeMap<String, Usage>,
    /// Its custom metrics, in thousandths.
    pub metrics: BTreeMap<String, i64>,
}

impl Pod {
    /// Whether it is running and ready (`getReadyPodsCount`).
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running
            && self
                .ready
                .is_some_and(|condition| condition.status == Ready::True)
    }

    /// Whether its CPU sample is to be left out: it starts, or was never ready.
    fn cpu_is_of_starting(&self, usage: &Usage, now: Time) -> bool {
        let (Some(condition), Some(start)) = (self.ready, self.start_time) else {
            return true;
        };
        if start + CPU_INITIALIZATION > now {
            condition.status == Ready::False || usage.timestamp < condition.since + usage.window
        } else {
            condition.status == Ready::False && start + INITIAL_READINESS_DELAY > condition.since
        }
    }
}

/// The pods by what a metric makes of them.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    /// Those with a value that counts.
    pub ready: Vec<(&'a Pod, i64)>,
    /// Those that are starting: nothing at first, idle when it would go up.
    pub unready: Vec<&'a Pod>,
    /// Those that should have a value and have none.
    pub missing: Vec<&'a Pod>,
}

/// Groups pods for a custom metric. Readiness is not looked at.
pub(super) fn group_by_metric<'a>(pods: &'a [Pod], name: &str) -> Groups<'a> {
    group(pods, |pod| {
        pod.metrics.get(name).map(|value| (*value, true))
    })
}

/// Groups pods for a resource. Of `cpu` the samples of starting pods are left out.
pub(super) fn group_by_resource<'a>(pods: &'a [Pod], name: &str, now: Time) -> Groups<'a> {
    group(pods, |pod| {
        let usage = pod.usage.get(name)?;
        let counts = name != "cpu" || !pod.cpu_is_of_starting(usage, now);
        Some((usage.milli, counts))
    })
}

/// `value` gives a pod's value, and whether it counts already.
fn group<'a>(pods: &'a [Pod], value: impl Fn(&Pod) -> Option<(i64, bool)>) -> Groups<'a> {
    let mut groups = Groups {
        ready: Vec::with_capacity(pods.len()),
        unready: Vec::new(),
        missing: Vec::new(),
    };
    for pod in pods {
        if pod.deleted || pod.phase == Phase::Failed {
            continue;
        }
        if pod.phase == Phase::Pending {
            groups.unready.push(pod);
            continue;
        }
        match value(pod) {
            None => groups.missing.push(pod),
            Some((_, false)) => groups.unready.push(pod),
            Some((value, true)) => groups.ready.push((pod, value)),
        }
    }
    groups
}
