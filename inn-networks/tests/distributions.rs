//! Distributions with known densities: mass, samples, entropies; and what flows make of them.

use inn_networks::distributions::{Arc, Arcs, Banana, Checkerboard, Mixture, Normal, Pinwheel, Target};
use ndarray::{Array2, array};
use std::ops::Range;

fn mixture_on_a_line() -> Mixture {
    let part = |mean, deviation| Normal::isotropic(&[mean], deviation).unwrap();
    Mixture::new(&[1.0, 2.0], vec![part(-1.0, 0.3), part(1.5, 0.6)]).unwrap()
}

fn tilted() -> Normal {
    Normal::new(&[1.0, -2.0], &array![[2.0, 1.2], [1.2, 1.0]].view()).unwrap()
}

/// One of each, with the number of cells an axis that its density needs to be summed.
fn all() -> Vec<(&'static str, Box<dyn Target>, usize)> {
    vec![
        ("normal", Box::new(tilted()), 200),
        ("mixture on a line", Box::new(mixture_on_a_line()), 200),
        ("mixture on a circle", Box::new(Mixture::on_circle(8, 2.0, 0.2).unwrap()), 200),
        ("banana", Box::new(Banana::default()), 800),
        ("pinwheel", Box::new(Pinwheel::usual().unwrap()), 400),
        ("checkerboard", Box::new(Checkerboard::default()), 200),
        ("moons", Box::new(Arcs::two_moons(0.1).unwrap()), 160),
        ("rings", Box::new(Arcs::rings(&[1.0, 2.0, 3.0], 0.15).unwrap()), 160),
        ("swirl", Box::new(Arcs::swirl(0.15).unwrap()), 200),
    ]
}

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

#[test]
fn the_mass_is_one() {
    for (name, target, cells) in all() {
        let (points, volume) = middles(&target.region(), cells);
        let mass = volume * target.log_prob(&points.view()).unwrap().iter().map(|l| l.exp()).sum::<f64>();
        assert!((mass - 1.0).abs() < 2e-6, "{name}: {mass}");
    }
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
fn chi_square(target: &dyn Target, log_prob: &[f64], volume: f64, samples: &Array2<f64>, bins: usize, fine: usize) -> (f64, f64) {
    let (region, n) = (target.region(), target.dimension());
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

#[test]
fn samples_follow_the_density() {
    for (name, target, cells) in all() {
        let bins = 20;
        let (points, volume) = middles(&target.region(), cells);
        let log_prob = target.log_prob(&points.view()).unwrap();
        let samples = target.sample(40_000, 1).unwrap();
        let (statistic, limit) = chi_square(target.as_ref(), &log_prob, volume, &samples, bins, cells / bins);
        assert!(statistic < limit, "{name}: {statistic} above {limit}");
        // Samples that are off by a twentieth of the region do not.
        let off = samples.mapv(|v| v + 0.01 * (target.region()[0].end - target.region()[0].start));
        let (statistic, limit) = chi_square(target.as_ref(), &log_prob, volume, &off, bins, cells / bins);
        assert!(statistic > limit, "{name}, moved: {statistic} below {limit}");
    }
}

#[test]
fn entropies_are_means_over_samples() {
    for (name, target, _) in all() {
        let entropy = target.entropy().unwrap();
        assert!(entropy.error < 1e-5, "{name}: {entropy:?}");
        let log_prob = target.log_prob(&target.sample(40_000, 2).unwrap().view()).unwrap();
        let n = log_prob.len() as f64;
        let mean = -log_prob.iter().sum::<f64>() / n;
        let deviation = (log_prob.iter().map(|l| (l + mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
        assert!((mean - entropy.nats).abs() < 4.0 * deviation + 1e-9, "{name}: {mean} +- {deviation} against {entropy:?}");
    }
}

#[test]
fn closed_forms() {
    // A mixture of equal parts is the part; its quadrature gives the closed form.
    for normal in [tilted(), Normal::isotropic(&[0.5], 0.3).unwrap()] {
        let mixture = Mixture::new(&[0.3, 0.7], vec![normal.clone(), normal.clone()]).unwrap();
        let (a, b) = (mixture.entropy().unwrap(), normal.entropy().unwrap());
        assert!((a.nats - b.nats).abs() < a.error && a.error < 1e-5 && b.error == 0.0, "{a:?} {b:?}");
    }
    // In three dimensions it is a mean.
    let part = Normal::isotropic(&[0.0; 3], 2.0).unwrap();
    let (a, b) = (Mixture::new(&[1.0], vec![part.clone()]).unwrap().entropy().unwrap(), part.entropy().unwrap());
    assert!((a.nats - b.nats).abs() < a.error && a.error > 1e-4 && a.error < 0.02, "{a:?} {b:?}");
    // The banana at the image of (1, 0): y = (1, 4 (1 + 1)).
    let p = Banana::default().log_density(&[1.0, 8.0]);
    assert!((p + 0.5 + (2.0 * std::f64::consts::PI).ln()).abs() < 1e-15);
    assert_eq!(Checkerboard::default().log_density(&[-1.5, -1.5]), -(8.0f64.ln()));
    assert_eq!(Checkerboard::default().log_density(&[-0.5, -1.5]), f64::NEG_INFINITY);
    // Covariances of samples.
    let x = tilted().sample(40_000, 3).unwrap();
    let covariance = |i: usize, j: usize| x.rows().into_iter().map(|r| (r[i] - [1.0, -2.0][i]) * (r[j] - [1.0, -2.0][j])).sum::<f64>() / 4e4;
    for (i, j, expected) in [(0, 0, 2.0), (0, 1, 1.2), (1, 1, 1.0)] {
        assert!((covariance(i, j) - expected).abs() < 0.05, "{i} {j}: {}", covariance(i, j));
    }
}

#[test]
fn sample_i_depends_on_the_seed_and_on_i() {
    let moons = Arcs::two_moons(0.1).unwrap();
    let (few, many) = (moons.sample(10, 5).unwrap(), moons.sample(300, 5).unwrap());
    assert_eq!(few, many.slice(ndarray::s![..10, ..]));
    assert_ne!(few, moons.sample(10, 6).unwrap());
    assert_eq!(moons.sample(0, 0).unwrap().dim(), (0, 2));
}

#[test]
fn what_cannot_be_is_refused() {
    let says = |error: inn_core::Error, text: &str| assert!(error.to_string().contains(text), "{error}");
    says(Arcs::two_moons(0.0).unwrap_err(), "deviation");
    says(Arcs::two_moons(1e-9).unwrap_err(), "nodes");
    says(Arcs::rings(&[], 0.1).unwrap_err(), "arcs");
    says(Arcs::rings(&[1.0, f64::NAN], 0.1).unwrap_err(), "radius");
    says(Arcs::new(&[Arc::Spiral { angle: 1.0, scale: 1.0 }], &[-1.0], 0.1).unwrap_err(), "weights");
    says(Banana::new(0.0, 1.0).unwrap_err(), "width");
    says(Checkerboard::new(0).unwrap_err(), "half");
    says(Normal::new(&[0.0, 0.0], &array![[1.0, 2.0], [2.0, 1.0]].view()).unwrap_err(), "positive definite");
    says(Normal::new(&[0.0, 0.0], &array![[1.0, 0.5], [0.0, 1.0]].view()).unwrap_err(), "symmetric");
    says(Normal::new(&[0.0], &array![[1.0, 0.0]].view()).unwrap_err(), "covariance");
    says(Normal::isotropic(&[], 1.0).unwrap_err(), "mean");
    says(Mixture::on_circle(0, 1.0, 1.0).unwrap_err(), "parts");
    says(Mixture::new(&[1.0, 1.0], vec![tilted(), Normal::isotropic(&[0.0], 1.0).unwrap()]).unwrap_err(), "dimension");
    says(Pinwheel::new(3, 1.0, 1.0, 1.0, f64::INFINITY).unwrap_err(), "twist");
    says(tilted().sample(usize::MAX, 0).unwrap_err(), "count");
    says(tilted().log_prob(&array![[1.0]].view()).unwrap_err(), "(count, 2)");
    says(tilted().log_prob(&array![[1.0, f64::NAN]].view()).unwrap_err(), "finite");
    for (_, target, _) in all() {
        assert!(target.log_density(&[0.0; 7]).is_nan());
        assert!(target.log_density(&vec![f64::NAN; target.dimension()]).is_nan());
    }
}
