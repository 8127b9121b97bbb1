//! From texts to the network's inputs: token ids, padded to the longest text of the
//! request, and the mask that says which are padding.

use std::iter::repeat_n;

use aegis_guest::{Failure, Startup};
use tokenizers::{Tokenizer, TruncationParams};

/// The model's own tokenizer, as it was fetched. It is part of the handler, since a handler
/// has no files.
const TOKENIZER: &[u8] = include_bytes!("../../../.models/embeddings/tokenizer.json");
/// What the model was trained to read; it has positions for 512, and is worse beyond this.
const MAX_TOKENS: usize = 256;

/// The tokenizer, ready.
pub(crate) struct Encoder(Tokenizer);

/// The texts of one request: rows of `sequence` tokens, one after the other.
pub(crate) struct Batch {
    pub(crate) sequence: u32,
    pub(crate) ids: Vec<i64>,
    /// 1 for a token, 0 for padding.
    pub(crate) mask: Vec<i64>,
    /// Which of two texts a token belongs to. There is one only, so all are 0.
    pub(crate) types: Vec<i64>,
    /// Tokens without padding.
    pub(crate) tokens: usize,
    /// The texts that were cut.
    pub(crate) truncated: Vec<usize>,
}

/// What `lifecycle.init` runs.
pub(crate) fn load(_: &Startup) -> Result<Encoder, tokenizers::Error> {
    let mut tokenizer = Tokenizer::from_bytes(TOKENIZER)?;
    // The file pads every text to 128 tokens; a request's longest is enough.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(Some(TruncationParams {
        max_length: MAX_TOKENS,
        ..TruncationParams::default()
    }))?;
    Ok(Encoder(tokenizer))
}

impl Encoder {
    /// Encodes the texts of one request.
    pub(crate) fn encode(&self, texts: &[String]) -> Result<Batch, Failure> {
        let mut truncated = Vec::new();
        let mut rows = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            // What a long text is cut into is dropped here, before the next one is read.
            let row = self.0.encode_fast(text.as_str(), true)?;
            if !row.get_overflowing().is_empty() {
                truncated.push(index);
            }
            rows.push(row.get_ids().to_vec());
        }
        let sequence = rows.iter().map(Vec::len).max().unwrap_or(0);
        let size = rows.len() * sequence;
        let mut batch = Batch {
            sequence: u32::try_from(sequence)?,
            ids: Vec::with_capacity(size),
            mask: Vec::with_capacity(size),
            types: vec![0; size],
            tokens: rows.iter().map(Vec::len).sum(),
            truncated,
        };
        for row in rows {
            let padding = sequence - row.len();
            // Padding has the id 0 in this vocabulary, and a mask of 0 hides it anyway.
            let ids = row.iter().map(|id| i64::from(*id));
            batch.ids.extend(ids.chain(repeat_n(0, padding)));
            batch
                .mask
                .extend(repeat_n(1, row.len()).chain(repeat_n(0, padding)));
        }
        Ok(batch)
    }
}
