//! What is asked and what the right answer is: real digits as the handler takes them.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// One request and its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    /// The body: `{"pixels":[64 numbers]}`.
    pub(crate) body: String,
    /// The same numbers.
    pub(crate) pixels: Vec<f32>,
    /// The digit that the network sees in them.
    pub(crate) digit: usize,
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

#[derive(Deserialize)]
struct Answer {
    digit: usize,
}

/// The cases of the digits network, with the answers it gave where it was trained.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let goldens: Goldens =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let cases: Vec<Case> = goldens
        .cases
        .into_iter()
        .map(|golden| Case {
            body: body(&golden.input),
            digit: most_probable(&golden.probabilities),
            pixels: golden.input,
        })
        .collect();
    if cases.is_empty() {
        bail!("{} has no cases", path.display());
    }
    Ok(cases)
}

/// As a caller writes it: pixels are whole numbers.
fn body(pixels: &[f32]) -> String {
    let numbers: Vec<String> = pixels.iter().map(f32::to_string).collect();
    format!("{{\"pixels\":[{}]}}", numbers.join(","))
}

/// The index of the greatest.
pub(crate) fn most_probable(probabilities: &[f32]) -> usize {
    probabilities
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(digit, _)| digit)
}

impl Case {
    /// Holds a handler's answer to what is right.
    pub(crate) fn check(&self, answer: &[u8]) -> anyhow::Result<()> {
        let text = || String::from_utf8_lossy(answer).into_owned();
        let Answer { digit } = serde_json::from_slice(answer).with_context(text)?;
        self.check_digit(digit)
    }

    /// Holds a digit to what is right.
    pub(crate) fn check_digit(&self, digit: usize) -> anyhow::Result<()> {
        if digit != self.digit {
            bail!(
                "a wrong answer: {digit}, right is {}; asked was {}",
                self.digit,
                self.body
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn whole_numbers_are_written_as_such_and_a_wrong_digit_is_seen() {
        let case = Case {
            body: body(&[0.0, 16.0, 2.5]),
            pixels: Vec::new(),
            digit: most_probable(&[0.1, 0.7, 0.2]),
        };
        assert_eq!(case.body, r#"{"pixels":[0,16,2.5]}"#);
        case.check(br#"{"digit":1,"probabilities":[]}"#).unwrap();
        assert!(case.check(br#"{"digit":2}"#).is_err());
        assert!(case.check(b"").is_err());
    }
}
