//! Odd extents: the last slice of an axis steps aside.

use crate::backend::{Backend, Direction};
use crate::error::{Error, Result};
use crate::shape::{Shape, Window};
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};

/// What a squeeze of a [`Multiscale`](crate::Multiscale) network does with an odd extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Odd {
    /// An error that lists the legal extents.
    #[default]
    Refuse,
    /// The last slice of the axis becomes latent as it is, and the squeeze sees the even extents that remain.
    ///
    /// While a scale and those below it run, a sample (C, n_z, n_y, n_x) is permuted into \[even part; last slice of x; of y; of z\] of those axes
    /// that are odd, and they see the even part. In the latent, which has the shape of the data, the carried values stand where they stood. So
    /// the map is a bijection of ℝⁿ to ℝⁿ at any extents of at least 2 at every scale, and carrying adds nothing to its log-determinant. Its
    /// effect on the density:
    /// ```text
    /// ln p(x) = ln p_Z(f(even part)) + ℓ_f(even part) + ln p_Z(carried)
    /// ```
    /// is exact and integrates to 1, but the model takes what is carried to be independent of all else and distributed as the latent, at the
    /// scale where it steps aside. Layers before that scale (a first [`Scale`](crate::Scale) without a squeeze, or steps of the scales above) still
    /// act on it.
    Carry,
}

impl Odd {
    /// The shape that is squeezed instead of `full`: the same, or its even part.
    ///
    /// # Errors
    /// Carrying without a spatial axis, or from an extent below 2.
    pub fn even(self, full: Shape) -> Result<Shape> {
        if self == Self::Refuse {
            return Ok(full);
        }
        if full.rank() == 0 || full.spatial().iter().any(|&n| n < 2) {
            return Err(Error::shape("squeeze input", "at least one spatial axis and extents of at least 2", full));
        }
        let (first, extents) = (3 - full.rank(), full.extents());
        Ok(full.with_extents(std::array::from_fn(|axis| if axis < first { extents[axis] } else { extents[axis] & !1 })))
    }
}

/// `Forward`: permutes the samples of `x`, of the shape `full`, and narrows the view to their even part. `Inverse`: the way back. A view whose
/// extents are even stays as it is. Between the two, the rest of a sample lies behind its even part.
///
/// One axis (outer, n, inner) at a time: two runs of every row, n - 1 slices and the last, change places with those of other rows.
///
/// # Errors
/// A view whose samples have gaps.
pub fn carry<B: Backend>(backend: &B, dir: Direction, full: Shape, x: &mut ViewMut<'_, B>) -> Result<()> {
    let first = 3 - full.rank();
    let odd = |axis: &usize| full.extents()[*axis] % 2 == 1;
    match dir {
        Direction::Forward => (first..3).filter(odd).try_for_each(|axis| carry_axis(backend, dir, full, axis, x)),
        Direction::Inverse => (first..3).rev().filter(odd).try_for_each(|axis| carry_axis(backend, dir, full, axis, x)),
    }
}

/// Carries along one axis. The axes before it are even already, those after it still whole.
fn carry_axis<B: Backend>(backend: &B, dir: Direction, full: Shape, axis: usize, x: &mut ViewMut<'_, B>) -> Result<()> {
    let first = 3 - full.rank();
    let whole = full.extents();
    let with = |n: usize| {
        let extents = std::array::from_fn(|a| match a {
            a if a == axis => n,
            a if a < axis && a >= first => whole[a] & !1,
            a => whole[a],
        });
        full.with_extents(extents)
    };
    let n = whole[axis];
    let (before, after) = (with(n), with(n - 1));
    let inner: usize = whole[axis + 1..].iter().product();
    let rows = Rows { count: before.sample_len() / (n * inner), main: (n - 1) * inner, last: inner };
    if !x.window().is_sample_contiguous() {
        return Err(Error::shape("state to carry from", "samples without gaps", format!("{:?}", x.window())));
    }
    let batch = full.batch();
    let tile = backend.tile(before.sample_len() * size_of::<B::Elem>(), batch).max(1);
    for start in (0..batch).step_by(tile) {
        rows.exchange(backend, dir, &mut x.samples(start..batch.min(start + tile)))?;
    }
    x.narrow(if dir == Direction::Forward { after } else { before })
}

/// The rows of a sample along an axis: `count` of them, each of `main` elements that stay in front and `last` that step aside.
struct Rows {
    count: usize,
    main: usize,
    last: usize,
}

impl Rows {
    /// Between \[row; row; ..\] and \[main; main; ..; last; last; ..\].
    fn exchange<B: Backend>(&self, backend: &B, dir: Direction, x: &mut ViewMut<'_, B>) -> Result<()> {
        let Self { count, main, last } = *self;
        let (row, batch, window) = (main + last, x.shape().batch(), x.window());
        let mut copy = Tensor::scratch(backend, Shape::rows(batch, count * row))?;
        // Runs of `len` elements, one a row, from an offset on.
        let runs = |offset: usize, batch_stride: usize, channel_stride: usize, len: usize| {
            let shape = Shape::rows(batch, count).with_extents([1, 1, len]);
            Window { shape, offset, batch_stride, channel_stride, pixel_stride: 1 }
        };
        let whole = runs(window.offset, window.batch_stride, row, row);
        let pieces = [
            (runs(0, count * row, row, main), runs(window.offset, window.batch_stride, main, main)),
            (runs(main, count * row, row, last), runs(window.offset + count * main, window.batch_stride, last, last)),
        ];
        let all = runs(0, count * row, row, row);
        match dir {
            Direction::Forward => {
                ViewMut::new(copy.buffer_mut(), all)?.assign(backend, View::new(x.buffer(), whole)?)?;
                pieces
                    .iter()
                    .try_for_each(|&(there, here)| ViewMut::new(x.buffer_mut(), here)?.assign(backend, View::new(copy.buffer(), there)?))
            }
            Direction::Inverse => {
                pieces
                    .iter()
                    .try_for_each(|&(there, here)| ViewMut::new(copy.buffer_mut(), there)?.assign(backend, View::new(x.buffer(), here)?))?;
                ViewMut::new(x.buffer_mut(), whole)?.assign(backend, View::new(copy.buffer(), all)?)
            }
        }
    }
}
