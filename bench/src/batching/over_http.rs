//! The real program, asked over loopback, with the digits handler before each network.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{Args, CALLERS, Figures, Network, Report, Row, Side, in_turns};
use crate::{
    bare,
    cases::{Case, most_probable},
    fixture::MAX_CONCURRENCY,
    http::post,
    load::Loaded,
    machine::CpuTime,
    program::{Program, Running, find, wait},
    say,
};

/// The two sides of a network over HTTP.
const WAYS: [(&str, &str); 2] = [("off", "batching = false\n"), ("on", "")];

/// Measures the networks that a handler asks.
pub(super) fn measure(
    report: &mut Report,
    networks: &[Network],
    args: &Args,
    folder: &Path,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<()> {
    let asked: Vec<&Network> = networks
        .iter()
        .filter(|network| network.cases.is_some())
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let aegis = find(args.aegis.clone())?;
    let models = folder.join("models");
    let mut cases_files = Vec::new();
    for network in &asked {
        let cases = right_answers(network)?;
        let file = folder.join(format!("{}.cases.json", network.name));
        fs::write(&file, serde_json::to_vec(&cases)?)?;
        cases_files.push((file, cases));
        for (way, batching) in WAYS {
            write_package(&models, network, way, batching)?;
        }
    }
    let program = Program {
        aegis: &aegis,
        onnxruntime: args.onnxruntime.as_deref(),
        log: folder.join("server.log"),
    };
    let concurrency = (2 * CALLERS.into_iter().max().unwrap_or(MAX_CONCURRENCY)).to_string();
    let flags: [&OsStr; 6] = [
        "--models".as_ref(),
        models.as_ref(),
        "--predict-max-concurrency".as_ref(),
        concurrency.as_ref(),
        "--max-instances".as_ref(),
        "512".as_ref(),
    ];
    let (mut process, address) = program.start(&folder.join("data"), &flags)?;
    for (network, (_, cases)) in asked.iter().zip(&cases_files) {
        for (way, _) in WAYS {
            let case = cases.first().context("no cases")?;
            let path = format!("/predict?identifier={}-{way}", network.name);
            let request = post(&path, "application/json", case.body.as_bytes());
            let waited = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(wait(&mut process, address, &request, Some(case)));
            program.explain(waited)?;
        }
    }
    for (network, (file, _)) in asked.iter().zip(&cases_files) {
        for callers in CALLERS {
            say(&format!(
                "{}: over HTTP, {callers} connections",
                network.name
            ));
            let measured = in_turns(rounds, |side| {
                let way = if side == Side::On { "on" } else { "off" };
                turn(&process, address, network.name, way, file, callers, window)
            })?;
            let row = Row::of(network.name, callers, &measured);
            report.over_http.push(row);
        }
    }
    Ok(())
}

/// The cases with the answers that ONNX Runtime alone gives: a network of random weights is right whatever it says.
fn right_answers(network: &Network) -> anyhow::Result<Vec<Case>> {
    let mut bare = bare::Bare::open(&network.onnx)?;
    let mut cases = network.cases.clone().unwrap_or_default();
    for case in &mut cases {
        case.digit = most_probable(&bare.run(&case.pixels)?);
    }
    Ok(cases)
}

fn write_package(
    models: &Path,
    network: &Network,
    way: &str,
    batching: &str,
) -> anyhow::Result<()> {
    let name = format!("{}-{way}", network.name);
    let package = models.join(&name);
    fs::create_dir_all(&package)?;
    fs::copy("models/digits/digits.wasm", package.join("digits.wasm"))
        .context("models/digits/digits.wasm: scripts/handlers.sh builds it")?;
    fs::copy(&network.onnx, package.join("network.onnx"))?;
    let manifest = format!(
        "name = \"{name}\"\nhandler = \"digits.wasm\"\n\n[[graph]]\nname = \"digits\"\nfile = \"network.onnx\"\n\
         backend = \"onnxruntime\"\n{batching}\n[limits]\nmax_concurrency = 256\nmax_queue = 256\n"
    );
    fs::write(package.join("model.toml"), manifest)?;
    Ok(())
}

fn turn(
    process: &Running,
    address: SocketAddr,
    network: &str,
    way: &str,
    cases: &Path,
    connections: usize,
    window: Duration,
) -> anyhow::Result<Figures> {
    let server = process.0.id();
    let before = CpuTime::of(server)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("load")
        .args(["--address", &address.to_string()])
        .args(["--identifier", &format!("{network}-{way}")])
        .arg("--cases")
        .arg(cases)
        .args(["--connections", &connections.to_string()])
        .args(["--warm-up-ms", &(window / 5).as_millis().to_string()])
        .args(["--measure-ms", &window.as_millis().to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("the load generator does not start")?;
    let cpu = CpuTime::of(server)?.since(before);
    if !output.status.success() {
        bail!("the load generator failed on {network}-{way}");
    }
    let loaded: Loaded = serde_json::from_slice(&output.stdout)?;
    let cpu = cpu.per(loaded.all_requests);
    Ok(Figures {
        requests_per_second: loaded.requests_per_second,
        median_us: loaded.latency.median,
        p99_us: loaded.latency.p99,
        mean_batch: None,
        cpu_us: Some(cpu.user + cpu.system),
    })
}
