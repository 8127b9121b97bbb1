//! Callers who go on asking while a test changes things: of the guest `unwell`, whose right answer is known, as each of
//! its versions has `version N` for its name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

/// Callers at work until [`Callers::stop`].
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Tally>,
}

/// What they were told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Requests that were answered, rightly or not, or not at all.
    pub(crate) asked: u64,
    /// Answers that were not 200, by their code.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Answers that were 200 and wrong.
    pub(crate) wrong: Vec<String>,
    /// Right answers by version and part.
    pub(crate) answered_by: BTreeMap<(u64, String), u64>,
}

impl Callers {
    /// So many callers of `model` at an address, each with its next request `pause` after its last answer.
    pub(crate) fn start(address: &str, model: &str, callers: usize, pause: Duration) -> Callers {
        let stop = Arc::new(AtomicBool::new(false));
        let numbers = Arc::new(AtomicU64::new(1));
        let url = format!("http://{address}/predict?identifier={model}");
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (stop, numbers, url) = (Arc::clone(&stop), Arc::clone(&numbers), url.clone());
            tasks.spawn(async move {
                let client = Client::new();
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    tally.ask(&client, &url, number).await;
                    tokio::time::sleep(pause).await;
                }
                tally
            });
        }
        Callers { stop, tasks }
    }

    /// Has them come to an end, and tells what they were told.
    pub(crate) async fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        while let Some(tally) = self.tasks.join_next().await {
            all.add(tally.expect("a caller"));
        }
        all
    }
}

impl Tally {
    async fn ask(&mut self, client: &Client, url: &str, number: u64) {
        self.asked += 1;
        let request = client
            .post(url)
            .header("content-type", "text/plain")
            .body(number.to_string());
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return self.fail(format!("not answered: {error:?}")),
        };
        let status = answer.status();
        let header = |name: &str| {
            let value = answer.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let version = header("aegis-model-version").and_then(|version| version.parse().ok());
        let part = header("aegis-traffic").unwrap_or_default();
        let body = match answer.bytes().await {
            Ok(body) => body,
            Err(error) => return self.fail(format!("half an answer: {error:?}")),
        };
        // A load balancer's own refusal is no JSON.
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != StatusCode::OK {
            let code = body["code"].as_str().map(str::to_owned);
            return self.fail(code.unwrap_or_else(|| format!("{status} without a code")));
        }
        let name = version.map(|version: u64| format!("version {version}"));
        if body["twice"] != 2 * number || body["name"].as_str() != name.as_deref() {
            self.wrong.push(format!("{number} to {name:?}: {body}"));
        }
        *self
            .answered_by
            .entry((version.unwrap_or(0), part))
            .or_default() += 1;
    }

    fn fail(&mut self, why: String) {
        // So that what a test says meanwhile tells when.
        if !self.failed.contains_key(&why) {
            eprintln!("a caller's request failed: {why}");
        }
        *self.failed.entry(why).or_default() += 1;
    }

    fn add(&mut self, other: Tally) {
        self.asked += other.asked;
        for (why, times) in other.failed {
            *self.failed.entry(why).or_default() += times;
        }
        self.wrong.extend(other.wrong);
        for (who, times) in other.answered_by {
            *self.answered_by.entry(who).or_default() += times;
        }
    }

    /// How many answers of these versions were right.
    pub(crate) fn of_version(&self, version: u64) -> u64 {
        let of = self.answered_by.iter().filter(|(who, _)| who.0 == version);
        of.map(|(_, times)| times).sum()
    }
}
