//! Where a number stopped being finite, and the way back.

use super::batch::Batch;
use super::objective::Objective;
use super::options::Options;
use super::state::{Counters, State};
use super::step::Selection;
use crate::optim::Average;
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

/// A copy of what an update changes, taken before it: weights, moments, average, counters. It costs their memory once more.
pub(super) struct LastGood<B: Backend> {
    params: Params<B>,
    moments: Vec<Params<B>>,
    moment_steps: u64,
    average: Option<Average<B>>,
    counters: Counters,
}

impl<B: Backend> LastGood<B> {
    pub fn new(params: &Params<B>, state: &State<B>) -> Result<Self> {
        let mut moments = Vec::new();
        let moment_steps = state.moments.vectors_to(&mut moments)?;
        let average = match &state.average {
            Some(a) => Some(Average::new(a.decay(), a.params())?),
            None => None,
        };
        let mut copy = Self { params: params.duplicate()?, moments, moment_steps, average, counters: state.counters };
        copy.average_from(state)?;
        Ok(copy)
    }

    pub fn keep(&mut self, params: &Params<B>, state: &State<B>) -> Result<()> {
        self.params.assign(params)?;
        self.moment_steps = state.moments.vectors_to(&mut self.moments)?;
        self.counters = state.counters;
        self.average_from(state)
    }

    fn average_from(&mut self, state: &State<B>) -> Result<()> {
        match (&mut self.average, &state.average) {
            (Some(copy), Some(average)) => copy.assign(average),
            _ => Ok(()),
        }
    }

    pub fn restore(&self, params: &mut Params<B>, state: &mut State<B>) -> Result<()> {
        params.assign(&self.params)?;
        state.moments.vectors_from(&self.moments, self.moment_steps)?;
        if let (Some(average), Some(copy)) = (&mut state.average, &self.average) {
            average.assign(copy)?;
        }
        state.counters = self.counters;
        state.records.truncate(usize::try_from(self.counters.step).unwrap_or(usize::MAX));
        Ok(())
    }
}
