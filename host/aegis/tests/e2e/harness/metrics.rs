//! Prometheus' text, read.

use std::collections::BTreeMap;

/// One scrape.
pub(crate) struct Metrics {
    pub(crate) text: String,
    series: Vec<Series>,
}

/// One line of a scrape.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Metrics {
    pub(crate) fn read(text: String) -> Metrics {
        let series = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Series::read)
            .collect();
        Metrics { text, series }
    }

    /// The series of `name`.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Series> {
        self.series.iter().filter(move |series| series.name == name)
    }

    /// The sum of the series of `name` that have these labels; nothing if there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching = |series: &&Series| {
            labels
                .iter()
                .all(|(key, value)| series.labels.get(*key).is_some_and(|v| v == value))
        };
        self.of(name)
            .filter(matching)
            .map(|series| series.value)
            .reduce(|a, b| a + b)
    }
}

impl Series {
    fn read(line: &str) -> Series {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            None => (series, BTreeMap::new()),
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("an end"))),
        };
        Series {
            name: name.to_owned(),
            labels,
            value: value.parse().expect("a number"),
        }
    }
}

/// `a="b",c="d"`, without quotes inside values: no label of ours may have one.
fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_terminator("\",")
        .map(|pair| {
            let (key, value) = pair.split_once("=\"").expect("a pair");
            let value = value.strip_suffix('"').unwrap_or(value);
            assert!(!value.contains(['"', '\\']), "{text}");
            (key.to_owned(), value.to_owned())
        })
        .collect()
}
