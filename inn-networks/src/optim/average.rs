//! Exponential moving average of the weights.

use super::kernels;
use inn_core::{Backend, Error, Params, Result, View};

/// An exponential moving average of the weights, Polyak & Juditsky 1992: ē += (1 - ρ_t)(θ - ē).
///
/// ρ_t = min(ρ, (1 + t)/(10 + t)) for the t-th update, counted from 0, so that the starting weights are soon forgotten.
pub struct Average<B: Backend> {
    decay: f64,
    updates: u64,
    params: Params<B>,
}

impl<B: Backend> Average<B> {
    /// Starts at `params`; `decay` is ρ, in [0, 1), for example 0.999.
    ///
    /// # Errors
    /// `decay` is out of its range.
    pub fn new(decay: f64, params: &Params<B>) -> Result<Self> {
        Self::from_parts(decay, 0, params.duplicate()?)
    }

    pub(crate) fn from_parts(decay: f64, updates: u64, params: Params<B>) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(Error::config("ema", format!("expected 0 <= decay < 1, got {decay}")));
        }
        Ok(Self { decay, updates, params })
    }

    /// ρ.
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// The averaged weights.
    pub fn params(&self) -> &Params<B> {
        &self.params
    }

    /// Becomes a copy of another average of the same network.
    pub(crate) fn assign(&mut self, other: &Self) -> Result<()> {
        self.updates = other.updates;
        self.params.assign(&other.params)
    }

    /// How often [`update`](Self::update) was called.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Takes the weights after a step into the average.
    ///
    /// # Errors
    /// `params` belong to another network.
    pub fn update(&mut self, params: &Params<B>) -> Result<()> {
        if !params.layout().is_compatible(self.params.layout()) {
            return Err(Error::shape("parameters to average", "the layout that the average was made for", "another one"));
        }
        let t = self.updates as f64;
        self.updates += 1;
        if params.layout().is_empty() {
            return Ok(());
        }
        let decay = self.decay.min((1.0 + t) / (10.0 + t));
        let backend = params.backend().clone();
        let source = View::new(params.buffer(), params.flat()?.window())?;
        let mut target = self.params.flat_mut()?;
        let shape = target.shape();
        backend.zip(&kernels::Average(1.0 - decay), shape, &[source], &mut [target.update()], &mut [], &mut [])
    }
}
