//! Projections of tensors, distances and their gradients.

use super::{Set, Solved};
use inn_core::tensor::expect_finite;
use inn_core::{Element, Error, HostBackend, Result, Tensor, error::expect_shape};
use rayon::prelude::*;

/// Distances of the samples of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Distances {
    /// d(x) = ½ |x - P(x)|² of each sample.
    pub values: Vec<f64>,
    /// The worst of the batch.
    pub solved: Solved,
}

/// Replaces each sample of `x` by its projection.
///
/// # Errors
/// A shape that the set refuses, values that are not finite, a projection that is not found. `x` is unchanged then.
pub fn project<B: HostBackend, S: Set + ?Sized>(set: &S, x: &mut Tensor<B>) -> Result<Solved> {
    let mut projected = vec![B::Elem::default(); x.shape().len()];
    let (_, solved) = each(set, x, &mut projected, |_, p| B::Elem::from_f64(p))?;
    expect_finite("projection", &projected)?;
    x.slice_mut().copy_from_slice(&projected);
    Ok(solved)
}

/// d(x) of each sample.
///
/// # Errors
/// As [`project`].
pub fn distance<B: HostBackend, S: Set + ?Sized>(set: &S, x: &Tensor<B>) -> Result<Distances> {
    let (values, solved) = each(set, x, &mut [], |_, _| B::Elem::default())?;
    Ok(Distances { values, solved })
}

/// d(x) of each sample, and g = weight (x - P(x)), which overwrites `g`: the gradient of weight Σ d where d is differentiable.
///
/// # Errors
/// As [`project`]; a `g` of another shape. `g` is unchanged then.
pub fn distance_with_gradient<B: HostBackend, S: Set + ?Sized>(
    set: &S,
    weight: f64,
    x: &Tensor<B>,
    g: &mut Tensor<B>,
) -> Result<Distances> {
    expect_shape("gradient of a distance", x.shape(), g.shape())?;
    let mut gradient = vec![B::Elem::default(); x.shape().len()];
    let (values, solved) = each(set, x, &mut gradient, |x, p| B::Elem::from_f64(weight * (x - p)))?;
    g.slice_mut().copy_from_slice(&gradient);
    Ok(Distances { values, solved })
}

/// [`Set::excess`] of each sample.
///
/// # Errors
/// A shape that the set refuses, values that are not finite.
pub fn excess<B: HostBackend, S: Set + ?Sized>(set: &S, x: &Tensor<B>) -> Result<Vec<f64>> {
    let shape = x.shape();
    set.check(shape)?;
    expect_finite("tensor whose membership is asked", x.slice())?;
    let of = |x: &[B::Elem]| set.excess(shape, &x.iter().map(|v| v.to_f64()).collect::<Vec<_>>());
    Ok(x.slice().par_chunks(shape.sample_len().max(1)).map(of).collect())
}

/// Whether each sample lies in the set: no constraint is exceeded by more than `tolerance`, in its own unit.
///
/// # Errors
/// As [`excess`]; a tolerance that is not a number >= 0.
pub fn contains<B: HostBackend, S: Set + ?Sized>(set: &S, x: &Tensor<B>, tolerance: f64) -> Result<Vec<bool>> {
    if tolerance.is_nan() || tolerance < 0.0 {
        return Err(Error::config("tolerance", format!("expected a number >= 0, got {tolerance}")));
    }
    Ok(excess(set, x)?.into_iter().map(|e| e <= tolerance).collect())
}

/// Projects each sample, writes `element(x, P(x))` to `out` where it has room, and returns the distances.
fn each<B: HostBackend, S: Set + ?Sized>(
    set: &S,
    x: &Tensor<B>,
    out: &mut [B::Elem],
    element: impl Fn(f64, f64) -> B::Elem + Sync,
) -> Result<(Vec<f64>, Solved)> {
    let (shape, n) = (x.shape(), x.shape().sample_len().max(1));
    set.check(shape)?;
    expect_finite("tensor to project", x.slice())?;
    let one = |x: &[B::Elem], out: &mut [B::Elem]| {
        let mut p: Vec<f64> = x.iter().map(|v| v.to_f64()).collect();
        let solved = set.nearest(shape, &mut p)?;
        expect_finite("projection", &p)?;
        let pairs = || x.iter().map(|v| v.to_f64()).zip(p.iter().copied());
        out.iter_mut().zip(pairs()).for_each(|(out, (x, p))| *out = element(x, p));
        Ok((0.5 * pairs().map(|(x, p)| (x - p).powi(2)).sum::<f64>(), solved))
    };
    let done: Vec<(f64, Solved)> = if out.is_empty() {
        x.slice().par_chunks(n).map(|x| one(x, &mut [])).collect::<Result<_>>()?
    } else {
        x.slice().par_chunks(n).zip(out.par_chunks_mut(n)).map(|(x, out)| one(x, out)).collect::<Result<_>>()?
    };
    let solved = done.iter().fold(Solved::EXACT, |worst, (_, solved)| worst.worst(*solved));
    Ok((done.into_iter().map(|(d, _)| d).collect(), solved))
}
