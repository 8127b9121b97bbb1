//! `aegis inspect FILE.wasm`: what a handler is, what it would be granted and what an upload
//! would make of it, told without a server.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use aegis_sandbox::{
    GRANTED, Import, InitGrant, Inspection, Limits, PrepareError, PrepareReport, PrepareSpec,
    Sandbox, SandboxConfig, inspect,
};
use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::worker;
use crate::client::{Output, columns, print, print_json};

/// Show what a handler is, what it would be granted and what an upload would make of it.
/// Ends with 0 if it would be accepted, else with 1.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The component.
    file: PathBuf,
    /// A value that `init` reads, as the manifest's [config] would have it. May be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// What `init` may use beside the usual, as the manifest's init_grants would have it. May be given more than once.
    #[arg(long, value_enum)]
    grant: Vec<Grant>,
    /// Neither run nor compile anything of it.
    #[arg(long)]
    no_run: bool,
    /// For people, or for programs.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Grant {
    SecureRandom,
    WallClock,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "write KEY=VALUE".to_owned())
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bytes =
        std::fs::read(&args.file).with_context(|| format!("reading {}", args.file.display()))?;
    let grants: Vec<InitGrant> = args
        .grant
        .iter()
        .map(|grant| match grant {
            Grant::SecureRandom => InitGrant::SecureRandom,
            Grant::WallClock => InitGrant::WallClock,
        })
        .collect();
    let seen = inspect(&bytes, &grants);
    let prepared = match &seen {
        Err(error) => Some(Err(error.clone())),
        Ok(seen) => match &seen.refused {
            Some(error) => Some(Err(error.clone())),
            None if args.no_run => None,
            None => Some(prepare(bytes, &args, grants).await?),
        },
    };
    let refused = prepared
        .as_ref()
        .and_then(|prepared| prepared.as_ref().err());
    let report = prepared
        .as_ref()
        .and_then(|prepared| prepared.as_ref().ok());
    match args.output {
        Output::Json => print_json(&as_json(seen.as_ref().ok(), report, refused))?,
        Output::Text => {
            let name = args.file.display().to_string();
            print(&as_text(&name, seen.as_ref().ok(), report, refused))?;
        }
    }
    Ok(if refused.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Does what an upload would do, in a folder of its own that goes when it is done.
async fn prepare(
    bytes: Vec<u8>,
    args: &Args,
    init_grants: Vec<InitGrant>,
) -> anyhow::Result<Result<PrepareReport, PrepareError>> {
    let folder = tempfile::tempdir()?;
    let sandbox = Sandbox::new(SandboxConfig {
        // One is made, to see that it starts.
        max_instances: 1,
        warm_instances: 0,
        worker: Some(worker::command()),
        ..SandboxConfig::new(folder.path())
    })?;
    let spec = PrepareSpec {
        model: "inspected".to_owned(),
        limits: Limits::default(),
        config: BTreeMap::from_iter(args.config.clone()),
        init_grants,
    };
    match sandbox.prepare(bytes, spec).await {
        Err(PrepareError::Host { message }) => {
            Err(anyhow!("it cannot be prepared here: {message}"))
        }
        prepared => Ok(prepared),
    }
}

fn as_json(
    seen: Option<&Inspection>,
    report: Option<&PrepareReport>,
    refused: Option<&PrepareError>,
) -> Value {
    json!({
        "accepted": refused.is_none(),
        "code": refused.map(PrepareError::code),
        "reason": refused.map(ToString::to_string),
        "component": seen,
        "prepared": report,
    })
}

fn as_text(
    name: &str,
    seen: Option<&Inspection>,
    report: Option<&PrepareReport>,
    refused: Option<&PrepareError>,
) -> String {
    let mut parts = vec![match (refused, report) {
        (Some(error), _) => format!("{name} would be refused ({}): {error}", error.code()),
        (None, Some(_)) => format!("{name} would be accepted"),
        (None, None) => format!("{name} has what a handler needs (it was not run)"),
    }];
    if let Some(seen) = seen {
        parts.push(outside(seen));
        parts.push(imports(&seen.imports));
        parts.push(sizes(seen));
    }
    if let Some(report) = report {
        parts.push(made(report));
    }
    if matches!(refused, Some(PrepareError::DeniedImports { .. })) {
        let granted: Vec<_> = GRANTED
            .iter()
            .map(|(name, what)| vec![format!("  {name}"), (*what).to_owned()])
            .collect();
        parts.push(format!("granted are\n{}", columns(&granted)));
    }
    parts.join("\n\n")
}

fn outside(seen: &Inspection) -> String {
    let worlds = if seen.worlds.is_empty() {
        "none".to_owned()
    } else {
        seen.worlds.join(", ")
    };
    let exports: Vec<String> = seen
        .exports
        .iter()
        .map(|name| format!("\n  {name}"))
        .collect();
    format!(
        "worlds of aegis:inference it fits: {worlds}\nexports{}",
        or_none(exports)
    )
}

fn imports(imports: &[Import]) -> String {
    let rows: Vec<Vec<String>> = imports
        .iter()
        .map(|import| {
            let granted = match (import.granted, import.granted_in_init) {
                (false, _) => "denied",
                (true, true) => "granted",
                (true, false) => "granted, not in init",
            };
            vec![
                format!("  {}", import.name),
                granted.to_owned(),
                import.why.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        "imports: none".to_owned()
    } else {
        format!("imports\n{}", columns(&rows))
    }
}

fn sizes(seen: &Inspection) -> String {
    let sizes = &seen.sizes;
    let extents = |extents: &[aegis_sandbox::Extent], show: fn(u64) -> String| {
        let shown: Vec<String> = extents
            .iter()
            .map(|extent| match extent.maximum {
                Some(maximum) if maximum == extent.initial => show(maximum),
                Some(maximum) => format!("{} to {}", show(extent.initial), show(maximum)),
                None => format!("{} and up", show(extent.initial)),
            })
            .collect();
        if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join("; ")
        }
    };
    let rows = [
        ("file", bytes(sizes.file)),
        (
            "code",
            format!(
                "{} in {} functions of {} core modules",
                bytes(sizes.code),
                sizes.functions,
                sizes.core_modules
            ),
        ),
        ("data", bytes(sizes.data)),
        ("custom sections", bytes(sizes.custom)),
        ("memories", extents(&sizes.memories, bytes)),
        (
            "tables",
            extents(&sizes.tables, |elements| format!("{elements} elements")),
        ),
    ];
    named("sizes", &rows)
}

fn made(report: &PrepareReport) -> String {
    let compile = Duration::from_secs_f64(report.compile_ms.max(0.0) / 1e3);
    let mut rows = Vec::new();
    match &report.snapshot {
        Some(snapshot) => {
            rows.push((
                "init",
                format!("{:.1} ms, once at upload", snapshot.init_ms),
            ));
            rows.push((
                "snapshot",
                format!(
                    "{}, of {} as uploaded",
                    bytes(snapshot.after_bytes),
                    bytes(snapshot.before_bytes)
                ),
            ));
        }
        None => rows.push(("snapshot", "none: it exports no lifecycle".to_owned())),
    }
    rows.push(("compiled in", format!("{} ms", compile.as_millis())));
    rows.push(("native code", bytes(report.code_bytes)));
    named("an upload would make", &rows)
}

fn named(title: &str, rows: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, value)| vec![format!("  {name}"), value.clone()])
        .collect();
    format!("{title}\n{}", columns(&rows))
}

fn or_none(lines: Vec<String>) -> String {
    if lines.is_empty() {
        ": none".to_owned()
    } else {
        lines.concat()
    }
}

/// A size as people read it.
fn bytes(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let size = bytes as f64;
    if size < KIB {
        format!("{bytes} bytes")
    } else if size < KIB * KIB {
        format!("{:.1} KiB", size / KIB)
    } else {
        format!("{:.1} MiB", size / KIB / KIB)
    }
}
