//! Protobuf's wire format, read without believing it: every length is held to what its
//! message has left, and nothing is kept of what is not asked for.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

use std::io::{BufRead, ErrorKind, Seek};

use super::Refusal;

/// A file of nested messages, and where in it we are.
pub(super) struct Wire<R> {
    source: R,
    at: u64,
    /// Where the innermost message ends.
    end: u64,
}

/// One field: its number and what kind of value follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) kind: Kind,
}

/// A value on the wire. Its bytes are still to be read or skipped, but for a number's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A varint, which has been read.
    Number(u64),
    /// Eight bytes, which have been skipped.
    Fixed64,
    /// Four bytes, which have been skipped.
    Fixed32,
    /// This many bytes: a message, a string, packed numbers.
    Bytes(u64),
}

impl<R: BufRead + Seek> Wire<R> {
    /// The whole of `source`, which has `bytes` bytes.
    pub(super) fn new(source: R, bytes: u64) -> Self {
        Wire {
            source,
            at: 0,
            end: bytes,
        }
    }

    /// The next field of the message, or `None` at its end.
    pub(super) fn field(&mut self) -> Result<Option<Field>, Refusal> {
        if self.at == self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number))
            .ok_or_else(|| self.wrong("a field has no valid number"))?;
        let kind = match tag & 7 {
            0 => Kind::Number(self.varint()?),
            1 => {
                self.skip(8)?;
                Kind::Fixed64
            }
            2 => {
                let bytes = self.varint()?;
                let left = self.end - self.at;
                if bytes > left {
                    return Err(self.wrong(&format!(
                        "field {number} is said to have {bytes} bytes where {left} are left: it is cut off, or no ONNX file"
                    )));
                }
                Kind::Bytes(bytes)
            }
            5 => {
                self.skip(4)?;
                Kind::Fixed32
            }
            other => {
                return Err(self.wrong(&format!(
                    "field {number} is of the wire type {other}, which ONNX does not use"
                )));
            }
        };
        Ok(Some(Field { number, kind }))
    }

    /// From here on the message is the next `bytes` bytes, which a field has announced.
    /// Answers what [`Wire::leave`] wants back.
    pub(super) fn enter(&mut self, bytes: u64) -> u64 {
        // `field` saw that they are there.
        std::mem::replace(&mut self.end, self.at.saturating_add(bytes))
    }

    /// Back to the message around this one, whose end is `outer`.
    pub(super) fn leave(&mut self, outer: u64) -> Result<(), Refusal> {
        self.skip(self.end - self.at)?;
        self.end = outer;
        Ok(())
    }

    /// A varint of the message.
    pub(super) fn varint(&mut self) -> Result<u64, Refusal> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // Bits beyond 64 are dropped, as parsers do.
            value |= bits.checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number has more than ten bytes"))
    }

    /// Whether the message has more.
    pub(super) fn has_more(&self) -> bool {
        self.at < self.end
    }

    /// How many varints the next `bytes` bytes hold.
    pub(super) fn count_varints(&mut self, bytes: u64) -> Result<u64, Refusal> {
        let mut count = 0;
        let mut left = bytes;
        while left > 0 {
            let (seen, ends) = {
                let buffer = fill(&mut self.source, self.at)?;
                let seen = buffer
                    .len()
                    .min(usize::try_from(left).unwrap_or(usize::MAX));
                let piece = buffer.get(..seen).unwrap_or_default();
                (seen, piece.iter().filter(|&&byte| byte & 0x80 == 0).count())
            };
            self.source.consume(seen);
            self.at += seen as u64;
            left -= seen as u64;
            count += ends as u64;
        }
        Ok(count)
    }

    /// A string of at most `most` bytes; the rest of a longer one is skipped.
    pub(super) fn text(&mut self, bytes: u64, most: u64) -> Result<String, Refusal> {
        let mut text = Vec::new();
        for _ in 0..bytes.min(most) {
            text.push(self.byte()?);
        }
        self.skip(bytes.saturating_sub(most))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Passes over `bytes` bytes.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Refusal> {
        if bytes > self.end - self.at {
            return Err(self.wrong("it is cut off"));
        }
        let step = i64::try_from(bytes).map_err(|_| self.wrong("it is cut off"))?;
        self.source
            .seek_relative(step)
            .map_err(|error| self.wrong(&format!("it cannot be read: {error}")))?;
        self.at += bytes;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        if !self.has_more() {
            return Err(self.wrong("it is cut off"));
        }
        let byte = fill(&mut self.source, self.at)?.first().copied();
        let byte = byte.ok_or_else(|| self.wrong("it is cut off"))?;
        self.source.consume(1);
        self.at += 1;
        Ok(byte)
    }

    /// What is wrong, and where.
    pub(super) fn wrong(&self, what: &str) -> Refusal {
        Refusal::Malformed(format!("at byte {}: {what}", self.at))
    }
}

/// What the source has ready, which is something.
fn fill<R: BufRead>(source: &mut R, at: u64) -> Result<&[u8], Refusal> {
    let problem = |words: String| Refusal::Malformed(format!("at byte {at}: {words}"));
    match source.fill_buf() {
        Ok([]) => Err(problem("it is cut off".to_owned())),
        Ok(buffer) => Ok(buffer),
        // `fill_buf` is not tried again here: files on disk are not interrupted.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(problem("it is cut off".to_owned()))
        }
        Err(error) => Err(problem(format!("it cannot be read: {error}"))),
    }
}
