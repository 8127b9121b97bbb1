//! One sync of the controller: what it is shown, what it decides, and the row that tells of it.

use super::World;
use crate::{
    hpa::{Decision, Input, LimitReason, MetricSpec, Outcome, SYNC_PERIOD, Stabilization, Time},
    simulate::{
        histogram::Felt,
        pod::SimPod,
        run::{Tick, milliseconds},
        signal::{of_service, through_adapter, through_keda},
    },
};

impl World<'_> {
    pub(super) fn sync(&mut self, now: f64) {
        let hpa = self.controller.hpa().clone();
        let asked = now - self.config.adapter_lag;
        let service = |name: &str| {
            let signal = self.config.signal(name)?;
            let scrapes = self.pods.iter().filter(|pod| pod.deleted_at.is_none());
            of_service(signal, scrapes.map(|pod| &pod.scrapes), asked, self.windows)
        };
        let mut input = Input {
            spec_replicas: self.replicas,
            status_replicas: self.living().count() as i32,
            pods: self
                .pods
                .iter()
                .map(|pod| pod.seen(now, &hpa, self.config, self.windows))
                .collect(),
            ..Input::default()
        };
        for metric in hpa.metrics() {
            match metric {
                MetricSpec::External { name, .. } => {
                    let value = through_keda(service(name));
                    input.external.insert(name.clone(), vec![value]);
                }
                MetricSpec::Object { name, .. } => {
                    if let Some(value) = service(name) {
                        input.objects.insert(name.clone(), through_adapter(value));
                    }
                }
                MetricSpec::Pods { .. } | MetricSpec::Resource { .. } => {}
            }
        }
        let decision = self.controller.sync(Time::from_f64(now), &input);
        if now >= 0.0 {
            let tick = self.tick(now, &decision);
            self.ticks.push(tick);
        }
        self.cpu_at_sync = self.cpu();
        self.scale_to(decision.desired, now);
    }

    fn tick(&self, now: f64, decision: &Decision) -> Tick {
        let ready: Vec<&SimPod> = self
            .pods
            .iter()
            .filter(|pod| pod.takes_requests(now))
            .collect();
        let count = ready.len().max(1) as f64;
        let gauges = ready
            .iter()
            .map(|pod| pod.queue.gauges(&self.config.service))
            .fold((0.0, 0.0), |(a, b), g| (a + g.in_flight, b + g.queued));
        let cores = (self.cpu() - self.cpu_at_sync) / SYNC_PERIOD.as_f64();
        let requested = count * self.config.service.cpu_request_milli as f64 / 1000.0;
        let mut felt = Felt::default();
        for slice in &self.recent {
            felt.add(slice);
        }
        let steps = match &decision.outcome {
            Outcome::Decided(steps) => Some(steps),
            _ => None,
        };
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        Tick {
            time: tenth(now),
            load: tenth(self.profile.at(now)),
            cpu_percent: tenth(100.0 * cores / requested),
            p95_ms: milliseconds(felt.quantile(0.95)),
            in_flight: tenth(gauges.0 / count),
            queued: tenth(gauges.1 / count),
            replicas: decision.current,
            ready: ready.len() as i32,
            want: steps.map(|steps| steps.want),
            desired: decision.desired,
            action: action(decision),
            stabilization: steps.map(|steps| steps.stabilization),
            limit: steps.map(|steps| steps.limit),
        }
    }
}

/// What the controller did, in a few words.
fn action(decision: &Decision) -> String {
    let from_to = format!("{} → {}", decision.current, decision.desired);
    match &decision.outcome {
        Outcome::Disabled => "disabled: no replicas".to_owned(),
        Outcome::AboveMax => format!("{from_to}: above the maximum"),
        Outcome::BelowMin => format!("{from_to}: below the minimum"),
        Outcome::Failed { reason, .. } => format!("nothing: {reason}"),
        Outcome::Decided(steps) => {
            let held = match (steps.stabilization, steps.limit) {
                (_, LimitReason::ScaleUpLimit | LimitReason::ScaleDownLimit) => ", held by policy",
                (_, LimitReason::TooManyReplicas) => ", held by the maximum",
                (_, LimitReason::TooFewReplicas) => ", held by the minimum",
                (Stabilization::ReadyForNewScale, _) => "",
                _ => ", held by the window",
            };
            let why = if steps.want > decision.current {
                format!("wants {} by {}", steps.want, steps.metric)
            } else if steps.want < decision.current {
                format!("wants {}", steps.want)
            } else {
                String::new()
            };
            match (decision.rescaled(), why.is_empty()) {
                (true, true) => from_to,
                (true, false) => format!("{from_to}: {why}{held}"),
                (false, true) => "–".to_owned(),
                (false, false) => format!("{why}{held}"),
            }
        }
    }
}
