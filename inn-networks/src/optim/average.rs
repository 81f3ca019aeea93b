//! Exponential moving average of the weights.

use super::kernels;
use inn_core::{Backend, Error, Params, Result};

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

    pub(super) fn params_mut(&mut self) -> &mut Params<B> {
        &mut self.params
    }

    /// Back to an earlier state.
    pub(super) fn restore(&mut self, params: &Params<B>, updates: u64) -> Result<()> {
        self.updates = updates;
        self.params.assign(params)
    }

    /// How often [`update`](Self::update) was called.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// What the next update weighs the weights with, 1 - ρ_t; the update counts as done.
    pub(super) fn advance(&mut self) -> f64 {
        let t = self.updates as f64;
        self.updates += 1;
        1.0 - self.decay.min((1.0 + t) / (10.0 + t))
    }

    /// Takes the weights after a step into the average. [`Moments::step_averaged`](super::Moments::step_averaged) does so within the step.
    ///
    /// # Errors
    /// `params` belong to another network.
    pub fn update(&mut self, params: &Params<B>) -> Result<()> {
        self.expect(params)?;
        let weight = self.advance();
        if params.layout().is_empty() {
            return Ok(());
        }
        let backend = params.backend().clone();
        let source = params.flat()?;
        let mut target = self.params.flat_mut()?;
        let shape = target.shape();
        backend.zip(&kernels::Average(weight), shape, &[source], &mut [target.update()], &mut [], &mut [])
    }

    pub(super) fn expect(&self, params: &Params<B>) -> Result<()> {
        if params.layout().is_compatible(self.params.layout()) {
            Ok(())
        } else {
            Err(Error::shape("parameters to average", "the layout that the average was made for", "another one"))
        }
    }
}
