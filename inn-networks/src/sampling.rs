//! Samples in chunks: as many as one likes, in as little memory as one likes.

use crate::density::{Density, latent_of_numbers};
use crate::encoder::{Encoded, Encoder};
use inn_core::memory::map_bytes;
use inn_core::{Backend, Call, Direction, Error, Facts, Given, Invertible, Params, Result, Shape, Tensor};
use std::ops::Range;

/// How samples are drawn, as plain data.
///
/// Sample i of condition c is x = f⁻¹(T z; condition c) with z standard normal from the stream (c, i) of the seed. It is the same bit by bit
/// whatever the budget, the number of threads and the number of samples, as far as the layers treat the samples of a batch apart.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Samples for each condition; of a network without conditions, all samples.
    pub count: usize,
    /// Seed of the latents.
    pub seed: u64,
    /// T. 1 for samples of the density; below 1 they gather around its modes and no longer follow it.
    pub temperature: f64,
    /// Bytes that a pass may take at its peak, parameters included. A pass has as many samples as fit.
    pub budget: usize,
}

impl Default for Sampling {
    /// One sample a condition, in passes of at most 256 MiB.
    fn default() -> Self {
        Self { count: 1, seed: 0, temperature: 1.0, budget: 256 << 20 }
    }
}

/// Samples that were drawn in one pass.
pub struct Drawn<B: Backend> {
    /// The number of the first: sample i of condition c has the number c · count + i.
    pub first: usize,
    /// The samples.
    pub x: Tensor<B>,
}

impl<L: Invertible, B: Backend> Density<'_, L, B> {
    /// Draws [`count`](Sampling::count) samples of the shape of `sample` (batch ignored) for each condition, pass by pass, and hands the samples of
    /// each pass to `each`, in the order of their numbers. Conditions have one batch: that is how many they are.
    ///
    /// # Errors
    /// Not even one sample fits the budget, conditions of different batches, a shape that does not fit, or what `each` returns.
    pub fn draw(&self, sample: Shape, sampling: &Sampling, each: impl FnMut(Drawn<B>) -> Result<()>) -> Result<()> {
        let conditions = self.given().conditions;
        let plan = Plan { network: self.layer(), layer: self.layer(), params: self.params(), given: self.given(), sample, sampling };
        plan.run(conditions, |range| conditions.iter().map(|c| rows(c, range.clone())).collect(), each)
    }

    /// All of them in one tensor. What is needed beside it stays within the budget.
    ///
    /// # Errors
    /// As [`draw`](Self::draw).
    pub fn draw_all(&self, sample: Shape, sampling: &Sampling) -> Result<Tensor<B>> {
        let conditions = self.given().conditions.first().map_or(1, |c| c.shape().batch());
        let mut all = Gathered::new(self.params().backend(), sample, conditions.saturating_mul(sampling.count))?;
        self.draw(sample, sampling, |drawn| all.put(drawn))?;
        Ok(all.0)
    }
}

impl<L: Invertible, E: Encoder> Encoded<L, E> {
    /// [`Density::draw`] for each sample in the batch of `observations`. It is encoded once, whatever the budget and the number of samples
    /// that are drawn for it.
    ///
    /// # Errors
    /// As [`Density::draw`].
    pub fn draw<B: Backend>(
        &self,
        params: &Params<B>,
        observations: &[Tensor<B>],
        sample: Shape,
        sampling: &Sampling,
        each: impl FnMut(Drawn<B>) -> Result<()>,
    ) -> Result<()> {
        let plan = Plan { network: self, layer: self.inner(), params, given: Given::default(), sample, sampling };
        let prepare = |range: Range<usize>| {
            let rows = observations.iter().map(|o| rows(o, range.clone())).collect::<Result<Vec<_>>>()?;
            self.encode(params, &rows)
        };
        plan.run(observations, prepare, each)
    }

    /// All of them in one tensor. What is needed beside it stays within the budget.
    ///
    /// # Errors
    /// As [`Density::draw`].
    pub fn draw_all<B: Backend>(
        &self,
        params: &Params<B>,
        observations: &[Tensor<B>],
        sample: Shape,
        sampling: &Sampling,
    ) -> Result<Tensor<B>> {
        let number = observations.first().map_or(0, |o| o.shape().batch());
        let mut all = Gathered::new(params.backend(), sample, number.saturating_mul(sampling.count))?;
        self.draw(params, observations, sample, sampling, |drawn| all.put(drawn))?;
        Ok(all.0)
    }
}

struct Gathered<B: Backend>(Tensor<B>);

impl<B: Backend> Gathered<B> {
    fn new(backend: &B, sample: Shape, count: usize) -> Result<Self> {
        Tensor::scratch(backend, sample.with_batch(count)).map(Self)
    }

    fn put(&mut self, drawn: Drawn<B>) -> Result<()> {
        let backend = self.0.backend().clone();
        let range = drawn.first..drawn.first + drawn.x.shape().batch();
        self.0.view_mut().samples(range).assign(&backend, drawn.x.view())
    }
}

/// A copy of some samples.
fn rows<B: Backend>(from: &Tensor<B>, range: Range<usize>) -> Result<Tensor<B>> {
    let mut copy = Tensor::scratch(from.backend(), from.shape().with_batch(range.len()))?;
    copy.view_mut().assign(from.backend(), from.view().samples(range))?;
    Ok(copy)
}

/// Each sample `count` times.
fn repeated<B: Backend>(from: &Tensor<B>, count: usize) -> Result<Tensor<B>> {
    let batch = from.shape().batch();
    let mut to = Tensor::scratch(from.backend(), from.shape().with_batch(batch * count))?;
    for i in 0..batch {
        to.view_mut().samples(i * count..(i + 1) * count).assign(from.backend(), from.view().samples(i..i + 1).repeat(count))?;
    }
    Ok(to)
}

/// Samples of a pass at most, whatever the budget.
const MOST: usize = 1 << 20;

/// What is sampled, and how.
struct Plan<'a, N, L, B: Backend> {
    /// With the encoding of conditions, to predict memory with.
    network: &'a N,
    /// What maps latents to samples, given prepared conditions.
    layer: &'a L,
    params: &'a Params<B>,
    given: Given<'a, B>,
    sample: Shape,
    sampling: &'a Sampling,
}

impl<N: Invertible, L: Invertible, B: Backend> Plan<'_, N, L, B> {
    /// Goes through the conditions: several at once where a pass has room for all their samples, else each by itself, its samples in
    /// several passes. `prepare` is called once for each condition.
    fn run(
        &self,
        conditions: &[Tensor<B>],
        prepare: impl Fn(Range<usize>) -> Result<Vec<Tensor<B>>>,
        mut each: impl FnMut(Drawn<B>) -> Result<()>,
    ) -> Result<()> {
        let shapes: Vec<Shape> = conditions.iter().map(Tensor::shape).collect();
        let number = shapes.first().map_or(1, Shape::batch);
        if let Some(odd) = shapes.iter().find(|shape| shape.batch() != number) {
            return Err(Error::shape("conditions", format!("a batch of {number}, that of the first"), odd));
        }
        let count = self.sampling.count;
        if count == 0 || number == 0 {
            return Ok(());
        }
        let one: Vec<Shape> = shapes.iter().map(|shape| shape.with_batch(1)).collect();
        let latent_shape = self.latent_shape(&one)?;
        let fits = largest(count.min(MOST), |batch| self.fits(batch, &one))?;
        if fits < count {
            // Passes of like size.
            let size = count.div_ceil(count.div_ceil(fits));
            for c in 0..number {
                let prepared = prepare(c..c + 1)?;
                for start in (0..count).step_by(size) {
                    let samples = start..(start + size).min(count);
                    let z = self.latents(latent_shape, c..c + 1, samples.clone())?;
                    each(Drawn { first: c * count + start, x: self.inverse(z, &prepared)? })?;
                }
            }
            return Ok(());
        }
        let together = largest(number.min(MOST.div_ceil(count)), |group| {
            let shapes: Vec<Shape> = shapes.iter().map(|shape| shape.with_batch(group * count)).collect();
            // One condition and its samples fit, as has been seen.
            Ok(group == 1 || self.fits(group * count, &shapes)?)
        })?;
        let size = number.div_ceil(number.div_ceil(together));
        for start in (0..number).step_by(size) {
            let group = start..(start + size).min(number);
            let mut prepared = prepare(group.clone())?;
            if count > 1 && group.len() > 1 {
                prepared = prepared.iter().map(|c| repeated(c, count)).collect::<Result<_>>()?;
            }
            let z = self.latents(latent_shape, group, 0..count)?;
            each(Drawn { first: start * count, x: self.inverse(z, &prepared)? })?;
        }
        Ok(())
    }

    fn fits(&self, batch: usize, conditions: &[Shape]) -> Result<bool> {
        let (backend, layout, input) = (self.params.backend(), self.params.layout(), self.sample.with_batch(batch));
        let (bytes, budget) = (map_bytes(backend, self.network, layout, Direction::Inverse, input, conditions)?, self.sampling.budget);
        if batch == 1 && bytes > budget {
            return Err(Error::config("budget", format!("expected at least {bytes} bytes, which one sample takes, got {budget}")));
        }
        Ok(bytes <= budget)
    }

    /// That of one sample.
    fn latent_shape(&self, conditions: &[Shape]) -> Result<Shape> {
        let operator = self.given.operator.map(|a| (a.domain(), a.range()));
        let facts = Facts { layout: self.params.layout(), conditions, operator };
        self.network.check(Direction::Forward, facts, self.sample.with_batch(1))
    }

    /// T z for these samples of each of these conditions.
    fn latents(&self, shape: Shape, conditions: Range<usize>, samples: Range<usize>) -> Result<Tensor<B>> {
        let (batch, Sampling { seed, temperature, .. }) = (conditions.len() * samples.len(), *self.sampling);
        let number = |k: usize| {
            let (c, i) = (conditions.start + k / samples.len(), samples.start + k % samples.len());
            (c as u64) << 32 | i as u64
        };
        latent_of_numbers(self.params.backend(), shape.with_batch(batch), seed, number, temperature)
    }

    fn inverse(&self, z: Tensor<B>, conditions: &[Tensor<B>]) -> Result<Tensor<B>> {
        Ok(Call::new(self.layer, self.params, Given { conditions, ..self.given }).inverse(z)?.state)
    }
}

/// The largest n from 1 to `most` that satisfies a predicate which no longer holds once it has failed; 1 is taken for granted once asked.
fn largest(most: usize, mut holds: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    holds(1)?;
    if holds(most)? {
        return Ok(most);
    }
    let (mut good, mut bad) = (1, most);
    while good + 1 < bad {
        let middle = good + (bad - good) / 2;
        if holds(middle)? { good = middle } else { bad = middle }
    }
    Ok(good)
}
