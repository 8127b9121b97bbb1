//! Where keys stand in a TOML text, so that a mistake can be told with its line.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The keys of a text, each with the bytes of its value.
pub(super) struct Places<'t> {
    text: &'t str,
    keys: Vec<(String, Range<usize>, Range<usize>)>,
}

impl<'t> Places<'t> {
    /// Of a text that may not be TOML at all; it then has no keys.
    pub(super) fn of(text: &'t str) -> Self {
        let mut keys = Vec::new();
        if let Ok(table) = DeTable::parse(text) {
            walk("", table.get_ref(), &mut keys);
        }
        Self { text, keys }
    }

    /// The line of a key, from 1, if the text has it.
    pub(super) fn line(&self, path: &str) -> Option<usize> {
        let (_, key, _) = self.keys.iter().find(|(known, ..)| known == path)?;
        Some(self.line_at(key.start))
    }

    /// The line of a byte, from 1.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        before.filter(|byte| **byte == b'\n').count() + 1
    }

    /// The innermost key that the byte belongs to.
    pub(super) fn key_at(&self, offset: usize) -> Option<&str> {
        self.keys
            .iter()
            .filter(|(_, key, value)| key.contains(&offset) || value.contains(&offset))
            .min_by_key(|(_, key, value)| {
                if key.contains(&offset) {
                    key.len()
                } else {
                    value.len()
                }
            })
            .map(|(path, ..)| path.as_str())
    }
}

fn walk(above: &str, table: &DeTable<'_>, keys: &mut Vec<(String, Range<usize>, Range<usize>)>) {
    for (key, value) in table.iter() {
        let path = if above.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{above}.{}", key.get_ref())
        };
        keys.push((path.clone(), key.span(), value.span()));
        match value.get_ref() {
            DeValue::Table(inner) => walk(&path, inner, keys),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    keys.push((path.clone(), item.span(), item.span()));
                    if let DeValue::Table(inner) = item.get_ref() {
                        walk(&path, inner, keys);
                    }
                }
            }
            _ => {}
        }
    }
}
