//! What is asked and what the right answer is.
//!
//! Of digits it is known what they are. Of other networks the right answer is what the same server gave when it was
//! asked alone ([`Question::answered`]): so every later answer also shows that company changes nothing.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::post;

/// How far a number of an answer may be from the right one: networks differ in their last digits with the size of a run.
const TOLERANCE: f64 = 1e-3;

/// One request's body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

/// One request and its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) question: Question,
    right: Right,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Right {
    /// JSON whose `digit` is this.
    Digit(usize),
    /// An answer of the Open Inference Protocol, whose first output is greatest at this place.
    Greatest(usize),
    /// JSON that is this, but for the last digits of its numbers.
    Answer(Value),
}

/// A digit as the networks see it.
#[derive(Clone, Debug)]
pub(crate) struct Digit {
    /// 64 numbers.
    pub(crate) pixels: Vec<f32>,
    /// What the network sees in them.
    pub(crate) digit: usize,
}

/// A digit's question, as its handler has it.
#[derive(Deserialize)]
struct Pixels {
    pixels: Vec<serde_json::Number>,
}

/// An answer of the Open Inference Protocol, as far as it is read.
#[derive(Deserialize)]
struct Inferred {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    data: Vec<f32>,
}

#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    input: Vec<f32>,
    probabilities: Vec<f32>,
}

/// The cases of the digits network, with the answers it gave where it was trained.
pub(crate) fn digits(path: &Path) -> anyhow::Result<Vec<Digit>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let goldens: Goldens =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let digits: Vec<Digit> = goldens
        .cases
        .into_iter()
        .map(|golden| Digit {
            digit: most_probable(&golden.probabilities),
            pixels: golden.input,
        })
        .collect();
    if digits.is_empty() {
        bail!("{} has no cases", path.display());
    }
    Ok(digits)
}

/// The same as they are asked.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    Ok(digits(path)?.iter().map(Digit::case).collect())
}

/// The index of the greatest.
pub(crate) fn most_probable(probabilities: &[f32]) -> usize {
    probabilities
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(digit, _)| digit)
}

impl Digit {
    /// As a caller writes it: pixels are whole numbers.
    pub(crate) fn case(&self) -> Case {
        let numbers: Vec<String> = self.pixels.iter().map(f32::to_string).collect();
        Case {
            question: Question::json(format!("{{\"pixels\":[{}]}}", numbers.join(","))),
            right: Right::Digit(self.digit),
        }
    }

    /// Holds what a network made of it to what is right.
    pub(crate) fn check(&self, probabilities: &[f32]) -> anyhow::Result<()> {
        check_digit(self.digit, most_probable(probabilities))
    }
}

impl Question {
    pub(crate) fn json(body: String) -> Question {
        Question {
            content_type: "application/json".to_owned(),
            body: body.into_bytes(),
        }
    }

    /// The request's bytes.
    pub(crate) fn request(&self, path: &str) -> Vec<u8> {
        post(path, &self.content_type, &self.body)
    }

    /// A case whose right answer is this one.
    pub(crate) fn answered(self, answer: &[u8]) -> anyhow::Result<Case> {
        Ok(Case {
            right: Right::Answer(json(answer)?),
            question: self,
        })
    }
}

impl Case {
    /// The request's bytes.
    pub(crate) fn request(&self, path: &str) -> Vec<u8> {
        self.question.request(path)
    }

    /// A digit as it is asked in the Open Inference Protocol, which has no handler: the same numbers, and what is right is
    /// the same digit.
    pub(crate) fn of_protocol(&self, input: &str) -> anyhow::Result<Case> {
        let Right::Digit(digit) = self.right else {
            bail!("only digits are asked so");
        };
        let Pixels { pixels } = serde_json::from_slice(&self.question.body)?;
        let input = serde_json::json!({
            "name": input, "shape": [1, pixels.len()], "datatype": "FP32", "data": pixels,
        });
        Ok(Case {
            question: Question::json(serde_json::json!({ "inputs": [input] }).to_string()),
            right: Right::Greatest(digit),
        })
    }

    /// Holds a handler's answer to what is right.
    pub(crate) fn check(&self, answer: &[u8]) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            digit: usize,
        }
        match &self.right {
            Right::Digit(right) => {
                let Answer { digit } =
                    serde_json::from_slice(answer).with_context(|| text(answer))?;
                check_digit(*right, digit)
            }
            Right::Greatest(right) => {
                let Inferred { outputs } =
                    serde_json::from_slice(answer).with_context(|| text(answer))?;
                let output = outputs.first().with_context(|| text(answer))?;
                check_digit(*right, most_probable(&output.data))
            }
            Right::Answer(right) => {
                if !alike(right, &json(answer)?) {
                    bail!("a wrong answer: {}; alone it was {right}", text(answer));
                }
                Ok(())
            }
        }
    }
}

fn check_digit(right: usize, digit: usize) -> anyhow::Result<()> {
    if digit != right {
        bail!("a wrong answer: {digit}, right is {right}");
    }
    Ok(())
}

fn json(answer: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(answer).with_context(|| text(answer))
}

fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

/// Whether two answers are the same but for the last digits of their numbers.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE,
            _ => false,
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn whole_numbers_are_written_as_such_and_a_wrong_digit_is_seen() {
        let digit = Digit {
            pixels: vec![0.0, 16.0, 2.5],
            digit: most_probable(&[0.1, 0.7, 0.2]),
        };
        let case = digit.case();
        assert_eq!(case.question.body, br#"{"pixels":[0,16,2.5]}"#);
        case.check(br#"{"digit":1,"probabilities":[]}"#).unwrap();
        assert!(case.check(br#"{"digit":2}"#).is_err());
        assert!(case.check(b"").is_err());
        digit.check(&[0.0, 1.0]).unwrap();
        assert!(digit.check(&[1.0, 0.0]).is_err());
    }

    #[test]
    fn a_digit_is_asked_in_the_open_inference_protocol_too() {
        let digit = Digit {
            pixels: vec![0.0, 16.0],
            digit: 1,
        };
        let case = digit.case().of_protocol("x").unwrap();
        let body: Value = serde_json::from_slice(&case.question.body).unwrap();
        let input =
            serde_json::json!({"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 16]});
        assert_eq!(body, serde_json::json!({ "inputs": [input] }));
        case.check(br#"{"outputs":[{"name":"y","data":[0.1,0.9]}]}"#)
            .unwrap();
        for wrong in [
            &br#"{"outputs":[{"data":[0.9,0.1]}]}"#[..],
            br#"{"outputs":[]}"#,
            br#"{"error":"no"}"#,
        ] {
            assert!(case.check(wrong).is_err(), "{}", text(wrong));
        }
    }

    #[test]
    fn an_answer_is_right_that_is_the_one_given_alone_but_for_its_numbers_last_digits() {
        let alone = br#"{"label":"cat","numbers":[0.5,[1,-2.0]]}"#;
        let case = Question::json(String::new()).answered(alone).unwrap();
        case.check(br#"{"numbers":[0.5004,[1.0,-2]],"label":"cat"}"#)
            .unwrap();
        for wrong in [
            &br#"{"label":"dog","numbers":[0.5,[1,-2.0]]}"#[..],
            br#"{"label":"cat","numbers":[0.502,[1,-2.0]]}"#,
            br#"{"label":"cat","numbers":[0.5,[1]]}"#,
            br#"{"label":"cat","numbers":[0.5,[1,-2.0]],"more":1}"#,
            br#"{"label":"cat"}"#,
            b"cat",
        ] {
            assert!(case.check(wrong).is_err(), "{}", text(wrong));
        }
        assert!(Question::json(String::new()).answered(b"no JSON").is_err());
    }
}
