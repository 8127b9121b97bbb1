//! Sentence embeddings: texts in, one vector of 384 numbers each out.
//!
//! The crate `minilm` turns texts into the network's three inputs. Its tokenizer takes tens of
//! milliseconds to make, so `lifecycle.init` makes it, once, at upload; requests start from
//! the memory that this left.

use aegis_guest::{Context, Failure, Json, Startup, Values};
use minilm::Encoder;
use serde::{Deserialize, Serialize, Serializer};

/// What the answers call the model.
const MODEL: &str = "all-MiniLM-L6-v2";
/// The numbers of one embedding.
const DIMENSIONS: usize = 384;
/// Texts in one request: more gain nothing, as a run's time grows with its rows, and would
/// hold a session against everyone else. 32 of the longest take seconds.
const MAX_TEXTS: usize = 32;
/// Bytes of one text. The network reads 256 tokens, around 1,200 letters of English: what is
/// several times as long is a mistake that should be told, and every token costs
/// microseconds before the text is cut.
const MAX_TEXT_BYTES: usize = 8 << 10;

/// What a caller sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    texts: Vec<String>,
}

/// What is answered.
#[derive(Debug, PartialEq, Serialize)]
pub struct Answer {
    model: &'static str,
    dimensions: usize,
    /// One for each text, in their order, each of length 1.
    embeddings: Embeddings,
    /// The places of the texts that were longer than the network reads, and cut.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

/// The network's rows, written as a list of lists.
#[derive(Debug, PartialEq)]
struct Embeddings(Option<Values<f32>>);

impl Serialize for Embeddings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.0.as_deref().unwrap_or_default();
        serializer.collect_seq(values.chunks_exact(DIMENSIONS))
    }
}

fn predict(
    ctx: &Context,
    encoder: &Encoder,
    Json(input): Json<Input>,
) -> Result<Json<Answer>, Failure> {
    check(&input.texts)?;
    let (batch, truncated) = encoder.texts(&input.texts)?;
    ctx.record("texts", input.texts.len() as f64);
    ctx.record("tokens", batch.tokens as f64);
    let embeddings = if input.texts.is_empty() {
        None
    } else {
        let outputs = ctx.graph("minilm")?.run(&batch.inputs())?;
        Some(outputs.get::<f32>("sentence_embedding")?)
    };
    Ok(Json(Answer {
        model: MODEL,
        dimensions: DIMENSIONS,
        embeddings: Embeddings(embeddings),
        truncated,
    }))
}

/// Holds a request to its bounds before anything is made of it.
fn check(texts: &[String]) -> Result<(), Failure> {
    if texts.len() > MAX_TEXTS {
        return Err(Failure::too_large(format!(
            "{} texts: at most {MAX_TEXTS} in a request",
            texts.len()
        )));
    }
    match texts
        .iter()
        .position(|text| text.len() > MAX_TEXT_BYTES)
        .and_then(|index| texts.get(index).map(|text| (index, text.len())))
    {
        None => Ok(()),
        Some((index, bytes)) => Err(Failure::invalid_field(
            format!("/texts/{index}"),
            format!("{bytes} bytes of text: at most {MAX_TEXT_BYTES}"),
        )),
    }
}

/// What `lifecycle.init` runs.
fn load(_: &Startup) -> Result<Encoder, Failure> {
    // What is cut off is not read, so nothing need overlap.
    Ok(Encoder::load(0)?)
}

aegis_guest::handler! { init: load, predict: predict }
