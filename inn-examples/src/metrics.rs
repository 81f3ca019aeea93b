//! Figures of merit.

/// Mean and standard deviation of each pixel over samples; (n - 1) in the denominator of the variance.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The mean of each pixel.
    pub mean: Vec<f32>,
    /// The standard deviation of each pixel; 0 for a single sample.
    pub deviation: Vec<f32>,
}

/// Moments of samples of `pixels` values each, one after the other.
pub fn moments(samples: &[f32], pixels: usize) -> Moments {
    let pixels = pixels.max(1);
    let count = (samples.len() / pixels).max(1) as f64;
    let mut mean = vec![0f64; pixels];
    for sample in samples.chunks_exact(pixels) {
        mean.iter_mut().zip(sample).for_each(|(m, &v)| *m += f64::from(v) / count);
    }
    let mut squares = vec![0f64; pixels];
    for sample in samples.chunks_exact(pixels) {
        squares.iter_mut().zip(sample).zip(&mean).for_each(|((s, &v), m)| *s += (f64::from(v) - m).powi(2));
    }
    let deviation = squares.iter().map(|s| (s / (count - 1.0).max(1.0)).sqrt() as f32).collect();
    Moments { mean: mean.iter().map(|&m| m as f32).collect(), deviation }
}

/// A mean of squared errors over many images and the peak signal-to-noise ratio that follows, for values in [0, 1].
#[derive(Clone, Copy, Debug, Default)]
pub struct SquaredError {
    sum: f64,
    count: usize,
}

impl SquaredError {
    /// Adds the pixels for which `counts` holds.
    pub fn add(&mut self, truth: &[f32], estimate: &[f32], counts: impl Fn(usize) -> bool) {
        for (i, (t, e)) in truth.iter().zip(estimate).enumerate() {
            if counts(i) {
                self.sum += f64::from(t - e).powi(2);
                self.count += 1;
            }
        }
    }

    /// The mean of the squares; NaN of nothing.
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// 10 log₁₀(1 / mean) in dB: the mean is taken over all pixels of all images, then the logarithm.
    pub fn psnr_db(&self) -> f64 {
        -10.0 * self.mean().log10()
    }
}

/// The share of true values inside the central interval that holds 90 % of the samples, pixel by pixel.
///
/// The interval goes from the 5 % to the 95 % quantile of the samples, interpolated linearly. For a calibrated posterior the share is near
/// 0.9. A value that equals an end is inside, within `tolerance`: where samples and truth are all background, they agree.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    tolerance: f32,
    inside: usize,
    count: usize,
}

impl Coverage {
    /// Nothing counted yet.
    pub fn new(tolerance: f32) -> Self {
        Self { tolerance, inside: 0, count: 0 }
    }

    /// Adds the pixels of one image for which `counts` holds; `samples` are as many values as `truth`, one sample after the other.
    pub fn add(&mut self, truth: &[f32], samples: &[f32], counts: impl Fn(usize) -> bool) {
        let mut values = Vec::with_capacity(samples.len() / truth.len().max(1));
        for (i, &t) in truth.iter().enumerate().filter(|&(i, _)| counts(i)) {
            values.clear();
            values.extend(samples.iter().skip(i).step_by(truth.len()));
            values.sort_by(f32::total_cmp);
            let (low, high) = (quantile(&values, 0.05), quantile(&values, 0.95));
            self.inside += usize::from(t >= low - self.tolerance && t <= high + self.tolerance);
            self.count += 1;
        }
    }

    /// The share; NaN of nothing.
    pub fn share(&self) -> f64 {
        self.inside as f64 / self.count as f64
    }
}

/// A quantile of sorted values, interpolated linearly between neighbours; NaN of none.
pub fn quantile(sorted: &[f32], share: f64) -> f32 {
    let Some(last) = sorted.len().checked_sub(1) else { return f32::NAN };
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let fraction = (position - below as f64) as f32;
    let (a, b) = (sorted[below], sorted[(below + 1).min(last)]);
    a + fraction * (b - a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_three_samples() {
        let m = moments(&[1.0, 0.0, 2.0, 0.0, 6.0, 0.0], 2);
        assert_eq!(m.mean, [3.0, 0.0]);
        assert!((m.deviation[0] - 7f32.sqrt()).abs() < 1e-6 && m.deviation[1] == 0.0);
    }

    #[test]
    fn psnr_of_a_tenth_is_twenty_decibel() {
        let mut error = SquaredError::default();
        error.add(&[0.5, 0.2, 9.0], &[0.4, 0.3, 0.0], |i| i < 2);
        assert!((error.psnr_db() - 20.0).abs() < 1e-5, "{}", error.psnr_db());
    }

    #[test]
    fn quantiles() {
        let values: Vec<f32> = (0..=100).map(|i| i as f32).collect();
        assert_eq!((quantile(&values, 0.05), quantile(&values, 0.95), quantile(&values, 2.0)), (5.0, 95.0, 100.0));
        assert!((quantile(&[0.0, 1.0], 0.25) - 0.25).abs() < 1e-6);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn coverage_counts_what_lies_inside() {
        // Two pixels, 101 samples: 0..=100 in the first, all 7 in the second.
        let samples: Vec<f32> = (0..=100).flat_map(|i| [i as f32, 7.0]).collect();
        let share = |truth: [f32; 2], tolerance| {
            let mut coverage = Coverage::new(tolerance);
            coverage.add(&truth, &samples, |_| true);
            coverage.share()
        };
        assert_eq!(share([5.0, 7.0], 0.0), 1.0);
        assert_eq!(share([4.0, 7.0], 0.0), 0.5);
        assert_eq!(share([96.0, 7.5], 0.0), 0.0);
        assert_eq!(share([96.0, 7.5], 1.0), 1.0);
    }
}
