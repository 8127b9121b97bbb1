//! A process that runs cases one after another and writes down what came of each, as soon as it is known: whoever reads
//! it after a crash knows which case it was.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aegis_inference::{
    BackendChoice, BackendKind, GraphFiles, GraphSpec, Priority, Runtime, RuntimeConfig,
};
use aegis_sandbox::{
    Call, Failure, HandlerSpec, InferenceRequest, InferenceResponse, Limits, Parameter, Sandbox,
    SandboxConfig,
};
use serde::{Deserialize, Serialize};

use crate::{cases::Case, compare, root};

/// Names the folder that a child works in; nobody else has it in its environment.
pub(crate) const FOLDER: &str = "AEGIS_CONFORMANCE_CHILD";

/// In that folder: the cases, a line each; and what came of them, a [`Line`] each.
pub(crate) const CASES: &str = "cases";
pub(crate) const RESULTS: &str = "results";

/// What a child writes down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// A case is begun.
    Begun(String),
    /// It is over, with nothing if it passed.
    Ended(String, Option<String>),
}

/// The folder to work in, in a child.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

pub(crate) fn run(folder: &Path, backend: BackendKind) {
    let cases = fs::read_to_string(folder.join(CASES)).unwrap();
    let mut results = File::create(folder.join(RESULTS)).unwrap();
    let mut write = |line: Line| {
        let line = serde_json::to_string(&line).unwrap();
        writeln!(results, "{line}").unwrap();
    };
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    executor.block_on(async {
        let bench = Bench::open(folder, backend);
        for case in cases.lines() {
            write(Line::Begun(case.to_owned()));
            let said = bench.problem(case).await;
            write(Line::Ended(case.to_owned(), said));
        }
    });
    drop(executor);
    // Native libraries' exit handlers must not meet threads that still let go of a session.
    aegis_inference::sessions_ended(Duration::from_secs(10));
}

struct Bench {
    backend: BackendKind,
    runtime: Runtime,
    sandbox: Sandbox,
    guest: Vec<u8>,
}

impl Bench {
    fn open(folder: &Path, backend: BackendKind) -> Bench {
        let path = root().join("target/guests/conformance.wasm");
        let guest = fs::read(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; scripts/handlers.sh builds it", path.display())
        });
        // Each case has a handler of its own, as its graphs are given with it, and asks it once.
        let config = SandboxConfig {
            max_instances: 8,
            warm_instances: 0,
            ..SandboxConfig::new(folder.join("code"))
        };
        Bench {
            backend,
            runtime: Runtime::new(RuntimeConfig::default()),
            sandbox: Sandbox::new(config).unwrap(),
            guest,
        }
    }

    /// What is wrong with how a case ends, if anything is.
    async fn problem(&self, name: &str) -> Option<String> {
        let case = Case::read(name);
        match self.answer(&case).await {
            Ok(answer) => compare::problem(&answer.outputs, &case.outputs),
            Err(words) => Some(words),
        }
    }

    async fn answer(&self, case: &Case) -> Result<InferenceResponse, String> {
        let mut spec = GraphSpec::new("case", GraphFiles::Onnx(case.network.clone()));
        spec.backend = BackendChoice::Is(self.backend);
        let graph = self
            .runtime
            .load(&spec)
            .map_err(|error| error.to_string())?;
        let spec = HandlerSpec {
            model: "conformance".to_owned(),
            version: 1,
            graphs: BTreeMap::from([("case".to_owned(), graph)]),
            graph_loader: None,
            sessions: None,
            config: BTreeMap::new(),
            limits: Limits {
                timeout: Duration::from_secs(30),
                ..Limits::default()
            },
            reuse: false,
        };
        let loaded = self.sandbox.load(self.guest.clone(), spec, Vec::new());
        let (handler, _) = loaded.await.map_err(|error| error.to_string())?;
        let call = Call {
            request_id: Arc::from("conformance"),
            deadline: None,
            priority: Priority::default(),
            trace: Default::default(),
        };
        let request = InferenceRequest {
            id: "conformance".to_owned(),
            inputs: case.inputs.clone(),
            outputs: Vec::new(),
            parameters: vec![("graph".to_owned(), Parameter::Text("case".to_owned()))],
        };
        match handler.infer(&call, Arc::new(request)).await.result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Failure::Internal(words))) => Err(words),
            Ok(Err(failure)) => Err(format!("{failure:?}")),
            Err(fault) => Err(fault.to_string()),
        }
    }
}
