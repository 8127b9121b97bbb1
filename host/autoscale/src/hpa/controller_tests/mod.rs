//! Every clause of the algorithm in a table or a claim of its own, by what it is about, and what must
//! hold of any run. Here is what they share: manifests and pods made in a line.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use super::*;
use crate::hpa::{
    Phase, Pod, Policy, PolicyKind, Quantity, Ready, ReadyCondition, ResourceTarget, ScalingRules,
    SelectPolicy, Tolerances, Usage, ValueTarget,
};

mod behavior;
mod external;
mod pods;
mod resource;
mod runs;
mod sync;

const LOAD: &str = "load";

fn pods_metric(name: &str, milli: i64) -> MetricSpec {
    MetricSpec::Pods {
        name: name.to_owned(),
        average_value: Quantity::from_milli(milli),
    }
}

fn cpu(target: ResourceTarget) -> MetricSpec {
    MetricSpec::Resource {
        name: "cpu".to_owned(),
        target,
    }
}

fn external(target: ValueTarget) -> MetricSpec {
    MetricSpec::External {
        name: LOAD.to_owned(),
        target,
    }
}

fn hpa(metrics: Vec<MetricSpec>) -> Hpa {
    Hpa {
        name: "a".to_owned(),
        target: "Deployment/a".to_owned(),
        min_replicas: 1,
        max_replicas: 100,
        metrics,
        behavior: None,
        tolerances: Tolerances {
            scale_down: 0.1,
            scale_up: 0.1,
        },
    }
}

fn rules(window: i32, select: SelectPolicy, policies: &[(PolicyKind, i32, i32)]) -> ScalingRules {
    ScalingRules {
        stabilization_window_seconds: window,
        select,
        policies: policies
            .iter()
            .map(|&(kind, value, period_seconds)| Policy {
                kind,
                value,
                period_seconds,
            })
            .collect(),
    }
}

fn behaving(scale_up: ScalingRules, scale_down: ScalingRules) -> Hpa {
    Hpa {
        behavior: Some(Behavior {
            scale_up,
            scale_down,
        }),
        ..hpa(vec![pods_metric(LOAD, 1000)])
    }
}

/// Everything at once, both ways.
fn free() -> ScalingRules {
    rules(0, SelectPolicy::Max, &[(PolicyKind::Pods, 1000, 15)])
}

/// A pod that has long been ready, with a value of the custom metric.
fn pod(value: impl Into<Option<i64>>) -> Pod {
    Pod {
        start_time: Some(Time::seconds(-10_000)),
        ready: Some(ReadyCondition {
            status: Ready::True,
            since: Time::seconds(-9_000),
        }),
        metrics: value
            .into()
            .map(|value| (LOAD.to_owned(), value))
            .into_iter()
            .collect(),
        requests: [("cpu".to_owned(), 1000), ("memory".to_owned(), 1000)].into(),
        ..Pod::default()
    }
}

fn phase(phase: Phase, value: impl Into<Option<i64>>) -> Pod {
    Pod {
        phase,
        ..pod(value)
    }
}

fn unready(value: impl Into<Option<i64>>) -> Pod {
    let mut pod = pod(value);
    pod.ready.as_mut().unwrap().status = Ready::False;
    pod
}

fn deleted(value: impl Into<Option<i64>>) -> Pod {
    Pod {
        deleted: true,
        ..pod(value)
    }
}

/// Names them, as each pod of a cluster has a name of its own.
fn input(current: i32, pods: Vec<Pod>) -> Input {
    Input {
        spec_replicas: current,
        status_replicas: current,
        pods: pods
            .into_iter()
            .enumerate()
            .map(|(index, pod)| Pod {
                name: format!("pod-{index}"),
                ..pod
            })
            .collect(),
        ..Input::default()
    }
}

/// What one metric proposes, in a sync of its own.
fn proposes(metric: MetricSpec, input: &Input) -> Result<i32, MetricError> {
    let decision = Controller::new(hpa(vec![metric])).sync(Time(0), input);
    decision.proposals[0]
        .1
        .clone()
        .map(|proposal| proposal.replicas)
}

/// So many pods, all with this value: an easy way to a want.
fn all(current: i32, value: i64) -> Input {
    input(current, vec![pod(value); usize::try_from(current).unwrap()])
}

fn steps(decision: &Decision) -> &Steps {
    match &decision.outcome {
        Outcome::Decided(steps) => steps,
        other => panic!("{other:?}"),
    }
}

fn using(milli: i64) -> Pod {
    let usage = Usage {
        milli,
        timestamp: Time::seconds(-5),
        window: Time::seconds(15),
    };
    Pod {
        usage: [("cpu".to_owned(), usage), ("memory".to_owned(), usage)].into(),
        ..pod(None)
    }
}
