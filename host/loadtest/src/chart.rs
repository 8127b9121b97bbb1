//! A line chart as inline SVG: enough for a report that must stand alone in one file, and no more.

use std::fmt::Write as _;

/// A line through points; it breaks where there is no value.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// The CSS class that gives its colour.
    pub(crate) class: &'static str,
    pub(crate) points: Vec<(f64, Option<f64>)>,
    /// Holds each value until the next, as a count does.
    pub(crate) steps: bool,
}

/// A line across the chart at a value.
pub(crate) struct Mark {
    pub(crate) at: f64,
    pub(crate) name: String,
    pub(crate) class: &'static str,
}

pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    /// Whether the x axis is logarithmic.
    pub(crate) log_x: bool,
    /// The end of the y axis, where it is not that of the values.
    pub(crate) y_max: Option<f64>,
    pub(crate) lines: Vec<Line>,
    /// At values of y.
    pub(crate) across: Vec<Mark>,
    /// At values of x.
    pub(crate) upright: Vec<Mark>,
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
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let top = points().filter_map(|(_, y)| *y).reduce(f64::max);
        let Some(top) = top else {
            return format!("<p class=\"none\">{}: nothing to draw</p>", self.title);
        };
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
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{0}</title>\
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
        svg.push_str("</svg>");
        svg
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
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        lines.sort_by_key(|line| line.name);
        let names = lines
            .into_iter()
            .map(|line| (line.name, "line", line.class));
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
            name: "P95",
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
            title: "Latency",
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
