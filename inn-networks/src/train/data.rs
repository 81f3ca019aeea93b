//! Where samples and conditions come from.

use super::random::{Purpose, order};
use inn_core::tensor::expect_finite;
use inn_core::{Element, Error, Result, Shape};
use ndarray::{Array, Dimension};
use rand_chacha::ChaCha8Rng;

/// Samples by number, each with its conditions, in the number type of the backend.
///
/// A sample may be different each time it is drawn (dequantization, noise, a simulated observation), as long as it is a function of its
/// number and of what `rng` gives: that generator is keyed by (seed, epoch, number), so that neither the order of the batch nor the
/// number of threads nor an interruption changes a sample.
pub trait Dataset<T: Element>: Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of a sample, with a batch of 1.
    fn sample_shape(&self) -> Shape;

    /// The shapes of the conditions of a sample, each with a batch of 1.
    fn condition_shapes(&self) -> Vec<Shape> {
        Vec::new()
    }

    /// Writes sample `index` and its conditions, row-major, into slices of the lengths of the shapes. May be called by several threads.
    ///
    /// # Errors
    /// What keeps the sample from being drawn.
    fn draw(&self, index: usize, rng: &mut ChaCha8Rng, x: &mut [T], conditions: &mut [&mut [T]]) -> Result<()>;
}

impl<T: Element, D: Dataset<T> + ?Sized> Dataset<T> for &D {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn sample_shape(&self) -> Shape {
        (**self).sample_shape()
    }
    fn condition_shapes(&self) -> Vec<Shape> {
        (**self).condition_shapes()
    }
    fn draw(&self, index: usize, rng: &mut ChaCha8Rng, x: &mut [T], conditions: &mut [&mut [T]]) -> Result<()> {
        (**self).draw(index, rng, x, conditions)
    }
}

/// Arrays (sample, channel, up to three extents), whose values have been checked.
#[derive(Clone, Debug)]
pub struct ArrayDataset<T> {
    len: usize,
    x: Part<T>,
    conditions: Vec<Part<T>>,
}

#[derive(Clone, Debug)]
struct Part<T> {
    shape: Shape,
    values: Vec<T>,
}

impl<T: Element> Part<T> {
    /// The number of samples, and the array.
    fn new<D: Dimension>(name: &str, array: Array<T, D>) -> Result<(usize, Self)> {
        let dims = array.shape().to_vec();
        if dims.first() == Some(&0) {
            return Err(Error::shape(name, "at least one sample", format!("{dims:?}")));
        }
        let whole = Shape::from_dims(&dims).map_err(|e| Error::shape(name, "(sample, channel, up to three extents)", e))?;
        let shape = whole.with_batch(1);
        let values: Vec<T> = match array.is_standard_layout() {
            true => match array.into_raw_vec_and_offset() {
                (values, Some(0) | None) if values.len() == whole.len() => values,
                (values, offset) => values.into_iter().skip(offset.unwrap_or(0)).take(whole.len()).collect(),
            },
            false => array.iter().copied().collect(),
        };
        for (i, sample) in values.chunks_exact(shape.len()).enumerate() {
            expect_finite(&format!("{name}, sample {i}"), sample)?;
        }
        Ok((whole.batch(), Self { shape, values }))
    }

    fn sample(&self, index: usize) -> Result<&[T]> {
        let n = self.shape.len();
        let range = index.checked_mul(n).and_then(|start| Some(start..start.checked_add(n)?));
        range
            .and_then(|range| self.values.get(range))
            .ok_or_else(|| Error::shape("number of a sample", format!("less than {}", self.values.len() / n), index))
    }
}

/// Copies where the lengths agree.
fn copy<T: Element>(tensor: &str, from: &[T], to: &mut [T]) -> Result<()> {
    if from.len() != to.len() {
        return Err(Error::shape(tensor, format!("{} values", from.len()), to.len()));
    }
    to.copy_from_slice(from);
    Ok(())
}

impl<T: Element> ArrayDataset<T> {
    /// Samples without conditions. No copy is made of an array in standard layout.
    ///
    /// # Errors
    /// No samples, an array of other than 2 to 5 axes, or [`Error::NonFinite`] with the first sample that is not finite.
    pub fn new<D: Dimension>(x: Array<T, D>) -> Result<Self> {
        let (len, x) = Part::new("data", x)?;
        Ok(Self { len, x, conditions: Vec::new() })
    }

    /// With one condition more, (sample, channel, up to three extents); the first has number 0.
    ///
    /// # Errors
    /// As [`new`](Self::new), or another number of samples.
    pub fn with_condition<D: Dimension>(mut self, condition: Array<T, D>) -> Result<Self> {
        let name = format!("condition {}", self.conditions.len());
        let (len, part) = Part::new(&name, condition)?;
        if len != self.len {
            return Err(Error::shape(name, format!("{} samples", self.len), format!("{len} samples")));
        }
        self.conditions.push(part);
        Ok(self)
    }
}

impl<T: Element> Dataset<T> for ArrayDataset<T> {
    fn len(&self) -> usize {
        self.len
    }
    fn sample_shape(&self) -> Shape {
        self.x.shape
    }
    fn condition_shapes(&self) -> Vec<Shape> {
        self.conditions.iter().map(|c| c.shape).collect()
    }
    fn draw(&self, index: usize, _: &mut ChaCha8Rng, x: &mut [T], conditions: &mut [&mut [T]]) -> Result<()> {
        copy("sample", self.x.sample(index)?, x)?;
        for (i, (part, to)) in self.conditions.iter().zip(conditions).enumerate() {
            copy(&format!("condition {i}"), part.sample(index)?, to)?;
        }
        Ok(())
    }
}

/// A set whose samples are varied each time they are drawn: dequantized, disturbed, observed through a simulated experiment.
///
/// ```
/// # use inn_networks::train::{ArrayDataset, Varied};
/// let grey = ArrayDataset::new(ndarray::Array4::<f32>::zeros((10, 1, 8, 8)))?;
/// let dequantized = Varied::new(grey, |rng, x, _| {
///     inn_networks::preprocess::dequantize(x, rng);
///     Ok(())
/// });
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Varied<D, F> {
    inner: D,
    vary: F,
}

impl<D, F> Varied<D, F> {
    /// Applies `vary(rng, x, conditions)` to each sample of `inner`.
    pub fn new<T: Element>(inner: D, vary: F) -> Self
    where
        D: Dataset<T>,
        F: Fn(&mut ChaCha8Rng, &mut [T], &mut [&mut [T]]) -> Result<()> + Sync,
    {
        Self { inner, vary }
    }
}

impl<T, D, F> Dataset<T> for Varied<D, F>
where
    T: Element,
    D: Dataset<T>,
    F: Fn(&mut ChaCha8Rng, &mut [T], &mut [&mut [T]]) -> Result<()> + Sync,
{
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn sample_shape(&self) -> Shape {
        self.inner.sample_shape()
    }
    fn condition_shapes(&self) -> Vec<Shape> {
        self.inner.condition_shapes()
    }
    fn draw(&self, index: usize, rng: &mut ChaCha8Rng, x: &mut [T], conditions: &mut [&mut [T]]) -> Result<()> {
        self.inner.draw(index, rng, x, conditions)?;
        (self.vary)(rng, x, conditions)
    }
}

/// Some samples of a set.
#[derive(Clone, Debug)]
pub struct Subset<D> {
    inner: D,
    indices: Vec<usize>,
}

impl<D> Subset<D> {
    /// The samples with these numbers, in this order; a number may occur twice.
    ///
    /// # Errors
    /// No numbers, or one that the set does not have.
    pub fn new<T: Element>(inner: D, indices: Vec<usize>) -> Result<Self>
    where
        D: Dataset<T>,
    {
        let len = inner.len();
        if indices.is_empty() {
            return Err(Error::shape("subset", "at least one sample", "none"));
        }
        match indices.iter().find(|&&i| i >= len) {
            Some(i) => Err(Error::shape("number of a sample", format!("less than {len}"), i)),
            None => Ok(Self { inner, indices }),
        }
    }
}

impl<T: Element, D: Dataset<T>> Dataset<T> for Subset<D> {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn sample_shape(&self) -> Shape {
        self.inner.sample_shape()
    }
    fn condition_shapes(&self) -> Vec<Shape> {
        self.inner.condition_shapes()
    }
    fn draw(&self, index: usize, rng: &mut ChaCha8Rng, x: &mut [T], conditions: &mut [&mut [T]]) -> Result<()> {
        match self.indices.get(index) {
            Some(&i) => self.inner.draw(i, rng, x, conditions),
            None => Err(Error::shape("number of a sample", format!("less than {}", self.indices.len()), index)),
        }
    }
}

/// Divides a set at random into one to train on and one of `held_out` samples to evaluate on.
///
/// # Errors
/// `held_out` is 0 or leaves nothing to train on.
pub fn split<T: Element, D: Dataset<T>>(data: &D, held_out: usize, seed: u64) -> Result<(Subset<&D>, Subset<&D>)> {
    let len = data.len();
    if held_out == 0 || held_out >= len {
        return Err(Error::config("held_out", format!("expected 1 to {} of {len} samples, got {held_out}", len.saturating_sub(1))));
    }
    let mut train = order(seed, Purpose::Split, 0, len);
    let test = train.split_off(len - held_out);
    Ok((Subset::new(data, train)?, Subset::new(data, test)?))
}
