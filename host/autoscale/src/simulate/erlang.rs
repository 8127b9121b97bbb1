//! Queueing theory: M/M/c exactly, M/G/c by the Allen-Cunneen approximation. What the aggregated
//! queue is made of, and what both queues are tested against.

/// The probability that a request waits in M/M/c (Erlang's C), for an offered load of `load`
/// busy places on average, below `places`.
pub(crate) fn waits(places: u32, load: f64) -> f64 {
    if load <= 0.0 {
        return 0.0;
    }
    let c = f64::from(places);
    if load >= c {
        return 1.0;
    }
    // Erlang's B by its recursion, which neither over- nor underflows.
    let blocked = (1..=places).fold(1.0, |b, k| load * b / (f64::from(k) + load * b));
    blocked / (1.0 - load / c * (1.0 - blocked))
}

/// How long those wait that wait, on average, in seconds: M/G/c's by M/M/c's, scaled with the
/// variation of the service time (exact for exponential times, cv 1).
pub(crate) fn wait_of_waiting(places: u32, load: f64, service: f64, cv: f64) -> f64 {
    let free = f64::from(places) - load;
    service / free.max(1e-9) * (1.0 + cv * cv) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erlangs_c_is_that_of_the_tables() {
        // One place: the utilization itself.
        assert!((waits(1, 0.7) - 0.7).abs() < 1e-12);
        // Two places at a load of 1: 1/3.
        assert!((waits(2, 1.0) - 1.0 / 3.0).abs() < 1e-12);
        // 10 places at a load of 8: 0.40918.
        assert!((waits(10, 8.0) - 0.409_18).abs() < 1e-5);
        assert_eq!(waits(3, 0.0), 0.0);
        assert_eq!(waits(3, 3.0), 1.0);
    }
}
