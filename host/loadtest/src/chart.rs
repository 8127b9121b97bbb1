//! A line chart as SVG, inline or a file of its own: enough for a report that must stand alone in one
//! file, and no more.

use std::{borrow::Cow, fmt::Write as _};

use crate::html::STYLE;

/// A line through points; it breaks where there is no value.
pub struct Line {
    /// In the legend; nothing is there of one without a name. No text from outside.
    pub name: Cow<'static, str>,
    /// The CSS class that gives its colour.
    pub class: &'static str,
    /// The values along the x axis.
    pub points: Vec<(f64, Option<f64>)>,
    /// Holds each value until the next, as a count does.
    pub steps: bool,
}

/// A line across the chart at a value.
pub struct Mark {
    /// The value.
    pub at: f64,
    /// In the legend. No text from outside.
    pub name: String,
    /// The CSS class that gives its colour.
    pub class: &'static str,
}

/// A chart.
pub struct Chart {
    /// Above it. No text from outside.
    pub title: Cow<'static, str>,
    /// Below it.
    pub x_label: &'static str,
    /// The unit of its values.
    pub y_label: &'static str,
    /// Whether the x axis is logarithmic.
    pub log_x: bool,
    /// The end of the y axis, where it is not that of the values.
    pub y_max: Option<f64>,
    /// The lines, each drawn over those before it.
    pub lines: Vec<Line>,
    /// At values of y.
    pub across: Vec<Mark>,
    /// At values of x.
    pub upright: Vec<Mark>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 38.0;
const BOTTOM: f64 = 40.0;

/// From values to places on the paper.
struct Scale {
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    fn share(&self, value: f64) -> f64 {
        // What lies before a logarithmic axis, which 0 does, is at its beginning.
        let place = |value: f64| {
            if self.log {
                value.max(self.from).ln()
            } else {
                value
            }
        };
        let (from, to) = (place(self.from), place(self.to));
        ((place(value) - from) / (to - from)).clamp(0.0, 1.0)
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.share(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// Round values for labels.
    fn ticks(&self) -> Vec<f64> {
        if !self.log {
            return even_ticks(self.from, self.to);
        }
        let lowest = self.from.log10().floor();
        let decades = (self.to.log10().ceil() - lowest).clamp(1.0, 12.0) as u32;
        // Over many decades each one's 2 and 5 would be too many labels.
        let parts: &[f64] = if decades <= 2 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        (0..=decades)
            .flat_map(|decade| {
                let base = 10f64.powf(lowest + f64::from(decade));
                parts.iter().map(move |part| base * part)
            })
            .filter(|tick| (self.from..=self.to).contains(tick))
            .collect()
    }
}

/// About five multiples of 1, 2 or 5 times a power of ten.
fn even_ticks(from: f64, to: f64) -> Vec<f64> {
    let rough = (to - from) / 5.0;
    if !rough.is_finite() || rough <= 0.0 {
        return vec![from];
    }
    let base = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|part| part * base)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(base * 10.0);
    let first = (from / step).ceil();
    let count = ((to / step + 1e-9).floor() - first).clamp(0.0, 20.0) as u32;
    (0..=count)
        .map(|index| (first + f64::from(index)) * step)
        .collect()
}

/// A number as short as it may be.
fn label(value: f64) -> String {
    let rounded = (value * 1000.0).round() / 1000.0;
    format!("{rounded}")
}

impl Chart {
    /// The chart, or a word that there is nothing to draw.
    #[must_use]
    pub fn svg(&self) -> String {
        match self.drawn() {
            Some(drawn) => {
                format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{drawn}</svg>")
            }
            None => format!("<p class=\"none\">{}: nothing to draw</p>", self.title),
        }
    }

    /// What is within the frame, if there is anything.
    fn drawn(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let top = points().filter_map(|(_, y)| *y).reduce(f64::max)?;
        // Points without a value have their place too, so that charts over one time line up.
        let along = || points().map(|(x, _)| *x);
        let (low, high) = (
            along().fold(f64::INFINITY, f64::min),
            along().fold(f64::NEG_INFINITY, f64::max),
        );
        let low = if self.log_x {
            low.max(0.001)
        } else {
            0f64.min(low)
        };
        let x = Scale {
            from: low,
            to: high.max(low + 0.001),
            log: self.log_x,
        };
        // Marks near the values are worth room; one far above would press the lines flat.
        let marked = self
            .across
            .iter()
            .map(|mark| mark.at)
            .filter(|at| *at < top * 3.0);
        let top = self
            .y_max
            .unwrap_or_else(|| marked.fold(top, f64::max) * 1.08);
        let y = Scale {
            from: 0.0,
            to: if top > 0.0 { top } else { 1.0 },
            log: false,
        };
        let mut svg = format!(
            "<title>{0}</title>\
             <text class=\"title\" x=\"{LEFT}\" y=\"15\">{0}</text>",
            self.title
        );
        self.axes(&mut svg, &x, &y);
        let across: Vec<&Mark> = self.across.iter().filter(|mark| mark.at <= y.to).collect();
        for mark in &across {
            let at = y.y(mark.at);
            let _ = write!(
                svg,
                "<path class=\"mark {}\" d=\"M{LEFT} {at:.1}H{}\"><title>{}</title></path>",
                mark.class,
                WIDTH - RIGHT,
                mark.name
            );
        }
        let within = |mark: &&Mark| (x.from..=x.to).contains(&mark.at);
        let upright: Vec<&Mark> = self.upright.iter().filter(within).collect();
        for mark in &upright {
            let at = x.x(mark.at);
            let _ = write!(
                svg,
                "<path class=\"mark {}\" d=\"M{at:.1} {TOP}V{}\"><title>{}</title></path>",
                mark.class,
                HEIGHT - BOTTOM,
                mark.name
            );
        }
        for line in &self.lines {
            let _ = write!(
                svg,
                "<path class=\"line {}\" d=\"{}\"><title>{}</title></path>",
                line.class,
                path(line, &x, &y),
                line.name
            );
        }
        self.legend(&mut svg, across.into_iter().chain(upright));
        Some(svg)
    }

    fn axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in y.ticks() {
            let (at, text) = (y.y(tick), label(tick));
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
                 <text class=\"y\" x=\"{}\" y=\"{:.1}\">{text}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        for tick in x.ticks() {
            let (at, text) = (x.x(tick), label(tick));
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {bottom}v4\"/>\
                 <text class=\"x\" x=\"{at:.1}\" y=\"{}\">{text}</text>",
                bottom + 16.0
            );
        }
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
             <text class=\"x\" x=\"{}\" y=\"{}\">{}</text>\
             <text class=\"unit\" x=\"{}\" y=\"{}\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            self.x_label,
            4,
            TOP - 9.0,
            self.y_label
        );
    }

    /// Names the lines, and the marks that are within the chart.
    fn legend<'a>(&'a self, svg: &mut String, marks: impl Iterator<Item = &'a Mark>) {
        // Lines lie on each other in the order in which they are drawn, and are named in that of reading.
        let named = self.lines.iter().filter(|line| !line.name.is_empty());
        let mut lines: Vec<&Line> = named.collect();
        lines.sort_by(|a, b| a.name.cmp(&b.name));
        let names = lines
            .into_iter()
            .map(|line| (line.name.as_ref(), "line", line.class));
        let names = names.chain(marks.map(|mark| (mark.name.as_str(), "mark", mark.class)));
        // From the right, as the title is on the left.
        let mut right = WIDTH - RIGHT;
        for (name, drawn, class) in names.collect::<Vec<_>>().into_iter().rev() {
            let width = name.chars().count() as f64 * 6.2 + 30.0;
            right -= width;
            let _ = write!(
                svg,
                "<path class=\"{drawn} {class}\" d=\"M{right:.1} 11h14\"/>\
                 <text class=\"name\" x=\"{:.1}\" y=\"15\">{name}</text>",
                right + 18.0
            );
        }
    }
}

/// Charts one below the other, as a picture that stands alone in a file.
#[must_use]
pub fn sheet(charts: &[Chart]) -> String {
    let drawn: Vec<String> = charts.iter().filter_map(Chart::drawn).collect();
    let height = HEIGHT * drawn.len().max(1) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
         <style>{STYLE}</style><rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>"
    );
    for (index, drawn) in drawn.iter().enumerate() {
        let down = HEIGHT * index as f64;
        let _ = write!(svg, "<g transform=\"translate(0 {down})\">{drawn}</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

fn path(line: &Line, x: &Scale, y: &Scale) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for (at, value) in &line.points {
        let Some(value) = value else {
            drawing = false;
            continue;
        };
        let (x, y) = (x.x(*at), y.y(*value));
        let _ = match (drawing, line.steps) {
            (false, _) => write!(path, "M{x:.1} {y:.1}"),
            (true, true) => write!(path, "H{x:.1}V{y:.1}"),
            (true, false) => write!(path, "L{x:.1} {y:.1}"),
        };
        // A point alone would not show: a line of no length with round ends does.
        if !drawing {
            path.push_str("h0");
        }
        drawing = true;
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>, log_x: bool) -> Chart {
        let line = Line {
            name: "P95".into(),
            class: "a",
            points,
            steps: false,
        };
        let mark = || Mark {
            at: 350.0,
            name: "objective".to_owned(),
            class: "b",
        };
        Chart {
            title: "Latency".into(),
            x_label: "s",
            y_label: "ms",
            log_x,
            y_max: None,
            lines: vec![line],
            across: vec![mark()],
            upright: vec![mark()],
        }
    }

    #[test]
    fn a_line_breaks_where_there_is_no_value() {
        let points = vec![
            (0.0, Some(1.0)),
            (1.0, Some(2.0)),
            (2.0, None),
            (3.0, Some(1.0)),
        ];
        let svg = chart(points, false).svg();
        let line = svg
            .split("class=\"line a\" d=\"")
            .nth(1)
            .unwrap_or_default();
        let line = line.split('"').next().unwrap_or_default();
        assert_eq!(line.matches('M').count(), 2, "{line}");
    }

    #[test]
    fn a_legend_shows_lines_as_they_are_drawn_and_marks_dashed() {
        let svg = chart(vec![(0.0, Some(1.0)), (400.0, Some(400.0))], false).svg();
        // The line and its name; two marks and theirs.
        assert_eq!(svg.matches("class=\"line a\"").count(), 2, "{svg}");
        assert_eq!(svg.matches("class=\"mark b\"").count(), 4, "{svg}");
    }

    #[test]
    fn a_sheet_stands_alone_with_every_chart_that_has_something_to_draw() {
        let drawn = chart(vec![(0.0, Some(1.0)), (1.0, Some(2.0))], false);
        let again = chart(vec![(0.0, Some(3.0))], false);
        let sheet = sheet(&[drawn, chart(Vec::new(), false), again]);
        assert!(sheet.starts_with("<svg xmlns=") && sheet.contains("viewBox=\"0 0 560 500\""));
        assert_eq!(sheet.matches("<g ").count(), 2, "{sheet}");
        assert_eq!(sheet.matches("<svg").count(), 1);
        // It is XML: what is in the style would otherwise end it.
        assert!(!STYLE.contains(['<', '&']));
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(even_ticks(0.0, 240.0), [0.0, 50.0, 100.0, 150.0, 200.0]);
        let log = Scale {
            from: 3.0,
            to: 300.0,
            log: true,
        };
        assert_eq!(log.ticks(), [10.0, 100.0]);
    }

    proptest! {
        #[test]
        fn whatever_the_values_the_paths_have_numbers_only(
            points in prop::collection::vec((-1e6..1e9f64, prop::option::of(0.0..1e9f64)), 0..30),
            log_x in any::<bool>(),
        ) {
            let svg = chart(points, log_x).svg();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf\"") && !svg.contains("inf "), "{}", svg);
        }
    }
}
