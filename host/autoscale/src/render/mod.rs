//! Everything an operator applies, made from an [`Slo`]: rules and alerts, HPA, KEDA, adapter,
//! Deployment and what stands around it, overlays, dashboard. Values are made in Rust and written as
//! YAML; no template is ever filled in.

mod adapter;
mod canary;
mod dashboard;
mod deployment;
mod gpu;
mod hpa;
mod keda;
mod kustomize;
mod monitor;
mod network;
mod node;
mod objects;
mod outside;
mod promql;
mod rules;

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
};

pub use self::dashboard::{Query, queries};
use self::node::{Node, map};
pub(crate) use self::rules::burn::fastest as fastest_burn;
use crate::slo::Slo;

/// A file of the folder: where in it, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// From the folder on.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// Why a folder cannot be rendered or compared.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The writer of YAML or JSON refused a value: a fault of this crate.
    #[error("{}: {message}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        message: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RenderError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}

/// How a file of the folder and what the SLO makes of it differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// From the folder on.
    pub path: PathBuf,
    /// In which way.
    pub what: Differs,
}

/// In which way a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// It is not there.
    Missing,
    /// It holds something else, from this line on (from 1).
    Line(usize),
    /// It says that it was rendered, and nothing renders it any more.
    Stale,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.what {
            Differs::Missing => write!(f, "{path}: is not there"),
            Differs::Line(line) => write!(f, "{path}: differs from line {line} on"),
            Differs::Stale => write!(f, "{path}: is no longer rendered; delete it"),
        }
    }
}

/// How rendered YAML begins.
const HEADER: &str = "# Rendered by `aegis slo render` from slo.toml. Edit that instead.\n";

/// Every file, in the order of its path. The same SLO gives the same bytes on every machine.
///
/// # Errors
/// [`RenderError::Write`], if a value cannot be written at all.
pub fn all(slo: &Slo) -> Result<Vec<File>, RenderError> {
    let mut files = Vec::new();
    let mut yaml = |path: &str, comment: &str, documents: &[Node]| {
        write_yaml(path, comment, documents).map(|file| files.push(file))
    };
    for (path, node) in [
        ("base/inference-namespace.yaml", objects::namespace(slo)),
        (
            "base/inference-serviceaccount.yaml",
            objects::service_account(slo),
        ),
        ("base/inference-service.yaml", objects::service(slo)),
        ("base/inference-pdb.yaml", objects::disruption_budget(slo)),
        ("base/inference-networkpolicy.yaml", network::policy(slo)),
        (
            "base/inference-servicemonitor.yaml",
            monitor::service_monitor(slo),
        ),
        ("base/inference-slo-rules.yaml", rules::prometheus_rule(slo)),
    ] {
        yaml(path, "", &[node])?;
    }
    yaml(
        "base/inference-deployment-slo.yaml",
        deployment::ABOUT,
        &[deployment::stable(slo)],
    )?;
    yaml("prometheus/rules.yaml", rules::ABOUT, &[rules::file(slo)])?;
    yaml(
        "prometheus/adapter-values.yaml",
        adapter::ABOUT,
        &[adapter::values(slo)],
    )?;
    yaml(
        "prometheus/adapter-values-gpu.yaml",
        adapter::ABOUT,
        &[adapter::gpu_values(slo)],
    )?;
    yaml(
        "keda/inference-keda-scaler.yaml",
        keda::ABOUT,
        &[keda::scaled_object(slo)],
    )?;
    yaml(
        "overlays/gpu/deployment.yaml",
        "",
        &[gpu::deployment_patch(slo)],
    )?;
    yaml(
        "overlays/gpu/hpa.yaml",
        gpu::HPA_ABOUT,
        &[gpu::hpa_patch(slo)],
    )?;
    yaml(
        "canary/inference-canary.yaml",
        canary::ABOUT,
        &canary::workload(slo),
    )?;
    yaml(
        "overlays/canary-gateway/networkpolicy.yaml",
        "",
        &[network::gateway_policy(slo)],
    )?;
    yaml(
        "overlays/canary-gateway/httproute.yaml",
        "",
        &[canary::http_route(slo)],
    )?;
    yaml(
        "overlays/canary-nginx/ingress.yaml",
        "",
        &canary::ingresses(slo),
    )?;
    for (path, comment, node) in kustomize::files(slo) {
        yaml(path, comment, &[node])?;
    }
    files.push(hpa_manifest(slo)?);
    files.push(write_json(
        "dashboard/inference-slo.json",
        &dashboard::dashboard(slo),
    )?);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The HPA's file alone: what is applied, and so what is simulated.
///
/// # Errors
/// As [`all`].
pub fn hpa_manifest(slo: &Slo) -> Result<File, RenderError> {
    write_yaml("hpa/inference-slo-hpa.yaml", hpa::ABOUT, &[hpa::hpa(slo)])
}

/// Writes every file into a folder, and says which ones changed.
///
/// # Errors
/// As [`all`], and [`RenderError::Io`].
pub fn write(folder: &Path, slo: &Slo) -> Result<Vec<PathBuf>, RenderError> {
    let mut changed = Vec::new();
    for file in all(slo)? {
        let path = folder.join(&file.path);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == file.text) {
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(RenderError::io(parent))?;
        }
        std::fs::write(&path, &file.text).map_err(RenderError::io(&path))?;
        changed.push(file.path);
    }
    Ok(changed)
}

/// Compares a folder with what the SLO makes of it; nothing where they agree.
///
/// # Errors
/// As [`all`], and [`RenderError::Io`] for a file that is there and cannot be read.
pub fn check(folder: &Path, slo: &Slo) -> Result<Vec<Difference>, RenderError> {
    let rendered = all(slo)?;
    let mut differences = Vec::new();
    for file in &rendered {
        let path = folder.join(&file.path);
        let what = match std::fs::read_to_string(&path) {
            Ok(text) if text == file.text => continue,
            Ok(text) => Differs::Line(first_difference(&text, &file.text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Differs::Missing,
            Err(error) => return Err(RenderError::io(&path)(error)),
        };
        let path = file.path.clone();
        differences.push(Difference { path, what });
    }
    let known: BTreeSet<&Path> = rendered.iter().map(|file| file.path.as_path()).collect();
    let mut stale = Vec::new();
    find_rendered(folder, Path::new(""), &mut stale)?;
    stale.retain(|path| !known.contains(path.as_path()));
    differences.extend(stale.into_iter().map(|path| Difference {
        path,
        what: Differs::Stale,
    }));
    Ok(differences)
}

/// The first line, from 1, that two texts do not share.
fn first_difference(one: &str, other: &str) -> usize {
    let same = one.lines().zip(other.lines()).take_while(|(a, b)| a == b);
    same.count() + 1
}

/// The YAML files below a folder that say that they were rendered.
fn find_rendered(folder: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<(), RenderError> {
    let at = folder.join(below);
    let mut entries: Vec<_> = std::fs::read_dir(&at)
        .and_then(Iterator::collect)
        .map_err(RenderError::io(&at))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            find_rendered(folder, &path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "yaml")
            && std::fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with(HEADER))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn write_yaml(path: &str, comment: &str, documents: &[Node]) -> Result<File, RenderError> {
    let mut text = HEADER.to_owned();
    for line in comment.lines() {
        text.push_str(if line.is_empty() { "#" } else { "# " });
        text.push_str(line);
        text.push('\n');
    }
    let options = serde_saphyr::ser_options! {
        // A long expression stays one line; those that are written in lines keep them.
        folded_wrap_chars: 10_000,
    };
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        serde_saphyr::to_fmt_writer_with_options(&mut text, document, options.clone()).map_err(
            |error| RenderError::Write {
                path: path.into(),
                message: error.to_string(),
            },
        )?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(File {
        path: path.into(),
        text,
    })
}

fn write_json(path: &str, node: &Node) -> Result<File, RenderError> {
    let text = serde_json::to_string_pretty(node).map_err(|error| RenderError::Write {
        path: path.into(),
        message: error.to_string(),
    })?;
    Ok(File {
        path: path.into(),
        text: text + "\n",
    })
}

/// The label that tells the pods that are scaled from those on trial.
const TRACK: &str = "track";
const STABLE: &str = "stable";
const CANARY: &str = "canary";
/// The label that all objects of the service have.
const APP: &str = "app.kubernetes.io/name";

/// What all objects have: the service's name, with a suffix, and labels.
fn metadata(slo: &Slo, suffix: &str) -> Node {
    metadata_with(slo, suffix, Vec::new())
}

fn metadata_with(slo: &Slo, suffix: &str, more: Vec<(String, Node)>) -> Node {
    let mut labels = vec![
        (APP.to_owned(), Node::from(slo.service.name.as_str())),
        ("app.kubernetes.io/part-of".to_owned(), Node::from("aegis")),
    ];
    labels.extend(more);
    map! {
        "name" => format!("{}{suffix}", slo.service.name),
        "namespace" => slo.service.namespace.as_str(),
        "labels" => Node::Map(labels),
    }
}

/// The labels by which the Prometheus Operator selects rules and monitors.
fn monitor_labels(slo: &Slo) -> Vec<(String, Node)> {
    let labels = slo.metrics.monitor_labels.iter();
    labels
        .map(|(key, value)| (key.clone(), Node::from(value)))
        .collect()
}

/// The labels by which pods of one track are selected.
fn pod_labels(slo: &Slo, track: &str) -> Node {
    map! { APP => slo.service.name.as_str(), TRACK => track }
}

/// An amount as Kubernetes writes it: `10`, or thousandths, `350m`.
fn quantity(value: f64) -> String {
    if value.fract() == 0.0 {
        value.to_string()
    } else {
        format!("{}m", (value * 1000.0).round())
    }
}

#[cfg(test)]
mod tests;
