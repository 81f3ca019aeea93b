//! The gradient of a batch, and the loss of a set.

use super::batch::{Batch, draw};
use super::data::Dataset;
use super::objective::Objective;
use super::options::Options;
use super::random::{Purpose, stream};
use crate::optim::add_squared_norm;
use inn_core::{Backend, Call, Drift, Given, Invertible, Model, Params, Result, Shape, Tensor, Trail};

/// Which samples a step takes.
pub(super) struct Selection<'a, B: Backend> {
    pub data: &'a dyn Dataset<B::Elem>,
    pub indices: &'a [usize],
    /// Counted from 0.
    pub epoch: u64,
}

impl<B: Backend> Selection<'_, B> {
    /// The samples in one piece.
    pub fn whole(&self, backend: &B, options: &Options) -> Result<Batch<B>> {
        self.draw(backend, options, self.indices)
    }

    /// The samples in the pieces that are on the device at once.
    pub fn pieces(&self, backend: &B, options: &Options) -> impl Iterator<Item = Result<Batch<B>>> {
        self.indices.chunks(piece(options)).map(move |indices| self.draw(backend, options, indices))
    }

    fn draw(&self, backend: &B, options: &Options, indices: &[usize]) -> Result<Batch<B>> {
        draw(backend, self.data, indices, |i| stream(options.seed, Purpose::Sample, self.epoch, i as u64))
    }
}

fn piece(options: &Options) -> usize {
    options.micro_batch.unwrap_or(options.batch).max(1)
}

/// What a gradient brings to the host.
pub(super) struct Evaluated {
    /// The mean over the batch.
    pub loss: f64,
    /// Of the gradient of that mean.
    pub norm: f64,
    /// Of each layer, where it was measured.
    pub drift: Vec<Drift>,
}

/// Sets `grads` to the gradient of the mean loss of a batch.
pub(super) fn gradient<L: Invertible, B: Backend>(
    model: &Model<L, B>,
    objective: &dyn Objective<L, B>,
    options: &Options,
    selection: &Selection<'_, B>,
    measure_drift: bool,
    grads: &mut Params<B>,
) -> Result<Evaluated> {
    let backend = model.backend();
    let weight = 1.0 / selection.indices.len() as f64;
    grads.fill(0.0)?;
    let (mut losses, mut drift) = (Vec::new(), Vec::new());
    for (i, batch) in selection.pieces(backend, options).enumerate() {
        let Batch { x, conditions } = batch?;
        let given = Given::conditions(&conditions);
        let measure = measure_drift && i == 0;
        if measure || options.keep_state_every > 0 {
            let trail = Trail::new(options.keep_state_every);
            losses.push(objective.gradient(model.with(given.with_trail(&trail)), x, &conditions, weight, grads)?);
            if measure {
                drift = trail.report()?;
            }
        } else {
            losses.push(objective.gradient(model.with(given), x, &conditions, weight, grads)?);
        }
    }
    let mut square = Tensor::zeros(backend, Shape::per_sample(1))?;
    add_squared_norm(grads, square.view_mut().update())?;
    // Everything was issued before the host waits.
    let mut loss = 0.0;
    for piece in losses {
        loss += piece.to_f64()?.iter().sum::<f64>();
    }
    let norm = square.to_f64()?.iter().sum::<f64>().sqrt();
    Ok(Evaluated { loss: loss * weight, norm, drift })
}

/// The mean loss of a set, whose samples are drawn the same way each time.
pub(super) fn mean_loss<L: Invertible, B: Backend>(
    layer: &L,
    params: &Params<B>,
    objective: &dyn Objective<L, B>,
    options: &Options,
    data: &dyn Dataset<B::Elem>,
) -> Result<f64> {
    let indices: Vec<usize> = (0..data.len()).collect();
    let mut sum = 0.0;
    for indices in indices.chunks(piece(options)) {
        let Batch { x, conditions } = draw(params.backend(), data, indices, |i| stream(options.seed, Purpose::HeldOut, 0, i as u64))?;
        let call = Call::new(layer, params, Given::conditions(&conditions));
        sum += objective.losses(call, x, &conditions)?.to_f64()?.iter().sum::<f64>();
    }
    Ok(sum / data.len() as f64)
}
