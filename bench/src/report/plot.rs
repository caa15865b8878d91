//! One picture for each question: how many times better each alternative is than the first one.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::record::{Case, Results};
use crate::statistics::Ratio;

const COLOURS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
    RGBColor(188, 189, 34),
    RGBColor(23, 190, 207),
];
const PANEL: (u32, u32) = (400, 260);
const COLUMNS: usize = 3;
/// Ratios beyond this are drawn at the edge.
const SHOWN: (f64, f64) = (0.2, 10.0);
/// The space above the panels.
const LEGEND: u32 = 44;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Cases that differ only in their last label.
struct Panel<'a> {
    title: String,
    cases: Vec<&'a Case>,
}

/// Draws all cases that have something to compare.
pub fn write(path: &Path, results: &Results) -> Result<()> {
    let panels = panels(results);
    let names = names(&panels);
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    let size = (PANEL.0 * columns as u32, LEGEND + PANEL.1 * rows as u32);
    let draw = || -> std::result::Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::new(path, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, rest) = root.split_vertically(LEGEND);
        legend(&top, results, &names)?;
        for (panel, area) in panels.iter().zip(rest.split_evenly((rows, columns))) {
            one_panel(panel, &names, &area)?;
        }
        Ok(root.present()?)
    };
    draw().map_err(|e| anyhow!("{}: {e}", path.display()))
}

fn panels(results: &Results) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel> = Vec::new();
    for case in results.cases.iter().filter(|c| c.series.len() > 1) {
        let (_, before) = case.labels.split_last().unwrap_or((&EMPTY, &[]));
        let title: Vec<String> = before.iter().map(|(_, value)| value.clone()).collect();
        let title = title.join(", ");
        match panels.iter_mut().find(|p| p.title == title) {
            Some(panel) => panel.cases.push(case),
            None => panels.push(Panel { title, cases: vec![case] }),
        }
    }
    panels
}

static EMPTY: (String, String) = (String::new(), String::new());

/// The alternatives that are compared with the first one.
fn names<'a>(panels: &[Panel<'a>]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for series in panels.iter().flat_map(|p| &p.cases).flat_map(|c| c.series.iter().skip(1)) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    names
}

fn legend(area: &Area, results: &Results, names: &[&str]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let baseline = results.cases.first().map_or("", |c| &c.series[0].name);
    let title = format!("{}: times better than {baseline}", results.title);
    area.draw(&Text::new(title, (10, 6), ("sans-serif", 14)))?;
    let mut x = 10;
    for (i, name) in names.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        area.draw(&Rectangle::new([(x, 28), (x + 10, 38)], colour.filled()))?;
        area.draw(&Text::new((*name).to_owned(), (x + 14, 27), ("sans-serif", 12)))?;
        x += 30 + 7 * name.len() as i32;
    }
    Ok(())
}

/// The value of the last label.
fn tick(case: &Case) -> String {
    let text = case.labels.last().map_or("", |(_, value)| value);
    match text.parse::<u64>() {
        Ok(n) if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{}Mi", n >> 20),
        Ok(n) if n >= 1024 && n % 1024 == 0 => format!("{}Ki", n >> 10),
        _ => text.chars().take(14).collect(),
    }
}

fn one_panel(panel: &Panel, names: &[&str], area: &Area) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let ratios = |name: &str| -> Vec<(f64, Ratio)> {
        let all = panel.cases.iter().enumerate();
        all.filter_map(|(i, c)| Some((i as f64, c.better(name, &c.series[0].name)?))).collect()
    };
    let ends = names.iter().flat_map(|n| ratios(n)).flat_map(|(_, r)| [r.low, r.high]);
    let shown = |e: f64| e.clamp(SHOWN.0, SHOWN.1);
    let ends = ends.filter(|e| e.is_finite());
    let (low, high) = ends.fold((0.9, 1.1), |(l, h): (f64, f64), e| (l.min(shown(e)), h.max(shown(e))));
    let ticks: Vec<String> = panel.cases.iter().map(|c| tick(c)).collect();
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(&panel.title, ("sans-serif", 13))
        .x_label_area_size(22)
        .y_label_area_size(40)
        .build_cartesian_2d(-0.5..panel.cases.len() as f64 - 0.5, (low * 0.95..high * 1.05).log_scale())?;
    let at = |x: &f64| if (x - x.round()).abs() < 0.01 { ticks.get(x.round() as usize).cloned() } else { None };
    let style = ("sans-serif", 11);
    let mesh = &mut chart.configure_mesh();
    let mesh = mesh.disable_x_mesh().light_line_style(WHITE).x_labels(2 * ticks.len() + 1).label_style(style);
    mesh.x_label_formatter(&|x| at(x).unwrap_or_default()).y_label_formatter(&|y| format!("{y:.2}")).draw()?;
    chart.draw_series(LineSeries::new([(-0.5, 1.0), (panel.cases.len() as f64 - 0.5, 1.0)], BLACK))?;
    let numeric = panel.cases.iter().all(|c| c.labels.last().is_some_and(|(_, v)| v.parse::<f64>().is_ok()));
    for (i, name) in names.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        // Side by side, so that intervals do not hide each other.
        let shift = (i as f64 - (names.len() - 1) as f64 / 2.0) * 0.08;
        let points = ratios(name);
        let middles = || points.iter().map(|(x, r)| (x + shift, shown(r.median)));
        if numeric {
            chart.draw_series(LineSeries::new(middles(), colour))?;
        }
        chart.draw_series(middles().map(|at| Circle::new(at, 3, colour.filled())))?;
        let whisker =
            |(x, r): &(f64, Ratio)| PathElement::new([(x + shift, shown(r.low)), (x + shift, shown(r.high))], colour);
        chart.draw_series(points.iter().map(whisker))?;
    }
    Ok(())
}
