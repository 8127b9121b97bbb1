//! Honest requests whose answers are known before they are asked: no two of a kind that meet
//! have the same, so that an answer that went to another caller is a wrong one.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::{operator::Live, tally::Problem};
use crate::harness::{Answer, Package, Server, json_file, network_file};

/// As far as an answer may be from a golden: what another backend's rounding is.
const TOLERANCE: f64 = 1e-4;

/// Rows of three numbers that a request to `shared` or `live` has at most.
const MOST_ROWS: usize = 4;

/// What the network `scale` multiplies the three numbers of a row by.
const FACTORS: [f32; 3] = [1.0, 10.0, 100.0];

/// The network `scale` with its factors so many times as large.
pub(super) fn scale_by(factor: f32) -> Vec<u8> {
    let bytes_of = |times: f32| FACTORS.map(|each| (each * times).to_le_bytes()).concat();
    let (theirs, ours) = (bytes_of(1.0), bytes_of(factor));
    let mut network = network_file("scale");
    let places: Vec<_> = (0..network.len() - theirs.len())
        .filter(|at| network[*at..].starts_with(&theirs))
        .collect();
    assert_eq!(places.len(), 1, "the factors are there once");
    network[places[0]..][..ours.len()].copy_from_slice(&ours);
    network
}

/// The honest models that there are beside the hostile ones.
pub(super) async fn upload(server: &Server) {
    // Some milliseconds of waiting, as runs so short would hardly ever be shared.
    let shared = Package::new("shared", "name = \"shared\"\n").graph(
        "scale",
        "batching = { max_batch_size = 32, max_latency_ms = 3 }\n",
        scale_by(1.0),
    );
    let tarry = Package::nn("tarry", &["slow"]);
    // Time enough on a machine that does much else: what ends by the clock is lost here.
    let patient = "timeout_ms = 20000";
    let example = |name| Package::example(name).replacing("timeout_ms = 1500", patient);
    let limits = format!("[limits]\n{patient}");
    for package in [
        example("digits"),
        example("spam"),
        shared.and(&limits),
        tarry.and(&limits),
    ] {
        server.upload(&package).await.is(201);
    }
}

/// The cases of the example models.
pub(super) struct Asks {
    digits: Vec<Value>,
    spam: Vec<Value>,
}

impl Asks {
    pub(super) fn read() -> Asks {
        let cases = |model: &str| {
            let goldens = json_file(&format!("models/{model}/{model}-golden.json"));
            goldens["cases"].as_array().unwrap().clone()
        };
        Asks {
            digits: cases("digits"),
            spam: cases("spam"),
        }
    }

    pub(super) async fn digits(&self, server: &Server, turn: usize) -> Result<(), Problem> {
        let case = &self.digits[turn % self.digits.len()];
        let body = json!({ "pixels": case["input"] });
        let answer = answer(server.prediction("digits").json(&body)).await?;
        let found = answer.json();
        right(found["digit"] == case["label"], || {
            format!("{found}, where {} is due", case["label"])
        })?;
        let (found, due) = (&found["probabilities"], &case["probabilities"]);
        right(numbers(found).len() == 10, || found.to_string())?;
        let mut pairs = numbers(found).into_iter().zip(numbers(due));
        right(
            pairs.all(|(found, due)| (found - due).abs() <= TOLERANCE),
            || format!("{found}, where {due} is due"),
        )
    }

    pub(super) async fn spam(&self, server: &Server, turn: usize) -> Result<(), Problem> {
        let case = &self.spam[turn % self.spam.len()];
        let text = case["text"].as_str().unwrap().to_owned();
        let request = server.prediction("spam");
        let request = request.header("content-type", "text/plain").body(text);
        let found = answer(request).await?.json()["probability"]
            .as_f64()
            .unwrap();
        let due = case["spam_probability"].as_f64().unwrap();
        right((found - due).abs() <= TOLERANCE, || {
            format!("{found}, where {due} is due")
        })
    }
}

/// Rows of numbers that no other request of some thousand has, and that stay exact.
fn rows(turn: usize) -> Vec<f32> {
    let rows = 1 + turn % MOST_ROWS;
    let number = |place: usize| ((turn * 3 * MOST_ROWS + place) % (1 << 16)) as f32;
    (0..rows * 3).map(number).collect()
}

fn scaled(rows: &[f32], factor: f32) -> Vec<f32> {
    let factors = FACTORS.iter().cycle();
    rows.iter()
        .zip(factors)
        .map(|(number, each)| number * (each * factor))
        .collect()
}

/// A network without a handler, whose runs are shared.
pub(super) async fn shared(server: &Server, turn: usize) -> Result<(), Problem> {
    let rows = rows(turn);
    let body = json!({ "inputs": [{
        "name": "x", "datatype": "FP32", "shape": [rows.len() / 3, 3], "data": rows,
    }] });
    let found = answer(server.prediction("shared").json(&body))
        .await?
        .json();
    let found: Vec<f32> = numbers(&found["outputs"][0]["data"])
        .into_iter()
        .map(|number| number as f32)
        .collect();
    let due = scaled(&rows, 1.0);
    right(found == due, || format!("{found:?}, where {due:?} is due"))
}

/// A model whose version is another one every moment: the answer says of which it is.
pub(super) async fn live(server: &Server, live: &Live, turn: usize) -> Result<(), Problem> {
    let rows = rows(turn);
    let body: Vec<u8> = rows
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let query = format!("live&graph=scale&dims={},3", rows.len() / 3);
    let answer = answer(server.prediction(&query).body(body)).await?;
    let version = answer.header("aegis-model-version").to_owned();
    let factor = version
        .parse()
        .ok()
        .and_then(|version| live.factor(version))
        .ok_or_else(|| Problem::Wrong(format!("an answer of version `{version}`")))?;
    let found = answer.json();
    let bytes: Vec<u8> = serde_json::from_value(found["outputs"][0]["data"].clone())
        .map_err(|_| Problem::Wrong(found.to_string()))?;
    let (elements, _) = bytes.as_chunks();
    let found: Vec<f32> = elements.iter().copied().map(f32::from_le_bytes).collect();
    let due = scaled(&rows, factor);
    right(found == due, || {
        format!("version {version}: {found:?}, where {due:?} is due")
    })
}

/// A run that takes some milliseconds, for callers that do not wait for its end.
pub(super) async fn tarry(server: &Server, turn: usize) -> Result<(), Problem> {
    let rows = 50 + turn % 350;
    let query = format!("tarry&graph=slow&quiet&dims={rows},256");
    let found = answer(server.prediction(&query)).await?.json();
    right(found == json!({ "bytes": [rows * 256 * 4] }), || {
        found.to_string()
    })
}

/// The answer to a request that nothing is wrong with.
async fn answer(request: RequestBuilder) -> Result<Answer, Problem> {
    let lost = |error: reqwest::Error| Problem::Lost(format!("{error:?}"));
    let answer = Answer::read(request.send().await.map_err(lost)?).await;
    match answer.status {
        200 => Ok(answer),
        status => Err(Problem::Lost(format!("{status}: {}", answer.text()))),
    }
}

fn right(is: bool, words: impl FnOnce() -> String) -> Result<(), Problem> {
    if is {
        return Ok(());
    }
    Err(Problem::Wrong(words()))
}

fn numbers(array: &Value) -> Vec<f64> {
    let numbers = array.as_array().into_iter().flatten();
    numbers.filter_map(Value::as_f64).collect()
}
