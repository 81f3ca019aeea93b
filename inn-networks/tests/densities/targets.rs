//! Distributions with known densities: mass, samples, entropies.

use super::{chi_square, middles};
use inn_networks::distributions::{Arc, Arcs, Banana, Checkerboard, Mixture, Normal, Pinwheel, Target};
use ndarray::array;

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

#[test]
fn the_mass_is_one() {
    for (name, target, cells) in all() {
        let (points, volume) = middles(&target.region(), cells);
        let mass = volume * target.log_prob(&points.view()).unwrap().iter().map(|l| l.exp()).sum::<f64>();
        println!("{name}: mass 1 {:+.1e}", mass - 1.0);
        assert!((mass - 1.0).abs() < 2e-6, "{name}: {mass}");
    }
}

#[test]
fn samples_follow_the_density() {
    for (name, target, cells) in all() {
        let bins = 20;
        let (points, volume) = middles(&target.region(), cells);
        let log_prob = target.log_prob(&points.view()).unwrap();
        let samples = target.sample(40_000, 1).unwrap();
        let region = target.region();
        let (statistic, limit) = chi_square(&region, &log_prob, volume, &samples, bins, cells / bins);
        assert!(statistic < limit, "{name}: {statistic} above {limit}");
        // Samples that are off by a hundredth of the region do not.
        let off = samples.mapv(|v| v + 0.01 * (region[0].end - region[0].start));
        let (statistic, limit) = chi_square(&region, &log_prob, volume, &off, bins, cells / bins);
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
    let covariance =
        |i: usize, j: usize| x.rows().into_iter().map(|r| (r[i] - [1.0, -2.0][i]) * (r[j] - [1.0, -2.0][j])).sum::<f64>() / 4e4;
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
