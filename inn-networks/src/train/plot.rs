//! A picture of the loss curves.

use super::observer::Record;
use crate::picture::{self, FONT};
use inn_core::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

const SIZE: (u32, u32) = (900, 600);
const BATCH: RGBColor = RGBColor(170, 195, 225);
const MEAN: RGBColor = RGBColor(30, 80, 160);
const HELD_OUT: RGBColor = RGBColor(205, 70, 20);

type Points = Vec<(f64, f64)>;

/// Draws the loss of the batches, its running mean and the loss of held-out data over the steps, as a PNG file of 900 x 600 pixels.
///
/// The highest losses are left out of the picture (2 % of them), so that the first steps do not flatten the rest. The font comes with
/// the crate.
///
/// # Errors
/// [`Error::Config`]: no record with a finite loss. [`Error::Io`]: the file cannot be written; one that was there is still there.
pub fn plot_losses(path: impl AsRef<Path>, title: &str, records: &[Record]) -> Result<()> {
    let path = path.as_ref();
    let losses = finite(records.iter().map(|r| (r.step, Some(r.loss))));
    let held_out = finite(records.iter().map(|r| (r.step, r.held_out)));
    let (Some(first), Some(last)) = (losses.first(), losses.last()) else {
        return Err(Error::config("records", "expected at least one step with a finite loss, got none"));
    };
    let steps = first.0 - 1.0..last.0;
    let range = losses_shown(&losses, &held_out);
    picture::write(path, SIZE, |area| draw(area, title, steps, range, &losses, &held_out))
}

fn finite(points: impl Iterator<Item = (u64, Option<f64>)>) -> Points {
    points.filter_map(|(step, value)| Some((step as f64, value.filter(|v| v.is_finite())?))).collect()
}

/// From the lowest value to the quantile of 98 %, with a margin.
fn losses_shown(losses: &[(f64, f64)], held_out: &[(f64, f64)]) -> Range<f64> {
    let mut values: Vec<f64> = losses.iter().chain(held_out).map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
    let low = values.first().copied().unwrap_or(0.0);
    let high = values.get((values.len() - 1) * 49 / 50).copied().unwrap_or(low);
    let margin = 0.05 * (high - low).max(1e-6 * high.abs()).max(1e-12);
    low - margin..high + margin
}

/// Means over the last fiftieth of the steps.
fn running_mean(points: &[(f64, f64)]) -> Points {
    let width = (points.len() / 50).max(1);
    let mean = |i: usize| {
        let window = &points[(i + 1).saturating_sub(width)..=i];
        window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64
    };
    points.iter().enumerate().map(|(i, p)| (p.0, mean(i))).collect()
}

fn draw<D: DrawingBackend>(
    area: &DrawingArea<D, Shift>,
    title: &str,
    steps: Range<f64>,
    range: Range<f64>,
    losses: &[(f64, f64)],
    held_out: &[(f64, f64)],
) -> Result<(), DrawingAreaErrorKind<D::ErrorType>> {
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 24))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(80)
        .build_cartesian_2d(steps, range)?;
    let digits = |v: &f64| if v.fract() == 0.0 { format!("{v}") } else { format!("{v:.2}") };
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss a sample")
        .axis_desc_style((FONT, 18))
        .label_style((FONT, 15))
        .x_label_formatter(&digits)
        .light_line_style(WHITE)
        .draw()?;
    let line = |colour: RGBColor| move |(x, y): (i32, i32)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
    chart.draw_series(LineSeries::new(losses.iter().copied(), BATCH))?.label("batch").legend(line(BATCH));
    let mean = running_mean(losses);
    chart.draw_series(LineSeries::new(mean, MEAN.stroke_width(2)))?.label("running mean").legend(line(MEAN));
    if !held_out.is_empty() {
        let series = LineSeries::new(held_out.iter().copied(), HELD_OUT.stroke_width(2)).point_size(3);
        chart.draw_series(series)?.label("held out").legend(line(HELD_OUT));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .label_font((FONT, 16))
        .draw()?;
    area.present()
}
