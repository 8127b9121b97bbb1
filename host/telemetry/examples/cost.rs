//! What recording costs, printed: a measurement and no test, as the machine decides it. Run it with
//! `cargo run -p aegis-telemetry --release --example cost`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and ends by panicking if it cannot be made"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aegis_telemetry::{Outcome, Telemetry};

const ROUNDS: u32 = 200_000;

fn time(what: &str, mut round: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        best = best.min(start.elapsed());
    }
    println!("{what}: {} ns", best.as_nanos() / u128::from(ROUNDS));
}

fn main() {
    let telemetry = Telemetry::new().unwrap();
    let endpoint = telemetry.http().endpoint("POST", "/predict", &[200]);
    let version = telemetry.inference().version("digits", 1);
    let graph = telemetry.inference().graph("digits", "net", "onnxruntime");
    let short = black_box(Duration::from_micros(7));
    time("http guard", || endpoint.start().finish(200));
    time("version.request", || version.request(Outcome::Ok, short));
    time("graph.ran of one", || graph.ran(1, short, short));
    time("version.safety_flag", || version.safety_flag("spam"));
    time("one request's records", || {
        let guard = endpoint.start();
        version.instantiated(short);
        graph.ran(1, short, short);
        version.request(Outcome::Ok, short);
        guard.finish(200);
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                time(
                    "one request's records, two threads on the same series",
                    || {
                        let guard = endpoint.start();
                        version.instantiated(short);
                        graph.ran(1, short, short);
                        version.request(Outcome::Ok, short);
                        guard.finish(200);
                    },
                );
            });
        }
    });
    let start = Instant::now();
    let text = telemetry.render().unwrap();
    println!(
        "render: {} µs, {} bytes",
        start.elapsed().as_micros(),
        text.len()
    );
}
