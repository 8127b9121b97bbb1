//! OpenVINO's IR: XML that needs no declarations of its own. Where constants lie in the
//! weights is left to OpenVINO, which checks it.

use std::io::BufRead;

use super::Refusal;

/// What declares entities, by which a short file becomes a long one or names another.
const DECLARATION: &[u8] = b"<!DOCTYPE";

pub(super) fn check(mut source: impl BufRead) -> Result<(), Refusal> {
    let mut seen = 0;
    let mut started = false;
    loop {
        let piece = source
            .fill_buf()
            .map_err(|error| Refusal::Malformed(format!("it cannot be read: {error}")))?;
        if piece.is_empty() {
            break;
        }
        for byte in piece {
            match byte {
                // In UTF-16 a declaration would not look like one.
                0 => {
                    return Err(Refusal::Malformed(
                        "it is no XML in UTF-8: there is a zero byte in it".to_owned(),
                    ));
                }
                b'<' if !started => started = true,
                b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf => {}
                _ if !started => {
                    return Err(Refusal::Malformed(
                        "it is no XML: it does not begin with `<`".to_owned(),
                    ));
                }
                _ => {}
            }
            // The pattern's first byte occurs nowhere else in it: one step back is enough.
            seen = match DECLARATION.get(seen) {
                Some(expected) if byte.eq_ignore_ascii_case(expected) => seen + 1,
                _ => usize::from(*byte == b'<'),
            };
            if seen == DECLARATION.len() {
                return Err(Refusal::Malformed(
                    "it declares a document type (`<!DOCTYPE`), which a network does not need"
                        .to_owned(),
                ));
            }
        }
        let length = piece.len();
        source.consume(length);
    }
    if !started {
        return Err(Refusal::Malformed("it is empty".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_document_type_is_refused_wherever_it_hides() {
        check(&b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n<net name=\"a\"></net>"[..]).unwrap();
        for hostile in [
            &b"<!DOCTYPE net [<!ENTITY a \"aaaa\">]><net/>"[..],
            b"<?xml?>  <<!doctype net>",
            b"<\0!\0D\0O\0C\0",
            b"{}",
            b"",
        ] {
            check(hostile).unwrap_err();
        }
    }
}
