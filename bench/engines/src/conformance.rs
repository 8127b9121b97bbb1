//! Runs ONNX's own node cases on an engine, each in a worker process, and judges what comes of them.

use std::{
    collections::BTreeMap,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    engine::Kind,
    hostile,
    onnx::{Signature, bake_small_inputs, read_tensor},
    tensor::Tensor,
    worker::{self, Worker},
};

/// Cases of onnx 1.20.0 that the rule of [`cases`] picks.
const CASES: usize = 1252;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Pass,
    Wrong,
    RefusedAtLoad,
    ErrorAtRun,
    PanicAtLoad,
    PanicAtRun,
    /// The process died: a signal, an abort, a stack overflow.
    Crash,
    Hang,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub case: String,
    pub trial: String,
    /// The operator of a case of one node; else "several".
    pub operator: String,
    /// Whether every input and output is f32, i32 or u8: the types that all engines here hold as they are.
    pub common_types: bool,
    pub outcome: Outcome,
    pub detail: String,
}

/// The cases whose inputs and outputs are tensors of wasi:nn's types, by name.
pub fn cases(data: &Path) -> Result<Vec<PathBuf>> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let case = entry?.path();
        let model = case.join("model.onnx");
        if model.is_file() && Signature::read(&std::fs::read(model)?)?.is_wasi_nn() {
            cases.push(case);
        }
    }
    cases.sort();
    Ok(cases)
}

fn tensors(case: &Path, what: &str, count: usize) -> Result<Vec<Tensor>> {
    (0..count)
        .map(|index| {
            let path = case
                .join("test_data_set_0")
                .join(format!("{what}_{index}.pb"));
            read_tensor(&std::fs::read(&path).with_context(|| path.display().to_string())?)
        })
        .collect()
}

/// `data.json` may set a case's own tolerances; none of 1.20.0's node cases has one.
fn tolerances(case: &Path) -> Result<(f64, f64)> {
    let path = case.join("data.json");
    if !path.is_file() {
        return Ok((1e-3, 1e-7));
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    Ok((
        json["rtol"].as_f64().unwrap_or(1e-3),
        json["atol"].as_f64().unwrap_or(1e-7),
    ))
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fn guarded<T>(what: impl FnOnce() -> Result<T>) -> Result<Result<T>, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|_| {
        LAST_PANIC
            .lock()
            .map(|text| text.clone())
            .unwrap_or_default()
    })
}

/// What is done with a case.
#[derive(Clone, Copy)]
pub enum Trial {
    AsIs,
    /// With the inputs that real models hold as constants made constants.
    Baked,
    /// Called with inputs that do not fit: see [`hostile::strange_inputs`].
    Strange(usize),
    /// Loaded from a file with a few wrong bytes: see [`hostile::damage`].
    Damaged(usize),
}

impl Trial {
    pub fn word(self) -> String {
        match self {
            Self::AsIs => "as-is".into(),
            Self::Baked => "baked".into(),
            Self::Strange(number) => format!("strange {number}"),
            Self::Damaged(number) => format!("damaged {number}"),
        }
    }

    fn parse(word: &str) -> Result<Self> {
        Ok(match word.split_once(' ') {
            None if word == "as-is" => Self::AsIs,
            None if word == "baked" => Self::Baked,
            Some(("strange", number)) => Self::Strange(number.parse()?),
            Some(("damaged", number)) => Self::Damaged(number.parse()?),
            _ => bail!("{word:?} is no trial"),
        })
    }
}

fn judge(kind: Kind, trial: Trial, case: &Path) -> Result<(Outcome, String)> {
    match trial {
        Trial::AsIs | Trial::Baked => judge_answers(kind, matches!(trial, Trial::Baked), case),
        Trial::Strange(number) => {
            let model = std::fs::read(case.join("model.onnx"))?;
            let signature = Signature::read(&model)?;
            let inputs = tensors(case, "input", signature.inputs.len())?;
            let Some(inputs) = hostile::strange_inputs(inputs, number) else {
                return Ok((Outcome::Pass, "nothing to bend".into()));
            };
            Ok(attempt(kind, &model, &signature, &inputs))
        }
        Trial::Damaged(number) => {
            let mut model = std::fs::read(case.join("model.onnx"))?;
            hostile::damage(&mut model, number);
            // The product too refuses what it cannot read itself, before an engine sees it.
            let Ok(signature) = Signature::read(&model) else {
                return Ok((Outcome::RefusedAtLoad, "unreadable".into()));
            };
            let inputs = tensors(case, "input", signature.inputs.len()).unwrap_or_default();
            Ok(attempt(kind, &model, &signature, &inputs))
        }
    }
}

/// Loads and runs without minding the answer.
fn attempt(
    kind: Kind,
    model: &[u8],
    signature: &Signature,
    inputs: &[Tensor],
) -> (Outcome, String) {
    let mut session = match guarded(|| kind.load(model, signature)) {
        Err(panic) => return (Outcome::PanicAtLoad, panic),
        Ok(Err(error)) => return (Outcome::RefusedAtLoad, format!("{error:#}")),
        Ok(Ok(session)) => session,
    };
    match guarded(|| session.run(inputs)) {
        Err(panic) => (Outcome::PanicAtRun, panic),
        Ok(Err(error)) => (Outcome::ErrorAtRun, format!("{error:#}")),
        Ok(Ok(_)) => (Outcome::Pass, String::new()),
    }
}

fn judge_answers(kind: Kind, bake: bool, case: &Path) -> Result<(Outcome, String)> {
    let mut model = std::fs::read(case.join("model.onnx"))?;
    let mut signature = Signature::read(&model)?;
    let mut inputs = tensors(case, "input", signature.inputs.len())?;
    let expected = tensors(case, "output", signature.outputs.len())?;
    let (rtol, atol) = tolerances(case)?;
    if bake {
        (model, inputs) = bake_small_inputs(&model, &inputs)?;
        signature = Signature::read(&model)?;
    }
    let mut session = match guarded(|| kind.load(&model, &signature)) {
        Err(panic) => return Ok((Outcome::PanicAtLoad, panic)),
        Ok(Err(error)) => return Ok((Outcome::RefusedAtLoad, format!("{error:#}"))),
        Ok(Ok(session)) => session,
    };
    // Twice, since a session serves many calls and must not remember the last one.
    for call in ["first", "second"] {
        let outputs = match guarded(|| session.run(&inputs)) {
            Err(panic) => return Ok((Outcome::PanicAtRun, panic)),
            Ok(Err(error)) => return Ok((Outcome::ErrorAtRun, format!("{error:#}"))),
            Ok(Ok(outputs)) => outputs,
        };
        if outputs.len() != expected.len() {
            return Ok((
                Outcome::Wrong,
                format!(
                    "{} outputs where {} are right",
                    outputs.len(),
                    expected.len()
                ),
            ));
        }
        for (index, (got, want)) in outputs.iter().zip(&expected).enumerate() {
            if let Err(error) = got.agrees_with(want, rtol, atol) {
                return Ok((
                    Outcome::Wrong,
                    format!("{call} call, output {index}: {error}"),
                ));
            }
        }
    }
    Ok((Outcome::Pass, String::new()))
}

/// The worker: reads lines of a trial, a tab and a case's folder; answers each with one line of JSON.
pub fn work(kind: Kind) -> Result<()> {
    worker::limit_memory();
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut text) = LAST_PANIC.lock() {
            *text = info.to_string();
        }
    }));
    for line in std::io::stdin().lines() {
        let line = line?;
        let (trial, case) = line
            .split_once('\t')
            .context("a line is a trial, a tab and a folder")?;
        let answer = judge(kind, Trial::parse(trial)?, Path::new(case))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}

/// Tries every case in every one of `trials` on a worker for `engine`, and writes what came of each to `out` as lines of
/// JSON.
pub fn run(engine: &str, trials: &[Trial], data: &Path, out: &Path) -> Result<Vec<Report>> {
    Kind::parse(engine)?;
    let cases = cases(data)?;
    ensure!(
        cases.len() == CASES,
        "{} cases of wasi:nn's types where onnx 1.20.0 has {CASES}",
        cases.len()
    );
    let mut worker = Worker::start(engine)?;
    let mut reports = Vec::new();
    let mut file = std::fs::File::create(out)?;
    for (case, &trial) in cases
        .iter()
        .flat_map(|case| trials.iter().map(move |trial| (case, trial)))
    {
        let signature = Signature::read(&std::fs::read(case.join("model.onnx"))?)?;
        let (outcome, detail) = worker.ask(trial, case);
        if matches!(outcome, Outcome::Crash | Outcome::Hang) {
            worker = Worker::start(engine)?;
        }
        use crate::tensor::DType::{F32, I32, U8};
        let report = Report {
            case: case
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            trial: trial.word(),
            operator: match &signature.operators[..] {
                [only] => only.clone(),
                _ => "several".into(),
            },
            common_types: signature
                .inputs
                .iter()
                .chain(&signature.outputs)
                .all(|port| matches!(port.dtype, Some(F32 | I32 | U8))),
            outcome,
            detail,
        };
        writeln!(file, "{}", serde_json::to_string(&report)?)?;
        reports.push(report);
    }
    Ok(reports)
}

/// The head of the table whose lines [`summary`] makes.
pub const HEADER: &str = "| engine | pass | wrong | refused at load | error at run | panic at load | panic at run | crash \
    | hang | pass of f32, i32, u8 only |\n|---|---|---|---|---|---|---|---|---|---|";

/// One line of the coverage table.
pub fn summary(engine: &str, reports: &[Report]) -> String {
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    for report in reports {
        *counts.entry(report.outcome).or_default() += 1;
    }
    let n = |outcome| counts.get(&outcome).copied().unwrap_or(0);
    use Outcome::{Crash, ErrorAtRun, Hang, PanicAtLoad, PanicAtRun, Pass, RefusedAtLoad, Wrong};
    let common = reports.iter().filter(|report| report.common_types);
    let (common_all, common_pass) = (
        common.clone().count(),
        common.filter(|report| report.outcome == Pass).count(),
    );
    format!(
        "| {engine} | {} | {} | {} | {} | {} | {} | {} | {} | {common_pass} of {common_all} |",
        n(Pass),
        n(Wrong),
        n(RefusedAtLoad),
        n(ErrorAtRun),
        n(PanicAtLoad),
        n(PanicAtRun),
        n(Crash),
        n(Hang)
    )
}
