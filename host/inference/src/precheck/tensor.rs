//! One tensor of an ONNX file: whether its shape, its type and its values agree, and whether
//! its values are where they may be.

use std::io::{BufRead, Seek};
use std::path::{Component, Path};

use super::bounds::{Met, elements, push_dim};
use super::wire::{Field, Kind, Wire};
use super::{Refusal, Weights};

/// How much of a name is kept for messages.
const NAME_BYTES: u64 = 200;

/// A path longer than this is none of ours: package paths are shorter.
const PATH_BYTES: u64 = 4096;

/// What was read of a `TensorProto`.
#[derive(Default)]
struct Read {
    name: String,
    dims: Vec<i64>,
    ty: u64,
    /// Bytes of `raw_data`.
    raw: Option<u64>,
    /// Values in the typed fields.
    typed: u64,
    external: bool,
    location: Option<String>,
    offset: u64,
    length: Option<u64>,
}

/// Checks the tensor that is the whole of the current message.
pub(super) fn check<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    met: &mut Met,
    weights: Option<Weights<'_>>,
) -> Result<(), Refusal> {
    let mut tensor = Read::default();
    while let Some(field) = wire.field()? {
        tensor.take(wire, met, field)?;
    }
    let elements = elements(&tensor.dims, || tensor.whose())?;
    if tensor.external {
        return tensor.check_external(elements, weights);
    }
    if let Some(found) = tensor.raw {
        return match bytes_of(tensor.ty, elements) {
            Some(bytes) if bytes != found => Err(tensor.disagrees(elements, found, "bytes", bytes)),
            _ => Ok(()),
        };
    }
    match values_of(tensor.ty, elements) {
        Some(values) if values != tensor.typed => {
            Err(tensor.disagrees(elements, tensor.typed, "values", values))
        }
        _ => Ok(()),
    }
}

impl Read {
    /// The field numbers are `TensorProto`'s.
    fn take<R: BufRead + Seek>(
        &mut self,
        wire: &mut Wire<R>,
        met: &mut Met,
        field: Field,
    ) -> Result<(), Refusal> {
        let twice = |wire: &Wire<R>| wire.wrong("a tensor says the same thing twice");
        match (field.number, field.kind) {
            (1, Kind::Number(dim)) => push_dim(&mut self.dims, dim),
            (1, Kind::Bytes(bytes)) => {
                let outer = wire.enter(bytes);
                while wire.has_more() {
                    push_dim(&mut self.dims, wire.varint()?)?;
                }
                wire.leave(outer)
            }
            (2, Kind::Number(ty)) if self.ty == 0 => {
                self.ty = ty;
                Ok(())
            }
            (4, Kind::Fixed32) | (10, Kind::Fixed64) | (5 | 7 | 11, Kind::Number(_)) => {
                self.typed += 1;
                Ok(())
            }
            (4, Kind::Bytes(bytes)) => {
                self.typed += bytes / 4;
                wire.skip(bytes)
            }
            (10, Kind::Bytes(bytes)) => {
                self.typed += bytes / 8;
                wire.skip(bytes)
            }
            (5 | 7 | 11, Kind::Bytes(bytes)) => {
                self.typed += wire.count_varints(bytes)?;
                Ok(())
            }
            (6, Kind::Bytes(bytes)) => {
                met.part()?;
                self.typed += 1;
                wire.skip(bytes)
            }
            (8, Kind::Bytes(bytes)) => {
                self.name = wire.text(bytes, NAME_BYTES)?;
                Ok(())
            }
            (9, Kind::Bytes(bytes)) => {
                if self.raw.replace(bytes).is_some() {
                    return Err(twice(wire));
                }
                wire.skip(bytes)
            }
            (13, Kind::Bytes(bytes)) => {
                met.part()?;
                self.external = true;
                let outer = wire.enter(bytes);
                self.entry(wire)?;
                wire.leave(outer)
            }
            // Where the values are: 1 is elsewhere.
            (14, Kind::Number(place)) => {
                self.external |= place != 0;
                Ok(())
            }
            (2, Kind::Number(_)) => Err(twice(wire)),
            (1 | 2 | 4..=11 | 13 | 14, _) => {
                Err(wire.wrong("a field of a tensor is of another kind than ONNX has it"))
            }
            (_, Kind::Bytes(bytes)) => {
                met.part()?;
                wire.skip(bytes)
            }
            _ => Ok(()),
        }
    }

    /// One `StringStringEntryProto` of `external_data`.
    fn entry<R: BufRead + Seek>(&mut self, wire: &mut Wire<R>) -> Result<(), Refusal> {
        let (mut key, mut value) = (String::new(), String::new());
        while let Some(field) = wire.field()? {
            match (field.number, field.kind) {
                (1, Kind::Bytes(bytes)) => key = wire.text(bytes, NAME_BYTES)?,
                (2, Kind::Bytes(bytes)) if bytes <= PATH_BYTES => {
                    value = wire.text(bytes, PATH_BYTES)?;
                }
                _ => return Err(wire.wrong("an entry of external_data is none")),
            }
        }
        let number = |what: &str| {
            value.parse().map_err(|_| {
                wire.wrong(&format!(
                    "the {what} of external data is `{}`: a whole number is wanted",
                    value.escape_debug()
                ))
            })
        };
        let before = match key.as_str() {
            "location" => self.location.replace(value).is_some(),
            "offset" => {
                self.offset = number("offset")?;
                false
            }
            "length" => self.length.replace(number("length")?).is_some(),
            _ => false,
        };
        if before {
            return Err(wire.wrong("external data is said to be in two places"));
        }
        Ok(())
    }

    fn check_external(&self, elements: u64, weights: Option<Weights<'_>>) -> Result<(), Refusal> {
        let location = self.location.as_deref().unwrap_or_default();
        let outside = |why: &str| {
            Err(Refusal::ExternalData(format!(
                "{} has its values in another file, `{}`: {why}",
                self.whose(),
                location.escape_debug()
            )))
        };
        let Some(weights) = weights else {
            return outside(
                "put them into the network's file, or name that file as the graph's `weights`",
            );
        };
        let path = Path::new(location);
        let plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !plain || weights.folder.join(path) != weights.file {
            return outside(
                "only the file that the manifest names as the graph's `weights` is read",
            );
        }
        let expected = bytes_of(self.ty, elements);
        let length = self
            .length
            .or(expected)
            .unwrap_or(weights.bytes.saturating_sub(self.offset));
        if expected.is_some_and(|expected| expected != length) {
            return Err(self.disagrees(elements, length, "bytes", expected.unwrap_or_default()));
        }
        let end = self.offset.checked_add(length);
        if end.is_none_or(|end| end > weights.bytes) {
            return outside(&format!(
                "{length} bytes from {} on are not in its {}",
                self.offset, weights.bytes
            ));
        }
        Ok(())
    }

    fn whose(&self) -> String {
        if self.name.is_empty() {
            "a tensor without a name".to_owned()
        } else {
            format!("the tensor `{}`", self.name.escape_debug())
        }
    }

    fn disagrees(&self, elements: u64, found: u64, unit: &str, expected: u64) -> Refusal {
        Refusal::Malformed(format!(
            "{} of {elements} elements has {found} {unit} where {expected} are wanted",
            self.whose()
        ))
    }
}

/// Bits of an element of the type (`TensorProto.DataType`), where it has a fixed number.
fn bits(ty: u64) -> Option<u64> {
    Some(match ty {
        25 | 26 => 2,
        21..=23 => 4,
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        _ => return None,
    })
}

/// Bytes of `raw_data`. `None` where that is not known: a type from after this was written.
fn bytes_of(ty: u64, elements: u64) -> Option<u64> {
    // At most 2^38 elements of 128 bits: no overflow.
    bits(ty).map(|bits| (elements * bits).div_ceil(8))
}

/// Values in the typed field that the type has.
fn values_of(ty: u64, elements: u64) -> Option<u64> {
    match ty {
        // Complex numbers are two values.
        14 | 15 => Some(elements * 2),
        // Several to a value.
        21..=26 => bits(ty).map(|bits| (elements * bits).div_ceil(8)),
        8 => Some(elements),
        _ => bits(ty).map(|_| elements),
    }
}
