//! Why a breaker is open, in words for `/health` and the log.

use std::fmt;
use std::time::Duration;

/// Why a breaker is not closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Why {
    /// What opened it.
    pub(crate) cause: Cause,
    /// How many probes have failed since.
    pub(crate) failed_probes: u32,
}

/// What opened a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cause {
    /// Too large a share of the window's requests failed.
    ErrorRate {
        failures: u32,
        requests: u32,
        window: Duration,
    },
    /// So many failed one after the other.
    InARow { failures: u32 },
    /// Too many of the window's requests took longer than they should.
    Slow {
        slow: u32,
        requests: u32,
        window: Duration,
        threshold: Duration,
        quantile: f64,
    },
}

impl Why {
    pub(super) fn new(cause: Cause) -> Why {
        Why {
            cause,
            failed_probes: 0,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        match self.failed_probes {
            0 => Ok(()),
            1 => write!(f, "; 1 probe has failed since"),
            probes => write!(f, "; {probes} probes have failed since"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::ErrorRate {
                failures,
                requests,
                window,
            } => {
                let percent = 100.0 * f64::from(*failures) / f64::from(*requests);
                write!(
                    f,
                    "error rate {percent:.0} % of {requests} requests in {window:?}"
                )
            }
            Cause::InARow { failures: 1 } => write!(f, "1 failure"),
            Cause::InARow { failures } => write!(f, "{failures} failures in a row"),
            Cause::Slow {
                slow,
                requests,
                window,
                threshold,
                quantile,
            } => {
                let percentile = (quantile * 1000.0).round() / 10.0;
                write!(
                    f,
                    "p{percentile} over {threshold:?}: {slow} of {requests} requests in {window:?} took longer"
                )
            }
        }
    }
}
