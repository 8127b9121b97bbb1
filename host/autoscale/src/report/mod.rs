//! Simulated runs for people and programs: the seeds' tables as text, every sync as CSV, all of it
//! as JSON, and a picture.

mod compare;
mod plot;
mod table;
mod text;

pub use compare::{HpaOfSloError, compare, hpa_of, hpas, standard_profiles};
pub use plot::{PlotError, svg};
pub use text::{fit_text, text};

use serde::Serialize;

use crate::{
    fit::Fit,
    simulate::{Config, Minute, Run, Summary, Tick},
    slo::Slo,
};

/// One load, under each of the HPAs that are compared.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub title: String,
    /// A name for each HPA (`before`, `after`), and its run.
    pub runs: Vec<(String, Run)>,
}

/// What is reported: scenarios under one configuration.
#[derive(Clone, Debug)]
pub struct Report {
    /// What all runs had in common.
    pub config: Config,
    /// What the figures are held against.
    pub slo: Slo,
    /// In the order of printing. The last one's summary is the table of success metrics.
    pub scenarios: Vec<Scenario>,
}

#[derive(Serialize)]
struct JsonRun<'a> {
    scenario: &'a str,
    profile: &'a str,
    hpa: &'a str,
    engine: &'a str,
    seed: u64,
    summary: &'a Summary,
    ticks: &'a [Tick],
    minutes: &'a [Minute],
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<&'a Fit>,
    runs: Vec<JsonRun<'a>>,
}

/// Everything, as one JSON document: the fit if there was one, and the runs, each with its summary,
/// its syncs and its minutes.
pub fn json(report: &Report, fit: Option<&Fit>) -> String {
    let runs: Vec<JsonRun<'_>> = report
        .scenarios
        .iter()
        .flat_map(|scenario| scenario.runs.iter().map(move |run| (scenario, run)))
        .map(|(scenario, (hpa, run))| JsonRun {
            scenario: &scenario.title,
            profile: &run.profile,
            hpa,
            engine: if run.exact { "exact" } else { "aggregate" },
            seed: report.config.seed,
            summary: &run.summary,
            ticks: &run.ticks,
            minutes: &run.minutes,
        })
        .collect();
    // Plain structs of numbers and text: there is nothing in them that JSON could not say.
    serde_json::to_string_pretty(&Json { fit, runs }).unwrap_or_default()
}

/// Every sync of every run as one CSV line, under a header.
pub fn csv(report: &Report) -> String {
    let mut lines = vec![
        "scenario,hpa,time,load,cpu_percent,p95_ms,in_flight,queued,replicas,ready,want,desired,action"
            .to_owned(),
    ];
    for scenario in &report.scenarios {
        for (hpa, run) in &scenario.runs {
            for tick in &run.ticks {
                let number = |value: Option<f64>| value.map_or_else(String::new, |v| v.to_string());
                let want = tick.want.map_or_else(String::new, |want| want.to_string());
                lines.push(format!(
                    "{},{},{},{},{},{},{},{},{},{},{want},{},{}",
                    quoted(&scenario.title),
                    quoted(hpa),
                    tick.time,
                    tick.load,
                    tick.cpu_percent,
                    number(tick.p95_ms),
                    tick.in_flight,
                    tick.queued,
                    tick.replicas,
                    tick.ready,
                    tick.desired,
                    quoted(&tick.action),
                ));
            }
        }
    }
    lines.join("\n")
}

/// A CSV field, in quotes where it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]

    use super::*;
    use crate::simulate::Profile;

    fn report() -> Report {
        let profiles = [("Scenario 2, a \"surge\"".to_owned(), Profile::surge())];
        let slo = Slo::default();
        let config = Config::of(&slo).unwrap();
        compare(&config, &slo, &hpas(&slo).unwrap(), &profiles).unwrap()
    }

    #[test]
    fn the_text_has_the_seeds_columns_and_the_success_metrics() {
        let told = text(&report());
        for words in [
            "Time",
            "users",
            "CPU %",
            "P95",
            "In-flight",
            "Replicas",
            "Action",
            "before",
            "after",
            "3 → 5",
            "held by the window",
            "P95 latency (median)",
            "Cost per 1M predictions",
            "Cost per month",
            "Scale-up time",
            "Target",
        ] {
            assert!(told.contains(words), "{words} is not in\n{told}");
        }
    }

    #[test]
    fn csv_has_a_line_for_every_sync_and_as_many_fields_as_its_header() {
        let report = report();
        let csv = csv(&report);
        let ticks: usize = report.scenarios[0]
            .runs
            .iter()
            .map(|(_, run)| run.ticks.len())
            .sum();
        assert_eq!(csv.lines().count(), ticks + 1);
        for line in csv.lines() {
            // The title has a comma and quotes of its own.
            let line = line.replace("\"Scenario 2, a \"\"surge\"\"\"", "title");
            let mut quoted = false;
            let commas = line.chars().filter(|c| {
                quoted ^= *c == '"';
                *c == ',' && !quoted
            });
            assert_eq!(commas.count(), 12, "{line}");
        }
    }

    #[test]
    fn json_tells_each_run_whole() {
        let runs: serde_json::Value = serde_json::from_str(&json(&report(), None)).unwrap();
        let runs = &runs["runs"];
        assert_eq!(runs[0]["hpa"], "before");
        assert_eq!(runs[1]["profile"], "surge");
        assert_eq!(runs[1]["engine"], "exact");
        assert_eq!(runs[1]["minutes"].as_array().unwrap().len(), 8);
        assert!(runs[1]["summary"]["p95_median_ms"].is_number());
    }

    #[test]
    fn the_picture_is_svg_with_the_load_and_two_lines_for_each_run() {
        let svg = svg(&report()).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(
            svg.matches("<polyline").count() >= 5,
            "{}",
            svg.matches("<polyline").count()
        );
        assert!(svg.contains("before") && svg.contains("objective"));
    }
}
