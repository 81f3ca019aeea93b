//! The contract of a conditioner: the network inside a coupling, which need not be invertible.

use crate::backend::Backend;
use crate::error::Result;
use crate::layer::{Facts, Gradients, Inputs};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};

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

    /// Bytes a sample of hidden values, for the choice of a tile; `element` is the size of a number.
    fn hidden_bytes(&self, input: Shape, element: usize) -> usize;

    /// Computes `out = N(x)`, overwriting it, and hands back what [`vjp`](Self::vjp) needs.
    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>>;

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

/// Hidden values of one forward pass over a tile. They own their memory, so that the state stays free to be changed meanwhile.
pub struct Saved<B: Backend>(pub Vec<Tensor<B>>);

impl<N: Conditioner> Conditioner for Box<N> {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        (**self).check(facts, input)
    }
    fn hidden_bytes(&self, input: Shape, element: usize) -> usize {
        (**self).hidden_bytes(input, element)
    }
    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        (**self).forward(at, x, out)
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
