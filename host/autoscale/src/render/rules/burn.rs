//! Error budgets: how fast each objective's is burnt, over several windows, and the alerts on it.
//! The windows, the shares of the budget and the pairing of a long window with a short one are
//! those of Google's Site Reliability Workbook, chapter 5 ("Alerting on SLOs", table 5-8).

use super::{Alert, Group, Recording, Severity, read};
use crate::{
    render::promql::{Scope, duration, failed_share, slow_share},
    slo::Slo,
};

const HOUR: u32 = 3_600;
const DAY: u32 = 24 * HOUR;

/// One pair of windows: an alert fires when both burn fast enough to use up `share` of the whole
/// budget within `long`. The short one makes it end soon after the cause has.
struct Burn {
    share: f64,
    long: u32,
    short: u32,
    severity: Severity,
}

const BURNS: [Burn; 4] = [
    Burn {
        share: 0.02,
        long: HOUR,
        short: HOUR / 12,
        severity: Severity::Critical,
    },
    Burn {
        share: 0.05,
        long: 6 * HOUR,
        short: HOUR / 2,
        severity: Severity::Critical,
    },
    Burn {
        share: 0.10,
        long: DAY,
        short: 2 * HOUR,
        severity: Severity::Warning,
    },
    Burn {
        share: 0.10,
        long: 3 * DAY,
        short: 6 * HOUR,
        severity: Severity::Warning,
    },
];

/// Windows from here on move slowly, so they are computed seldom.
const SLOW: u32 = DAY;
const SLOW_INTERVAL: u32 = 300;

impl Burn {
    /// How many times faster than evenly over the objective's window.
    fn factor(&self, window_days: u32) -> f64 {
        let window = f64::from(window_days) * f64::from(DAY);
        let factor = self.share * window / f64::from(self.long);
        (factor * 1e6).round() / 1e6
    }
}

/// The factor of the fastest alert.
pub(crate) fn fastest(window_days: u32) -> f64 {
    BURNS
        .iter()
        .map(|burn| burn.factor(window_days))
        .fold(0.0, f64::max)
}

/// An objective that has a budget.
struct Budget {
    /// The value of the label `slo`.
    name: &'static str,
    /// In alerts' names.
    alert: &'static str,
    /// The share of requests that may be bad.
    budget: f64,
    /// What bad is.
    bad: String,
    /// The time that makes it so, if it is one.
    seconds: Option<f64>,
}

/// The objectives with budgets. The P50 has none: half of the requests may be slower, and no burn
/// rate that is worth an alert leaves room under one whole.
fn budgets(slo: &Slo) -> [Budget; 3] {
    let [_, p95, p99] = slo.latency();
    [
        Budget {
            name: "availability",
            alert: "AegisAvailabilityBudgetBurn",
            budget: slo.objectives.availability_percent.rest(),
            bad: "failed (5xx)".to_owned(),
            seconds: None,
        },
        Budget {
            name: "latency_p95",
            alert: "AegisLatencyP95BudgetBurn",
            budget: p95.budget(),
            bad: format!("slower than {} s", p95.seconds),
            seconds: Some(p95.seconds),
        },
        Budget {
            name: "latency_p99",
            alert: "AegisLatencyP99BudgetBurn",
            budget: p99.budget(),
            bad: format!("slower than {} s", p99.seconds),
            seconds: Some(p99.seconds),
        },
    ]
}

impl Budget {
    fn bad_share(&self, scope: &Scope, window: u32) -> String {
        match self.seconds {
            None => failed_share(scope, window),
            Some(seconds) => slow_share(scope, seconds, window),
        }
    }
}

/// The burn rate over a window; 1 uses the budget up exactly at the end of the objective's window.
pub(crate) fn rate_name(window: u32) -> String {
    format!("service:slo_burn:rate{}", duration(window))
}

/// What is left of a budget: 1 all of it, 0 nothing, below 0 more than there was.
pub(crate) fn remaining_name(slo: &Slo) -> String {
    format!(
        "service:slo_error_budget_remaining:ratio{}d",
        slo.objectives.window_days
    )
}

/// Every window that a burn rate is taken over, rising.
pub(crate) fn windows() -> Vec<u32> {
    let mut windows: Vec<u32> = BURNS
        .iter()
        .flat_map(|burn| [burn.short, burn.long])
        .collect();
    windows.sort_unstable();
    windows.dedup();
    windows
}

/// The groups: burn rates over short windows, over long ones, and what is left.
pub(super) fn groups(slo: &Slo) -> Vec<Group> {
    let (slow, quick): (Vec<u32>, Vec<u32>) = windows().into_iter().partition(|w| *w >= SLOW);
    let mut long = rates(slo, &slow);
    long.extend(budgets(slo).iter().map(|budget| remaining(slo, budget)));
    vec![
        Group {
            name: format!("{}-burn", slo.service.name),
            interval: slo.metrics.scrape_seconds.max(30),
            recordings: rates(slo, &quick),
            alerts: Vec::new(),
        },
        Group {
            name: format!("{}-budget", slo.service.name),
            interval: SLOW_INTERVAL,
            recordings: long,
            alerts: Vec::new(),
        },
    ]
}

fn rates(slo: &Slo, windows: &[u32]) -> Vec<Recording> {
    let scope = Scope::service(slo);
    let mut recordings = Vec::new();
    for budget in budgets(slo) {
        for window in windows {
            recordings.push(Recording {
                name: rate_name(*window),
                labels: vec![("slo", budget.name.to_owned())],
                expression: format!(
                    "(\n{}\n) / {}",
                    budget.bad_share(&scope, *window),
                    budget.budget
                ),
            });
        }
    }
    recordings
}

fn remaining(slo: &Slo, budget: &Budget) -> Recording {
    let window = slo.objectives.window_days * DAY;
    Recording {
        name: remaining_name(slo),
        labels: vec![("slo", budget.name.to_owned())],
        expression: format!(
            "1 - (\n{}\n) / {}",
            budget.bad_share(&Scope::service(slo), window),
            budget.budget
        ),
    }
}

/// The alerts: a budget that is being used up too fast.
pub(super) fn alerts(slo: &Slo) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for budget in budgets(slo) {
        for burn in &BURNS {
            alerts.push(alert(slo, &budget, burn));
        }
    }
    alerts
}

fn alert(slo: &Slo, budget: &Budget, burn: &Burn) -> Alert {
    let factor = burn.factor(slo.objectives.window_days);
    let (long, short) = (duration(burn.long), duration(burn.short));
    let over = |window| {
        let series = read(&rate_name(window), slo);
        format!(
            "{} > {factor}",
            series.replace('}', &format!(",slo=\"{}\"}}", budget.name))
        )
    };
    Alert {
        name: budget.alert.to_owned(),
        expression: format!("{}\nand\n{}", over(burn.long), over(burn.short)),
        lasts: 0,
        severity: burn.severity,
        labels: vec![("slo", budget.name.to_owned()), ("window", long.clone())],
        summary: format!(
            "The budget of {} is burning {factor} times too fast",
            budget.name.replace('_', " ")
        ),
        description: format!(
            "Over the last {long} and the last {short}, more requests were {} than {factor} times \
             the {} % that may be; at this rate {} % of the {} days' budget goes in {long}. \
             Burn rate now: {{{{ $value | humanize }}}}.",
            budget.bad,
            percent(budget.budget),
            percent(burn.share),
            slo.objectives.window_days
        ),
    }
}

fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}
