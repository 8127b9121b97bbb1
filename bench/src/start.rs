//! Rows (e): the real program, from its start to its first answer, and from an upload to the
//! model's first answer.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    fixture::{FILES, Fixture, Network},
    http::Connection,
    plan::Plan,
    program::{Program, Running, get, upload, wait},
    stats::median,
};

/// Times in milliseconds, the medians and the greatest of the runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) network: &'static str,
    pub(crate) runs: usize,
    /// From starting the program to the first 200 of `/predict`, with the model's code in the
    /// cache.
    pub(crate) first_answer: Times,
    /// From an upload's first byte to its 201: stored, checked, compiled, loaded.
    pub(crate) upload: Times,
    /// From an upload's first byte to the model's first answer.
    pub(crate) upload_to_answer: Times,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) greatest: f64,
}

impl Times {
    fn of(runs: &[Duration]) -> Times {
        let millis = || runs.iter().map(|run| run.as_secs_f64() * 1e3);
        Times {
            median: median(millis()),
            greatest: millis().fold(0.0, f64::max),
        }
    }
}

/// Measures starts and uploads of the first network.
pub(crate) fn measure(
    aegis: &Path,
    fixture: &Fixture,
    onnxruntime: Option<&Path>,
    plan: &Plan,
) -> anyhow::Result<Start> {
    let network = fixture.networks.first().context("there is no network")?;
    let program = Program {
        aegis,
        onnxruntime,
        log: fixture.folder("aegis.log"),
    };
    program.explain(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(measure_all(&program, fixture, network, plan)),
    )
}

async fn measure_all(
    program: &Program<'_>,
    fixture: &Fixture,
    network: &Network,
    plan: &Plan,
) -> anyhow::Result<Start> {
    let prepared = fixture.folder("prepared");
    // Fills the folder and the cache of compiled code.
    start_to_answer(program, &prepared, Some(&network.package), network).await?;
    let (mut starts, mut uploads, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..plan.starts {
        starts.push(start_to_answer(program, &prepared, None, network).await?);
        let empty = fixture.folder(&format!("empty-{run}"));
        let (upload, answer) = upload_to_answer(program, &empty, network).await?;
        uploads.push(upload);
        answers.push(answer);
    }
    Ok(Start {
        network: network.name,
        runs: plan.starts,
        first_answer: Times::of(&starts),
        upload: Times::of(&uploads),
        upload_to_answer: Times::of(&answers),
    })
}

async fn start_to_answer(
    program: &Program<'_>,
    data: &Path,
    package: Option<&Path>,
    network: &Network,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let flags = package.map(|package| ["--models".as_ref(), package.as_os_str()]);
    let (mut running, address) = program.start(data, flags.as_ref().map_or(&[], |flags| flags))?;
    first_answer(&mut running, address, network).await?;
    Ok(begun.elapsed())
}

/// Until the upload is answered, and until the model answers.
async fn upload_to_answer(
    program: &Program<'_>,
    data: &Path,
    network: &Network,
) -> anyhow::Result<(Duration, Duration)> {
    let (mut running, address) = program.start(data, &[])?;
    wait(&mut running, address, &get("/readyz"), None).await?;
    let mut files = Vec::new();
    for file in FILES {
        files.push((file, std::fs::read(network.package.join(file))?));
    }
    let upload = upload(network.name, &files);
    let mut connection = Connection::open(address).await?;
    let begun = Instant::now();
    let answer = connection.ask(&upload).await?;
    let uploaded = begun.elapsed();
    if answer.status != 201 {
        bail!(
            "the upload was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(answer.body)
        );
    }
    first_answer(&mut running, address, network).await?;
    Ok((uploaded, begun.elapsed()))
}

async fn first_answer(
    running: &mut Running,
    address: SocketAddr,
    network: &Network,
) -> anyhow::Result<()> {
    let case = network.digits.first().context("there are no cases")?.case();
    let path = format!("/predict?identifier={}", network.name);
    let request = case.request(&path);
    wait(running, address, &request, Some(&case)).await
}
