//! The `http_*` metrics: one handle a route, one guard a request. The server says which route a
//! request took (a template, never its path) and how it ended; counting is done here.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use opentelemetry::metrics::{
    BoundCounter, BoundHistogram, BoundUpDownCounter, Counter, Histogram, Meter, UpDownCounter,
};
use parking_lot::Mutex;

use crate::label;
use crate::table::metric;
use crate::telemetry::{counter, histogram, up_down};

/// The `endpoint` of requests that no route takes.
pub const UNMATCHED_ENDPOINT: &str = "unmatched";

/// Routes (method and template) that get series of their own; the API has some 40.
const MAX_ENDPOINTS: usize = 256;

/// Statuses are 100 to 599.
const FIRST_STATUS: u16 = 100;
const STATUSES: usize = 500;

/// What a request ends with whose caller went away: nginx's word for it, in no RFC.
const CLIENT_CLOSED: u16 = 499;

/// The instruments of all routes.
pub struct HttpMetrics {
    instruments: Arc<Instruments>,
    endpoints: Mutex<HashMap<(&'static str, String), EndpointMetrics>>,
}

struct Instruments {
    duration: Histogram<f64>,
    in_flight: UpDownCounter<i64>,
    requests: Counter<u64>,
    errors: Counter<u64>,
}

impl fmt::Debug for HttpMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpMetrics").finish_non_exhaustive()
    }
}

impl HttpMetrics {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            instruments: Arc::new(Instruments {
                duration: histogram(meter, &metric::HTTP_REQUEST_DURATION),
                in_flight: up_down(meter, &metric::HTTP_REQUESTS_IN_FLIGHT),
                requests: counter(meter, &metric::HTTP_REQUESTS),
                errors: counter(meter, &metric::HTTP_REQUEST_ERRORS),
            }),
            endpoints: Mutex::new(HashMap::new()),
        }
    }

    /// The handle of one route: `method` in capitals (`OTHER` if unknown), `endpoint` its template
    /// (`/v1/models/{name}`). Series for `statuses` exist at zero from here on; others appear when
    /// they first occur. Asking again gives the same handle; beyond 256 routes all share one with
    /// endpoint `other`. Meant to be asked for once a route, at start.
    pub fn endpoint(&self, method: &str, endpoint: &str, statuses: &[u16]) -> EndpointMetrics {
        let method = label::method(method);
        let mut endpoints = self.endpoints.lock();
        let known = endpoints.contains_key(&(method, endpoint.to_owned()));
        let endpoint = if known || endpoints.len() < MAX_ENDPOINTS {
            label::value(endpoint)
        } else {
            label::OTHER.to_owned()
        };
        let handle = endpoints
            .entry((method, endpoint.clone()))
            .or_insert_with(|| EndpointMetrics::new(&self.instruments, method, endpoint))
            .clone();
        drop(endpoints);
        for status in statuses {
            handle.inner.status(*status);
        }
        handle
    }
}

/// The handle of one route; cheap to clone.
#[derive(Clone)]
pub struct EndpointMetrics {
    inner: Arc<Endpoint>,
}

impl fmt::Debug for EndpointMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EndpointMetrics({} {})",
            self.inner.method, self.inner.endpoint
        )
    }
}

struct Endpoint {
    method: &'static str,
    endpoint: String,
    instruments: Arc<Instruments>,
    in_flight: BoundUpDownCounter<i64>,
    cancelled: BoundCounter<u64>,
    /// One place a status, filled when the status first occurs: finding it takes no lock.
    statuses: Box<[OnceLock<Box<StatusMetrics>>]>,
    /// For a number that is no status; counted as 500, since sending it would be our fault.
    invalid: OnceLock<Box<StatusMetrics>>,
}

struct StatusMetrics {
    duration: BoundHistogram<f64>,
    requests: BoundCounter<u64>,
    /// Only for statuses that are errors.
    errors: Option<BoundCounter<u64>>,
}

impl EndpointMetrics {
    fn new(instruments: &Arc<Instruments>, method: &'static str, endpoint: String) -> Self {
        let labels = label::attributes([
            ("method", method.to_owned()),
            ("endpoint", endpoint.clone()),
        ]);
        let cancelled = label::attributes([
            ("method", method.to_owned()),
            ("endpoint", endpoint.clone()),
            ("error_type", "cancelled".to_owned()),
        ]);
        Self {
            inner: Arc::new(Endpoint {
                method,
                endpoint,
                in_flight: instruments.in_flight.bind(&labels),
                cancelled: instruments.errors.bind(&cancelled),
                instruments: Arc::clone(instruments),
                statuses: std::iter::repeat_with(OnceLock::new)
                    .take(STATUSES)
                    .collect(),
                invalid: OnceLock::new(),
            }),
        }
    }

    /// A request has begun: it is in flight until the guard is finished or dropped.
    pub fn start(&self) -> InFlightGuard {
        self.inner.in_flight.add(1);
        InFlightGuard {
            inner: Arc::clone(&self.inner),
            started: Instant::now(),
            finished: false,
        }
    }
}

impl Endpoint {
    fn status(&self, status: u16) -> &StatusMetrics {
        let place = status
            .checked_sub(FIRST_STATUS)
            .and_then(|index| self.statuses.get(usize::from(index)));
        match place {
            Some(place) => place.get_or_init(|| self.bind(status)),
            None => self.invalid.get_or_init(|| self.bind(500)),
        }
    }

    fn bind(&self, status: u16) -> Box<StatusMetrics> {
        let labels = |key: &'static str, value: String| {
            label::attributes([
                ("method", self.method.to_owned()),
                ("endpoint", self.endpoint.clone()),
                (key, value),
            ])
        };
        let by_status = labels("status", status.to_string());
        // A caller that left is an error of type `cancelled`, whose series every route has.
        let errors = (status >= 400 && status != CLIENT_CLOSED).then(|| {
            self.instruments
                .errors
                .bind(&labels("error_type", format!("http_{status}")))
        });
        Box::new(StatusMetrics {
            duration: self.instruments.duration.bind(&by_status),
            requests: self.instruments.requests.bind(&by_status),
            errors,
        })
    }
}

/// A request in flight. [`InFlightGuard::finish`] it with its status; dropped without, it counts as
/// cancelled by its caller (status 499, error type `cancelled`). Keep it until the answer's body is
/// sent, as only then is the request over.
#[must_use = "dropping the guard counts the request as cancelled"]
pub struct InFlightGuard {
    inner: Arc<Endpoint>,
    started: Instant,
    finished: bool,
}

impl fmt::Debug for InFlightGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "InFlightGuard({} {})",
            self.inner.method, self.inner.endpoint
        )
    }
}

impl InFlightGuard {
    /// The request was answered with this status.
    pub fn finish(mut self, status: u16) {
        self.finished = true;
        let metrics = self.inner.status(status);
        metrics
            .duration
            .record(self.started.elapsed().as_secs_f64());
        metrics.requests.add(1);
        if let Some(errors) = &metrics.errors {
            errors.add(1);
        }
    }

    /// When the request began.
    pub fn started(&self) -> Instant {
        self.started
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.inner.in_flight.add(-1);
        if !self.finished {
            let metrics = self.inner.status(CLIENT_CLOSED);
            metrics
                .duration
                .record(self.started.elapsed().as_secs_f64());
            metrics.requests.add(1);
            self.inner.cancelled.add(1);
        }
    }
}
