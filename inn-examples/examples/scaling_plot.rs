//! Draws panels of lines as a PNG file, from JSON on the standard input; `cargo xtask scaling` feeds it.
//!
//! ```text
//! echo '[{"title": "t", "x": "steps", "y": "s", "lines": [{"label": "a", "points": [[1, 2], [2, 4]]}]}]' |
//!     cargo run --release -p inn-examples --example scaling_plot -- --out scaling.png
//! ```

use clap::Parser;
use inn_core::{Error, Result};
use inn_examples::cli::finish;
use inn_examples::picture::Picture;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use serde::Deserialize;
use std::path::PathBuf;

/// Draws panels of lines as a PNG file, from JSON on the standard input.
#[derive(Debug, Parser)]
#[command(name = "scaling_plot")]
struct Cli {
    /// The file.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Panel {
    title: String,
    x: String,
    y: String,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
}

const WIDTH: u32 = 440;
const HEIGHT: u32 = 340;
const FONT: &str = "ubuntu";
const COLOURS: [RGBColor; 3] = [RGBColor(30, 80, 160), RGBColor(205, 70, 20), RGBColor(60, 140, 70)];

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let run = || -> Result<()> {
        let panels: Vec<Panel> = serde_json::from_reader(std::io::stdin().lock()).map_err(|e| Error::config("input", e))?;
        picture(&panels)?.save(&cli.out)
    };
    finish(run())
}

/// All panels in a row.
fn picture(panels: &[Panel]) -> Result<Picture> {
    if panels.is_empty() || panels.iter().any(|panel| panel.lines.iter().all(|line| line.points.is_empty())) {
        return Err(Error::config("input", "expected panels with at least one point each"));
    }
    if register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_err() {
        return Err(Error::config("plot", "the font of the crate cannot be read"));
    }
    let size = (WIDTH * panels.len() as u32, HEIGHT);
    let mut pixels = vec![0; 3 * size.0 as usize * size.1 as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        let areas = area.split_evenly((1, panels.len()));
        areas.iter().zip(panels).try_for_each(|(area, panel)| draw(area, panel)).map_err(|e| Error::config("plot", e))?;
        area.present().map_err(|e| Error::config("plot", e))?;
    }
    Picture::from_rgb(size.0 as usize, size.1 as usize, pixels)
}

/// From the origin, so that what is proportional looks it.
fn draw<D: DrawingBackend>(area: &DrawingArea<D, Shift>, panel: &Panel) -> std::result::Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    area.fill(&WHITE)?;
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let right = 1.05 * points().map(|p| p.0).fold(0.0, f64::max);
    let top = 1.15 * points().map(|p| p.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 20))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..right.max(1e-9), 0.0..top.max(1e-9))?;
    chart
        .configure_mesh()
        .x_desc(&panel.x)
        .y_desc(&panel.y)
        .x_labels(6)
        .y_labels(6)
        .axis_desc_style((FONT, 15))
        .label_style((FONT, 13))
        .light_line_style(WHITE)
        .draw()?;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3);
        let sample = move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
        chart.draw_series(series)?.label(&line.label).legend(sample);
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).label_font((FONT, 14)).draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_ink_and_nothing_to_draw_is_an_error() {
        let line = Line { label: "a".into(), points: vec![(1.0, 1.0), (4.0, 4.0)] };
        let panel = |lines| Panel { title: "t".into(), x: "x".into(), y: "y".into(), lines };
        let picture = picture(&[panel(vec![line]), panel(vec![Line { label: "b".into(), points: vec![(1.0, 2.0)] }])]);
        let picture = picture.unwrap();
        assert_eq!((picture.width(), picture.height()), (880, 340));
        let blue = |x: usize, y: usize| picture.pixel(x, y).is_some_and(|[r, _, b]| b > r.saturating_add(60));
        assert!((0..440).any(|x| (0..340).any(|y| blue(x, y))));
        assert!(super::picture(&[]).is_err() && super::picture(&[panel(vec![])]).is_err());
    }
}
