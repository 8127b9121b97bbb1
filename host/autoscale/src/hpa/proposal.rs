//! What one metric proposes (`replica_calculator.go`): ratios in `f64` of integers in thousandths,
//! rounded and cut off where Kubernetes does.

use std::collections::BTreeMap;

use super::{
    pod::{Groups, Pod, group_by_metric, group_by_resource},
    quantity::Quantity,
    spec::{MetricSpec, ResourceTarget, Tolerances, ValueTarget},
    time::Time,
};

/// Everything one sync looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// `scale.spec.replicas`.
    pub spec_replicas: i32,
    /// `scale.status.replicas`.
    pub status_replicas: i32,
    /// The pods that the target's selector finds.
    pub pods: Vec<Pod>,
    /// Values of external metrics, in thousandths; those of one metric are added up.
    pub external: BTreeMap<String, Vec<i64>>,
    /// Values of object metrics, in thousandths.
    pub objects: BTreeMap<String, i64>,
    /// Metrics (or resources) whose query fails, with the reason if it is known.
    pub failing: BTreeMap<String, String>,
}

/// What one metric says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// So many replicas.
    pub replicas: i32,
    /// The value the HPA's status shows: percent for a utilization, else thousandths.
    pub value: i64,
}

/// Why a metric proposes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// The metrics API did not answer.
    #[error("unable to get {metric}: {reason}")]
    Unavailable {
        /// The metric's name.
        metric: String,
        /// Why.
        reason: String,
    },
    /// The selector finds no pod.
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    /// No pod that counts has a value.
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoValues,
    /// A utilization is of what is requested.
    #[error(
        "missing request for {resource} in pod {pod}: a utilization needs one in each container"
    )]
    NoRequest {
        /// The resource.
        resource: String,
        /// The pod.
        pod: String,
    },
}

/// Asks one metric. `input.spec_replicas` must not be zero, as the controller is disabled then.
pub(super) fn propose(
    metric: &MetricSpec,
    tolerances: Tolerances,
    input: &Input,
    now: Time,
) -> Result<Proposal, MetricError> {
    let name = metric.name();
    let unavailable = |reason: &str| MetricError::Unavailable {
        metric: name.to_owned(),
        reason: reason.to_owned(),
    };
    if let Some(reason) = input.failing.get(name) {
        return Err(unavailable(reason));
    }
    let current = input.spec_replicas;
    match metric {
        MetricSpec::Pods { average_value, .. } => {
            let groups = grouped(&input.pods, |pods| group_by_metric(pods, name))?;
            Ok(from_averages(groups, *average_value, tolerances, current))
        }
        MetricSpec::Resource { target, .. } => {
            let groups = grouped(&input.pods, |pods| group_by_resource(pods, name, now))?;
            match target {
                ResourceTarget::AverageValue(value) => {
                    Ok(from_averages(groups, *value, tolerances, current))
                }
                ResourceTarget::AverageUtilization(percent) => {
                    let requests = requests(&input.pods, name)?;
                    from_utilization(groups, &requests, *percent, tolerances, current)
                }
            }
        }
        MetricSpec::Object { target, .. } => {
            let value = *input
                .objects
                .get(name)
                .ok_or_else(|| unavailable("the object has no such metric"))?;
            from_total(value, *target, tolerances, input)
        }
        MetricSpec::External { target, .. } => {
            let values = input
                .external
                .get(name)
                .filter(|values| !values.is_empty())
                .ok_or_else(|| unavailable("no metrics returned from external metrics API"))?;
            let total = values.iter().fold(0i64, |sum, v| sum.saturating_add(*v));
            from_total(total, *target, tolerances, input)
        }
    }
}

fn grouped<'a>(
    pods: &'a [Pod],
    group: impl Fn(&'a [Pod]) -> Groups<'a>,
) -> Result<Groups<'a>, MetricError> {
    if pods.is_empty() {
        return Err(MetricError::NoPods);
    }
    let groups = group(pods);
    if groups.ready.is_empty() {
        return Err(MetricError::NoValues);
    }
    Ok(groups)
}

/// What each pod requests. Pods that do not count must have requests as well.
fn requests<'a>(pods: &'a [Pod], resource: &str) -> Result<BTreeMap<&'a str, i64>, MetricError> {
    pods.iter()
        .map(|pod| match pod.requests.get(resource) {
            Some(request) => Ok((pod.name.as_str(), *request)),
            None => Err(MetricError::NoRequest {
                resource: resource.to_owned(),
                pod: pod.name.clone(),
            }),
        })
        .collect()
}

/// `calcPlainMetricReplicas`: an average over pods, in thousandths.
fn from_averages(
    groups: Groups<'_>,
    target: Quantity,
    tolerances: Tolerances,
    current: i32,
) -> Proposal {
    let target = target.milli();
    let ratio_of = |values: &[i64]| {
        let count = values.len().max(1) as i64;
        let average = values.iter().fold(0i64, |sum, v| sum.saturating_add(*v)) / count;
        (average as f64 / target as f64, average)
    };
    let mut values: Vec<i64> = groups.ready.iter().map(|(_, value)| *value).collect();
    let (ratio, average) = ratio_of(&values);
    let ready = values.len();
    let replicas = rebalanced(
        ratio,
        ready,
        &groups,
        tolerances,
        current,
        |fill, unready| {
            let missing = match fill {
                Fill::Full => vec![target; groups.missing.len()],
                Fill::Idle => vec![0; groups.missing.len()],
                Fill::Nothing => vec![],
            };
            values.extend(missing);
            values.extend(vec![0; unready]);
            (ratio_of(&values).0, values.len())
        },
    );
    Proposal {
        replicas,
        value: average,
    }
}

/// `GetResourceReplicas`: percent of the requests, a whole number.
fn from_utilization(
    groups: Groups<'_>,
    requests: &BTreeMap<&str, i64>,
    target: i32,
    tolerances: Tolerances,
    current: i32,
) -> Result<Proposal, MetricError> {
    let request = |pod: &Pod| requests.get(pod.name.as_str()).copied().unwrap_or(0);
    let ratio_of = |usage: i64, requested: i64| {
        // Cut off, not rounded: 69.9 % is 69 %.
        let percent = usage.saturating_mul(100) / requested.max(1);
        (percent as f64 / f64::from(target), percent)
    };
    let mut usage = 0i64;
    let mut requested = 0i64;
    for (pod, value) in &groups.ready {
        usage = usage.saturating_add(*value);
        requested = requested.saturating_add(request(pod));
    }
    if requested == 0 {
        return Err(MetricError::NoValues);
    }
    let (ratio, percent) = ratio_of(usage, requested);
    let ready = groups.ready.len();
    let replicas = rebalanced(
        ratio,
        ready,
        &groups,
        tolerances,
        current,
        |fill, unready| {
            let mut count = ready;
            if fill != Fill::Nothing {
                for pod in &groups.missing {
                    requested = requested.saturating_add(request(pod));
                    if fill == Fill::Full {
                        let percent = i64::from(target.max(100));
                        usage = usage.saturating_add(request(pod) * percent / 100);
                    }
                    count += 1;
                }
            }
            if unready > 0 {
                for pod in &groups.unready {
                    requested = requested.saturating_add(request(pod));
                }
                count += unready;
            }
            (ratio_of(usage, requested).0, count)
        },
    );
    Ok(Proposal {
        replicas,
        value: percent,
    })
}

/// How the pods without a value are counted the second time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// As if at the target: it would go down.
    Full,
    /// As idle: it would go up.
    Idle,
    /// Not at all: the ratio is exactly 1.
    Nothing,
}

/// The steps the two share: within tolerance nothing changes; pods without a value are filled in
/// against the direction; and what was filled in never turns the direction round.
///
/// `refill` counts again with missing pods filled as told and so many unready ones idle, and gives
/// the ratio and how many pods it is of.
fn rebalanced(
    ratio: f64,
    ready: usize,
    groups: &Groups<'_>,
    tolerances: Tolerances,
    current: i32,
    refill: impl FnOnce(Fill, usize) -> (f64, usize),
) -> i32 {
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        return if tolerances.hold(ratio) {
            current
        } else {
            ceil(ratio * ready as f64)
        };
    }
    let fill = if ratio < 1.0 {
        Fill::Full
    } else if ratio > 1.0 {
        Fill::Idle
    } else {
        Fill::Nothing
    };
    let unready = if up_with_unready {
        groups.unready.len()
    } else {
        0
    };
    let (again, count) = refill(fill, unready);
    let turned = (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0);
    if tolerances.hold(again) || turned {
        return current;
    }
    let replicas = ceil(again * count as f64);
    if (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current) {
        return current;
    }
    replicas
}

/// One value for the whole service.
fn from_total(
    value: i64,
    target: ValueTarget,
    tolerances: Tolerances,
    input: &Input,
) -> Result<Proposal, MetricError> {
    match target {
        ValueTarget::Value(target) => {
            let ratio = value as f64 / target.milli() as f64;
            let replicas = if tolerances.hold(ratio) {
                input.spec_replicas
            } else {
                if input.pods.is_empty() {
                    return Err(MetricError::NoPods);
                }
                let ready = input.pods.iter().filter(|pod| pod.is_ready()).count();
                ceil(ratio * ready as f64)
            };
            Ok(Proposal { replicas, value })
        }
        ValueTarget::AverageValue(target) => {
            let target = target.milli() as f64;
            let pods = f64::from(input.status_replicas);
            let replicas = if tolerances.hold(value as f64 / (target * pods)) {
                input.status_replicas
            } else {
                ceil(value as f64 / target)
            };
            Ok(Proposal {
                replicas,
                value: (value as f64 / pods).ceil() as i64,
            })
        }
    }
}

/// Rounded up; beyond 32 bits the nearest there is.
fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}
