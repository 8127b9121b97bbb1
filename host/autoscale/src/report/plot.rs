//! Runs as a picture: for each scenario its load, the P95 against the objective, and the replicas,
//! one above the other.

use plotters::{coord::Shift, prelude::*};

use super::{Report, Scenario};
use crate::simulate::{LoadKind, Run, Tick};

/// A picture that could not be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

const WIDTH: u32 = 960;
const PANEL: u32 = 200;
/// Room for the title and the names of the lines, above what is drawn.
const HEAD: u32 = 26;
/// Room for the figures on the left, and for those and the unit of time below.
const LEFT: u32 = 56;
const BELOW: u32 = 40;
/// A letter's width in the names of the lines, roughly.
const LETTER: i32 = 7;
const LOAD: RGBColor = RGBColor(0x55, 0x5b, 0x66);
const OBJECTIVE: RGBColor = RGBColor(0xc7, 0x82, 0x1e);
const COLORS: [RGBColor; 4] = [
    RGBColor(0xd6, 0x5f, 0x5f),
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0x3a, 0x92, 0x3a),
    RGBColor(0x8c, 0x56, 0xa4),
];

/// One of a scenario's three plots.
struct Panel {
    title: String,
    lines: Vec<Line>,
    /// A value that is drawn across, with its name.
    bound: Option<(f64, String)>,
    /// The end of the vertical axis.
    top: f64,
}

/// A line by its points, seconds and values.
struct Line {
    name: String,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

impl Panel {
    fn new(title: String, lines: Vec<Line>, bound: Option<(f64, String)>) -> Self {
        let values = || lines.iter().flat_map(|line| &line.points);
        let highest = values().map(|(_, value)| *value).fold(0.0, f64::max);
        let top = match &bound {
            // One bad minute must not flatten everything else.
            Some((bound, _)) => highest.max(bound * 1.1).min(bound * 6.0),
            None => highest.max(1.0),
        };
        Self {
            title,
            lines,
            bound,
            top: top * 1.08,
        }
    }

    /// Load, which all runs share; P95 against the objective; replicas.
    fn of(scenario: &Scenario, objective: f64) -> [Self; 3] {
        let line = |name: &str, color, run: &Run, value: &dyn Fn(&Tick) -> Option<f64>| Line {
            name: name.to_owned(),
            color,
            points: run
                .ticks
                .iter()
                .filter_map(|tick| value(tick).map(|value| (tick.time, value)))
                .collect(),
        };
        let each = |value: &dyn Fn(&Tick) -> Option<f64>| {
            let runs = scenario.runs.iter().zip(COLORS.iter().cycle());
            runs.map(|((name, run), color)| line(name, *color, run, value))
                .collect::<Vec<_>>()
        };
        let title = |what: &str| format!("{}: {what}", scenario.title);
        let first = scenario.runs.first();
        let load = first.map(|(_, run)| line("load", LOAD, run, &|tick| Some(tick.load)));
        let kind = first.map_or("load", |(_, run)| match run.load {
            LoadKind::Users => "users",
            LoadKind::RequestsPerSecond => "requests a second",
        });
        let mut replicas = each(&|tick| Some(f64::from(tick.desired)));
        for line in &mut replicas {
            line.points = steps(&line.points);
        }
        let bound = (objective, format!("objective {objective} ms"));
        [
            Self::new(title(kind), load.into_iter().collect(), None),
            Self::new(title("P95, ms"), each(&|tick| tick.p95_ms), Some(bound)),
            Self::new(title("replicas asked for"), replicas, None),
        ]
    }
}

/// A count holds until it changes: between two points there is a corner, and no slope.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut corners: Vec<(f64, f64)> = Vec::with_capacity(points.len() * 2);
    for (time, value) in points {
        if let Some((_, before)) = corners.last().copied()
            && before != *value
        {
            corners.push((*time, before));
        }
        corners.push((*time, *value));
    }
    corners
}

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
        let areas = root.split_evenly((3 * count, 1));
        let objective = (report.config.objective * 1e6).round() / 1e3;
        let scenarios = report.scenarios.iter();
        let panels = scenarios.flat_map(|scenario| {
            let ticks = scenario.runs.iter().flat_map(|(_, run)| &run.ticks);
            let end = ticks.map(|tick| tick.time).fold(1.0, f64::max);
            Panel::of(scenario, objective).map(|panel| (panel, end))
        });
        for (area, (panel, end)) in areas.iter().zip(panels) {
            draw(area, &panel, end)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    panel: &Panel,
    end: f64,
) -> Result<(), PlotError> {
    let (unit, seconds) = match end {
        end if end <= 300.0 => ("seconds", 1.0),
        end if end <= 3.0 * 3600.0 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    };
    let (end, top) = (end / seconds, panel.top);
    head(area, panel)?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(HEAD)
        .margin_right(16)
        .x_label_area_size(BELOW)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(failed)?;
    let figure = |value: &f64| format!("{}", (value * 100.0).round() / 100.0);
    chart
        .configure_mesh()
        .x_desc(unit)
        .y_labels(6)
        .x_label_formatter(&figure)
        .y_label_formatter(&figure)
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .label_style(("sans-serif", 11))
        .draw()
        .map_err(failed)?;
    if let Some((bound, _)) = &panel.bound {
        let across = [(0.0, *bound), (end, *bound)];
        chart
            .draw_series(LineSeries::new(across, OBJECTIVE.stroke_width(1)))
            .map_err(failed)?;
    }
    for line in &panel.lines {
        let points = line.points.iter();
        let points = points.map(|(time, value)| (time / seconds, value.min(top)));
        chart
            .draw_series(LineSeries::new(points, line.color.stroke_width(2)))
            .map_err(failed)?;
    }
    Ok(())
}

/// The title on the left, and on the right what each line is; above the plot, so that it hides
/// nothing.
fn head(area: &DrawingArea<SVGBackend<'_>, Shift>, panel: &Panel) -> Result<(), PlotError> {
    let title = Text::new(
        panel.title.clone(),
        (LEFT as i32, 7),
        ("sans-serif", 14).into_font(),
    );
    area.draw(&title).map_err(failed)?;
    let lines = panel.lines.iter();
    let lines = lines.map(|line| (line.name.as_str(), line.color));
    let bound = panel.bound.iter();
    let bound = bound.map(|(_, name)| (name.as_str(), OBJECTIVE));
    let mut right = WIDTH as i32 - 16;
    for (name, color) in lines.chain(bound).collect::<Vec<_>>().into_iter().rev() {
        right -= name.chars().count() as i32 * LETTER;
        let named = Text::new(name.to_owned(), (right, 9), ("sans-serif", 11).into_font());
        area.draw(&named).map_err(failed)?;
        let stroke = PathElement::new([(right - 24, 15), (right - 6, 15)], color.stroke_width(2));
        area.draw(&stroke).map_err(failed)?;
        right -= 40;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_drawn_with_corners_and_no_slopes() {
        let corners = steps(&[(0.0, 3.0), (15.0, 3.0), (30.0, 5.0), (45.0, 4.0)]);
        let upright_or_level = |pair: &[(f64, f64)]| match pair {
            [(t0, a), (t1, b)] => t0 == t1 || a == b,
            _ => false,
        };
        assert!(corners.windows(2).all(upright_or_level), "{corners:?}");
        assert_eq!(corners.last(), Some(&(45.0, 4.0)));
    }

    #[test]
    fn one_bad_minute_does_not_flatten_the_plot() {
        let line = |points| Line {
            name: "a".to_owned(),
            color: LOAD,
            points,
        };
        let of = |highest| {
            let lines = vec![line(vec![(0.0, 100.0), (15.0, highest)])];
            Panel::new("a".to_owned(), lines, Some((350.0, "b".to_owned()))).top
        };
        assert!(of(100.0) > 350.0 && of(100.0) < 450.0);
        assert!(of(60_000.0) < 350.0 * 7.0);
    }
}
