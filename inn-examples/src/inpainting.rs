//! The experiment of posterior inpainting: digits whose middle is hidden, seen through noise.

use crate::mnist::{PIXELS, SIDE};
use inn_core::{Result, Shape};
use inn_networks::train::{ChaCha8Rng, Dataset};
use rand_distr::{Distribution, StandardNormal};

/// Standard deviation of the noise on the pixels that are seen.
pub const NOISE: f32 = 0.1;
/// Standard deviation of the Gaussian noise that the flow sees on its digits: a density needs data that fill the space.
pub const DEQUANTIZATION: f32 = 0.05;

/// Whether a pixel lies in the middle 14 x 14, which are hidden.
pub fn is_hidden(pixel: usize) -> bool {
    let inside = |v: usize| (SIDE / 4..SIDE - SIDE / 4).contains(&v);
    inside(pixel / SIDE) && inside(pixel % SIDE)
}

/// The shape of a digit.
pub fn image_shape(batch: usize) -> Result<Shape> {
    Shape::new(batch, 1, &[SIDE, SIDE])
}

/// The shape of a condition: the observation, 0 where nothing is seen, and the mask, 1 where something is.
pub fn condition_shape(batch: usize) -> Result<Shape> {
    Shape::new(batch, 2, &[SIDE, SIDE])
}

/// Digits in [0, 1] with a simulated observation of each, new noise in every draw.
#[derive(Clone, Debug)]
pub struct Experiment {
    images: Vec<f32>,
    shapes: [Shape; 2],
}

impl Experiment {
    /// From images in [0, 1], (image, pixel).
    ///
    /// # Errors
    /// None in practice: the extents are fixed.
    pub fn new(images: Vec<f32>) -> Result<Self> {
        Ok(Self { images, shapes: [image_shape(1)?, condition_shape(1)?] })
    }

    /// Image `index` without noise.
    pub fn truth(&self, index: usize) -> Option<&[f32]> {
        self.images.chunks_exact(PIXELS).nth(index)
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.images.len() / PIXELS
    }
}

/// Writes the observation of an image, and the mask, into a condition.
pub fn observe(image: &[f32], rng: &mut ChaCha8Rng, condition: &mut [f32]) {
    let (observation, mask) = condition.split_at_mut(PIXELS);
    for (i, &value) in image.iter().enumerate() {
        let noise: f32 = StandardNormal.sample(rng);
        let seen = !is_hidden(i);
        observation[i] = if seen { value + NOISE * noise } else { 0.0 };
        mask[i] = f32::from(u8::from(seen));
    }
}

impl Dataset<f32> for Experiment {
    fn len(&self) -> usize {
        self.count()
    }
    fn sample_shape(&self) -> Shape {
        self.shapes[0]
    }
    fn condition_shapes(&self) -> Vec<Shape> {
        vec![self.shapes[1]]
    }
    fn draw(&self, index: usize, rng: &mut ChaCha8Rng, x: &mut [f32], conditions: &mut [&mut [f32]]) -> Result<()> {
        let missing = || inn_core::Error::shape("number of a sample", format!("less than {}", self.count()), index);
        let image = self.truth(index).ok_or_else(missing)?;
        for (x, &value) in x.iter_mut().zip(image) {
            let noise: f32 = StandardNormal.sample(rng);
            *x = value + DEQUANTIZATION * noise;
        }
        if let Some(condition) = conditions.first_mut() {
            observe(image, rng, condition);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_middle_quarter_is_hidden_and_the_rest_is_seen_through_noise() {
        assert_eq!((0..PIXELS).filter(|&i| is_hidden(i)).count(), 14 * 14);
        assert!(is_hidden(14 * SIDE + 14) && !is_hidden(0) && !is_hidden(6 * SIDE + 14) && is_hidden(7 * SIDE + 7));
        let data = Experiment::new(vec![0.5; 3 * PIXELS]).unwrap();
        let (mut x, mut c) = (vec![0.0; PIXELS], vec![f32::NAN; 2 * PIXELS]);
        data.draw(2, &mut ChaCha8Rng::seed_from_u64(1), &mut x, &mut [&mut c]).unwrap();
        let deviation = |values: &[f32]| (values.iter().map(|v| (v - 0.5).powi(2)).sum::<f32>() / values.len() as f32).sqrt();
        assert!((deviation(&x) / DEQUANTIZATION - 1.0).abs() < 0.1);
        let seen: Vec<f32> = (0..PIXELS).filter(|&i| !is_hidden(i)).map(|i| c[i]).collect();
        assert!((deviation(&seen) / NOISE - 1.0).abs() < 0.1);
        for i in 0..PIXELS {
            assert_eq!(c[PIXELS + i], if is_hidden(i) { 0.0 } else { 1.0 });
            assert!(!is_hidden(i) || c[i] == 0.0);
        }
        assert!(data.draw(3, &mut ChaCha8Rng::seed_from_u64(1), &mut x, &mut [&mut c]).is_err());
    }
}
