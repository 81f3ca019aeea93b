//! Batches on the device.

use super::data::Dataset;
use inn_core::tensor::expect_finite;
use inn_core::{Backend, Error, Result, Shape, Tensor};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Samples with their conditions.
pub(super) struct Batch<B: Backend> {
    pub x: Tensor<B>,
    pub conditions: Vec<Tensor<B>>,
}

/// Draws samples in parallel, each with a generator of its own, and checks that they are finite.
pub(super) fn draw<B: Backend>(
    backend: &B,
    data: &dyn Dataset<B::Elem>,
    indices: &[usize],
    rng: impl Fn(usize) -> ChaCha8Rng + Sync,
) -> Result<Batch<B>> {
    let shapes: Vec<Shape> = [data.sample_shape()].into_iter().chain(data.condition_shapes()).collect();
    if let Some(shape) = shapes.iter().find(|shape| shape.sample_len() == 0) {
        return Err(Error::shape("shape of a sample", "a positive size in every axis", shape));
    }
    let mut arrays: Vec<Vec<B::Elem>> = shapes.iter().map(|shape| vec![B::Elem::default(); indices.len() * shape.sample_len()]).collect();
    let mut samples: Vec<(usize, Vec<&mut [B::Elem]>)> = indices.iter().map(|&i| (i, Vec::with_capacity(shapes.len()))).collect();
    for (array, shape) in arrays.iter_mut().zip(&shapes) {
        for ((_, parts), part) in samples.iter_mut().zip(array.chunks_exact_mut(shape.sample_len())) {
            parts.push(part);
        }
    }
    samples.into_par_iter().try_for_each(|(i, mut parts)| {
        let Some((x, conditions)) = parts.split_first_mut() else { return Ok(()) };
        data.draw(i, &mut rng(i), x, conditions)?;
        expect_finite(&format!("sample {i} as it was drawn"), x)?;
        conditions
            .iter()
            .enumerate()
            .try_for_each(|(c, values)| expect_finite(&format!("condition {c} of sample {i} as it was drawn"), values))
    })?;
    let mut tensors = arrays.iter().zip(&shapes).map(|(array, shape)| Tensor::from_slice(backend, shape.with_batch(indices.len()), array));
    let x = tensors.next().unwrap_or_else(|| Err(Error::shape("batch", "samples", "none")))?;
    Ok(Batch { x, conditions: tensors.collect::<Result<_>>()? })
}
