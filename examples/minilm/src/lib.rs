//! From texts to the inputs of all-MiniLM-L6-v2: token ids, padded to the longest row of a
//! run, and the mask that says which are padding. What the handlers around that network
//! share.

use std::iter::repeat_n;

use aegis_guest::{Failure, Tensor};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

/// The model's own tokenizer, as it was fetched. It is part of the handler, since a handler
/// has no files.
const TOKENIZER: &[u8] = include_bytes!("../../../.models/embeddings/tokenizer.json");
/// What the model was trained to read; it has positions for 512, and is worse beyond this.
const MAX_TOKENS: usize = 256;

/// The tokenizer, ready.
pub struct Encoder(Tokenizer);

/// The rows of one run, one after the other.
pub struct Batch {
    /// Rows, and tokens of each.
    shape: [u32; 2],
    ids: Vec<i64>,
    /// 1 for a token, 0 for padding.
    mask: Vec<i64>,
    /// Which of two texts a token belongs to. There is one only, so all are 0.
    types: Vec<i64>,
    /// Tokens without padding.
    pub tokens: usize,
}

impl Encoder {
    /// Parses the tokenizer, which takes tens of milliseconds: a handler does it in `init`.
    /// Of a text that is longer than the network reads, parts that follow each other share
    /// `overlap` tokens.
    ///
    /// # Errors
    /// The tokenizer's words, if its file is none.
    pub fn load(overlap: usize) -> Result<Self, tokenizers::Error> {
        let mut tokenizer = Tokenizer::from_bytes(TOKENIZER)?;
        // The file pads every text to 128 tokens; a run's longest is enough.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(Some(TruncationParams {
            max_length: MAX_TOKENS,
            stride: overlap,
            ..TruncationParams::default()
        }))?;
        Ok(Self(tokenizer))
    }

    /// A row for each text, and the places of the texts that were cut.
    ///
    /// # Errors
    /// [`Failure::Internal`] if the tokenizer fails.
    pub fn texts(&self, texts: &[String]) -> Result<(Batch, Vec<usize>), Failure> {
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
        Ok((Batch::new(&rows)?, truncated))
    }

    /// The whole of one text, in runs of at most `most` rows: the first row is its beginning.
    ///
    /// # Errors
    /// As [`Encoder::texts`].
    pub fn whole(&self, text: &str, most: usize) -> Result<Vec<Batch>, Failure> {
        let first = self.0.encode_fast(text, true)?;
        let ids = |row: &Encoding| row.get_ids().to_vec();
        let mut rows = vec![ids(&first)];
        rows.extend(first.get_overflowing().iter().map(ids));
        rows.chunks(most.max(1)).map(Batch::new).collect()
    }
}

impl Batch {
    fn new(rows: &[Vec<u32>]) -> Result<Self, Failure> {
        let sequence = rows.iter().map(Vec::len).max().unwrap_or(0);
        let size = rows.len() * sequence;
        let mut batch = Self {
            shape: [u32::try_from(rows.len())?, u32::try_from(sequence)?],
            ids: Vec::with_capacity(size),
            mask: Vec::with_capacity(size),
            types: vec![0; size],
            tokens: rows.iter().map(Vec::len).sum(),
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

    /// How many rows it has.
    #[must_use]
    pub fn rows(&self) -> u32 {
        let [rows, _] = self.shape;
        rows
    }

    /// What the network takes.
    #[must_use]
    pub fn inputs(&self) -> [(&'static str, Tensor<'_>); 3] {
        [
            ("input_ids", Tensor::new(&self.shape, &self.ids)),
            ("attention_mask", Tensor::new(&self.shape, &self.mask)),
            ("token_type_ids", Tensor::new(&self.shape, &self.types)),
        ]
    }
}
