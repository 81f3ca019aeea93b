//! The measurements as a picture.

use super::report::{Diagnosis, LayerReport};
use crate::picture::{self, FONT};
use inn_core::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (1000, 900);
const COLOURS: [RGBColor; 3] = [RGBColor(30, 80, 160), RGBColor(205, 70, 20), RGBColor(60, 140, 70)];

/// A curve over the layers.
type Curve = (&'static str, fn(&LayerReport) -> Option<f64>);

/// Draws a diagnosis over the layers, as a PNG file of 1000 x 900 pixels: errors and condition, singular values and scales (both logarithmic),
/// and the log-determinant. Layers whose findings name them are marked.
///
/// # Errors
/// [`Error::Config`]: no layer. [`Error::Io`]: the file cannot be written; one that was there is still there.
pub fn plot(path: impl AsRef<Path>, title: &str, diagnosis: &Diagnosis) -> Result<()> {
    if diagnosis.layers.is_empty() {
        return Err(Error::config("diagnosis", "expected at least one layer, got none"));
    }
    picture::write(path.as_ref(), SIZE, |area| draw(area, title, diagnosis))
}

fn draw<D: DrawingBackend>(
    area: &DrawingArea<D, Shift>,
    title: &str,
    diagnosis: &Diagnosis,
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>>
where
    D::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let area = area.titled(title, (FONT, 24))?;
    let [top, middle, bottom] = match <[_; 3]>::try_from(area.split_evenly((3, 1))) {
        Ok(panels) => panels,
        Err(_) => return Ok(()),
    };
    let errors: [Curve; 2] = [("round-trip error", |l| l.round_trip), ("condition", |l| l.condition)];
    panel(&top, "error, condition", diagnosis, &errors, true)?;
    let values: [Curve; 2] =
        [("smallest singular value", |l| l.singular_values.map(|r| r.smallest)), ("largest", |l| l.singular_values.map(|r| r.largest))];
    panel(&middle, "singular values", diagnosis, &values, true)?;
    let logdet: [Curve; 1] = [("log-determinant", |l| l.logdet)];
    panel(&bottom, "ln det, nats", diagnosis, &logdet, false)?;
    area.present()
}

fn panel<D: DrawingBackend>(
    area: &DrawingArea<D, Shift>,
    name: &str,
    diagnosis: &Diagnosis,
    curves: &[Curve],
    logarithmic: bool,
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>>
where
    D::ErrorType: 'static,
{
    let layers = &diagnosis.layers;
    // Errors of 0 are drawn at the bottom of what the number type can tell.
    let scale = |v: f64| if logarithmic { v.abs().max(1e-3 * diagnosis.epsilon).log10() } else { v };
    let points = |curve: &Curve| -> Vec<(f64, f64)> {
        layers.iter().enumerate().filter_map(|(i, l)| Some((i as f64, scale(curve.1(l)?)))).collect()
    };
    let all: Vec<f64> = curves.iter().flat_map(points).map(|p| p.1).collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min).min(0.0);
    let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max).max(low + 1e-9);
    let margin = 0.08 * (high - low);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(90)
        .build_cartesian_2d(-0.5..layers.len() as f64 - 0.5, low - margin..high + margin)?;
    let power = |v: &f64| if logarithmic { format!("1e{v:.0}") } else { format!("{v:.2}") };
    let whole = |v: &f64| if v.fract() == 0.0 && *v >= 0.0 { format!("{v}") } else { String::new() };
    chart
        .configure_mesh()
        .x_desc("layer")
        .y_desc(name)
        .axis_desc_style((FONT, 17))
        .label_style((FONT, 14))
        .x_label_formatter(&whole)
        .y_label_formatter(&power)
        .light_line_style(WHITE)
        .draw()?;
    let blamed = layers.iter().enumerate().filter(|(_, l)| diagnosis.findings.iter().any(|f| f.layer == l.path));
    let bar = |i: usize| Rectangle::new([(i as f64 - 0.4, low - margin), (i as f64 + 0.4, high + margin)], RED.mix(0.15).filled());
    chart.draw_series(blamed.map(|(i, _)| bar(i)))?;
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let points = points(curve);
        let line = move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?.label(curve.0).legend(line);
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).label_font((FONT, 14)).draw()
}
