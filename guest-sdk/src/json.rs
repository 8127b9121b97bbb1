//! Reading JSON with errors that say where and what: a JSON pointer to the field, and
//! what would be right there.

use serde::Deserialize;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::Failure;

/// Reads a whole JSON document.
pub(crate) fn read<'r, T: Deserialize<'r>>(body: &'r [u8]) -> Result<T, Failure> {
    // The straight path keeps no track of where it is; only what fails is read again to
    // find the place.
    serde_json::from_slice(body).map_err(|error| explain::<T>(body, &error))
}

#[cold]
fn explain<'r, T: Deserialize<'r>>(body: &'r [u8], error: &serde_json::Error) -> Failure {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Failure::invalid_input("the body is empty: a JSON document is wanted");
    }
    if !matches!(error.classify(), Category::Data) {
        return Failure::invalid_input(format!("the body is not JSON: {error}"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(traced) => match pointer(traced.path()) {
            field if field.is_empty() => Failure::invalid_input(error),
            field => Failure::invalid_field(field, error),
        },
        Ok(_) => Failure::invalid_input(error),
    }
}

/// The JSON pointer (RFC 6901) of a place in a document; empty for the document itself.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
    use std::collections::BTreeMap;

    use super::*;
    use crate::Problem;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Input {
        pixels: Vec<f32>,
    }

    fn problem<'r, T: Deserialize<'r> + std::fmt::Debug>(body: &'r str) -> Problem {
        match read::<T>(body.as_bytes()) {
            Err(Failure::InvalidInput(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_document_that_fits_is_read() {
        assert_eq!(
            read::<Input>(br#"{"pixels":[1,2.5]}"#).unwrap().pixels,
            [1.0, 2.5]
        );
    }

    #[test]
    fn a_wrong_value_is_named_by_a_json_pointer_and_what_was_expected() {
        let problem = problem::<Input>(r#"{"pixels":[1,2,3,"x"]}"#);
        assert_eq!(problem.field.as_deref(), Some("/pixels/3"));
        assert_eq!(
            problem.message,
            r#"invalid type: string "x", expected f32 at line 1 column 20"#
        );
    }

    #[test]
    fn a_pointer_escapes_what_rfc_6901_asks() {
        let problem = problem::<BTreeMap<String, u8>>(r#"{"a/b~c":-1}"#);
        assert_eq!(problem.field.as_deref(), Some("/a~1b~0c"));
    }

    #[test]
    fn an_empty_body_a_broken_one_and_a_missing_field_are_told_apart() {
        assert!(
            problem::<Input>(" \n")
                .message
                .starts_with("the body is empty")
        );
        assert!(
            problem::<Input>("{\"pixels\":")
                .message
                .starts_with("the body is not JSON: EOF")
        );
        assert!(
            problem::<Input>("{\"pixels\":[NaN]}")
                .message
                .starts_with("the body is not JSON")
        );
        assert!(
            problem::<Input>("{}")
                .message
                .starts_with("missing field `pixels`")
        );
    }
}
