//! From the text of a `model.toml` to a [`Manifest`]: what each key is, which are needed, and what
//! must hold between them.

use std::collections::BTreeMap;

use toml::de::DeTable;

use super::document::{Field, Section, Source};
use super::{
    Admission, BatchAxis, BatchSettings, Batching, Breaker, Graph, GraphBackend, GraphTarget,
    InitGrant, Limits, Manifest, ManifestError, Precision, Sample, Sandbox,
};
use crate::path::{PackagePath, clash};
use crate::text::quoted;

const TOP: &[&str] = &[
    "name",
    "description",
    "handler",
    "idempotent",
    "graph",
    "sample",
    "limits",
    "sandbox",
    "admission",
    "breaker",
    "config",
];
const GRAPH: &[&str] = &[
    "name",
    "file",
    "weights",
    "backend",
    "target",
    "fallback",
    "sessions",
    "threads",
    "batching",
    "precision",
];
const BATCHING: &[&str] = &[
    "max_batch_size",
    "max_latency_ms",
    "preferred_batch_sizes",
    "axes",
];
const ADMISSION: &[&str] = &["adaptive"];
const SAMPLE: &[&str] = &["file", "content_type", "answer"];
const SANDBOX: &[&str] = &["reuse", "init_grants"];

/// The most rows of one run that may be asked for.
const MAX_BATCH: u32 = 4096;

/// How many inputs and outputs may be given an axis.
const MAX_AXES: usize = 256;

/// What `wasi:config` may hold in all; it lives in every instance's host.
const MAX_CONFIG_KEYS: usize = 1024;

pub(super) fn manifest(text: &str) -> Result<Manifest, ManifestError> {
    let (size, max) = (text.len() as u64, Manifest::MAX_BYTES);
    if size > max {
        return Err(ManifestError::TooLarge { size, max });
    }
    let source = Source(text);
    let document = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        source.wrong(
            &span,
            None,
            format!("this is not TOML: {}", error.message().trim()),
        )
    })?;
    let top = Section::top(&source, &document, TOP)?;

    let manifest = Manifest {
        name: top
            .required("name", "the model's name, such as name = \"digits\"")?
            .parsed()?,
        description: top
            .get("description")
            .map(|field| description(&field))
            .transpose()?,
        handler: top.get("handler").map(|field| file(&field)).transpose()?,
        idempotent: top
            .get("idempotent")
            .map(|field| field.boolean())
            .transpose()?
            .unwrap_or_default(),
        graphs: top
            .get("graph")
            .map(|field| graphs(&field))
            .transpose()?
            .unwrap_or_default(),
        sample: top.get("sample").map(|field| sample(&field)).transpose()?,
        limits: top
            .get("limits")
            .map(|field| limits(&field))
            .transpose()?
            .unwrap_or_default(),
        sandbox: top
            .get("sandbox")
            .map(|field| sandbox(&field))
            .transpose()?
            .unwrap_or_default(),
        admission: top
            .get("admission")
            .map(|field| admission(&field))
            .transpose()?
            .unwrap_or_default(),
        breaker: top
            .get("breaker")
            .map(|field| Breaker::read(&field))
            .transpose()?
            .unwrap_or_default(),
        config: top
            .get("config")
            .map(|field| config(&field))
            .transpose()?
            .unwrap_or_default(),
    };
    if manifest.handler.is_none() && manifest.graphs.is_empty() {
        return Err(top.wrong(
            "there is neither a handler nor a [[graph]]; a model needs at least one of them",
        ));
    }
    files_live_together(&top, &manifest)?;
    Ok(manifest)
}

fn admission(field: &Field<'_>) -> Result<Admission, ManifestError> {
    let section = field.section(ADMISSION)?;
    let adaptive = section.get("adaptive").map(|field| field.boolean());
    Ok(Admission {
        adaptive: adaptive.transpose()?.unwrap_or_default(),
    })
}

fn description(field: &Field<'_>) -> Result<String, ManifestError> {
    let text = field.string()?;
    if text.len() > Manifest::MAX_DESCRIPTION {
        let max = Manifest::MAX_DESCRIPTION;
        return Err(field.wrong(format!("has {} bytes; at most {max} are taken", text.len())));
    }
    Ok(text.to_owned())
}

fn file(field: &Field<'_>) -> Result<PackagePath, ManifestError> {
    let path: PackagePath = field.parsed()?;
    if path.folded() == Manifest::FILE_NAME {
        return Err(field.wrong("model.toml is the manifest itself; name another file"));
    }
    Ok(path)
}

fn graphs(field: &Field<'_>) -> Result<Vec<Graph>, ManifestError> {
    let elements = field.elements("an array of tables, each under its own [[graph]]")?;
    if elements.len() > Manifest::MAX_GRAPHS {
        return Err(field.wrong(format!(
            "has {} graphs; at most {} are taken",
            elements.len(),
            Manifest::MAX_GRAPHS
        )));
    }
    let mut graphs: Vec<Graph> = Vec::with_capacity(elements.len());
    for element in elements {
        let section = element.section(GRAPH)?;
        let graph = graph(&section)?;
        if graphs.iter().any(|earlier| earlier.name == graph.name) {
            let name = section.required("name", "its name")?;
            return Err(name.wrong(format!(
                "a graph before it is named {} too; give each its own name",
                quoted(&graph.name)
            )));
        }
        graphs.push(graph);
    }
    Ok(graphs)
}

fn graph(section: &Section<'_>) -> Result<Graph, ManifestError> {
    let name = section.required("name", "what the handler opens the graph by")?;
    let file_field = section.required("file", "the network's file, such as \"digits.onnx\"")?;
    let path = file(&file_field)?;
    let weights = match section.get("weights") {
        Some(field) => Some(file(&field)?),
        None if path.has_extension("xml") => {
            Some(path.with_extension("bin").map_err(|error| {
                file_field.wrong(format!("has no place for its weights: {error}"))
            })?)
        }
        None => None,
    };
    Ok(Graph {
        name: graph_name(&name)?,
        file: path,
        weights,
        backend: section
            .get("backend")
            .map(|field| field.choice())
            .transpose()?
            .unwrap_or(GraphBackend::Auto),
        target: section
            .get("target")
            .map(|field| field.choice())
            .transpose()?
            .unwrap_or(GraphTarget::Cpu),
        fallback: section
            .get("fallback")
            .map(|field| field.boolean())
            .transpose()?
            .unwrap_or(false),
        sessions: section
            .get("sessions")
            .map(|field| field.integer(1..=64))
            .transpose()?,
        threads: section
            .get("threads")
            .map(|field| field.integer(1..=64))
            .transpose()?
            .unwrap_or(1),
        batching: section
            .get("batching")
            .map(|field| batching(&field))
            .transpose()?,
        precision: section
            .get("precision")
            .map(|field| field.choice())
            .transpose()?
            .unwrap_or(Precision::F32),
    })
}

fn graph_name(field: &Field<'_>) -> Result<String, ManifestError> {
    let name = field.string()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(field.wrong(format!(
            "{} cannot name a graph; use 1 to 64 characters of A-Z a-z 0-9 . _ -",
            quoted(name)
        )));
    }
    Ok(name.to_owned())
}

fn batching(field: &Field<'_>) -> Result<Batching, ManifestError> {
    if let Some(on) = field.as_boolean() {
        return Ok(if on {
            Batching::On(BatchSettings::default())
        } else {
            Batching::Off
        });
    }
    let section = field.section_or("true, false", BATCHING)?;
    let mut settings = BatchSettings::default();
    if let Some(field) = section.get("max_batch_size") {
        settings.max_batch_size = field.integer(1..=MAX_BATCH)?;
    }
    if let Some(field) = section.get("max_latency_ms") {
        settings.max_latency_ms = field.integer(0..=60_000)?;
    }
    if let Some(field) = section.get("preferred_batch_sizes") {
        for element in field.elements("an array such as [4, 8]")? {
            let size = element.integer(1..=settings.max_batch_size)?;
            if settings.preferred_batch_sizes.contains(&size) {
                return Err(element.wrong(format!("{size} is there twice; once is enough")));
            }
            settings.preferred_batch_sizes.push(size);
        }
    }
    if let Some(field) = section.get("axes") {
        let entries = field.entries()?;
        if entries.len() > MAX_AXES {
            return Err(field.wrong(format!(
                "names {} inputs and outputs; at most {MAX_AXES} are taken",
                entries.len()
            )));
        }
        for (name, field) in entries {
            settings.axes.insert(name.to_owned(), axis(&field)?);
        }
    }
    Ok(Batching::On(settings))
}

fn axis(field: &Field<'_>) -> Result<BatchAxis, ManifestError> {
    match field.as_string() {
        Some("shared") => Ok(BatchAxis::Shared),
        Some(other) => Err(field.wrong(format!(
            "{} is no batch axis; write the axis' number, or \"shared\" for what has none",
            quoted(other)
        ))),
        None => field.integer(0..=7).map(BatchAxis::At),
    }
}

fn sample(field: &Field<'_>) -> Result<Sample, ManifestError> {
    let section = field.section(SAMPLE)?;
    let body = section.required("file", "the request's body, such as \"sample.json\"")?;
    let path = file(&body)?;
    let content_type = match section.get("content_type") {
        Some(field) => media_type(&field)?,
        None => by_ending(&path).to_owned(),
    };
    let answer = section.get("answer").map(|field| file(&field));
    Ok(Sample {
        file: path,
        content_type,
        answer: answer.transpose()?,
    })
}

/// The media type of what a file's ending says it is.
fn by_ending(path: &PackagePath) -> &'static str {
    let known = [
        ("json", "application/json"),
        ("txt", "text/plain"),
        ("csv", "text/csv"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("wav", "audio/wav"),
    ];
    let found = known.iter().find(|(ending, _)| path.has_extension(ending));
    found.map_or("application/octet-stream", |(_, media_type)| media_type)
}

/// As a header may have it (RFC 9110, 8.3): the handler judges what it means.
fn media_type(field: &Field<'_>) -> Result<String, ManifestError> {
    let text = field.string()?;
    let is_header = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.len() > 256 || !text.contains('/') || !text.bytes().all(is_header) {
        return Err(field.wrong(format!(
            "{} is no media type; write one such as \"application/json\"",
            quoted(text)
        )));
    }
    Ok(text.to_owned())
}

fn limits(field: &Field<'_>) -> Result<Limits, ManifestError> {
    let section = field.section(Limits::KEYS)?;
    Limits::read(|row| {
        section
            .get(row.key)
            .map(|field| field.integer(row.min..=row.max))
            .transpose()
    })
}

fn sandbox(field: &Field<'_>) -> Result<Sandbox, ManifestError> {
    let section = field.section(SANDBOX)?;
    let reuse = section
        .get("reuse")
        .map(|field| field.boolean())
        .transpose()?
        .unwrap_or(false);
    let mut init_grants: Vec<InitGrant> = Vec::new();
    if let Some(field) = section.get("init_grants") {
        for element in field.elements("an array such as [\"wall-clock\"]")? {
            let grant = element.choice()?;
            if init_grants.contains(&grant) {
                return Err(element.wrong(format!("`{grant}` is there twice; once is enough")));
            }
            init_grants.push(grant);
        }
    }
    Ok(Sandbox { reuse, init_grants })
}

fn config(field: &Field<'_>) -> Result<BTreeMap<String, String>, ManifestError> {
    let entries = field.entries()?;
    if entries.len() > MAX_CONFIG_KEYS {
        return Err(field.wrong(format!(
            "has {} keys; at most {MAX_CONFIG_KEYS} are taken",
            entries.len()
        )));
    }
    let mut config = BTreeMap::new();
    for (name, field) in entries {
        let value = field.string().map_err(|_| {
            field.wrong("must be a string: wasi:config knows nothing else; write the value in quotes, such as \"0.5\"")
        })?;
        config.insert(name.to_owned(), value.to_owned());
    }
    Ok(config)
}

/// Two graphs may share a file (one network with two settings); a handler shares with none, and
/// no two files may meet on a file system that ignores case.
fn files_live_together(top: &Section<'_>, manifest: &Manifest) -> Result<(), ManifestError> {
    if let Some(handler) = &manifest.handler {
        let is_graph =
            |graph: &Graph| graph.file == *handler || graph.weights.as_ref() == Some(handler);
        if let Some(graph) = manifest.graphs.iter().find(|graph| is_graph(graph)) {
            return Err(top.wrong(format!(
                "{} is both the handler and a file of graph {}; they are different files",
                quoted(handler.as_str()),
                quoted(&graph.name)
            )));
        }
    }
    for graph in &manifest.graphs {
        if graph.weights.as_ref() == Some(&graph.file) {
            return Err(top.wrong(format!(
                "graph {} names one file as network and as weights",
                quoted(&graph.name)
            )));
        }
    }
    match clash(manifest.files()) {
        Some((one, other)) => Err(top.wrong(format!(
            "the files {} and {} cannot be in one folder: they differ only in case, or one is a folder of the other",
            quoted(one.as_str()),
            quoted(other.as_str())
        ))),
        None => Ok(()),
    }
}
