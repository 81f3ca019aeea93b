//! The contract of a conditioner: the network inside a coupling, which need not be invertible.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::layer::{Facts, Gradients, Inputs};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::view::{Update, View, ViewMut};
use std::ops::Range;

/// A differentiable map N(x; θ, conditions), such as the residual block of a coupling.
///
/// As an [`Invertible`](crate::layer::Invertible) layer it holds configuration and handles, and its tangent is derived: `forward` over
/// [`Dual`](crate::dual::Dual) pairs. It reads the conditions that the call brings, so a coupling becomes conditional by its
/// conditioner alone.
pub trait Conditioner: Send + Sync {
    /// The gate: whether `input` fits, and the shape of the output.
    ///
    /// # Errors
    /// A shape, condition or parameter that does not fit.
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape>;

    /// Bytes of the hidden values that a pass over x holds, for the choice of a tile: [`forward`](Self::forward) and
    /// [`vjp`](Self::vjp) with `save`, [`evaluate`](Self::evaluate) without.
    ///
    /// # Errors
    /// Operands that the call does not bring.
    fn hidden_bytes<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, save: bool) -> Result<usize>;

    /// Computes `out = N(x)`, overwriting it, and hands back what [`vjp`](Self::vjp) needs.
    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>>;

    /// [`forward`](Self::forward) for those who need no [`vjp`](Self::vjp): saves nothing where that is cheaper.
    fn evaluate<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<()> {
        self.forward(at, x, out).map(drop)
    }

    /// Whether the backend lets the conditioner add its output to a state without storing it, for an x of this shape:
    /// [`add_to`](Self::add_to), [`add_and_vjp`](Self::add_and_vjp).
    ///
    /// # Errors
    /// Operands that the call does not bring.
    fn adds<B: Backend>(&self, at: &Inputs<'_, B>, x: Shape) -> Result<bool> {
        let _ = (at, x);
        Ok(false)
    }

    /// Adds N(x) to a window of the state that x lies in: `state` binds x and what is added to. Only where it [`adds`](Self::adds).
    fn add_to<B: Backend>(&self, at: &Inputs<'_, B>, state: &mut Update<'_, B>) -> Result<()> {
        let _ = state;
        Err(Error::backend(at.backend().name(), "expected a conditioner that adds in place"))
    }

    /// [`add_to`](Self::add_to) and [`vjp`](Self::vjp) in one pass, without saved values: `cotangent` binds the cotangent of x, which is
    /// added to, and that of the output.
    fn add_and_vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let _ = (state, cotangent, grads);
        Err(Error::backend(at.backend().name(), "expected a conditioner that adds in place"))
    }

    /// All of a coupling in one pass, where the backend takes it up ([`Backend::couple`]): `state` binds x and what changes, and `kernel` reads the
    /// groups of the output. Whether it was taken.
    fn couple<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        state: &mut Update<'_, B>,
        logdet: &mut ViewMut<'_, B>,
    ) -> Result<bool> {
        let _ = (at, kernel, state, logdet);
        Ok(false)
    }

    /// The same for its way back ([`Backend::couple_pull`]): `cotangent` binds the cotangent of x, which is added to, and that of what changed.
    fn couple_pull<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        gl: View<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<bool> {
        let _ = (at, kernel, gl, state, cotangent, grads);
        Ok(false)
    }

    /// The adjoint of the Jacobian at x: `gx += (∂N/∂x)ᵀ gout`, and the same into `grads` for parameters and conditions. `gout` may be
    /// used as scratch.
    fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        saved: Saved<B>,
        gout: &mut ViewMut<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()>;
}

/// Ranges of samples for which the hidden values of `net`, and `extra` bytes a sample beside them, stay near the cores: tiles of almost
/// equal size, which depends on shapes only.
///
/// # Errors
/// Operands that the call does not bring.
pub fn tiles<B: Backend, N: Conditioner>(
    net: &N,
    at: &Inputs<'_, B>,
    x: View<'_, B>,
    extra: usize,
    save: bool,
) -> Result<impl Iterator<Item = Range<usize>> + use<B, N>> {
    let batch = x.shape().batch();
    let hidden = net.hidden_bytes(at, x, save)?.div_ceil(batch.max(1));
    let most = at.backend().tile(hidden + extra, batch).max(1);
    let count = batch.div_ceil(most).max(1);
    Ok((0..count).map(move |i| i * batch / count..(i + 1) * batch / count))
}

/// Hidden values of one forward pass over a tile. They own their memory, so that the state stays free to be changed meanwhile.
pub struct Saved<B: Backend>(pub Vec<Tensor<B>>);

impl<N: Conditioner> Conditioner for Box<N> {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        (**self).check(facts, input)
    }
    fn hidden_bytes<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, save: bool) -> Result<usize> {
        (**self).hidden_bytes(at, x, save)
    }
    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        (**self).forward(at, x, out)
    }
    fn evaluate<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<()> {
        (**self).evaluate(at, x, out)
    }
    fn adds<B: Backend>(&self, at: &Inputs<'_, B>, x: Shape) -> Result<bool> {
        (**self).adds(at, x)
    }
    fn add_to<B: Backend>(&self, at: &Inputs<'_, B>, state: &mut Update<'_, B>) -> Result<()> {
        (**self).add_to(at, state)
    }
    fn add_and_vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        (**self).add_and_vjp(at, state, cotangent, grads)
    }
    fn couple<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        state: &mut Update<'_, B>,
        logdet: &mut ViewMut<'_, B>,
    ) -> Result<bool> {
        (**self).couple(at, kernel, state, logdet)
    }
    fn couple_pull<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        gl: View<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<bool> {
        (**self).couple_pull(at, kernel, gl, state, cotangent, grads)
    }
    fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        saved: Saved<B>,
        gout: &mut ViewMut<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        (**self).vjp(at, x, saved, gout, gx, grads)
    }
}
