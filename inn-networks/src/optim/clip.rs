//! Clipping by the global norm.

use inn_core::kernel::blas;
use inn_core::{Backend, Params, Result, Shape, Update};

/// Adds |g|² over all parameters to a sum on the device, a window of shape `(1, 1)`; nothing is read back.
///
/// # Errors
/// The window of `sum` has another shape.
pub fn add_squared_norm<B: Backend>(grads: &Params<B>, sum: Update<'_, B>) -> Result<()> {
    let len = grads.layout().len();
    if len == 0 {
        return Ok(());
    }
    grads.backend().zip(&blas::Dot, Shape::flat(len), &[grads.flat()?, grads.flat()?], &mut [], &mut [], &mut [sum])
}

/// The factor that brings a gradient of norm `norm` to at most `limit`: `min(1, limit / norm)`; 1 without a limit.
///
/// Pascanu, Mikolov & Bengio 2013 (arXiv:1211.5063). The direction is kept.
pub fn clip_scale(norm: f64, limit: Option<f64>) -> f64 {
    match limit {
        Some(limit) if norm > limit => limit / norm,
        _ => 1.0,
    }
}
