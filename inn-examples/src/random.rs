//! Numbers to measure with.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Uniform numbers of mean 0 and variance 1, in place: no second copy of what is filled stays in memory.
pub fn fill(values: &mut [f32], seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let half_width = 3f32.sqrt();
    values.iter_mut().for_each(|v| *v = half_width * (2.0 * rng.random::<f32>() - 1.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_variance_and_seed() {
        let (mut a, mut b) = (vec![0.0; 10_000], vec![0.0; 10_000]);
        fill(&mut a, 1);
        fill(&mut b, 1);
        assert_eq!(a, b);
        let moment = |power: i32| a.iter().map(|v| v.powi(power)).sum::<f32>() / a.len() as f32;
        assert!(moment(1).abs() < 0.05 && (moment(2) - 1.0).abs() < 0.05, "{} {}", moment(1), moment(2));
    }
}
