//! Runs as a picture: for each scenario its load, the P95 against the objective, and the replicas,
//! one above the other.

use plotters::{coord::Shift, prelude::*};

use super::{Report, Scenario};
use crate::simulate::Tick;

/// A picture that could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

const WIDTH: u32 = 960;
const PANEL: u32 = 190;
const COLORS: [RGBColor; 4] = [
    RGBColor(0xd6, 0x5f, 0x5f),
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0x3a, 0x92, 0x3a),
    RGBColor(0x8c, 0x56, 0xa4),
];

/// All scenarios, one below the other, as the text of an SVG.
///
/// # Errors
/// Where the drawing library fails.
pub fn svg(report: &Report) -> Result<String, PlotError> {
    let count = report.scenarios.len().max(1);
    let mut text = String::new();
    {
        let height = PANEL * 3 * count as u32;
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let panels = root.split_evenly((3 * count, 1));
        let mut panels = panels.iter();
        let objective = report.config.objective * 1e3;
        for scenario in &report.scenarios {
            let mut panel =
                |what: &str, value: &dyn Fn(&Tick) -> Option<f64>, bound| match panels.next() {
                    Some(area) => draw(area, scenario, what, value, bound),
                    None => Ok(()),
                };
            let load = scenario
                .runs
                .first()
                .map_or_else(String::new, |(_, run)| run.load.to_string());
            panel(&load, &|tick| Some(tick.load), None)?;
            panel("P95 in ms", &|tick| tick.p95_ms, Some(objective))?;
            panel("replicas", &|tick| Some(f64::from(tick.desired)), None)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    scenario: &Scenario,
    what: &str,
    value: &dyn Fn(&Tick) -> Option<f64>,
    bound: Option<f64>,
) -> Result<(), PlotError> {
    let ticks = || scenario.runs.iter().flat_map(|(_, run)| &run.ticks);
    let end = ticks().map(|tick| tick.time).fold(1.0, f64::max) / 60.0;
    let values = || ticks().filter_map(value);
    // One bad minute must not flatten everything else.
    let top = match bound {
        Some(bound) => values().fold(bound * 1.2, f64::max).min(bound * 6.0),
        None => values().fold(1.0, f64::max) * 1.1,
    };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: {what}", scenario.title), ("sans-serif", 14))
        .margin(6)
        .x_label_area_size(22)
        .y_label_area_size(46)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("minutes")
        .light_line_style(WHITE)
        .label_style(("sans-serif", 11))
        .draw()
        .map_err(failed)?;
    if let Some(bound) = bound {
        chart
            .draw_series(LineSeries::new(
                [(0.0, bound), (end, bound)],
                BLACK.mix(0.5),
            ))
            .map_err(failed)?
            .label("objective")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK.mix(0.5)));
    }
    for ((name, run), color) in scenario.runs.iter().zip(COLORS.iter().cycle()) {
        let points = run
            .ticks
            .iter()
            .filter_map(|tick| value(tick).map(|value| (tick.time / 60.0, value.min(top))));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))
            .map_err(failed)?
            .label(name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 11))
        .draw()
        .map_err(failed)
}
