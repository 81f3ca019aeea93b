//! Flows as densities: log-probabilities, samples, bits per dimension.

use inn_core::{Backend, Call, Direction, Element, Given, Invertible, Mapped, Params, Result, Shape, Tensor, Trail};
use inn_ops::loss::Gaussian;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::f64::consts::LN_2;

/// The density p(x) = N(f(x); 0, I) |det ∂f/∂x| of a flow f, with what the flow is given.
///
/// A preprocessing bijection in front of the flow, `(Rescale, Logit, flow)`, is part of f: the density is then that of the data before it.
pub struct Density<'a, L, B: Backend> {
    layer: &'a L,
    params: &'a Params<B>,
    given: Given<'a, B>,
}

/// Samples with their log-densities.
pub struct Samples<B: Backend> {
    /// The samples.
    pub x: Tensor<B>,
    /// ln p(x) for each, in nats.
    pub log_prob: Vec<f64>,
}

impl<'a, L: Invertible, B: Backend> Density<'a, L, B> {
    /// The density of `layer` at the parameters `params`.
    pub fn new(layer: &'a L, params: &'a Params<B>, given: Given<'a, B>) -> Self {
        Self { layer, params, given }
    }

    pub(crate) fn layer(&self) -> &'a L {
        self.layer
    }

    pub(crate) fn params(&self) -> &'a Params<B> {
        self.params
    }

    pub(crate) fn given(&self) -> Given<'a, B> {
        self.given
    }

    fn call(&self) -> Call<'a, L, B> {
        Call::new(self.layer, self.params, self.given)
    }

    /// ln p(x) for each sample in nats, `(B, 1)`, on the device.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn log_prob_on_device(&self, x: Tensor<B>) -> Result<Tensor<B>> {
        let Mapped { state, mut logdet } = self.call().forward(x)?;
        Gaussian::STANDARD.add(self.params.backend(), state.view(), &mut logdet.view_mut())?;
        Ok(logdet)
    }

    /// ln p(x) for each sample in nats; waits for the device.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn log_prob(&self, x: Tensor<B>) -> Result<Vec<f64>> {
        self.log_prob_on_device(x)?.to_f64()
    }

    /// As many samples as `shape` has, x = f⁻¹(T z) with z standard normal, drawn from (seed, number of the sample).
    ///
    /// Sample i is the same whatever the batch: `first` counts the samples that were drawn before. [`draw`](Self::draw) takes many samples
    /// in passes of bounded memory. The temperature T is 1 for samples
    /// of p; below 1 they gather around its modes and no longer follow p.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn sample(&self, shape: Shape, seed: u64, first: u64, temperature: f64) -> Result<Tensor<B>> {
        let z = latent(self.params.backend(), self.call().check(Direction::Forward, shape)?, seed, first, temperature)?;
        Ok(self.call().inverse(z)?.state)
    }

    /// Samples of p with their log-densities, in one pass: ln p(x) = ln N(z) - ln|det ∂x/∂z|.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn sample_with_log_prob(&self, shape: Shape, seed: u64, first: u64) -> Result<Samples<B>> {
        let backend = self.params.backend();
        let z = latent(backend, self.call().check(Direction::Forward, shape)?, seed, first, 1.0)?;
        let mut log_prob = Tensor::zeros(backend, Shape::per_sample(shape.batch()))?;
        Gaussian::STANDARD.add(backend, z.view(), &mut log_prob.view_mut())?;
        let Mapped { state, logdet } = self.call().inverse(z)?;
        log_prob.view_mut().axpy(backend, -1.0, logdet.view())?;
        Ok(Samples { x: state, log_prob: log_prob.to_f64()? })
    }

    /// The layer after which a batch is no longer finite, if there is one; for messages when a density is NaN.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn first_bad_layer(&self, x: Tensor<B>) -> Result<Option<String>> {
        let trail = Trail::new(0);
        Call::new(self.layer, self.params, self.given.with_trail(&trail)).forward(x)?;
        trail.first_bad_layer()
    }
}

/// Standard normal numbers times `temperature`; sample i is number `first + i` of the seed.
///
/// # Errors
/// The device has no room.
pub fn latent<B: Backend>(backend: &B, shape: Shape, seed: u64, first: u64, temperature: f64) -> Result<Tensor<B>> {
    latent_of_numbers(backend, shape, seed, |i| first.wrapping_add(i as u64), temperature)
}

/// Normal numbers that a generator makes at once, two words each: small samples take one after the other from a stream, so that none are made in vain.
const TOGETHER: usize = 32;

/// The same with a number for each sample, on which alone it depends: whatever is drawn with it, and on any thread.
pub(crate) fn latent_of_numbers<B: Backend>(
    backend: &B,
    shape: Shape,
    seed: u64,
    number: impl Fn(usize) -> u64 + Sync,
    temperature: f64,
) -> Result<Tensor<B>> {
    let mut host = vec![B::Elem::default(); shape.len()];
    let len = shape.sample_len().max(1);
    // Samples of a stream, a power of two.
    let together = 1 << (TOGETHER / len).max(1).ilog2();
    host.par_chunks_mut(len * together).enumerate().for_each(|(chunk, values)| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut next = None;
        for (i, values) in values.chunks_mut(len).enumerate() {
            let sample = number(chunk * together + i);
            let before = sample % together as u64;
            if before == 0 || next != Some(sample) {
                rng.set_stream(sample / together as u64);
                rng.set_word_pos(0);
                for _ in 0..before as usize * len {
                    normal(&mut rng);
                }
            }
            next = sample.checked_add(1);
            values.iter_mut().for_each(|value| *value = B::Elem::from_f64(temperature * normal(&mut rng)));
        }
    });
    Tensor::from_slice(backend, shape, &host)
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Bits per dimension of a mean log-density in nats of samples with `dimensions` values: -ln p / (n ln 2).
///
/// For whole-number data (256 grey values) the density has to be that of the dequantized numbers in their own units: put
/// [`Rescale::to_unit`](crate::preprocess::Rescale::to_unit) into the flow, and its log-determinant counts the ln 256 a dimension.
pub fn bits_per_dim(mean_log_prob: f64, dimensions: usize) -> f64 {
    -mean_log_prob / (dimensions as f64 * LN_2)
}
