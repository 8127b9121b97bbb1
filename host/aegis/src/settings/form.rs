//! The forms a setting's value can have: how each is read from the words of a flag, a variable or a
//! file, what is right for it, and how it is written as TOML.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use aegis_registry::{StoreUrl, manifest::Limits};
use aegis_telemetry::{LogFormat, check_log_filter};
use toml::Value;

/// What a value is in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    /// A number with a point, or without.
    Fraction,
    Switch,
    /// Of texts that are paths.
    Paths,
    /// Of texts that hold no comma.
    Names,
}

/// One form of value. `words` are what one layer gave: one word, but for lists.
pub(super) trait Form {
    type Value;
    const KIND: Kind;
    const PLACEHOLDER: &'static str;
    /// What is right, to stand after "expected".
    fn expects() -> String;
    /// `None` where a word is not what [`Form::expects`] says.
    fn read(words: &[String]) -> Option<Self::Value>;
    /// `None` where nothing is set.
    fn write(value: &Self::Value) -> Option<Value>;
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(u64);

impl ByteSize {
    /// The number of bytes.
    pub(crate) const fn bytes(self) -> u64 {
        self.0
    }
}

/// Whether the routes that manage models are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Management {
    /// To those who have a token for it, or on loopback to whoever reaches it.
    On,
    /// Not at all; models come from the data folder and from `models`.
    Off,
}

/// A closed list of words.
pub(super) trait Words: Sized + Copy + 'static {
    const ALL: &'static [(&'static str, Self)];
    fn same(self, other: Self) -> bool;
}

impl Words for Management {
    const ALL: &'static [(&'static str, Self)] = &[("on", Self::On), ("off", Self::Off)];
    fn same(self, other: Self) -> bool {
        self == other
    }
}

impl Words for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[
        (Self::Text.as_str(), Self::Text),
        (Self::Json.as_str(), Self::Json),
    ];
    fn same(self, other: Self) -> bool {
        self == other
    }
}

pub(super) fn one(words: &[String]) -> Option<&str> {
    match words {
        [word] => Some(word),
        _ => None,
    }
}

fn number(words: &[String], min: u64, max: u64) -> Option<u64> {
    one(words)?
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
}

fn written(number: u64) -> Option<Value> {
    i64::try_from(number).ok().map(Value::Integer)
}

/// An IP address with a port.
pub(super) struct Address;

impl Form for Address {
    type Value = SocketAddr;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "ADDRESS";
    fn expects() -> String {
        "an IP address and a port, as in \"127.0.0.1:8000\" or \"[::1]:8000\"".to_owned()
    }
    fn read(words: &[String]) -> Option<SocketAddr> {
        let word = one(words)?;
        // The one name that everybody writes; others would need a lookup, and may mean several.
        match word.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}").parse().ok(),
            None => SocketAddr::from_str(word).ok(),
        }
    }
    fn write(value: &SocketAddr) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// An IP address with a port, or nothing.
pub(super) struct OptionalAddress;

impl Form for OptionalAddress {
    type Value = Option<SocketAddr>;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "ADDRESS";
    fn expects() -> String {
        Address::expects()
    }
    fn read(words: &[String]) -> Option<Option<SocketAddr>> {
        if words.is_empty() {
            Some(None)
        } else {
            Address::read(words).map(Some)
        }
    }
    fn write(value: &Option<SocketAddr>) -> Option<Value> {
        value.as_ref().and_then(Address::write)
    }
}

/// Ceilings over manifests' limits: `KEY=VALUE`, of the keys that a manifest's `[limits]` has.
pub(super) struct Ceilings;

impl Form for Ceilings {
    type Value = Limits;
    const KIND: Kind = Kind::Names;
    const PLACEHOLDER: &'static str = "KEY=N";
    fn expects() -> String {
        "a list of limits as KEY=NUMBER, with the keys and ranges of docs/limits.md".to_owned()
    }
    fn read(words: &[String]) -> Option<Limits> {
        let mut limits = Limits::default();
        for word in words {
            let (key, value) = word.split_once('=')?;
            let row = Limits::TABLE.iter().find(|row| row.key == key.trim())?;
            let value: u32 = value.trim().parse().ok()?;
            if !(row.min..=row.max).contains(&value) || !limits.set(row.key, value) {
                return None;
            }
        }
        Some(limits)
    }
    fn write(value: &Limits) -> Option<Value> {
        let words = value
            .entries()
            .map(|(key, value)| Value::String(format!("{key}={value}")));
        Some(Value::Array(words.collect()))
    }
}

/// A folder, there or not.
pub(super) struct Folder;

impl Form for Folder {
    type Value = PathBuf;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "DIR";
    fn expects() -> String {
        "the path of a folder".to_owned()
    }
    fn read(words: &[String]) -> Option<PathBuf> {
        one(words)
            .filter(|word| !word.is_empty())
            .map(PathBuf::from)
    }
    fn write(value: &PathBuf) -> Option<Value> {
        Some(Value::String(value.to_string_lossy().into_owned()))
    }
}

/// Any number of folders.
pub(super) struct Folders;

impl Form for Folders {
    type Value = Vec<PathBuf>;
    const KIND: Kind = Kind::Paths;
    const PLACEHOLDER: &'static str = "DIR";
    fn expects() -> String {
        "a list of paths of folders".to_owned()
    }
    fn read(words: &[String]) -> Option<Vec<PathBuf>> {
        words
            .iter()
            .map(|word| Folder::read(std::slice::from_ref(word)))
            .collect()
    }
    fn write(value: &Vec<PathBuf>) -> Option<Value> {
        value
            .iter()
            .map(Folder::write)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
    }
}

/// Any number of files.
pub(super) struct Files;

impl Form for Files {
    type Value = Vec<PathBuf>;
    const KIND: Kind = Kind::Paths;
    const PLACEHOLDER: &'static str = "FILE";
    fn expects() -> String {
        "a list of paths of files".to_owned()
    }
    fn read(words: &[String]) -> Option<Vec<PathBuf>> {
        Folders::read(words)
    }
    fn write(value: &Vec<PathBuf>) -> Option<Value> {
        Folders::write(value)
    }
}

/// A place for models, or nothing.
pub(super) struct OptionalStore;

impl Form for OptionalStore {
    type Value = Option<StoreUrl>;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "URL";
    fn expects() -> String {
        "a folder, or \"s3://BUCKET\", \"gs://BUCKET\" or \"az://CONTAINER\", each with /FOLDER behind it if you \
         like; credentials are in the cloud's own variables"
            .to_owned()
    }
    fn read(words: &[String]) -> Option<Option<StoreUrl>> {
        if words.is_empty() {
            Some(None)
        } else {
            one(words)?.parse().ok().map(Some)
        }
    }
    fn write(value: &Option<StoreUrl>) -> Option<Value> {
        value.as_ref().map(|place| Value::String(place.to_string()))
    }
}

/// Any number of HTTP header names, kept in lower case.
pub(super) struct HeaderNames;

impl Form for HeaderNames {
    type Value = Vec<String>;
    const KIND: Kind = Kind::Names;
    const PLACEHOLDER: &'static str = "NAME";
    fn expects() -> String {
        "a list of names of HTTP headers".to_owned()
    }
    fn read(words: &[String]) -> Option<Vec<String>> {
        // RFC 9110's token.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let name = |word: &String| {
            (!word.is_empty() && word.chars().all(token)).then(|| word.to_ascii_lowercase())
        };
        words.iter().map(name).collect()
    }
    fn write(value: &Vec<String>) -> Option<Value> {
        Some(Value::Array(
            value.iter().cloned().map(Value::String).collect(),
        ))
    }
}

/// A file or folder, or nothing.
pub(super) struct OptionalPath;

impl Form for OptionalPath {
    type Value = Option<PathBuf>;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "PATH";
    fn expects() -> String {
        "the path of a file or folder".to_owned()
    }
    fn read(words: &[String]) -> Option<Option<PathBuf>> {
        if words.is_empty() {
            Some(None)
        } else {
            Folder::read(words).map(Some)
        }
    }
    fn write(value: &Option<PathBuf>) -> Option<Value> {
        value.as_ref().and_then(Folder::write)
    }
}

/// A whole number.
pub(super) struct Number<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Form for Number<MIN, MAX> {
    type Value = usize;
    const KIND: Kind = Kind::Number;
    const PLACEHOLDER: &'static str = "N";
    fn expects() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }
    fn read(words: &[String]) -> Option<usize> {
        number(words, MIN, MAX).and_then(|number| usize::try_from(number).ok())
    }
    fn write(value: &usize) -> Option<Value> {
        u64::try_from(*value).ok().and_then(written)
    }
}

/// A number in a unit: `$scale` of the value's own.
macro_rules! quantities {
    ($($(#[doc = $doc:literal])+ $name:ident($unit:literal, $placeholder:literal): $value:ty, $read:expr, $write:expr;)+) => {$(
        $(#[doc = $doc])+
        pub(super) struct $name<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> Form for $name<MIN, MAX> {
            type Value = $value;
            const KIND: Kind = Kind::Number;
            const PLACEHOLDER: &'static str = $placeholder;
            fn expects() -> String {
                format!(concat!("a whole number of ", $unit, " from {} to {}"), MIN, MAX)
            }
            fn read(words: &[String]) -> Option<$value> {
                let read: fn(u64) -> $value = $read;
                number(words, MIN, MAX).map(read)
            }
            fn write(value: &$value) -> Option<Value> {
                let write: fn(&$value) -> u64 = $write;
                written(write(value))
            }
        }
    )+};
}

quantities! {
    /// A size given in MiB.
    Mib("MiB", "MIB"): ByteSize, |number| ByteSize(number << 20), |size| size.0 >> 20;
    /// A size given in KiB.
    Kib("KiB", "KIB"): ByteSize, |number| ByteSize(number << 10), |size| size.0 >> 10;
    /// A time given in milliseconds.
    Millis("milliseconds", "MS"): Duration, Duration::from_millis, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    /// A time given in seconds.
    Seconds("seconds", "S"): Duration, Duration::from_secs, Duration::as_secs;
}

/// Yes or no.
pub(super) struct Switch;

impl Form for Switch {
    type Value = bool;
    const KIND: Kind = Kind::Switch;
    const PLACEHOLDER: &'static str = "BOOL";
    fn expects() -> String {
        "true or false (1 and 0 do too, outside the file)".to_owned()
    }
    fn read(words: &[String]) -> Option<bool> {
        match one(words)? {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }
    fn write(value: &bool) -> Option<Value> {
        Some(Value::Boolean(*value))
    }
}

/// One of a closed list of words.
pub(super) struct Choice<T>(PhantomData<T>);

impl<T: Words> Form for Choice<T> {
    type Value = T;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "WORD";
    fn expects() -> String {
        let words: Vec<String> = T::ALL.iter().map(|(word, _)| format!("{word:?}")).collect();
        words.join(" or ")
    }
    fn read(words: &[String]) -> Option<T> {
        let word = one(words)?;
        T::ALL
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, value)| *value)
    }
    fn write(value: &T) -> Option<Value> {
        let known = T::ALL.iter().find(|(_, known)| known.same(*value));
        known.map(|(word, _)| Value::String((*word).to_owned()))
    }
}

/// What is logged.
pub(super) struct Filter;

impl Form for Filter {
    type Value = String;
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "FILTER";
    fn expects() -> String {
        "a level (error, warn, info, debug, trace, off) or a list like \"info,aegis_server=debug\""
            .to_owned()
    }
    fn read(words: &[String]) -> Option<String> {
        one(words)
            .filter(|filter| check_log_filter(filter).is_ok())
            .map(str::to_owned)
    }
    fn write(value: &String) -> Option<Value> {
        Some(Value::String(value.clone()))
    }
}
