//! Densities that are known, and flows as densities: mass, samples, entropies.

mod flows;
mod targets;

use ndarray::Array2;
use std::ops::Range;

/// The middles of `cells` cells an axis, as rows, and the volume of a cell.
fn middles(region: &[Range<f64>], cells: usize) -> (Array2<f64>, f64) {
    let n = region.len();
    let step: Vec<f64> = region.iter().map(|r| (r.end - r.start) / cells as f64).collect();
    let points = Array2::from_shape_fn((cells.pow(n as u32), n), |(i, axis)| {
        let place = i / cells.pow((n - 1 - axis) as u32) % cells;
        region[axis].start + step[axis] * (place as f64 + 0.5)
    });
    (points, step.iter().product())
}

/// The quantile of a normal at 1 - 1e-4.
const HIGH: f64 = 3.719;

/// Pearson's statistic of counts against expectations, classes with less than 10 expected put together, and its quantile at 1 - 1e-4 after
/// Wilson & Hilferty 1931.
fn pearson(counts: &[f64], expected: &[f64]) -> (f64, f64) {
    let (mut statistic, mut classes, mut rest) = (0.0, 0.0, [0.0; 2]);
    for (count, expected) in counts.iter().zip(expected) {
        if *expected >= 10.0 {
            statistic += (count - expected).powi(2) / expected;
            classes += 1.0;
        } else {
            rest = [rest[0] + count, rest[1] + expected];
        }
    }
    if rest[1] >= 10.0 {
        statistic += (rest[0] - rest[1]).powi(2) / rest[1];
        classes += 1.0;
    }
    let freedom: f64 = classes - 1.0;
    let v = 2.0 / (9.0 * freedom);
    (statistic, freedom * (1.0 - v + HIGH * v.sqrt()).powi(3))
}

/// Samples counted in `bins` bins an axis against the density summed over `fine` cells a bin.
fn chi_square(region: &[Range<f64>], log_prob: &[f64], volume: f64, samples: &Array2<f64>, bins: usize, fine: usize) -> (f64, f64) {
    let n = region.len();
    let cells = bins * fine;
    let index = |place: &dyn Fn(usize) -> usize| (0..n).fold(0, |i, axis| i * bins + place(axis).min(bins - 1));
    let mut expected = vec![0.0; bins.pow(n as u32)];
    for (i, log) in log_prob.iter().enumerate() {
        expected[index(&|axis| i / cells.pow((n - 1 - axis) as u32) % cells / fine)] += volume * log.exp() * samples.nrows() as f64;
    }
    let mut counts = vec![0.0; expected.len()];
    for x in samples.rows() {
        let place = |axis: usize| ((x[axis] - region[axis].start) / (region[axis].end - region[axis].start) * bins as f64) as usize;
        counts[index(&place)] += 1.0;
    }
    pearson(&counts, &expected)
}
