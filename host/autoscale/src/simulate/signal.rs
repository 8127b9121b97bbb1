//! What an HPA's metric names mean in a simulation, and what reaches the controller of it: from a
//! pod's scrapes through Prometheus' queries and the adapter, or KEDA, to thousandths.

use std::{collections::VecDeque, fmt, str::FromStr};

use super::histogram::{BUCKETS, quantile, rate};

/// Something that is measured of the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// A quantile of `http_request_duration_seconds` over the rate window, in seconds.
    Latency(f64),
    /// `http_requests_in_flight`, averaged over the gauge window.
    InFlight,
    /// `aegis_inference_queue_depth`, averaged over the gauge window.
    QueueDepth,
    /// Requests a second over the rate window.
    RequestRate,
}

/// What a metric's name cannot be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is nothing that is simulated: there are p50, p90, p95, p99, in_flight, queue_depth and rps"
)]
pub struct SignalError(String);

impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(word: &str) -> Result<Self, SignalError> {
        Ok(match word {
            "p50" => Self::Latency(0.5),
            "p90" => Self::Latency(0.9),
            "p95" => Self::Latency(0.95),
            "p99" => Self::Latency(0.99),
            "in_flight" => Self::InFlight,
            "queue_depth" => Self::QueueDepth,
            "rps" => Self::RequestRate,
            _ => return Err(SignalError(word.to_owned())),
        })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(q) => write!(f, "p{}", (q * 100.0).round()),
            Self::InFlight => f.write_str("in_flight"),
            Self::QueueDepth => f.write_str("queue_depth"),
            Self::RequestRate => f.write_str("rps"),
        }
    }
}

impl Signal {
    /// What the names of our own manifests mean.
    pub(super) fn of_metric(name: &str) -> Option<Self> {
        match name {
            "http_request_duration_p50" => Some(Self::Latency(0.5)),
            "http_request_duration_p95" => Some(Self::Latency(0.95)),
            "http_request_duration_p99" => Some(Self::Latency(0.99)),
            "http_requests_in_flight" => Some(Self::InFlight),
            "aegis_inference_queue_depth" => Some(Self::QueueDepth),
            "http_requests_per_second" | "aegis_inference_requests_per_second" => {
                Some(Self::RequestRate)
            }
            _ => None,
        }
    }
}

/// One scrape of one pod.
#[derive(Clone, Debug)]
pub(super) struct Scrape {
    pub at: f64,
    pub buckets: [f64; BUCKETS],
    pub in_flight: f64,
    pub queued: f64,
}

/// How Prometheus looks back, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub rate: f64,
    pub gauge: f64,
}

/// The pod's series of one signal at `now`; `None` without enough samples in the window.
pub(super) fn of_pod(
    signal: Signal,
    scrapes: &VecDeque<Scrape>,
    now: f64,
    windows: Windows,
) -> Option<f64> {
    match signal {
        Signal::Latency(q) => Some(quantile(q, &rates(scrapes, now, windows)?)),
        Signal::RequestRate => rates(scrapes, now, windows)?.last().copied(),
        Signal::InFlight => gauge(scrapes, now, windows, |scrape| scrape.in_flight),
        Signal::QueueDepth => gauge(scrapes, now, windows, |scrape| scrape.queued),
    }
}

/// The service's: quantiles over all pods' buckets, everything else the sum over pods. `None`
/// where no pod has a series.
pub(super) fn of_service<'a>(
    signal: Signal,
    pods: impl Iterator<Item = &'a VecDeque<Scrape>>,
    now: f64,
    windows: Windows,
) -> Option<f64> {
    match signal {
        Signal::Latency(q) => {
            let summed = pods
                .filter_map(|scrapes| rates(scrapes, now, windows))
                .reduce(|mut sum, rates| {
                    sum.iter_mut()
                        .zip(rates)
                        .for_each(|(sum, rate)| *sum += rate);
                    sum
                })?;
            Some(quantile(q, &summed))
        }
        _ => pods
            .filter_map(|scrapes| of_pod(signal, scrapes, now, windows))
            .reduce(|a, b| a + b),
    }
}

fn rates(scrapes: &VecDeque<Scrape>, now: f64, windows: Windows) -> Option<[f64; BUCKETS]> {
    let start = now - windows.rate;
    let within = || {
        scrapes
            .iter()
            .filter(move |scrape| scrape.at > start && scrape.at <= now)
    };
    let (first, last, samples) = (within().next()?, within().next_back()?, within().count());
    let mut rates = [0.0; BUCKETS];
    for ((slot, from), to) in rates.iter_mut().zip(first.buckets).zip(last.buckets) {
        *slot = rate((first.at, from), (last.at, to), samples, start, now)?;
    }
    Some(rates)
}

fn gauge(
    scrapes: &VecDeque<Scrape>,
    now: f64,
    windows: Windows,
    value: impl Fn(&Scrape) -> f64,
) -> Option<f64> {
    let within = scrapes
        .iter()
        .filter(|scrape| scrape.at > now - windows.gauge && scrape.at <= now);
    let (sum, count) = within.fold((0.0, 0u32), |(sum, n), s| (sum + value(s), n + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// What prometheus-adapter makes of a value: cut off at a thousandth, NaN (an idle histogram) is 0.
pub(super) fn through_adapter(value: f64) -> i64 {
    if value.is_nan() {
        0
    } else {
        (value * 1000.0) as i64
    }
}

/// What KEDA makes of a query's result: no element and infinities are 0, NaN is what the conversion
/// to an integer makes of it on amd64, the smallest there is.
pub(super) fn through_keda(value: Option<f64>) -> i64 {
    match value {
        None => 0,
        Some(value) if value.is_infinite() => 0,
        Some(value) if value.is_nan() => i64::MIN,
        Some(value) => (value * 1000.0) as i64,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const WINDOWS: Windows = Windows {
        rate: 60.0,
        gauge: 30.0,
    };

    /// Scrapes every 15 s, of a pod that answers one request a second in 0.3 s.
    fn scrapes(count: u32) -> VecDeque<Scrape> {
        (0..count)
            .map(|n| {
                let at = f64::from(n) * 15.0;
                let mut exported = super::super::histogram::Exported::default();
                exported.record(0.3, 100 + at as u64);
                Scrape {
                    at,
                    buckets: exported.cumulative(),
                    in_flight: f64::from(n),
                    queued: 0.0,
                }
            })
            .collect()
    }

    #[test]
    fn a_pod_has_no_latency_before_its_second_scrape() {
        assert_eq!(
            of_pod(Signal::Latency(0.95), &scrapes(1), 5.0, WINDOWS),
            None
        );
        assert!(of_pod(Signal::InFlight, &scrapes(1), 5.0, WINDOWS).is_some());
        assert!(of_pod(Signal::Latency(0.95), &scrapes(2), 20.0, WINDOWS).is_some());
    }

    #[test]
    fn rates_and_quantiles_are_those_of_the_window() {
        let scrapes = scrapes(9);
        let rps = of_pod(Signal::RequestRate, &scrapes, 122.0, WINDOWS).unwrap();
        assert!((rps - 1.0).abs() < 1e-9, "{rps}");
        let p95 = of_pod(Signal::Latency(0.95), &scrapes, 122.0, WINDOWS).unwrap();
        assert!((p95 - 0.3425).abs() < 1e-9, "{p95}");
        // The gauge: those of the last 30 s, at 105 and 120.
        let in_flight = of_pod(Signal::InFlight, &scrapes, 122.0, WINDOWS).unwrap();
        assert!((in_flight - 7.5).abs() < 1e-9);
    }

    #[test]
    fn the_service_is_the_sum_of_its_pods_but_for_quantiles() {
        let pods = [scrapes(9), scrapes(9), scrapes(1)];
        let service = |signal| of_service(signal, pods.iter(), 122.0, WINDOWS).unwrap();
        assert!((service(Signal::RequestRate) - 2.0).abs() < 1e-9);
        assert!((service(Signal::Latency(0.95)) - 0.3425).abs() < 1e-9);
    }

    #[test]
    fn adapter_and_keda_cut_off_and_differ_about_nan() {
        assert_eq!(through_adapter(15.999_9), 15_999);
        assert_eq!(through_adapter(f64::NAN), 0);
        assert_eq!(through_keda(Some(0.385_9)), 385);
        assert_eq!(through_keda(None), 0);
        assert_eq!(through_keda(Some(f64::INFINITY)), 0);
        assert_eq!(through_keda(Some(f64::NAN)), i64::MIN);
    }
}
