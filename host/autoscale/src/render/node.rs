//! A YAML or JSON value that keeps its keys in the order they were written: manifests read as people
//! write them (`apiVersion`, `kind`, `metadata`, `spec`), the same on every machine. `serde_json`'s
//! own map keeps an order only if some crate of the build asks it to.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A value to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A map, its keys in this order: `map! { "kind" => "Service", "spec" => map! { … } }`.
macro_rules! map {
    ($($key:expr => $value:expr),* $(,)?) => {
        $crate::render::node::Node::Map(vec![
            $((($key).to_string(), $crate::render::node::Node::from($value))),*
        ])
    };
}

/// A list: `list!["a", map! { … }]`.
macro_rules! list {
    ($($value:expr),* $(,)?) => {
        $crate::render::node::Node::List(vec![$($crate::render::node::Node::from($value)),*])
    };
}

pub(crate) use {list, map};

impl Node {
    /// With one more key, if there is something to say.
    pub(crate) fn with(mut self, key: &str, value: Option<Node>) -> Self {
        if let (Self::Map(entries), Some(value)) = (&mut self, value) {
            entries.push((key.to_owned(), value));
        }
        self
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Node {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i32> for Node {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Node {
    fn from(value: f64) -> Self {
        // 80.0 is written 80, as people do and as integer fields ask.
        if value.fract() == 0.0 && value.abs() < 1e15 {
            Self::Int(value as i64)
        } else {
            Self::Float(value)
        }
    }
}

impl From<&str> for Node {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Node {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Node {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Vec<Node>> for Node {
    fn from(value: Vec<Node>) -> Self {
        Self::List(value)
    }
}
