//! What `aegis simulate` prints, and how long each run took: for measuring the simulator without
//! building the server: `cargo run --release -p aegis-autoscale --example simulate`. A number after
//! `--` is the cores of a busy place, a name the file for the picture.

use std::{io::Write as _, time::Instant};

use aegis_autoscale::{
    report,
    simulate::{Config, Engine, Profile, simulate},
    slo::Slo,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    let slo = Slo::default();
    let mut config = Config::of(&slo)?;
    let mut picture = None;
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(cores) => config.service.cores_per_place = cores,
            Err(_) => picture = Some(argument),
        }
    }
    let hpas = report::hpas(&slo)?;
    let all = report::compare(&config, &slo, &hpas, &report::standard_profiles())?;
    writeln!(out, "{}\n", report::text(&all))?;
    if let Some(path) = picture {
        std::fs::write(path, report::svg(&all)?)?;
    }
    for engine in [Engine::Exact, Engine::Aggregate] {
        let config = Config {
            engine,
            ..config.clone()
        };
        for (name, hpa) in &hpas {
            let begin = Instant::now();
            let run = simulate(&config, hpa, &Profile::day())?;
            let took = begin.elapsed().as_secs_f64();
            let requests = run.summary.requests;
            writeln!(
                out,
                "a day, {name}, {engine:?}: {took:.3} s for {requests} requests"
            )?;
        }
    }
    Ok(())
}
