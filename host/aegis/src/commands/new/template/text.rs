//! Counts what is in a text: a handler without a network, to begin with.
//!
//! To run a network, put its file beside `model.toml`, name it there,
//!
//! ```toml
//! [[graph]]
//! name = "network"
//! file = "network.onnx"
//! ```
//!
//! and run it: `ctx.graph("network")?.run(&[("input", Tensor::new(&[1, 64], &numbers))])?`.
//! (`aegis new NAME --graph FILE.onnx` writes a handler that does.)

use aegis_guest::{Context, Failure, Json};
use serde::{Deserialize, Serialize};

/// What a caller sends.
#[derive(Debug, Deserialize)]
pub struct Input {
    text: String,
}

/// What is answered.
#[derive(Debug, PartialEq, Serialize)]
pub struct Output {
    characters: usize,
    words: usize,
    longest: String,
}

fn predict(ctx: &Context, Json(input): Json<Input>) -> Result<Json<Output>, Failure> {
    let words = input.text.split_whitespace();
    let Some(longest) = words.clone().max_by_key(|word| word.chars().count()) else {
        return Err(Failure::invalid_field(
            "/text",
            "there are no words in the text",
        ));
    };
    let words = words.count();
    // For the log line of this request.
    ctx.record("words", words as f64);
    Ok(Json(Output {
        characters: input.text.chars().count(),
        words,
        longest: longest.to_owned(),
    }))
}

aegis_guest::handler!(predict);

#[cfg(test)]
mod tests {
    use aegis_guest::testing::{FakeHost, problem};

    use super::*;

    #[test]
    fn a_text_is_counted() {
        let host = FakeHost::new();
        let answer = host
            .post("application/json", r#"{"text":"to be, or not"}"#)
            .answer(predict)
            .unwrap();
        assert_eq!(
            String::from_utf8(answer.body).unwrap(),
            r#"{"characters":13,"words":4,"longest":"not"}"#
        );
        assert_eq!(host.records(), [("words".to_owned(), 4.0)]);
    }

    #[test]
    fn a_text_without_words_is_the_callers_mistake() {
        let host = FakeHost::new();
        let answer = host
            .post("application/json", r#"{"text":" "}"#)
            .answer(predict);
        assert_eq!(problem(&answer).unwrap().field.as_deref(), Some("/text"));
    }
}
