//! The linear Gaussian estimate against closed forms.

use inn_examples::mnist::Mnist;
use inn_examples::wiener::Wiener;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Two pixels with variances 1 and 4 and correlation 0.8: E[h | o] = μ_h + c (o - μ_o) / (v_o + σ²).
#[test]
fn two_pixels() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let images = Array2::from_shape_fn((200_000, 2), |_| 0f32);
    let mut images = images;
    for mut row in images.rows_mut() {
        let (a, b) = (normal(&mut rng), normal(&mut rng));
        row[0] = (3.0 + a) as f32;
        row[1] = (-1.0 + 2.0 * (0.8 * a + 0.6 * b)) as f32;
    }
    let wiener = Wiener::fit(images.view(), &[true, false], 0.5).unwrap();
    for o in [-3.0f32, 0.0, 2.5] {
        let estimate = wiener.estimate(ArrayView1::from(&[9.0, o])).unwrap();
        let expected = 3.0 + 1.6 * (f64::from(o) + 1.0) / (4.0 + 0.25);
        assert!((f64::from(estimate[0]) - expected).abs() < 0.02, "{estimate:?} instead of {expected}");
        assert_eq!(estimate[1], o);
    }
}

/// Images x = A s + μ in four pixels from a finite set whose sample covariance is known exactly: the normal equations hold.
#[test]
fn the_residual_is_uncorrelated_with_what_was_observed() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mix = Array2::from_shape_fn((6, 6), |_| normal(&mut rng));
    let source = Array2::from_shape_fn((500, 6), |_| normal(&mut rng));
    let images = source.dot(&mix).mapv(|v| v as f32);
    let hidden = [false, true, false, true, true, false];
    // With hardly any noise the estimate is the regression of h on o, whose residual is orthogonal to o.
    let wiener = Wiener::fit(images.view(), &hidden, 1e-6).unwrap();
    let mut residuals = Array2::<f64>::zeros((500, 3));
    let mut observed = Array2::<f64>::zeros((500, 3));
    for (i, row) in images.rows().into_iter().enumerate() {
        let estimate = wiener.estimate(row).unwrap();
        for (k, j) in [1, 3, 4].into_iter().enumerate() {
            residuals[[i, k]] = f64::from(row[j]) - f64::from(estimate[j]);
        }
        for (k, j) in [0, 2, 5].into_iter().enumerate() {
            observed[[i, k]] = f64::from(row[j]);
        }
    }
    let mean: Array1<f64> = residuals.sum_axis(ndarray::Axis(0)) / 500.0;
    assert!(mean.iter().all(|m| m.abs() < 1e-5), "{mean}");
    let correlation = observed.t().dot(&residuals) / 500.0;
    assert!(correlation.iter().all(|c| c.abs() < 1e-4), "{correlation}");
}

/// Infinite noise leaves the mean.
#[test]
fn with_much_noise_the_estimate_is_the_mean() {
    let digits = Mnist::shipped().unwrap().test;
    let unit = digits.unit();
    let images = ArrayView2::from_shape((digits.len(), 784), &unit).unwrap();
    let hidden: Vec<bool> = (0..784).map(|i| i >= 700).collect();
    let wiener = Wiener::fit(images, &hidden, 1e6).unwrap();
    let estimate = wiener.estimate(images.row(0)).unwrap();
    let mean = images.mapv(f64::from).sum_axis(ndarray::Axis(0)) / digits.len() as f64;
    assert!((700..784).all(|i| (f64::from(estimate[i]) - mean[i]).abs() < 1e-6));
}

#[test]
fn refuses_what_makes_no_sense() {
    let images = Array2::<f32>::zeros((3, 2));
    let message = |hidden: &[bool], noise| Wiener::fit(images.view(), hidden, noise).map(|_| ()).unwrap_err().to_string();
    assert!(message(&[true], 0.1).contains("2 pixels"));
    assert!(message(&[true, true], 0.1).contains("hidden and observed"));
    assert!(message(&[true, false], 0.0).contains("above 0"));
    assert!(message(&[true, false], f64::NAN).contains("above 0"));
    let wiener = Wiener::fit(images.view(), &[true, false], 0.1).unwrap();
    assert!(wiener.estimate(ArrayView1::from(&[0.0; 3])).is_err());
    assert!(Wiener::fit(Array2::zeros((1, 2)).view(), &[true, false], 0.1).is_err());
}
