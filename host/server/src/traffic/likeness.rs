//! Whether two answers say the same.

use serde_json::Value;

/// How far numbers of two JSON answers may be apart, of the greater of them, and still be close.
const TOLERANCE: f64 = 1e-3;

/// How alike two answers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// Byte for byte.
    Same,
    /// The same JSON but for its layout and small differences of numbers.
    Close,
    Different,
}

impl Likeness {
    pub(crate) fn is_alike(self) -> bool {
        self != Likeness::Different
    }
}

/// How alike two bodies are.
pub(crate) fn bodies(one: &[u8], other: &[u8]) -> Likeness {
    if one == other {
        return Likeness::Same;
    }
    let parsed = (
        serde_json::from_slice::<Value>(one),
        serde_json::from_slice::<Value>(other),
    );
    match parsed {
        (Ok(one), Ok(other)) if close(&one, &other) => Likeness::Close,
        _ => Likeness::Different,
    }
}

/// Whether two JSON values are the same but for small differences of numbers.
fn close(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else {
                return one == other;
            };
            (one - other).abs() <= TOLERANCE * one.abs().max(other.abs()).max(TOLERANCE)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| close(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| close(value, other)))
        }
        (one, other) => one == other,
    }
}
