//! Activations on tensors: value, tangent and adjoint, with the gated linear unit.
//!
//! For [`Activation`] and for GaLU, y = x₁ ⊙ σ(x₂) with x₁, x₂ the two halves of the channels (Dauphin et al. 2017, arXiv:1612.08083). Adjoints
//! take the input of the activation, so that they stay accurate where the output saturates.

use crate::activation::Activation;
use inn_core::kernel::{Kernel, UNIFORMS};
use inn_core::view::{View, ViewMut};
use inn_core::{Backend, Error, Result, Scalar, Shape};

/// y = ρ(x), overwriting `y`.
///
/// # Errors
/// Shapes that differ.
pub fn activate<B: Backend>(backend: &B, activation: Activation, x: View<'_, B>, y: &mut ViewMut<'_, B>) -> Result<()> {
    backend.zip(&Activate(activation), x.shape(), &[x], &mut [y.set()], &mut [], &mut [])
}

/// d = ρ'(x) ⊙ d, in place: the tangent of [`activate`], and its adjoint, which is the same map.
///
/// # Errors
/// Shapes that differ.
pub fn activate_derivative<B: Backend>(backend: &B, activation: Activation, x: View<'_, B>, d: &mut ViewMut<'_, B>) -> Result<()> {
    backend.zip(&Derivative(activation), x.shape(), &[x], &mut [d.update()], &mut [], &mut [])
}

/// x = ρ⁻¹(y), overwriting `x`.
///
/// # Errors
/// An activation without an inverse; shapes that differ.
pub fn activate_inverse<B: Backend>(backend: &B, activation: Activation, y: View<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
    if !activation.is_invertible() {
        return Err(Error::config("activation", format!("expected one that has an inverse, got {activation:?}")));
    }
    backend.zip(&Inverse(activation), y.shape(), &[y], &mut [x.set()], &mut [], &mut [])
}

/// The shape of the output of GaLU: half of the channels.
///
/// # Errors
/// An odd number of channels.
pub fn galu_shape(x: Shape) -> Result<Shape> {
    match x.channels() % 2 {
        0 => Ok(x.with_channels(x.channels() / 2)),
        _ => Err(Error::shape("input of GaLU", "an even number of channels", x)),
    }
}

/// y = x₁ ⊙ σ(x₂), overwriting `y`, which has half of the channels of `x`.
///
/// # Errors
/// An odd number of channels; shapes that do not fit.
pub fn galu<B: Backend>(backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>) -> Result<()> {
    let half = galu_shape(x.shape())?;
    let n = half.channels();
    backend.zip(&Gate, half, &[x.channels(0..n), x.channels(n..2 * n)], &mut [y.set()], &mut [], &mut [])
}

/// dy = dx₁ ⊙ σ(x₂) + x₁ ⊙ σ'(x₂) ⊙ dx₂, overwriting `dy`.
///
/// # Errors
/// An odd number of channels; shapes that do not fit.
pub fn galu_tangent<B: Backend>(backend: &B, x: View<'_, B>, dx: View<'_, B>, dy: &mut ViewMut<'_, B>) -> Result<()> {
    let half = galu_shape(x.shape())?;
    let n = half.channels();
    let read = [x.channels(0..n), x.channels(n..2 * n), dx.channels(0..n), dx.channels(n..2 * n)];
    backend.zip(&GateTangent, half, &read, &mut [dy.set()], &mut [], &mut [])
}

/// x becomes its cotangent \[σ(x₂) ⊙ g; x₁ ⊙ σ'(x₂) ⊙ g\], in place.
///
/// # Errors
/// An odd number of channels; shapes that do not fit.
pub fn galu_adjoint<B: Backend>(backend: &B, g: View<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
    let half = galu_shape(x.shape())?;
    let n = half.channels();
    backend.zip(&GateAdjoint, half, &[g], &mut [x.update_channels(&[0..n, n..2 * n])], &mut [], &mut [])
}

#[derive(Clone, Copy)]
struct Activate(Activation);
impl Kernel for Activate {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
        y[0] = self.0.value(read[0]);
    }
}

#[derive(Clone, Copy)]
struct Derivative(Activation);
impl Kernel for Derivative {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], d: &mut [T], _: &mut [T], _: &mut [T]) {
        d[0] = self.0.derivative(read[0]) * d[0];
    }
}

#[derive(Clone, Copy)]
struct Inverse(Activation);
impl Kernel for Inverse {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        x[0] = self.0.inverse(read[0]).unwrap_or(T::constant(f64::NAN));
    }
}

/// y = x₁ σ(x₂).
#[derive(Clone, Copy)]
struct Gate;
impl Kernel for Gate {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
        y[0] = read[0] * read[1].sigmoid();
    }
}

#[derive(Clone, Copy)]
struct GateTangent;
impl Kernel for GateTangent {
    const READ: usize = 4;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], dy: &mut [T], _: &mut [T], _: &mut [T]) {
        let (gate, other) = (read[1].sigmoid(), (-read[1]).sigmoid());
        dy[0] = read[2] * gate + read[0] * gate * other * read[3];
    }
}

/// (x₁, x₂) become (σ(x₂) g, x₁ σ'(x₂) g).
#[derive(Clone, Copy)]
struct GateAdjoint;
impl Kernel for GateAdjoint {
    const READ: usize = 1;
    const UPDATE: usize = 2;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let (gate, other) = (x[1].sigmoid(), (-x[1]).sigmoid());
        (x[0], x[1]) = (gate * read[0], x[0] * gate * other * read[0]);
    }
}
