//! Batches on the device.

use super::data::Dataset;
use inn_core::tensor::expect_finite;
use inn_core::{Backend, Element, Error, Result, Shape, Tensor};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Samples with their conditions.
pub(super) struct Batch<B: Backend> {
    pub x: Tensor<B>,
    pub conditions: Vec<Tensor<B>>,
}

/// Values of a task at least, where a batch has that many.
const TASK: usize = 2048;

/// Tasks of a batch, where it has that many samples.
const TASKS: usize = 16;

/// Draws samples in parallel, each with a generator of its own, and checks that they are finite.
pub(super) fn draw<B: Backend>(
    backend: &B,
    data: &dyn Dataset<B::Elem>,
    indices: &[usize],
    rng: impl Fn(usize) -> ChaCha8Rng + Sync,
) -> Result<Batch<B>> {
    let shapes: Vec<Shape> = [data.sample_shape()].into_iter().chain(data.condition_shapes()).map(|shape| shape.with_batch(1)).collect();
    if let Some(shape) = shapes.iter().find(|shape| shape.is_empty()) {
        return Err(Error::shape("shape of a sample", "a positive size in every axis", shape));
    }
    let mut arrays: Vec<Vec<B::Elem>> = shapes.iter().map(|shape| vec![B::Elem::default(); indices.len() * shape.len()]).collect();
    // Small samples are drawn several to a task, but not so many that a costly simulation of them keeps threads waiting.
    let together = (TASK / shapes.iter().map(Shape::len).sum::<usize>().max(1)).clamp(1, indices.len().div_ceil(TASKS).max(1));
    let mut tasks: Vec<_> = indices.chunks(together).map(|part| (part, Vec::with_capacity(shapes.len()))).collect();
    for (array, shape) in arrays.iter_mut().zip(&shapes) {
        for ((_, samples), part) in tasks.iter_mut().zip(array.chunks_mut(together * shape.len())) {
            samples.push(part.chunks_exact_mut(shape.len()));
        }
    }
    tasks.into_par_iter().try_for_each(|(part, mut samples)| {
        let mut values = Vec::with_capacity(samples.len());
        for &i in part {
            values.clear();
            values.extend(samples.iter_mut().filter_map(Iterator::next));
            let Some((x, conditions)) = values.split_first_mut() else { return Ok(()) };
            data.draw(i, &mut rng(i), x, conditions)?;
            check(x, || format!("sample {i} as it was drawn"))?;
            conditions
                .iter()
                .enumerate()
                .try_for_each(|(c, values)| check(values, || format!("condition {c} of sample {i} as it was drawn")))?;
        }
        Ok(())
    })?;
    let mut tensors = arrays.iter().zip(&shapes).map(|(array, shape)| Tensor::from_slice(backend, shape.with_batch(indices.len()), array));
    let x = tensors.next().unwrap_or_else(|| Err(Error::shape("batch", "samples", "none")))?;
    Ok(Batch { x, conditions: tensors.collect::<Result<_>>()? })
}

/// [`expect_finite`], whose search stops at the first bad value, only where a look at all of them, which takes vectors, has seen one.
fn check<T: Element>(values: &[T], name: impl Fn() -> String) -> Result<()> {
    let finite = values.iter().fold(true, |finite, v| finite & Element::is_finite(*v));
    if finite { Ok(()) } else { expect_finite(&name(), values) }
}
