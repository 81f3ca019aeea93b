//! The affine map of the channels of every pixel that starts a flow step, as one offer to a backend.

use crate::backend::Backend;
use crate::primitive::Primitive;
use crate::shape::Shape;
use crate::view::View;

/// A scale and a bias for each channel, if there are any, and Householder reflections of the channels:
///
/// ```text
/// y = H_m ... H_1 (s ⊙ x + b),    H_i = I - 2 v_i v_iᵀ / |v_i|²,    ℓ = N Σ_c ln|s_c|
/// ```
/// with N the pixels of a channel. The zero vector reflects nothing.
pub struct Mix<'a, B: Backend> {
    /// s and b, of C values each.
    pub affine: Option<[View<'a, B>; 2]>,
    /// The v_i, (m, C).
    pub vectors: View<'a, B>,
}

impl<B: Backend> Mix<'_, B> {
    /// What [`Backend::mix`] (or [`Backend::mix_pull`], for `pull`) does on a state of the shape `x`.
    pub fn primitive(&self, x: Shape, pull: bool) -> Primitive {
        Primitive::Mix { pull, affine: self.affine.is_some(), count: self.vectors.shape().batch(), x }
    }
}
