//! The lists of what hostile guests are asked to do, and the one test that holds all of it:
//! each ends as its line says, with its metric and its line in the log, and the next honest
//! request, to the same model and to a neighbour, is answered.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use super::LIMITS;
use crate::harness::{Answer, Package, Server, Start, root, send};

/// One line of `tests/guests/hostile.txt` or `raw.txt`.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) guest: &'static str,
    pub(super) word: String,
    pub(super) query: String,
    pub(super) status: u16,
    /// Nothing if the guest answers.
    pub(super) code: Option<String>,
    outcome: String,
    trap: Option<String>,
}

impl Word {
    /// Both lists.
    pub(super) fn all() -> Vec<Word> {
        let guests = ["hostile", "raw"];
        let words: Vec<_> = guests.into_iter().flat_map(Word::of).collect();
        assert!(words.len() >= 30, "{} words", words.len());
        words
    }

    fn of(guest: &'static str) -> Vec<Word> {
        let path = root().join(format!("tests/guests/{guest}.txt"));
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Word::read(guest, line))
            .collect()
    }

    fn read(guest: &'static str, line: &str) -> Word {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [word, query, status, code, outcome, trap] = columns[..] else {
            panic!("not six columns: {line}");
        };
        let named = |column: &str| (column != "-").then(|| column.to_owned());
        Word {
            guest,
            word: word.to_owned(),
            query: query.to_owned(),
            status: status.parse().unwrap(),
            code: named(code),
            outcome: outcome.to_owned(),
            trap: named(trap),
        }
    }

    /// Whether the clock ends it.
    pub(super) fn is_slow(&self) -> bool {
        self.status == 504
    }

    /// The model that is asked: what the clock ends has little of it, and what ends
    /// otherwise enough on a slow machine too.
    pub(super) fn model(&self) -> String {
        let suffix = if self.is_slow() { "-slow" } else { "" };
        format!("{}{suffix}", self.guest)
    }

    /// Asks for it under this request id.
    pub(super) async fn ask(&self, server: &Server, id: &str) -> Answer {
        let request = server.prediction(&format!("{}&{}", self.model(), self.query));
        send(request.header("x-request-id", id)).await
    }

    /// Sees that an answer is the one that is due.
    pub(super) fn hold(&self, answer: &Answer) {
        let what = format!("{} of {}: {}", self.word, self.guest, answer.status);
        match &self.code {
            None => assert_eq!(answer.status, self.status, "{what}: {}", answer.text()),
            Some(code) => {
                assert_eq!(answer.status, self.status, "{what}: {}", answer.text());
                answer.refused(self.status, code);
                assert!(
                    answer.body.len() < 32 << 10,
                    "{what}: {}",
                    answer.body.len()
                );
            }
        }
    }
}

/// A server with all that the words need: both guests, and each again with little time.
pub(super) async fn hosts_of_all(start: Start) -> Server {
    let server = start.ready().await;
    for (suffix, milliseconds) in [("", 20_000), ("-slow", 500)] {
        let limits = format!("{LIMITS}\ntimeout_ms = {milliseconds}");
        let guest = Package::hostile(&format!("hostile{suffix}"), &limits);
        let raw = Package::raw(&format!("raw{suffix}"), &[]).and(&format!("[limits]\n{limits}"));
        for package in [guest, raw] {
            server.upload(&package).await.is(201);
        }
    }
    server.upload(&Package::guest("counter")).await.is(201);
    server
}

/// Honest requests to the model and to a neighbour are answered.
pub(super) async fn honest(server: &Server, guest: &str) {
    if guest == "raw" {
        assert_eq!(server.ask("raw", "").await.is(200).text(), "answered");
    } else {
        let first = server.ask("hostile&do=digits", "").await.ok()["first"].clone();
        assert!(first.as_f64().unwrap() >= 0.0, "{first}");
    }
    assert_eq!(server.ask("counter", "").await.is(200).text(), "0");
}

#[tokio::test]
async fn whatever_a_guest_does_its_end_has_a_name_and_the_next_request_is_answered() {
    let server = hosts_of_all(Start::new()).await;
    let words = Word::all();
    let server = &server;
    // A few at a time, for the sake of those that the clock ends.
    stream::iter(&words)
        .for_each_concurrent(4, |word| async move {
            let answer = word.ask(server, &id(word)).await;
            word.hold(&answer);
            honest(server, word.guest).await;
        })
        .await;
    each_is_counted(server, &words).await;
    each_is_logged(server, &words).await;
}

fn id(word: &Word) -> String {
    format!("{}.{}", word.guest, word.word)
}

/// Names and values.
type Labels<'a> = [(&'a str, &'a str); 2];

async fn each_is_counted(server: &Server, words: &[Word]) {
    let mut expected: BTreeMap<(&str, Labels<'_>), f64> = BTreeMap::new();
    let models: Vec<_> = words.iter().map(Word::model).collect();
    for (word, model) in words.iter().zip(&models) {
        let mut count = |metric, label, value| {
            let labels = [("model", model.as_str()), (label, value)];
            *expected.entry((metric, labels)).or_default() += 1.0;
        };
        // Honest requests are `ok` too.
        if word.outcome != "ok" {
            count("aegis_inference_requests_total", "outcome", &word.outcome);
        }
        if let Some(reason) = &word.trap {
            count("aegis_handler_traps_total", "reason", reason);
        }
    }
    let metrics = server.metrics().await;
    for ((metric, labels), count) in expected {
        assert_eq!(
            metrics.sum(metric, &labels),
            Some(count),
            "{metric} {labels:?}"
        );
    }
}

async fn each_is_logged(server: &Server, words: &[Word]) {
    for word in words.iter().filter(|word| word.status >= 500) {
        let line = super::fault_line(server, &id(word)).await;
        assert_eq!(line["model"], word.model(), "{line}");
        assert_eq!(line["version"], 1, "{line}");
    }
    for line in server.log() {
        assert!(line.to_string().len() < 64 << 10, "{line}");
    }
}
