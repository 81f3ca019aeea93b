//! Where a number stopped being finite, and the way back.

use super::batch::Batch;
use super::objective::Objective;
use super::options::Options;
use super::state::{Counters, State};
use super::step::Selection;
use crate::optim::Kept;
use inn_core::{Backend, Direction, Element, Given, Invertible, Model, Params, Result, Trail};

/// The layer, or else the parameter, at which the loss or the gradient of a batch stopped being finite; `grads` is that gradient.
pub(super) fn first_bad<L: Invertible, B: Backend>(
    model: &Model<L, B>,
    objective: &dyn Objective<L, B>,
    options: &Options,
    selection: &Selection<'_, B>,
    grads: &Params<B>,
) -> Result<String> {
    let dir = objective.direction();
    for batch in selection.pieces(model.backend(), options) {
        let Batch { x, conditions } = batch?;
        let trail = Trail::new(0);
        let out = model.with(Given::conditions(&conditions).with_trail(&trail)).map(dir, x)?;
        if out.state.expect_finite("state").is_err() {
            return Ok(trail.first_bad_layer()?.unwrap_or_else(|| model.layer().name()));
        }
    }
    // The states are finite: a log-determinant or a cotangent is not. Cotangents pass the layers in the opposite order, and spoil the gradients
    // of all parameters from the bad layer on.
    let values = grads.read()?;
    let mut bad = grads.layout().entries().iter().filter(|entry| values[entry.range()].iter().any(|v| !Element::is_finite(*v)));
    let first = match dir {
        Direction::Forward => bad.next_back(),
        Direction::Inverse => bad.next(),
    };
    Ok(first.map_or_else(|| "the objective".into(), |entry| entry.name().into()))
}

/// What an update changes, as it was before: weights, moments, average, counters.
pub(super) struct LastGood<B: Backend> {
    kept: Kept<B>,
    counters: Counters,
}

impl<B: Backend> LastGood<B> {
    pub fn new(params: &Params<B>, state: &State<B>) -> Result<Self> {
        Ok(Self { kept: Kept::new(params, &state.moments, state.average.as_ref())?, counters: state.counters })
    }

    /// Takes a step of the optimizer and keeps the state before it.
    pub fn step(&mut self, params: &mut Params<B>, state: &mut State<B>, grads: &Params<B>, learning_rate: f64, scale: f64) -> Result<()> {
        state.moments.step_keeping(params, grads, learning_rate, scale, state.average.as_mut(), &mut self.kept)?;
        self.counters = state.counters;
        state.counters.step += 1;
        Ok(())
    }

    pub fn restore(&self, params: &mut Params<B>, state: &mut State<B>) -> Result<()> {
        self.kept.restore(params, &mut state.moments, state.average.as_mut())?;
        state.counters = self.counters;
        state.records.truncate(usize::try_from(self.counters.step).unwrap_or(usize::MAX));
        Ok(())
    }
}
