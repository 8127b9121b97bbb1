//! Rows (c) and (d): the real server, asked over loopback by a load generator, sandboxed and
//! natively in turns.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    fixture::{Fixture, Network},
    in_process::Throughput,
    load::Loaded,
    machine::CpuTime,
    plan::Plan,
    program::Running,
    say,
    serve::native_name,
    stats::{Summary, median},
};

/// What was measured of one network on so many connections.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OverHttp {
    pub(crate) network: &'static str,
    pub(crate) connections: usize,
    /// (c)
    pub(crate) sandboxed: Side,
    /// (d)
    pub(crate) native: Side,
    /// The rounds' ratios of (c)'s throughput to (d)'s: their median, least and greatest.
    pub(crate) ratio: f64,
    pub(crate) ratio_least: f64,
    pub(crate) ratio_greatest: f64,
}

/// One side, the medians of the rounds. Processor time is the server process's alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) latency: Summary,
    pub(crate) throughput: Throughput,
}

/// Measures all networks on one server.
pub(crate) fn measure(
    fixture: &Fixture,
    onnxruntime: Option<&Path>,
    plan: &Plan,
) -> anyhow::Result<Vec<OverHttp>> {
    let server = TheServer::start(fixture, onnxruntime)?;
    let mut all = Vec::new();
    for network in &fixture.networks {
        for connections in plan.connections {
            say(&format!(
                "{}: over HTTP, {connections} connections",
                network.name
            ));
            all.push(
                compare(&server, network, *connections, plan).with_context(|| {
                    format!("{} over HTTP, {connections} connections", network.name)
                })?,
            );
        }
    }
    Ok(all)
}

fn compare(
    server: &TheServer,
    network: &Network,
    connections: usize,
    plan: &Plan,
) -> anyhow::Result<OverHttp> {
    let native_name = native_name(network.name);
    let (mut sandboxed, mut native, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let with = || server.load(network.name, network, connections, plan);
        let without = || server.load(&native_name, network, connections, plan);
        // Who begins changes from round to round, so that neither gains by coming first.
        let (with, without) = if round % 2 == 0 {
            let with = with()?;
            (with, without()?)
        } else {
            let without = without()?;
            (with()?, without)
        };
        ratios.push(
            with.throughput.requests_per_second / without.throughput.requests_per_second.max(1.0),
        );
        sandboxed.push(with);
        native.push(without);
    }
    Ok(OverHttp {
        network: network.name,
        connections,
        sandboxed: Side::median_of(&sandboxed),
        native: Side::median_of(&native),
        ratio: median(ratios.iter().copied()),
        ratio_least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_greatest: ratios.iter().copied().fold(0.0, f64::max),
    })
}

impl Side {
    fn median_of(rounds: &[Side]) -> Side {
        let latencies: Vec<_> = rounds.iter().map(|round| round.latency).collect();
        let throughputs: Vec<_> = rounds.iter().map(|round| round.throughput).collect();
        Side {
            latency: Summary::median_of(&latencies),
            throughput: Throughput::median_of(&throughputs),
        }
    }
}

struct TheServer {
    process: Running,
    address: SocketAddr,
}

impl TheServer {
    fn start(fixture: &Fixture, onnxruntime: Option<&Path>) -> anyhow::Result<TheServer> {
        let log = fixture.folder("server.log");
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("serve")
            .arg("--data")
            .arg(fixture.folder("data"))
            // Held open until the server is to end.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        for network in &fixture.networks {
            command.arg("--package").arg(&network.package);
        }
        if let Some(path) = onnxruntime {
            command.arg("--onnxruntime").arg(path);
        }
        let mut process = Running(command.spawn().context("the server does not start")?);
        let output = process
            .0
            .stdout
            .take()
            .context("the server has no output")?;
        let port = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.parse::<u16>().ok());
        let Some(port) = port else {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            bail!("the server did not start: {log}");
        };
        Ok(TheServer {
            process,
            address: ([127, 0, 0, 1], port).into(),
        })
    }

    /// One side's turn in one round.
    fn load(
        &self,
        identifier: &str,
        network: &Network,
        connections: usize,
        plan: &Plan,
    ) -> anyhow::Result<Side> {
        let server = self.process.0.id();
        let before = CpuTime::of(server)?;
        let output = Command::new(std::env::current_exe()?)
            .arg("load")
            .args(["--address", &self.address.to_string()])
            .args(["--path", &format!("/predict?identifier={identifier}")])
            .arg("--cases")
            .arg(network.cases_file())
            .args(["--connections", &connections.to_string()])
            .args(["--warm-up-ms", &plan.load_warm_up.as_millis().to_string()])
            .args(["--measure-ms", &plan.load.as_millis().to_string()])
            .stderr(Stdio::inherit())
            .output()
            .context("the load generator does not start")?;
        let cpu = CpuTime::of(server)?.since(before);
        if !output.status.success() {
            bail!("the load generator failed on {identifier}");
        }
        let loaded: Loaded = serde_json::from_slice(&output.stdout)?;
        let cpu = cpu.per(loaded.all_requests);
        Ok(Side {
            latency: loaded.latency,
            throughput: Throughput {
                requests_per_second: loaded.requests_per_second,
                cpu_user: cpu.user,
                cpu_system: cpu.system,
            },
        })
    }
}
