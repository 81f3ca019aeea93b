//! The state before the last step.

use super::{Average, Moments};
use inn_core::{Backend, Error, Layout, Params, Result};

/// What a step changes, as it was before: weights, moments, average. It costs their memory once more, and hardly any time, see
/// [`Moments::step_keeping`].
pub struct Kept<B: Backend> {
    params: Params<B>,
    moments: Vec<Params<B>>,
    steps: u64,
    average: Option<Params<B>>,
    updates: u64,
}

impl<B: Backend> Kept<B> {
    /// A copy of the state, for steps with or without an average.
    ///
    /// # Errors
    /// The device has no room.
    pub fn new(params: &Params<B>, moments: &Moments<B>, average: Option<&Average<B>>) -> Result<Self> {
        Ok(Self {
            params: params.duplicate()?,
            moments: moments.vectors().iter().map(Params::duplicate).collect::<Result<_>>()?,
            steps: moments.steps(),
            average: average.map(|average| average.params().duplicate()).transpose()?,
            updates: average.map_or(0, Average::updates),
        })
    }

    /// Puts the state back.
    ///
    /// # Errors
    /// A state of another network.
    pub fn restore(&self, params: &mut Params<B>, moments: &mut Moments<B>, average: Option<&mut Average<B>>) -> Result<()> {
        params.assign(&self.params)?;
        moments.set_steps(self.steps);
        moments.vectors_mut().iter_mut().zip(&self.moments).try_for_each(|(vector, kept)| vector.assign(kept))?;
        match (average, &self.average) {
            (Some(average), Some(kept)) => average.restore(kept, self.updates),
            _ => Ok(()),
        }
    }

    /// The gate of a step.
    pub(super) fn expect(&self, layout: &Layout, moments: usize, average: bool) -> Result<()> {
        if !self.params.layout().is_compatible(layout) {
            return Err(Error::shape("kept state", "the layout of the parameters", "another one"));
        }
        let (expected, got) = ((moments, average), (self.moments.len(), self.average.is_some()));
        let describe = |(moments, average)| format!("{moments} moments and {} average", if average { "an" } else { "no" });
        if got == expected { Ok(()) } else { Err(Error::shape("kept state", describe(expected), describe(got))) }
    }

    /// Where a step writes: weights, moments, average.
    pub(super) fn targets(&mut self) -> impl Iterator<Item = &mut Params<B>> {
        std::iter::once(&mut self.params).chain(&mut self.moments).chain(&mut self.average)
    }

    pub(super) fn average_mut(&mut self) -> Option<&mut Params<B>> {
        self.average.as_mut()
    }

    /// Changes places with the state, whose average had had `updates` updates.
    pub(super) fn exchange(
        &mut self,
        params: &mut Params<B>,
        moments: &mut Moments<B>,
        average: Option<&mut Average<B>>,
        updates: Option<u64>,
    ) {
        std::mem::swap(&mut self.params, params);
        self.steps = moments.steps();
        moments.vectors_mut().iter_mut().zip(&mut self.moments).for_each(|(vector, kept)| std::mem::swap(vector, kept));
        if let (Some(average), Some(kept)) = (average, &mut self.average) {
            std::mem::swap(average.params_mut(), kept);
        }
        self.updates = updates.unwrap_or(0);
    }
}
