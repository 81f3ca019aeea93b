//! The state of an optimizer and its step.

use super::kept::Kept;
use super::kernels::{self, Adam, Anew, Averaged, Numbers, RmsProp, Sgd};
use super::{Average, Optimizer};
use inn_core::kernel::UNIFORMS;
use inn_core::view::ViewMut;
use inn_core::{Access, Backend, Error, Kernel, Layout, Params, Result, Shape, Update, View, Window};
use std::ops::Range;
use std::sync::Arc;

/// The moments of an [`Optimizer`] for one network, on its device.
///
/// A step is one pass over the arena of the parameters, with the average of the weights too ([`step_averaged`](Self::step_averaged)): gradient,
/// moments and weights are read once and written once. Frozen parameters are left out of it; they split the arena into as many passes as
/// there are runs of parameters that learn.
pub struct Moments<B: Backend> {
    optimizer: Optimizer,
    steps: u64,
    arenas: Vec<Params<B>>,
    /// λ where weights decay, 0 elsewhere; only kept where a decay is configured.
    decay: Option<Params<B>>,
    /// What changes from step to step, see [`NUMBERS`].
    numbers: B::Buffer,
    /// The parts of the arena, for the layout that was seen last.
    parts: Parts,
}

/// The numbers of a step: s, three of the rule, the weight of the average, 0.
const NUMBERS: usize = 6;
const WEIGHT: usize = 4;
const ZERO: usize = 5;

/// What a step works on, beside the optimizer's own.
struct Job<'a, B: Backend> {
    params: &'a mut Params<B>,
    grads: &'a Params<B>,
    average: Option<&'a mut Average<B>>,
    kept: Option<&'a mut Kept<B>>,
}

impl<B: Backend> Moments<B> {
    /// Zero moments for `params`.
    ///
    /// # Errors
    /// A constant of the optimizer is out of its range, or the device has no room.
    pub fn new(optimizer: Optimizer, params: &Params<B>) -> Result<Self> {
        optimizer.validate()?;
        let zeros = || Params::zeros(params.backend(), params.layout());
        let arenas = optimizer.moment_names().iter().map(|_| zeros()).collect::<Result<_>>()?;
        Self::from_parts(optimizer, 0, arenas, params)
    }

    /// From vectors that were saved, in the order of [`moment_names`](Optimizer::moment_names).
    pub(crate) fn from_parts(optimizer: Optimizer, steps: u64, arenas: Vec<Params<B>>, params: &Params<B>) -> Result<Self> {
        let layout = params.layout();
        let decay = match optimizer.decay() {
            None => None,
            Some((rate, vectors)) => {
                let mut host = vec![0.0; layout.len()];
                for entry in layout.entries().iter().filter(|e| vectors || e.dims().len() > 1) {
                    host[entry.range()].fill(rate);
                }
                Some(Params::from_flat(params.backend(), layout, &host)?)
            }
        };
        let mut numbers = params.backend().alloc(NUMBERS)?;
        let window = Window::contiguous(Shape::flat(NUMBERS), 0);
        ViewMut::<B>::new(&mut numbers, window)?.fill(params.backend(), 0.0)?;
        Ok(Self { optimizer, steps, arenas, decay, numbers, parts: Parts::of(layout) })
    }

    /// The rule.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// The moment vectors.
    pub fn vectors(&self) -> &[Params<B>] {
        &self.arenas
    }

    pub(super) fn vectors_mut(&mut self) -> &mut [Params<B>] {
        &mut self.arenas
    }

    /// One step: `params` -= `learning_rate` times the rule's direction for the gradient `scale * grads`, frozen parameters excepted.
    ///
    /// `scale` is 1, or less where the gradient is clipped ([`clip_scale`](super::clip_scale)). Nothing is read back from the device.
    ///
    /// # Errors
    /// `params` or `grads` belong to another network.
    pub fn step(&mut self, params: &mut Params<B>, grads: &Params<B>, learning_rate: f64, scale: f64) -> Result<()> {
        self.take(Job { params, grads, average: None, kept: None }, learning_rate, scale)
    }

    /// [`step`](Self::step), then [`Average::update`] with the weights it leaves, to the same bits in one pass.
    ///
    /// # Errors
    /// `params`, `grads` or `average` belong to another network.
    pub fn step_averaged(
        &mut self,
        params: &mut Params<B>,
        grads: &Params<B>,
        learning_rate: f64,
        scale: f64,
        average: &mut Average<B>,
    ) -> Result<()> {
        self.take(Job { params, grads, average: Some(average), kept: None }, learning_rate, scale)
    }

    /// [`step_averaged`](Self::step_averaged) or, without an average, [`step`](Self::step), to the same bits, with the new state in the
    /// buffers of `kept`, which then change places with the old ones. `kept` is left with the state before the step, whatever it held, at
    /// the price of writing to other places than those that were read; a copy beforehand would take a pass of its own.
    ///
    /// # Errors
    /// `params`, `grads`, `average` or `kept` belong to another network, or only one of `average` and `kept` has averaged weights.
    pub fn step_keeping(
        &mut self,
        params: &mut Params<B>,
        grads: &Params<B>,
        learning_rate: f64,
        scale: f64,
        average: Option<&mut Average<B>>,
        kept: &mut Kept<B>,
    ) -> Result<()> {
        self.take(Job { params, grads, average, kept: Some(kept) }, learning_rate, scale)
    }

    fn take(&mut self, mut job: Job<'_, B>, learning_rate: f64, scale: f64) -> Result<()> {
        self.check(&job)?;
        let step = self.steps + 1;
        let rule = match self.optimizer {
            Optimizer::Adam { beta1, beta2, epsilon } | Optimizer::AdamW { beta1, beta2, epsilon, .. } => {
                let [a, e] = adam_factors(beta1, beta2, epsilon, learning_rate, step);
                [a, e, learning_rate]
            }
            Optimizer::Sgd { .. } | Optimizer::RmsProp { .. } => [learning_rate, 0.0, 0.0],
        };
        let earlier = job.average.as_ref().map(|average| average.updates());
        let weight = job.average.as_mut().map(|average| average.advance());
        self.set_numbers(job.params.backend(), [scale, rule[0], rule[1], rule[2]], weight)?;
        match self.optimizer {
            Optimizer::Adam { beta1, beta2, .. } | Optimizer::AdamW { beta1, beta2, .. } => self.pass(Adam { beta1, beta2 }, &mut job)?,
            Optimizer::Sgd { momentum, nesterov, .. } if momentum > 0.0 => self.pass(Sgd::<true> { momentum, nesterov }, &mut job)?,
            Optimizer::Sgd { momentum, nesterov, .. } => self.pass(Sgd::<false> { momentum, nesterov }, &mut job)?,
            Optimizer::RmsProp { smoothing, epsilon, momentum } if momentum > 0.0 => {
                self.pass(RmsProp::<true> { smoothing, epsilon, momentum }, &mut job)?;
            }
            Optimizer::RmsProp { smoothing, epsilon, momentum } => {
                self.pass(RmsProp::<false> { smoothing, epsilon, momentum }, &mut job)?;
            }
        }
        if let Some(weight) = weight {
            self.average_frozen(weight, &mut job)?;
        }
        if let Some(kept) = job.kept {
            kept.exchange(job.params, self, job.average, earlier);
        }
        self.steps = step;
        Ok(())
    }

    /// The gate. Nothing is changed before it has passed.
    fn check(&mut self, job: &Job<'_, B>) -> Result<()> {
        let layout = job.params.layout();
        if !job.grads.layout().is_compatible(layout) {
            return Err(Error::shape("gradients", "the layout of the parameters", "another one"));
        }
        if !self.parts.layout.is_compatible(layout) {
            let describe = |l: &Layout| format!("{} parameters of {} values", l.entries().len(), l.count());
            return Err(Error::shape("parameters of the optimizer", describe(&self.parts.layout), describe(layout)));
        }
        if !Arc::ptr_eq(&self.parts.layout, layout) {
            self.parts = Parts::of(layout);
        }
        job.kept.as_ref().map_or(Ok(()), |kept| kept.expect(layout, self.arenas.len(), job.average.is_some()))?;
        job.average.as_ref().map_or(Ok(()), |average| average.expect(job.params))
    }

    fn set_numbers(&mut self, backend: &B, values: [f64; UNIFORMS], weight: Option<f64>) -> Result<()> {
        let one = Shape::flat(1);
        let places: [Window; UNIFORMS] = std::array::from_fn(|i| Window::contiguous(one, i));
        let update = Update::<B>::new(&mut self.numbers, Access::Write, &places);
        backend.zip(&Numbers(values), one, &[], &mut [update], &mut [], &mut [])?;
        match weight {
            Some(weight) => ViewMut::<B>::new(&mut self.numbers, Window::contiguous(one, WEIGHT))?.fill(backend, weight),
            None => Ok(()),
        }
    }

    /// Runs a rule over the parameters that learn, with what the job adds to it.
    fn pass<K: Kernel>(&mut self, rule: K, job: &mut Job<'_, B>) -> Result<()> {
        match (job.average.is_some(), job.kept.is_some()) {
            (false, false) => self.apply(&rule, K::READ, job),
            (true, false) => self.apply(&Averaged(rule), K::READ, job),
            (false, true) => self.apply(&Anew(rule), K::READ, job),
            (true, true) => self.apply(&Anew(Averaged(rule)), K::READ, job),
        }
    }

    /// `reads` operands belong to the rule; those of the average and the old values follow.
    fn apply<K: Kernel>(&mut self, kernel: &K, reads: usize, job: &mut Job<'_, B>) -> Result<()> {
        let Self { arenas, decay, numbers, parts, .. } = self;
        let backend = job.params.backend().clone();
        for run in &parts.learning {
            let shape = Shape::flat(run.len());
            let here = Window::contiguous(shape, run.start);
            let number =
                |i: usize| View::<B>::new(numbers, Window { shape, offset: i, batch_stride: 0, channel_stride: 0, pixel_stride: 0 });
            let mut read = Vec::with_capacity(K::READ);
            read.push(View::new(job.grads.buffer(), here)?);
            read.push(match decay {
                Some(decay) => View::new(decay.buffer(), here)?,
                None => number(ZERO)?,
            });
            for i in 0..reads.saturating_sub(2) {
                read.push(number(i)?);
            }
            if job.average.is_some() {
                read.push(number(WEIGHT)?);
            }
            let mut update = Vec::with_capacity(K::UPDATE);
            match &mut job.kept {
                None => {
                    let params = std::iter::once(&mut *job.params).chain(arenas.iter_mut());
                    for target in params.chain(job.average.as_mut().map(|average| average.params_mut())) {
                        update.push(Update::new(target.buffer_mut(), Access::ReadWrite, &[here]));
                    }
                }
                Some(kept) => {
                    let old = std::iter::once(&*job.params).chain(arenas.iter());
                    for source in old.chain(job.average.as_ref().map(|average| average.params())) {
                        read.push(View::new(source.buffer(), here)?);
                    }
                    for target in kept.targets() {
                        update.push(Update::new(target.buffer_mut(), Access::Write, &[here]));
                    }
                }
            }
            backend.zip(kernel, shape, &read, &mut update, &mut [], &mut [])?;
        }
        Ok(())
    }

    /// The average covers frozen parameters too: their weights stay, but need not be those that it began with.
    fn average_frozen(&self, weight: f64, job: &mut Job<'_, B>) -> Result<()> {
        let Some(average) = &mut job.average else { return Ok(()) };
        let backend = job.params.backend().clone();
        for run in &self.parts.frozen {
            let shape = Shape::flat(run.len());
            let here = Window::contiguous(shape, run.start);
            let theta = View::new(job.params.buffer(), here)?;
            let kernel = kernels::Average(weight);
            match job.kept.as_mut().and_then(|kept| kept.average_mut()) {
                None => {
                    let target = Update::new(average.params_mut().buffer_mut(), Access::ReadWrite, &[here]);
                    backend.zip(&kernel, shape, &[theta], &mut [target], &mut [], &mut [])?;
                }
                Some(kept) => {
                    let old = View::new(average.params().buffer(), here)?;
                    let target = Update::new(kept.buffer_mut(), Access::Write, &[here]);
                    backend.zip(&Anew(kernel), shape, &[theta, old], &mut [target], &mut [], &mut [])?;
                }
            }
        }
        Ok(())
    }
}

/// `[α √(1 - β₂ᵗ) / (1 - β₁ᵗ), ε √(1 - β₂ᵗ)]`: the bias corrections moved from the moments to two numbers, without approximation.
fn adam_factors(beta1: f64, beta2: f64, epsilon: f64, learning_rate: f64, step: u64) -> [f64; 2] {
    let correction = |beta: f64| 1.0 - beta.powf(step as f64);
    let root = correction(beta2).sqrt();
    [learning_rate * root / correction(beta1), epsilon * root]
}

/// Ranges of the arena that hold parameters which learn, and such as do not; padding between two of a kind is included and stays 0.
struct Parts {
    layout: Arc<Layout>,
    learning: Vec<Range<usize>>,
    frozen: Vec<Range<usize>>,
}

impl Parts {
    fn of(layout: &Arc<Layout>) -> Self {
        let mut parts = Self { layout: layout.clone(), learning: Vec::new(), frozen: Vec::new() };
        let mut before = None;
        for entry in layout.entries() {
            let runs = if entry.is_frozen() { &mut parts.frozen } else { &mut parts.learning };
            match runs.last_mut() {
                Some(run) if before == Some(entry.is_frozen()) => run.end = entry.range().end,
                _ => runs.push(entry.range()),
            }
            before = Some(entry.is_frozen());
        }
        parts
    }
}
