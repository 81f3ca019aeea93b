//! The loop.

use super::checkpoint;
use super::csv::Log;
use super::data::Dataset;
use super::guard::{self, LastGood};
use super::objective::{MaximumLikelihood, Objective};
use super::observer::{Observer, Progress, Record};
use super::options::Options;
use super::outcome::{Every, Outcome, Stopped};
use super::random::{Purpose, order};
use super::state::State;
use super::step::{Evaluated, Selection, gradient, mean_loss};
use crate::files::{Description, Metadata};
use crate::optim::{Average, clip_scale};
use inn_core::{Architecture, Backend, Error, Facts, Given, Invertible, Model, Params, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Trains a network.
///
/// A step draws a batch, takes the gradient of its mean loss (piece by piece with [`Options::micro_batch`]), clips it, and moves the weights.
/// Data-dependent initialization, where the model has not had it, is done with the first batch. What is held beside the network: gradient,
/// moments, the average and the best weights where they are asked for, and a copy of weights, moments and average from before the last step.
///
/// ```
/// # use inn_core::{Architecture, Result};
/// # use inn_networks::{GlowConfig, files};
/// # use inn_ops::Cpu;
/// use inn_networks::train::{ArrayDataset, Console, Every, Options, Trainer, split};
///
/// # let folder = tempfile::tempdir().map_err(|e| inn_core::Error::io("", e))?;
/// # let path = folder.path().join("run.safetensors");
/// let points = ndarray::Array2::from_shape_fn((200, 2), |(i, j)| (i as f32 * (0.3 + j as f32)).sin());
/// let data = ArrayDataset::new(points)?;
/// let (train, held_out) = split(&data, 50, 0)?;
///
/// let config = GlowConfig::dense(2, 2);
/// let options = Options { epochs: 2, batch: 50, ema: Some(0.99), ..Options::default() };
/// let start = || -> Result<_> {
///     let model = config.model(&Cpu::<f32>::new(), 0)?;
///     Trainer::new(model, options.clone())?.with_architecture(&config, &Default::default())?.with_checkpoints(&path, Every::Epochs(1))
/// };
/// let mut trainer = start()?;
/// trainer.fit(&train, Some(&held_out), &mut Console::default())?;
///
/// // Later, in another process: goes on where it was, or is done already.
/// let mut trainer = start()?;
/// trainer.resume(&path)?;
/// let outcome = trainer.fit(&train, Some(&held_out), &mut ())?;
/// assert_eq!(outcome.steps, 6);
/// let model = trainer.into_model()?;
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Trainer<L, B: Backend, O = MaximumLikelihood> {
    model: Model<L, B>,
    objective: O,
    options: Options,
    state: State<B>,
    description: Description,
    checkpoints: Option<(PathBuf, Every)>,
    log: Option<PathBuf>,
}

impl<L: Invertible, B: Backend> Trainer<L, B> {
    /// Trains by maximum likelihood.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting is out of its range. The device has no room.
    pub fn new(model: Model<L, B>, options: Options) -> Result<Self> {
        Self::with_objective(model, MaximumLikelihood, options)
    }
}

impl<L: Invertible, B: Backend, O: Objective<L, B>> Trainer<L, B, O> {
    /// Minimizes another objective.
    ///
    /// # Errors
    /// [`Error::Config`]: a setting is out of its range. The device has no room.
    pub fn with_objective(model: Model<L, B>, objective: O, options: Options) -> Result<Self> {
        options.validate()?;
        let state = State::new(options.optimizer, model.params())?;
        Ok(Self { model, objective, options, state, description: Description::default(), checkpoints: None, log: None })
    }

    /// Writes the network's configuration into its checkpoints, so that [`files::load`](crate::files::load) restores a network from one, and
    /// what the user keeps beside it.
    ///
    /// # Errors
    /// [`Error::Config`]: the configuration builds another network.
    pub fn with_architecture<A: Architecture<Network = L>>(self, config: &A, metadata: &Metadata) -> Result<Self> {
        let description = Description::new(config, self.model.layout(), metadata)?;
        Ok(Self { description, ..self })
    }

    /// Writes a checkpoint to `path` at these times, and at the end of [`fit`](Self::fit). The file is replaced as a whole: at any moment it is
    /// the last one that was complete.
    ///
    /// # Errors
    /// [`Error::Config`]: every 0 steps or epochs.
    pub fn with_checkpoints(self, path: impl Into<PathBuf>, every: Every) -> Result<Self> {
        if matches!(every, Every::Steps(0) | Every::Epochs(0)) {
            return Err(Error::config("checkpoints", "expected one every 1 or more steps or epochs, got 0"));
        }
        Ok(Self { checkpoints: Some((path.into(), every)), ..self })
    }

    /// Writes all records to a CSV file as training goes on: those from before as well, once [`fit`](Self::fit) begins.
    #[must_use]
    pub fn with_log(self, path: impl Into<PathBuf>) -> Self {
        Self { log: Some(path.into()), ..self }
    }

    /// Continues the training of a checkpoint: weights, moments, average, best weights, records and position are those of the file. The trainer
    /// has to have been made with the same settings, but for the number of epochs, and with the same network. A training that goes on in
    /// [`fit`](Self::fit) with the same data ends with the same bits as one that was never interrupted.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`]: the file cannot be read, is damaged, holds no checkpoint, or one of another network, number type or
    /// with other settings. The trainer is unchanged then.
    pub fn resume(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let (state, description) = checkpoint::read(path.as_ref(), &mut self.model, &self.options, &self.description)?;
        self.state = state;
        if self.description.kind.is_none() {
            self.description = description;
        }
        Ok(())
    }

    /// Writes a checkpoint now.
    ///
    /// # Errors
    /// [`Error::Io`]: it cannot be written; a file that was there is still there.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        checkpoint::write(path.as_ref(), &self.model, &self.options, &self.state, &self.description)
    }

    /// Trains on `data` until the epochs are done or there is a reason to stop, see [`Stopped`]. Where there are `held_out` data, they are
    /// evaluated at the end of epochs. After an error, or when it was stopped, another call goes on.
    ///
    /// Its samples fill the batches in an order that is new in each epoch.
    ///
    /// # Errors
    /// Shapes that the network refuses; data other than those that training began with, by number; samples that are not finite; files
    /// that cannot be written. The weights are then those after the last step that was done.
    pub fn fit(
        &mut self,
        data: &dyn Dataset<B::Elem>,
        held_out: Option<&dyn Dataset<B::Elem>>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        self.check("training data", data)?;
        if let Some(held_out) = held_out {
            self.check("held-out data", held_out)?;
        }
        let samples = *self.state.counters.samples.get_or_insert(data.len() as u64);
        if samples != data.len() as u64 {
            return Err(Error::shape("training data", format!("{samples} samples, with which training began"), data.len()));
        }
        let mut log = match &self.log {
            Some(path) => Some((Log::start(path, &self.state.records)?, Instant::now())),
            None => None,
        };
        let stopped = self.run(data, held_out, observer, &mut log);
        if let Some((log, _)) = &mut log {
            log.flush()?;
        }
        let stopped = stopped?;
        if let (Some((path, _)), false) = (&self.checkpoints, matches!(stopped, Stopped::NonFinite { .. })) {
            self.save(path)?;
        }
        let best = self.state.best.as_ref().map(|best| (best.loss, best.step));
        Ok(Outcome { steps: self.state.counters.step, stopped, best })
    }

    fn run(
        &mut self,
        data: &dyn Dataset<B::Elem>,
        held_out: Option<&dyn Dataset<B::Elem>>,
        observer: &mut dyn Observer,
        log: &mut Option<(Log, Instant)>,
    ) -> Result<Stopped> {
        let batch = self.options.batch;
        let (length, total) = (self.options.steps_per_epoch(data.len()), self.options.total_steps(data.len()));
        let mut shuffled = (None, Vec::new());
        let mut grads = self.model.zeros()?;
        let mut last_good = None;
        loop {
            let step = self.state.counters.step;
            if step >= total {
                return Ok(Stopped::Finished);
            }
            if self.options.patience.is_some_and(|patience| self.state.counters.waited >= patience) {
                return Ok(Stopped::Patience);
            }
            let (epoch, within) = (step / length, (step % length) as usize);
            if shuffled.0 != Some(epoch) {
                shuffled = (Some(epoch), order(self.options.seed, Purpose::Order, epoch, data.len()));
            }
            let indices = shuffled.1.chunks(batch).nth(within).unwrap_or_default();
            let selection = Selection { data, indices, epoch };
            let learning_rate = self.options.schedule.at(step, total);
            let mut record = match self.advance(&selection, learning_rate, &mut grads, &mut last_good, observer)? {
                Ok(record) => record,
                Err(stopped) => return Ok(stopped),
            };
            let progress = Progress {
                step: step + 1,
                steps: total,
                epoch: epoch + 1,
                epochs: self.options.epochs,
                epoch_ends: within as u64 + 1 == length,
            };
            if let Some(held_out) = held_out
                && progress.epoch_ends
                && (progress.epoch.is_multiple_of(self.options.evaluate_every) || progress.step == total)
            {
                let params = self.state.averaged(self.model.params());
                let loss = mean_loss(self.model.layer(), params, &self.objective, &self.options, held_out)?;
                record.held_out = Some(if loss.is_finite() { loss } else { f64::INFINITY });
                if let Some(last) = self.state.records.last_mut() {
                    last.held_out = record.held_out;
                }
                self.state.evaluated(loss, self.options.min_improvement, self.model.params())?;
            }
            if let Some((log, clock)) = log {
                log.push(&record, clock.elapsed().as_secs_f64())?;
                if progress.epoch_ends {
                    log.flush()?;
                }
            }
            if let Some((path, every)) = &self.checkpoints
                && match *every {
                    Every::Steps(n) => progress.step.is_multiple_of(n),
                    Every::Epochs(n) => progress.epoch_ends && progress.epoch.is_multiple_of(n),
                }
            {
                self.save(path)?;
            }
            if observer.step(&record, progress).is_break() {
                return Ok(Stopped::Observer);
            }
        }
    }

    /// One step, or why it cannot be taken.
    fn advance(
        &mut self,
        selection: &Selection<'_, B>,
        learning_rate: f64,
        grads: &mut Params<B>,
        last_good: &mut Option<LastGood<B>>,
        observer: &mut dyn Observer,
    ) -> Result<Result<Record, Stopped>> {
        let options = &self.options;
        if !self.model.is_initialized() {
            let batch = selection.whole(self.model.backend(), options)?;
            self.model.initialize_from(self.objective.direction(), batch.x, Given::conditions(&batch.conditions))?;
        }
        if let (Some(decay), None) = (options.ema, &self.state.average) {
            self.state.average = Some(Average::new(decay, self.model.params())?);
        }
        let done = self.state.counters.step;
        let measure = options.drift_every > 0 && done.is_multiple_of(options.drift_every);
        // One pass for the device, with the drawing of the batch and the norm.
        let (model, objective) = (&self.model, &self.objective);
        let elements = selection.indices.len().saturating_mul(selection.data.sample_shape().sample_len()).max(model.layout().len());
        let work = || gradient(model, objective, options, selection, measure, grads);
        let Evaluated { loss, norm, drift } = model.backend().enter(elements, work)?;
        if !loss.is_finite() || !norm.is_finite() {
            let what = if loss.is_finite() { "gradient" } else { "loss" };
            let layer = guard::first_bad(&self.model, &self.objective, options, selection, grads)?;
            if let Some(last_good) = last_good {
                last_good.restore(self.model.params_mut(), &mut self.state)?;
            }
            return Ok(Err(Stopped::NonFinite { step: done + 1, what, layer }));
        }
        let last_good = match last_good {
            Some(last_good) => last_good,
            none => none.insert(LastGood::new(self.model.params(), &self.state)?),
        };
        last_good.step(self.model.params_mut(), &mut self.state, grads, learning_rate, clip_scale(norm, options.clip))?;
        let worst = drift.into_iter().max_by(|a, b| a.relative_error.total_cmp(&b.relative_error));
        if let Some(worst) = worst.as_ref().filter(|worst| worst.relative_error > options.drift_limit) {
            observer.drift(done + 1, worst, options.drift_limit);
        }
        let record = Record {
            step: done + 1,
            epoch: selection.epoch + 1,
            loss,
            held_out: None,
            learning_rate,
            gradient_norm: norm,
            drift: worst.map(|worst| worst.relative_error),
        };
        // Now, so that records and steps agree whatever fails after the step.
        self.state.records.push(record.clone());
        Ok(Ok(record))
    }

    /// Whether the network can take batches of a set.
    fn check(&self, name: &str, data: &dyn Dataset<B::Elem>) -> Result<()> {
        if data.is_empty() {
            return Err(Error::shape(name, "at least one sample", "none"));
        }
        let batch = self.options.batch.min(data.len());
        let conditions: Vec<_> = data.condition_shapes().iter().map(|shape| shape.with_batch(batch)).collect();
        let facts = Facts { layout: self.model.layout(), conditions: &conditions, operator: None };
        self.model.layer().check(self.objective.direction(), facts, data.sample_shape().with_batch(batch)).map(drop)
    }

    /// The mean loss of a set at the [`weights`](Self::weights).
    ///
    /// # Errors
    /// Shapes that the network refuses, samples that are not finite.
    pub fn evaluate(&self, data: &dyn Dataset<B::Elem>) -> Result<f64> {
        self.check("data to evaluate", data)?;
        mean_loss(self.model.layer(), self.weights(), &self.objective, &self.options, data)
    }

    /// The network as it is trained, with the weights of the last step.
    pub fn model(&self) -> &Model<L, B> {
        &self.model
    }

    /// The weights that training has brought: those of the best evaluation, where there was one and [`Options::restore_best`] says so; else the
    /// averaged ones, with [`Options::ema`]; else those of the last step.
    pub fn weights(&self) -> &Params<B> {
        match &self.state.best {
            Some(best) if self.options.restore_best => &best.params,
            _ => self.state.averaged(self.model.params()),
        }
    }

    /// The network with these [`weights`](Self::weights).
    ///
    /// # Errors
    /// The device has no room.
    pub fn into_model(mut self) -> Result<Model<L, B>> {
        let weights = self.weights().duplicate()?;
        self.model.params_mut().assign(&weights)?;
        Ok(self.model)
    }

    /// What is known of each step.
    pub fn records(&self) -> &[Record] {
        &self.state.records
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }
}
