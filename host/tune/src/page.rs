//! The report as a picture, or as a page that stands alone: throughput against latency, for the
//! setting in force, the one proposed, and all of them.

use std::{borrow::Cow, fmt::Write as _};

use aegis_loadtest::{
    chart::{Chart, Line, Mark, sheet},
    html::{STYLE, escape},
};

use crate::{
    report::{NOW, PROPOSED, Report, ms},
    trial::{Figures, Trial},
};

/// A plot's latencies end at so many times the objective: what is far beyond it would press the
/// rest flat.
const TOP: f64 = 2.0;

/// The plots, as the text of an SVG.
#[must_use]
pub fn svg(report: &Report) -> String {
    sheet(&charts(report))
}

/// The page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Tuning of {0}</title><style>{STYLE}</style></head><body>\n\
         <h1>Tuning of {0}</h1>\n\
         <dl><dt>Graph</dt><dd>{1}, on {2} ({3})</dd><dt>Bodies</dt><dd>{4}</dd>\
         <dt>Objective</dt><dd>P99 of at most {5} ms, at most {6} % failing</dd>\
         <dt>Threads</dt><dd>{7}</dd><dt>Measured</dt><dd>{8} s a load, {9:.0} s in all</dd></dl>\n",
        escape(&report.model),
        escape(&report.graph),
        escape(&report.backend),
        escape(&report.target),
        escape(&report.bodies.join(", ")),
        report.goal.p99_ms(),
        report.goal.max_failure_percent(),
        report.cores,
        report.measured_seconds,
        report.found.spent.as_secs_f64(),
    );
    for words in report.proposal() {
        let _ = writeln!(html, "<p>{}</p>", escape(&words));
    }
    html.push_str("<div class=\"charts\">");
    for chart in charts(report) {
        html.push_str(&chart.svg());
    }
    html.push_str("</div>\n<h2>Every setting, where it serves most within the objective</h2>\n");
    table(&mut html, report);
    let cautions = report.cautions();
    if !cautions.is_empty() {
        html.push_str("<ul class=\"caution\">");
        for caution in cautions {
            let _ = write!(html, "<li>{}</li>", escape(&caution));
        }
        html.push_str("</ul>");
    }
    html.push_str("<h2>Every load</h2>\n");
    loads(&mut html, report);
    html.push_str("</body></html>\n");
    html
}

fn head(html: &mut String, first: &[&str]) {
    html.push_str("<div class=\"wide\"><table><thead><tr>");
    for name in first.iter().chain(&[
        "Load", "RPS", "P50 ms", "P95 ms", "P99 ms", "Failed", "A run", "Runs",
    ]) {
        let _ = write!(html, "<th>{name}</th>");
    }
    html.push_str("</tr></thead><tbody>\n");
}

fn figures(html: &mut String, figures: &Figures) {
    let _ = writeln!(
        html,
        "<td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2} %</td><td>{}</td><td>{}</td></tr>",
        figures.rps,
        ms(figures.p50_ms),
        ms(figures.p95_ms),
        ms(figures.p99_ms),
        figures.failure_percent,
        figures
            .mean_batch
            .map_or_else(|| "–".to_owned(), |mean| format!("{mean:.1}")),
        figures.runs,
    );
}

fn table(html: &mut String, report: &Report) {
    head(html, &["Verdict", "Setting"]);
    for row in report.rows() {
        let verdict = match (row.meets, &row.refused) {
            (_, Some(_)) => "not served",
            (true, None) => "PASS",
            (false, None) => "FAIL",
        };
        let mark = if row.mark.is_empty() {
            String::new()
        } else {
            format!(" <b>({})</b>", row.mark)
        };
        let _ = write!(
            html,
            "<tr><td class=\"verdict {verdict}\">{verdict}</td><td>{}{mark}</td>",
            row.setting
        );
        match &row.at {
            Some((load, at)) => {
                let _ = write!(html, "<td>{load}</td>");
                figures(html, at);
            }
            None => html.push_str("<td></td></tr>\n"),
        }
    }
    html.push_str("</tbody></table></div>\n");
}

fn loads(html: &mut String, report: &Report) {
    head(html, &["Setting"]);
    for trial in &report.found.trials {
        for point in &trial.points {
            let _ = write!(
                html,
                "<tr><td>{}</td><td>{}</td>",
                trial.setting, point.load
            );
            figures(html, &point.figures());
        }
    }
    html.push_str("</tbody></table></div>\n");
}

/// The setting in force and the proposed one with three percentiles each, then P99 of all.
fn charts(report: &Report) -> Vec<Chart> {
    let mut charts = Vec::new();
    let trials = || report.found.trials.iter().zip(report.rows());
    for (word, title) in [(NOW, "As it is set"), (PROPOSED, "Proposed")] {
        let Some((trial, _)) = trials().find(|(_, row)| row.mark == word) else {
            continue;
        };
        let line = |name, class, of: fn(&Figures) -> Option<f64>| curve(trial, name, class, of);
        let lines = vec![
            line("P99", "three", |figures| figures.p99_ms),
            line("P50", "one", |figures| figures.p50_ms),
            line("P95", "two", |figures| figures.p95_ms),
        ];
        charts.push(chart(Cow::Borrowed(title), lines, report));
    }
    // The two that are named lie over the others.
    let all = trials().map(|(trial, row)| {
        let (name, class) = match row.mark {
            NOW => (NOW, "one"),
            PROPOSED => (PROPOSED, "two"),
            _ => ("", "quiet"),
        };
        (name, curve(trial, name, class, |figures| figures.p99_ms))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(name, _)| !name.is_empty());
    let lines = all.into_iter().map(|(_, line)| line).collect();
    charts.push(chart(Cow::Borrowed("P99 of every setting"), lines, report));
    charts
}

fn curve(
    trial: &Trial,
    name: &'static str,
    class: &'static str,
    of: fn(&Figures) -> Option<f64>,
) -> Line {
    let figures = trial.points.iter().map(|point| point.figures());
    Line {
        name: Cow::Borrowed(name),
        class,
        points: figures.map(|figures| (figures.rps, of(&figures))).collect(),
        steps: false,
    }
}

fn chart(title: Cow<'static, str>, lines: Vec<Line>, report: &Report) -> Chart {
    let objective = report.goal.p99_ms();
    let values = lines.iter().flat_map(|line| &line.points);
    let highest = values.filter_map(|(_, ms)| *ms).fold(0.0, f64::max);
    Chart {
        title,
        x_label: "requests a second",
        y_label: "ms",
        log_x: false,
        y_max: (highest > objective * TOP).then_some(objective * TOP),
        lines,
        across: vec![Mark {
            at: objective,
            name: "objective".to_owned(),
            class: "fail",
        }],
        upright: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::tests::report, search::Ended};

    #[test]
    fn a_page_has_the_proposal_the_plots_and_every_setting_and_only_text_from_outside() {
        let page = html(&report(Ended::Whole));
        for part in [
            "Proposed: no batching",
            "As it is set",
            "P99 of every setting",
            "objective",
            "&lt;a&gt;.json",
            "64 sessions × 1 thread",
            "&lt;no&gt; memory",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
        for fetched in ["<script", "src=", "href=\"http", "url(", "@import", "<link"] {
            assert!(!page.contains(fetched), "{fetched}");
        }
    }

    #[test]
    fn a_picture_is_the_same_plots_in_one_file() {
        let svg = svg(&report(Ended::Whole));
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        assert_eq!(
            svg.matches("<title>P99 of every setting</title>").count(),
            1
        );
        // Three percentiles twice and a curve for each setting that was served.
        assert_eq!(
            svg.matches("<path class=\"line").count(),
            3 + 3 + 3 + 3 + 3 + 2
        );
    }
}
