//! Reads values out of a TOML document and keeps, for each, the key it has and the place it
//! stands, so that every complaint can name both. What the keys mean is `parse`'s business.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::choice::Choice;
use super::error::{Location, ManifestError};
use crate::text::quoted;

/// The text of a document, to find places in.
pub(super) struct Source<'t>(pub(super) &'t str);

impl Source<'_> {
    pub(super) fn wrong(
        &self,
        span: &Range<usize>,
        key: Option<&str>,
        problem: impl Into<String>,
    ) -> ManifestError {
        ManifestError::Wrong {
            location: Location::of(self.0, span),
            key: key.map(str::to_owned),
            problem: problem.into(),
        }
    }
}

/// A table whose keys are all known.
pub(super) struct Section<'d> {
    source: &'d Source<'d>,
    /// The path of this table, empty at the top.
    key: String,
    span: Range<usize>,
    table: &'d DeTable<'d>,
    known: &'static [&'static str],
}

/// A value, with its key and place.
pub(super) struct Field<'d> {
    source: &'d Source<'d>,
    /// The whole key from the top: `graph[0].backend`.
    pub(super) key: String,
    span: Range<usize>,
    value: &'d DeValue<'d>,
}

impl<'d> Section<'d> {
    /// The whole document. A key that is not in `known` is refused.
    pub(super) fn top(
        source: &'d Source<'d>,
        table: &'d Spanned<DeTable<'d>>,
        known: &'static [&'static str],
    ) -> Result<Self, ManifestError> {
        Self::checked(source, String::new(), table.span(), table.get_ref(), known)
    }

    fn checked(
        source: &'d Source<'d>,
        key: String,
        span: Range<usize>,
        table: &'d DeTable<'d>,
        known: &'static [&'static str],
    ) -> Result<Self, ManifestError> {
        for (found, _) in table.iter() {
            let name = found.get_ref().as_ref();
            if !known.contains(&name) {
                let place = if key.is_empty() {
                    "at the top".to_owned()
                } else {
                    format!("in `{key}`")
                };
                let problem = match nearest(name, known) {
                    Some(near) => format!("no such key {place}; did you mean `{near}`?"),
                    None => format!("no such key {place}; there are {}", known.join(", ")),
                };
                let full = quoted(&join(&key, name));
                return Err(source.wrong(&found.span(), Some(full.trim_matches('`')), problem));
            }
        }
        Ok(Self {
            source,
            key,
            span,
            table,
            known,
        })
    }

    /// The value of `name`, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<Field<'d>> {
        debug_assert!(
            self.known.contains(&name),
            "{name} would have been refused as unknown"
        );
        let (_, value) = self
            .table
            .iter()
            .find(|(key, _)| key.get_ref().as_ref() == name)?;
        Some(Field {
            source: self.source,
            key: join(&self.key, name),
            span: value.span(),
            value: value.get_ref(),
        })
    }

    /// The value of `name`; its absence is an error that says what it is `for`.
    pub(super) fn required(&self, name: &str, what_for: &str) -> Result<Field<'d>, ManifestError> {
        self.get(name).ok_or_else(|| {
            let key = join(&self.key, name);
            self.source.wrong(
                &self.span,
                Some(&key),
                format!("is missing; it gives {what_for}"),
            )
        })
    }

    /// An error about the table as a whole.
    pub(super) fn wrong(&self, problem: impl Into<String>) -> ManifestError {
        let key = (!self.key.is_empty()).then_some(self.key.as_str());
        self.source.wrong(&self.span, key, problem)
    }
}

impl<'d> Field<'d> {
    /// An error about this value.
    pub(super) fn wrong(&self, problem: impl Into<String>) -> ManifestError {
        self.source.wrong(&self.span, Some(&self.key), problem)
    }

    fn expected(&self, what: &str) -> ManifestError {
        self.wrong(format!("must be {what}, found {}", described(self.value)))
    }

    pub(super) fn string(&self) -> Result<&'d str, ManifestError> {
        self.value
            .as_str()
            .ok_or_else(|| self.expected("a string in quotes"))
    }

    /// A string that `T` parses; its own error says what would be right.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self) -> Result<T, ManifestError> {
        self.string()?
            .parse()
            .map_err(|error: T::Err| self.wrong(error.to_string()))
    }

    /// One of the words of `T`.
    pub(super) fn choice<T: Choice>(&self) -> Result<T, ManifestError> {
        let word = self.string()?;
        T::from_word(word).ok_or_else(|| {
            self.wrong(format!(
                "unknown {} {}; use {}",
                T::WHAT,
                quoted(word),
                or(T::WORDS)
            ))
        })
    }

    pub(super) fn boolean(&self) -> Result<bool, ManifestError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.expected("true or false, without quotes"))
    }

    /// The value, if it is true or false.
    pub(super) fn as_boolean(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// The value, if it is a string.
    pub(super) fn as_string(&self) -> Option<&'d str> {
        self.value.as_str()
    }

    /// A whole number of `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u32>) -> Result<u32, ManifestError> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let integer = self
            .value
            .as_integer()
            .ok_or_else(|| self.expected(&allowed))?;
        u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                self.wrong(format!(
                    "must be {allowed}, found {}",
                    quoted(integer.as_str())
                ))
            })
    }

    /// A number of `range`, with a fraction or without.
    pub(super) fn fraction(&self, range: RangeInclusive<f64>) -> Result<f64, ManifestError> {
        let allowed = format!("a number from {} to {}", range.start(), range.end());
        let text = match self.value {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => return Err(self.expected(&allowed)),
        };
        text.parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.wrong(format!("must be {allowed}, found {}", quoted(text))))
    }

    /// A table with the keys of `known`.
    pub(super) fn section(
        &self,
        known: &'static [&'static str],
    ) -> Result<Section<'d>, ManifestError> {
        self.section_as("a table", known)
    }

    /// As [`Field::section`], where something else would have been right too.
    pub(super) fn section_or(
        &self,
        others: &str,
        known: &'static [&'static str],
    ) -> Result<Section<'d>, ManifestError> {
        self.section_as(&format!("{others} or a table"), known)
    }

    fn section_as(
        &self,
        what: &str,
        known: &'static [&'static str],
    ) -> Result<Section<'d>, ManifestError> {
        let table = self.value.as_table().ok_or_else(|| self.expected(what))?;
        Section::checked(
            self.source,
            self.key.clone(),
            self.span.clone(),
            table,
            known,
        )
    }

    /// The elements of an array.
    pub(super) fn elements(&self, what: &str) -> Result<Vec<Field<'d>>, ManifestError> {
        let array = self.value.as_array().ok_or_else(|| self.expected(what))?;
        let element = |(index, value): (usize, &'d Spanned<DeValue<'d>>)| Field {
            source: self.source,
            key: format!("{}[{index}]", self.key),
            span: value.span(),
            value: value.get_ref(),
        };
        Ok(array.iter().enumerate().map(element).collect())
    }

    /// The keys and values of a table that may have any keys.
    pub(super) fn entries(&self) -> Result<Vec<(&'d str, Field<'d>)>, ManifestError> {
        let table = self
            .value
            .as_table()
            .ok_or_else(|| self.expected("a table"))?;
        let entry = |(key, value): (
            &'d Spanned<toml::de::DeString<'d>>,
            &'d Spanned<DeValue<'d>>,
        )| {
            let name: &'d str = key.get_ref().as_ref();
            let full = join(&self.key, quoted(name).trim_matches('`'));
            (
                name,
                Field {
                    source: self.source,
                    key: full,
                    span: value.span(),
                    value: value.get_ref(),
                },
            )
        };
        Ok(table.iter().map(entry).collect())
    }
}

fn join(table: &str, name: &str) -> String {
    if table.is_empty() {
        name.to_owned()
    } else {
        format!("{table}.{name}")
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// "a, b or c".
fn or(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The known key that `name` is most likely a slip of: at most two characters away.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    // No key is as long as this: a long word is not a slip, and measuring it would cost.
    if name.chars().count() > 40 {
        return None;
    }
    known
        .iter()
        .map(|key| (distance(name, key), *key))
        .filter(|(distance, key)| *distance <= 2 && *distance < key.len() / 2 + 1)
        .min()
        .map(|(_, key)| key)
}

/// How many characters must be added, dropped or changed to turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((kept, dropped), to) in row.iter().zip(row.iter().skip(1)).zip(&b) {
            let added = next.last().copied().unwrap_or(i + 1) + 1;
            next.push(
                (kept + usize::from(from != *to))
                    .min(dropped + 1)
                    .min(added),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_recognised() {
        let known = &["sessions", "target", "name"];
        assert_eq!(nearest("sesions", known), Some("sessions"));
        assert_eq!(nearest("targets", known), Some("target"));
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
