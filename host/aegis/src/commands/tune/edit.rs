//! A manifest's text with another setting of one graph: what a person wrote around it (comments,
//! order, spaces) stays, and nothing else changes its meaning.

use aegis_registry::{
    Manifest,
    manifest::{self, BatchSettings},
};
use aegis_tune::setting::{Batching, Setting};
use anyhow::{Context as _, bail};
use toml_edit::{DocumentMut, InlineTable, Item, TableLike, Value};

/// The setting that a graph of a manifest has on so many cores: where it says nothing of sessions, they are as many as
/// their threads leave room for.
pub(super) fn setting_of(graph: &manifest::Graph, cores: u32) -> Setting {
    Setting {
        batching: match &graph.batching {
            None => Batching::Auto,
            Some(manifest::Batching::Off) => Batching::Off,
            Some(manifest::Batching::On(settings)) => Batching::On {
                max_batch_size: settings.max_batch_size,
                max_latency_ms: settings.max_latency_ms,
            },
        },
        sessions: graph
            .sessions
            .unwrap_or_else(|| (cores / graph.threads.max(1)).max(1)),
        threads: graph.threads,
    }
}

/// `text` with `to` for the graph `name`. Keys whose value does not change are left as they are.
///
/// # Errors
/// A text that does not take the setting, or would come to mean something else besides.
pub(super) fn edited(text: &str, name: &str, to: &Setting, cores: u32) -> anyhow::Result<String> {
    let before = Manifest::parse(text)?;
    let Some(graph) = before.graphs.iter().find(|graph| graph.name == name) else {
        bail!("the manifest has no graph `{name}`");
    };
    let from = setting_of(graph, cores);
    let mut document: DocumentMut = text.parse().context("the manifest cannot be edited")?;
    let table = table_of(&mut document, name).with_context(|| {
        format!("the manifest's graph `{name}` is written in a form that is not edited")
    })?;
    if from.sessions != to.sessions {
        set(table, "sessions", i64::from(to.sessions).into());
    }
    if from.threads != to.threads {
        set(table, "threads", i64::from(to.threads).into());
    }
    if from.batching != to.batching {
        batching(table, graph, to.batching)?;
    }
    let edited = document.to_string();
    is_what_was_meant(&before, &edited, name, &from, to)?;
    Ok(edited)
}

/// The table of a graph, under `[[graph]]` or within `graph = [{ … }]`.
fn table_of<'d>(document: &'d mut DocumentMut, name: &str) -> Option<&'d mut dyn TableLike> {
    let named = |table: &dyn TableLike| table.get("name").and_then(Item::as_str) == Some(name);
    match document.get_mut("graph")? {
        Item::ArrayOfTables(tables) => tables
            .iter_mut()
            .find(|table| named(&**table))
            .map(|table| table as &mut dyn TableLike),
        Item::Value(Value::Array(array)) => array
            .iter_mut()
            .filter_map(Value::as_inline_table_mut)
            .find(|table| named(&**table))
            .map(|table| table as &mut dyn TableLike),
        _ => None,
    }
}

/// Gives `key` a value; one that it had keeps what stands around it.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(value);
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

fn batching(
    table: &mut dyn TableLike,
    graph: &manifest::Graph,
    to: Batching,
) -> anyhow::Result<()> {
    let says_more = matches!(
        &graph.batching,
        Some(manifest::Batching::On(settings))
            if !settings.axes.is_empty() || !settings.preferred_batch_sizes.is_empty()
    );
    match to {
        Batching::Auto | Batching::Off if says_more => bail!(
            "`batching` of graph `{}` has axes or preferred sizes, which would be lost",
            graph.name
        ),
        Batching::Auto => remove(table, "batching"),
        Batching::Off => set(table, "batching", false.into()),
        Batching::On {
            max_batch_size,
            max_latency_ms,
        } => {
            let values = [
                ("max_batch_size", i64::from(max_batch_size)),
                ("max_latency_ms", i64::from(max_latency_ms)),
            ];
            if let Some(settings) = table.get_mut("batching").and_then(Item::as_table_like_mut) {
                let new = values.iter().any(|(key, _)| !settings.contains_key(key));
                for (key, value) in values {
                    set(settings, key, value.into());
                }
                // Within braces a new key would stand without the spaces around it.
                if new {
                    respace(table.get_mut("batching"));
                }
            } else {
                let mut settings = InlineTable::new();
                for (key, value) in values {
                    settings.insert(key, value.into());
                }
                set(table, "batching", Value::InlineTable(settings));
            }
        }
    }
    Ok(())
}

fn respace(item: Option<&mut Item>) {
    if let Some(Item::Value(Value::InlineTable(settings))) = item {
        settings.fmt();
    }
}

/// Takes a key out. Its comments go to the value before it, or to the key after it.
fn remove(table: &mut dyn TableLike, key: &str) {
    let comments = table.key(key).map(|key| {
        let above = key.leaf_decor().prefix().and_then(|raw| raw.as_str());
        above.unwrap_or_default().to_owned()
    });
    let beside = table.get(key).and_then(Item::as_value).map(|value| {
        let beside = value.decor().suffix().and_then(|raw| raw.as_str());
        beside.unwrap_or_default().to_owned()
    });
    table.remove(key);
    let lines: Vec<String> = [comments, beside]
        .into_iter()
        .flatten()
        .flat_map(|text| {
            text.lines()
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|line| line.starts_with('#'))
        .collect();
    if lines.is_empty() {
        return;
    }
    let last = table
        .iter_mut()
        .filter_map(|(_, item)| item.as_value_mut())
        .last();
    if let Some(value) = last {
        let beside = value.decor().suffix().and_then(|raw| raw.as_str());
        let beside = beside.unwrap_or_default().trim_end().to_owned();
        value
            .decor_mut()
            .set_suffix(format!("{beside}\n{}", lines.join("\n")));
    }
}

/// Reads back what would be written: the setting is there, and all else is as before.
fn is_what_was_meant(
    before: &Manifest,
    edited: &str,
    name: &str,
    from: &Setting,
    to: &Setting,
) -> anyhow::Result<()> {
    let after = Manifest::parse(edited).context("with this setting the manifest is not valid")?;
    let mut meant = before.clone();
    for graph in &mut meant.graphs {
        if graph.name != name {
            continue;
        }
        if from.sessions != to.sessions {
            graph.sessions = Some(to.sessions);
        }
        graph.threads = to.threads;
        graph.batching = match to.batching {
            Batching::Auto => None,
            Batching::Off => Some(manifest::Batching::Off),
            Batching::On {
                max_batch_size,
                max_latency_ms,
            } => {
                let mut settings = match &graph.batching {
                    Some(manifest::Batching::On(settings)) => settings.clone(),
                    _ => BatchSettings::default(),
                };
                settings.max_batch_size = max_batch_size;
                settings.max_latency_ms = max_latency_ms;
                Some(manifest::Batching::On(settings))
            }
        };
    }
    if after != meant {
        bail!("the manifest is written in a form that is not edited");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    const WRITTEN: &str = r#"# A model.
name    =   "m"   # its name
handler = "h.wasm"

[[graph]]
name = "other"
file = "o.onnx"
sessions = 2   # not this one

# The one that is tuned.
[[graph]]
name = "g"
# Beside it lies the other.
file = "g.onnx"
sessions = 1   # as many as cores
# Found by hand.
batching = { max_batch_size = 32, max_latency_ms = 0 } # in May

[limits]
# A picture is decoded inside this.
memory_mib = 64
"#;

    const TO: Setting = Setting {
        batching: Batching::On {
            max_batch_size: 8,
            max_latency_ms: 2,
        },
        sessions: 4,
        threads: 1,
    };

    /// The lines that were there and are not, and those that are new.
    fn difference(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
        let missing = |from: &str, of: &str| -> Vec<String> {
            let lines: Vec<&str> = of.lines().collect();
            from.lines()
                .filter(|line| !lines.contains(line))
                .map(str::to_owned)
                .collect()
        };
        (missing(before, after), missing(after, before))
    }

    #[test]
    fn only_the_values_change_and_what_stands_around_them_stays() {
        let after = edited(WRITTEN, "g", &TO, 1).unwrap();
        let (gone, new) = difference(WRITTEN, &after);
        assert_eq!(gone.len(), 2, "{after}");
        assert_eq!(
            new,
            [
                "sessions = 4   # as many as cores",
                "batching = { max_batch_size = 8, max_latency_ms = 2 } # in May",
            ]
        );
    }

    #[test]
    fn a_key_that_was_not_there_comes_last_in_its_own_table() {
        let after = edited(WRITTEN, "g", &Setting { threads: 2, ..TO }, 1).unwrap();
        let (_, new) = difference(WRITTEN, &after);
        assert!(new.contains(&"threads = 2".to_owned()), "{after}");
        let graph = after.split("[limits]").next().unwrap();
        assert!(graph.contains("threads = 2"), "{after}");
        let other = edited(WRITTEN, "other", &TO, 1).unwrap();
        assert!(
            other.contains("sessions = 4   # not this one\nbatching = { max_batch_size = 8, max_latency_ms = 2 }\n\n# The one"),
            "{other}"
        );
    }

    #[test]
    fn batching_comes_off_and_its_comments_stay() {
        let off = edited(WRITTEN, "g", &TO.batched(Batching::Off), 1).unwrap();
        assert!(
            off.contains("# Found by hand.\nbatching = false # in May\n"),
            "{off}"
        );
        let auto = edited(WRITTEN, "g", &TO.batched(Batching::Auto), 1).unwrap();
        assert!(!auto.contains("batching"), "{auto}");
        for comment in ["# Found by hand.", "# in May", "# as many as cores"] {
            assert!(auto.contains(comment), "{auto}");
        }
    }

    #[test]
    fn every_form_that_batching_has_is_edited() {
        for (form, written) in [
            (
                "batching = true # c",
                "batching = { max_batch_size = 8, max_latency_ms = 2 } # c",
            ),
            (
                "batching = {} # c",
                "batching = { max_batch_size = 8, max_latency_ms = 2 } # c",
            ),
            (
                "batching = { max_latency_ms = 1 }",
                "batching = { max_latency_ms = 2, max_batch_size = 8 }",
            ),
            (
                "batching.max_batch_size = 4 # c",
                "batching.max_batch_size = 8 # c\nbatching.max_latency_ms = 2",
            ),
            (
                "[graph.batching]\nmax_batch_size = 4 # c",
                "[graph.batching]\nmax_batch_size = 8 # c\nmax_latency_ms = 2",
            ),
        ] {
            let text =
                format!("name = \"m\"\n[[graph]]\nname = \"g\"\nfile = \"g.onnx\"\n{form}\n");
            let after = edited(&text, "g", &Setting { sessions: 1, ..TO }, 1).unwrap();
            assert!(after.contains(written), "{form}: {after}");
        }
        let inline = "name = \"m\"\ngraph = [{ name = \"g\", file = \"g.onnx\" }] # c\n";
        let after = edited(inline, "g", &TO, 1).unwrap();
        assert!(
            after.contains("sessions = 4") && after.contains("# c"),
            "{after}"
        );
    }

    #[test]
    fn what_would_lose_something_or_is_not_valid_is_refused() {
        let axes = WRITTEN.replace("max_latency_ms = 0", "axes = { x = 1 }");
        let told =
            |text: &str, to: &Setting| format!("{:#}", edited(text, "g", to, 1).unwrap_err());
        assert!(told(&axes, &TO.batched(Batching::Off)).contains("would be lost"));
        assert!(
            edited(&axes, "g", &TO, 1)
                .unwrap()
                .contains("axes = { x = 1 }")
        );
        let preferred = WRITTEN.replace("max_latency_ms = 0", "preferred_batch_sizes = [16]");
        assert!(told(&preferred, &TO).contains("preferred_batch_sizes"));
        assert!(told(WRITTEN, &TO.parallel(100, 1)).contains("sessions"));
        let nobody = edited(WRITTEN, "nobody", &TO, 1).unwrap_err();
        assert!(nobody.to_string().contains("no graph `nobody`"));
    }

    fn settings() -> impl Strategy<Value = Setting> {
        let batching = prop_oneof![
            Just(Batching::Auto),
            Just(Batching::Off),
            (1u32..=4096, 0u32..=60_000).prop_map(|(max_batch_size, max_latency_ms)| {
                Batching::On {
                    max_batch_size,
                    max_latency_ms,
                }
            }),
        ];
        (batching, 1u32..=64, 1u32..=64).prop_map(|(batching, sessions, threads)| Setting {
            batching,
            sessions,
            threads,
        })
    }

    proptest! {
        #[test]
        fn whatever_is_written_reads_back_with_every_comment_and_the_rest_as_it_was(
            first in settings(), second in settings(),
        ) {
            let mut text = WRITTEN.to_owned();
            for setting in [first, second] {
                text = edited(&text, "g", &setting, 1).unwrap();
                let manifest = Manifest::parse(&text).unwrap();
                let graph = manifest.graphs.iter().find(|graph| graph.name == "g").unwrap();
                prop_assert_eq!(setting_of(graph, 1), setting);
                for comment in WRITTEN.split('#').skip(1).filter_map(|rest| rest.lines().next()) {
                    prop_assert!(text.contains(&format!("#{comment}")), "{}: {}", comment, text);
                }
            }
        }
    }
}
