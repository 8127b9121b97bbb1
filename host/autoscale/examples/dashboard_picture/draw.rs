//! The picture: panels in their grid, in Grafana's dark colours.

use std::error::Error;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    answers::{Answer, Prometheus, Series},
    dashboard::{Dashboard, Kind, Panel},
    number::with_unit,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// So many names have room.
const MANY: usize = 6;
/// A cell of the grid, in pixels, and the space between panels.
const CELL: (u32, u32) = (50, 24);
const GAP: i32 = 4;
const HEADER: u32 = 40;

const PAGE: RGBColor = RGBColor(0x11, 0x12, 0x17);
const PANEL: RGBColor = RGBColor(0x18, 0x1b, 0x1f);
const EDGE: RGBColor = RGBColor(0x2c, 0x30, 0x36);
const TEXT: RGBColor = RGBColor(0xd5, 0xd6, 0xdc);
const FAINT: RGBColor = RGBColor(0x8e, 0x90, 0x98);
const PALETTE: [RGBColor; 12] = [
    RGBColor(0x73, 0xbf, 0x69),
    RGBColor(0xf2, 0xcc, 0x0c),
    RGBColor(0x57, 0x94, 0xf2),
    RGBColor(0xff, 0x98, 0x30),
    RGBColor(0xf2, 0x49, 0x5c),
    RGBColor(0xb8, 0x77, 0xd9),
    RGBColor(0x5a, 0xc8, 0xc8),
    RGBColor(0xe5, 0xa8, 0xe2),
    RGBColor(0x8a, 0xb8, 0xff),
    RGBColor(0xc8, 0xa2, 0x6a),
    RGBColor(0xa0, 0xc4, 0x4c),
    RGBColor(0xc4, 0x67, 0x8c),
];

/// The whole dashboard, as the text of an SVG.
pub(crate) fn dashboard(
    dashboard: &Dashboard,
    answers: &[Vec<Answer>],
    asked: &Prometheus,
) -> Result<String, Box<dyn Error>> {
    let far = |cells: fn(&Panel) -> u32| dashboard.panels.iter().map(cells).max().unwrap_or(0);
    let width = far(|panel| panel.grid_pos.x + panel.grid_pos.w) * CELL.0;
    let height = far(|panel| panel.grid_pos.y + panel.grid_pos.h) * CELL.1 + HEADER;
    let mut text = String::new();
    {
        let page = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        page.fill(&PAGE)?;
        write(&page, &dashboard.title, (12, 20), 19, TEXT, HPos::Left)?;
        let (_, grid) = page.split_vertically(HEADER);
        for (panel, answers) in dashboard.panels.iter().zip(answers) {
            let at = panel.grid_pos;
            let area = grid.clone().shrink(
                (at.x * CELL.0, at.y * CELL.1),
                (at.w * CELL.0, at.h * CELL.1),
            );
            draw(&area, panel, answers, asked.minutes())?;
        }
        page.present()?;
    }
    // What goes without saying is a fifth of the file.
    let text = text.replace(" opacity=\"1\"", "");
    Ok(text.replace(" stroke=\"none\"", ""))
}

fn draw(area: &Area<'_>, panel: &Panel, answers: &[Answer], minutes: f64) -> Drawn {
    if panel.kind == Kind::Row {
        return write(area, &panel.title, (12, 13), 16, TEXT, HPos::Left);
    }
    let (width, height) = area.dim_in_pixel();
    let corners = [
        (GAP, GAP),
        (width.cast_signed() - GAP, height.cast_signed() - GAP),
    ];
    area.draw(&Rectangle::new(corners, PANEL.filled()))?;
    area.draw(&Rectangle::new(corners, EDGE))?;
    write(area, &panel.title, (14, 18), 14, TEXT, HPos::Left)?;
    let inside = area.margin(32, 8, 12, 30);
    let series: Vec<&Series> = answers.iter().flat_map(|answer| &answer.series).collect();
    if series.iter().all(|series| series.points.is_empty()) {
        let cluster = answers.iter().any(|answer| answer.wants_cluster);
        let why = if cluster {
            "needs a cluster"
        } else {
            "no data"
        };
        return note(&inside, why);
    }
    match panel.kind {
        Kind::Row => Ok(()),
        Kind::Stat => numbers(&inside, panel, &series),
        Kind::Heatmap => heatmap(&inside, panel, &series, minutes),
        Kind::StateTimeline => states(&inside, panel, &series, minutes),
        Kind::Timeseries => {
            let absent = answers.iter().filter(|answer| answer.wants_cluster).count();
            lines(&inside, panel, &series, minutes, absent)
        }
    }
}

/// The last value of each series, large.
fn numbers(area: &Area<'_>, panel: &Panel, series: &[&Series]) -> Drawn {
    let (_, height) = area.dim_in_pixel();
    for (part, series) in area.split_evenly((1, series.len())).iter().zip(series) {
        let Some((_, value)) = series.points.last() else {
            continue;
        };
        let middle = part.dim_in_pixel().0.cast_signed() / 2;
        let color = color(&panel.shown(*value).1);
        let shown = with_unit(*value, panel.unit());
        let y = height.cast_signed() / 2;
        write(part, &shown, (middle, y - 12), 34, color, HPos::Center)?;
        write(
            part,
            &series.name,
            (middle, y + 26),
            14,
            FAINT,
            HPos::Center,
        )?;
    }
    Ok(())
}

/// Lines, a bound if there is one, and what is what below them.
fn lines(area: &Area<'_>, panel: &Panel, series: &[&Series], minutes: f64, absent: usize) -> Drawn {
    let (area, legend) = area.split_vertically(area.dim_in_pixel().1 - 22);
    let values = series.iter().flat_map(|series| &series.points);
    let highest = values.map(|(_, value)| *value).fold(0.0, f64::max);
    // A bound far above what there is would press it flat.
    let bound = panel.bound().filter(|bound| *bound < highest * 3.0);
    let top = highest.max(bound.unwrap_or(0.0)) * 1.12;
    let top = if top > 0.0 { top } else { 1.0 };
    let mut chart = ChartBuilder::on(&area)
        .x_label_area_size(22)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..minutes, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(EDGE)
        .axis_style(EDGE)
        .x_labels(7)
        .y_labels(5)
        .x_label_formatter(&|minute| whole(*minute))
        .y_label_formatter(&|value| with_unit(*value, panel.unit()))
        .label_style(("sans-serif", 12).into_font().color(&FAINT))
        .draw()?;
    let colors = || PALETTE.iter().cycle();
    for (series, color) in series.iter().zip(colors()) {
        for run in runs(&series.points, minutes) {
            chart.draw_series(LineSeries::new(run.iter().copied(), color.stroke_width(2)))?;
        }
    }
    if let Some(bound) = bound {
        let red = color("red");
        chart.draw_series(DashedLineSeries::new(
            [(0.0, bound), (minutes, bound)],
            6,
            4,
            red.stroke_width(1),
        ))?;
    }
    // What never was anything has its line, at the bottom, and no name if there are many.
    let all = series.len() <= MANY;
    let is_named = |series: &Series| all || series.points.iter().any(|(_, value)| *value > 0.0);
    let mut names: Vec<(String, RGBColor)> = series
        .iter()
        .zip(colors())
        .filter(|(series, _)| is_named(series))
        .map(|(series, color)| (series.name.clone(), *color))
        .collect();
    let unnamed = series.len() - names.len();
    if unnamed > 0 {
        names.push((format!("{unnamed} at zero"), FAINT));
    }
    if absent > 0 {
        names.push(("the others need a cluster".to_owned(), FAINT));
    }
    write_names(&legend, &names)
}

/// The name of a whole minute; those between have none.
fn whole(minute: f64) -> String {
    let is_whole = (minute - minute.round()).abs() < 1e-6;
    if is_whole {
        format!("{minute:.0} min")
    } else {
        String::new()
    }
}

/// A line's points, parted where it has a gap.
fn runs(points: &[(f64, f64)], minutes: f64) -> impl Iterator<Item = &[(f64, f64)]> {
    let step = minutes / crate::POINTS * 1.5;
    points.chunk_by(move |(before, _), (after, _)| after - before < step)
}

/// How many requests fell into which bucket, when.
fn heatmap(area: &Area<'_>, panel: &Panel, series: &[&Series], minutes: f64) -> Drawn {
    let mut buckets: Vec<(f64, &Series)> = series
        .iter()
        .filter_map(|series| series.bucket.map(|bound| (bound, *series)))
        .collect();
    buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    // Each bucket has those below it in it.
    let mut cells: Vec<(usize, f64, f64)> = Vec::new();
    for (row, (_, series)) in buckets.iter().enumerate() {
        let below = row.checked_sub(1).and_then(|row| buckets.get(row));
        for (minute, value) in &series.points {
            let same = |point: &&(f64, f64)| (point.0 - minute).abs() < 1e-6;
            let under = below.and_then(|(_, below)| below.points.iter().find(same));
            cells.push((row, *minute, value - under.map_or(0.0, |(_, under)| *under)));
        }
    }
    cells.retain(|(_, _, count)| *count > 1e-3);
    let most = cells.iter().map(|(_, _, count)| *count).fold(0.0, f64::max);
    let rows = cells.iter().map(|(row, _, _)| *row);
    let (first, last) = (rows.clone().min().unwrap_or(0), rows.max().unwrap_or(0));
    let bound = |row: f64| {
        let row = buckets.get(row.round() as usize)?;
        Some(with_unit(row.0, panel.unit()))
    };
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(22)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..minutes, first as f64 - 0.5..last as f64 + 0.5)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(EDGE)
        .x_labels(7)
        .y_labels(7)
        .x_label_formatter(&|minute| whole(*minute))
        .y_label_formatter(&|row| bound(*row).unwrap_or_default())
        .label_style(("sans-serif", 12).into_font().color(&FAINT))
        .draw()?;
    let step = minutes / crate::POINTS;
    chart.draw_series(cells.iter().map(|(row, minute, count)| {
        let row = *row as f64;
        let corners = [((minute - step).max(0.0), row - 0.5), (*minute, row + 0.5)];
        // Rare ones are to be seen as well.
        let share = (count / most).powf(0.45);
        let shade = |dark: f64, bright: f64| (dark + (bright - dark) * share) as u8;
        let orange = RGBColor(shade(40.0, 255.0), shade(26.0, 190.0), shade(20.0, 110.0));
        Rectangle::new(corners, orange.filled())
    }))?;
    Ok(())
}

/// A bar for each series, in the colours of what it was.
fn states(area: &Area<'_>, panel: &Panel, series: &[&Series], minutes: f64) -> Drawn {
    const NAMES: i32 = 96;
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (width.cast_signed(), height.cast_signed() - 24);
    let row = (height / series.len().max(1) as i32).min(40);
    let x = |minute: f64| NAMES + (f64::from(width - NAMES) * minute / minutes) as i32;
    for (index, series) in series.iter().enumerate() {
        let top = index as i32 * row;
        let middle = top + row / 2;
        write(
            area,
            &series.name,
            (NAMES - 8, middle),
            12,
            TEXT,
            HPos::Right,
        )?;
        let same = |a: &(f64, f64), b: &(f64, f64)| a.1 == b.1;
        let step = minutes / crate::POINTS;
        for run in series.points.chunk_by(same) {
            let (Some((from, value)), Some((to, _))) = (run.first(), run.last()) else {
                continue;
            };
            let (name, shade) = panel.shown(*value);
            let corners = [
                (x((from - step).max(0.0)), top + 3),
                (x(*to), top + row - 3),
            ];
            area.draw(&Rectangle::new(corners, color(&shade).mix(0.75).filled()))?;
            let name = name.unwrap_or_else(|| with_unit(*value, panel.unit()));
            if x(*to) - x(*from) > 60 {
                write(area, &name, (x(*from) + 8, middle), 12, PAGE, HPos::Left)?;
            }
        }
    }
    for minute in 0..=minutes as u32 {
        if minute.is_multiple_of((minutes as u32 / 6).max(1)) {
            let place = (x(f64::from(minute)), height + 14);
            let label = format!("{minute} min");
            write(area, &label, place, 12, FAINT, HPos::Center)?;
        }
    }
    Ok(())
}

/// What the lines are called, in a row, as many as there is room for.
fn write_names(area: &Area<'_>, names: &[(String, RGBColor)]) -> Drawn {
    const WIDE: f64 = 6.4;
    let width = f64::from(area.dim_in_pixel().0);
    let mut x = 12;
    for (index, (name, color)) in names.iter().enumerate() {
        let needed = 26 + (name.chars().count() as f64 * WIDE) as i32;
        if f64::from(x + needed) > width - 30.0 {
            let more = format!("+{}", names.len() - index);
            return write(area, &more, (x, 14), 12, FAINT, HPos::Left);
        }
        let dash = [(x, 10), (x + 14, 13)];
        area.draw(&Rectangle::new(dash, color.filled()))?;
        write(area, name, (x + 19, 12), 12, FAINT, HPos::Left)?;
        x += needed + 8;
    }
    Ok(())
}

fn note(area: &Area<'_>, why: &str) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let middle = (width.cast_signed() / 2, height.cast_signed() / 2 - 8);
    write(area, why, middle, 16, FAINT, HPos::Center)
}

fn write(
    area: &Area<'_>,
    text: &str,
    place: (i32, i32),
    size: u32,
    color: RGBColor,
    from: HPos,
) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&color);
    let style = style.pos(Pos::new(from, VPos::Center));
    area.draw(&Text::new(text.to_owned(), place, style))?;
    Ok(())
}

/// Grafana's names for colours.
fn color(name: &str) -> RGBColor {
    match name {
        "red" => RGBColor(0xf2, 0x49, 0x5c),
        "orange" => RGBColor(0xff, 0x98, 0x30),
        "yellow" => RGBColor(0xf2, 0xcc, 0x0c),
        _ => RGBColor(0x73, 0xbf, 0x69),
    }
}
