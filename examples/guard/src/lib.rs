//! Whether a text tries to take over a language model: a score of prompt injection, and the
//! safety flag `prompt_injection`.
//!
//! Two networks, one after the other: all-MiniLM-L6-v2 makes a vector of the text, and a
//! small head a score of the vector. A text that is longer than the first one reads is read
//! in parts that overlap, and scored by its worst part: nothing of it goes unread. A part is
//! scored as a whole, though: docs/guard.md says what that does not find.

use aegis_guest::{Context, Either, Failure, Graph, Json, Startup, Tensor, Text};
use minilm::{Batch, Encoder};
use serde::{Deserialize, Serialize};

/// Tokens that two parts of a long text share, so that a sentence which is cut at the end of
/// one is whole in the next.
const OVERLAP: usize = 64;
/// Parts of a text in one run: more gain nothing, and would keep others waiting.
const RUN: usize = 8;
/// Bytes of a text. Every token of one that is as long as this takes seconds.
const MAX_BYTES: usize = 8 << 10;
/// The numbers of a vector.
const DIMENSIONS: u32 = 384;

/// What a caller sends as JSON; as plain text it is the text alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    text: String,
}

/// What is answered.
#[derive(Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// 0 to 1: that of the text's worst part.
    injection_score: f32,
    /// Whether that is the config's `threshold` (0.7 if it does not say) or more.
    flagged: bool,
}

fn predict(
    ctx: &Context,
    encoder: &Encoder,
    input: Either<Json<Input>, Text<&str>>,
) -> Result<Json<Verdict>, Failure> {
    let text = match &input {
        Either::First(Json(input)) => input.text.as_str(),
        Either::Second(Text(text)) => text,
    };
    if text.len() > MAX_BYTES {
        let bytes = text.len();
        let message = format!("{bytes} bytes of text: at most {MAX_BYTES}; send it in parts");
        return Err(Failure::too_large(message));
    }
    // Of no words the networks make an attack (0.997), as they have never seen the like.
    if text.trim().is_empty() {
        return Err(Failure::invalid_input("there is no text"));
    }
    let threshold = ctx.config_parse("threshold", 0.7_f32)?;
    let (minilm, head) = (ctx.graph("minilm")?, ctx.graph("injection")?);
    let runs = encoder.whole(text, RUN)?;
    let mut worst = 0.0_f32;
    for run in &runs {
        worst = worst.max(score(run, &minilm, &head)?);
    }
    let flagged = worst >= threshold;
    if flagged {
        ctx.flag("prompt_injection");
    }
    ctx.record("injection_score", f64::from(worst));
    ctx.record("parts", runs.iter().map(|run| f64::from(run.rows())).sum());
    Ok(Json(Verdict {
        injection_score: worst,
        flagged,
    }))
}

/// The greatest score of one run's parts. What is not a number is nobody's score: such a text
/// is not let through as harmless.
fn score(run: &Batch, minilm: &Graph, head: &Graph) -> Result<f32, Failure> {
    let vectors = minilm.run(&run.inputs())?;
    let vectors = vectors.get::<f32>("sentence_embedding")?;
    let shape = [run.rows(), DIMENSIONS];
    let scores = head.run(&[("sentence_embedding", Tensor::new(&shape, &vectors))])?;
    let scores = scores.get::<f32>("injection_score")?;
    let rows = usize::try_from(run.rows())?;
    if scores.len() != rows || scores.iter().any(|score| !score.is_finite()) {
        return Err(Failure::internal("the head gave no score for each part"));
    }
    Ok(scores.iter().fold(0.0, |worst, score| worst.max(*score)))
}

/// What `lifecycle.init` runs.
fn load(_: &Startup) -> Result<Encoder, Failure> {
    Ok(Encoder::load(OVERLAP)?)
}

aegis_guest::handler! { init: load, predict: predict }
