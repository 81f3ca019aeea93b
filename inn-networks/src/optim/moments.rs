//! The state of an optimizer and its step.

use super::Optimizer;
use super::kernels::{Adam, RmsProp, Sgd};
use inn_core::kernel::Kernel;
use inn_core::{Access, Backend, Element, Error, Layout, Params, Result, Shape, Update, View, Window};
use std::ops::Range;

/// The moments of an [`Optimizer`] for one network, on its device.
///
/// A step is one pass over the arena of the parameters: gradient, moments and weights are read once and written once. Frozen
/// parameters are left out of it; they split the arena into as many passes as there are runs of parameters that learn.
pub struct Moments<B: Backend> {
    optimizer: Optimizer,
    steps: u64,
    arenas: Vec<Params<B>>,
    /// 1 where weights decay, 0 elsewhere; only kept where a decay is configured.
    mask: Option<Params<B>>,
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
        let mask = match optimizer.decay() {
            None => None,
            Some(vectors) => {
                let mut host = vec![0.0; params.layout().len()];
                for entry in params.layout().entries().iter().filter(|e| vectors || e.dims().len() > 1) {
                    host[entry.range()].fill(1.0);
                }
                Some(Params::from_flat(params.backend(), params.layout(), &host)?)
            }
        };
        Ok(Self { optimizer, steps, arenas, mask })
    }

    /// Copies the moment vectors; answers the number of steps.
    pub(crate) fn vectors_to(&self, into: &mut Vec<Params<B>>) -> Result<u64> {
        if into.is_empty() {
            *into = self.arenas.iter().map(Params::duplicate).collect::<Result<_>>()?;
        } else {
            into.iter_mut().zip(&self.arenas).try_for_each(|(copy, arena)| copy.assign(arena))?;
        }
        Ok(self.steps)
    }

    /// Back to what [`vectors_to`](Self::vectors_to) copied.
    pub(crate) fn vectors_from(&mut self, from: &[Params<B>], steps: u64) -> Result<()> {
        self.steps = steps;
        self.arenas.iter_mut().zip(from).try_for_each(|(arena, copy)| arena.assign(copy))
    }

    /// The rule.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The moment vectors.
    pub fn vectors(&self) -> &[Params<B>] {
        &self.arenas
    }

    /// One step: `params` -= `learning_rate` times the rule's direction for the gradient `scale * grads`, frozen parameters excepted.
    ///
    /// `scale` is 1, or less where the gradient is clipped ([`clip_scale`](super::clip_scale)). Nothing is read back from the device.
    ///
    /// # Errors
    /// `params` or `grads` belong to another network.
    pub fn step(&mut self, params: &mut Params<B>, grads: &Params<B>, learning_rate: f64, scale: f64) -> Result<()> {
        let layout = params.layout().clone();
        if !grads.layout().is_compatible(&layout) {
            return Err(Error::shape("gradients", "the layout of the parameters", "another one"));
        }
        if let Some(arena) = self.arenas.iter().find(|arena| !arena.layout().is_compatible(&layout)) {
            let expected = format!("{} parameters of {} values", arena.layout().entries().len(), arena.layout().count());
            let got = format!("{} parameters of {} values", layout.entries().len(), layout.count());
            return Err(Error::shape("parameters of the optimizer", expected, got));
        }
        self.steps += 1;
        let runs = learning_runs(&layout);
        match self.optimizer {
            Optimizer::Adam { beta1, beta2, epsilon } => {
                let [a, e] = adam_factors(beta1, beta2, epsilon, learning_rate, self.steps);
                self.apply(&Adam::<false> { beta1, beta2 }, params, grads, &runs, &[scale, a, e], &[])
            }
            Optimizer::AdamW { beta1, beta2, epsilon, weight_decay, .. } => {
                let [a, e] = adam_factors(beta1, beta2, epsilon, learning_rate, self.steps);
                if self.mask.is_some() {
                    let rate = learning_rate * weight_decay;
                    self.apply(&Adam::<true> { beta1, beta2 }, params, grads, &runs, &[scale, a, e], &[rate])
                } else {
                    self.apply(&Adam::<false> { beta1, beta2 }, params, grads, &runs, &[scale, a, e], &[])
                }
            }
            Optimizer::Sgd { momentum, nesterov, weight_decay, .. } => {
                let controls = [scale, learning_rate];
                match (self.mask.is_some(), momentum > 0.0) {
                    (false, false) => {
                        self.apply(&Sgd::<false, false> { momentum, nesterov, weight_decay }, params, grads, &runs, &controls, &[])
                    }
                    (false, true) => {
                        self.apply(&Sgd::<false, true> { momentum, nesterov, weight_decay }, params, grads, &runs, &controls, &[])
                    }
                    (true, false) => {
                        self.apply(&Sgd::<true, false> { momentum, nesterov, weight_decay }, params, grads, &runs, &controls, &[])
                    }
                    (true, true) => {
                        self.apply(&Sgd::<true, true> { momentum, nesterov, weight_decay }, params, grads, &runs, &controls, &[])
                    }
                }
            }
            Optimizer::RmsProp { smoothing, epsilon, momentum } => {
                let controls = [scale, learning_rate];
                if momentum > 0.0 {
                    self.apply(&RmsProp::<true> { smoothing, epsilon, momentum }, params, grads, &runs, &controls, &[])
                } else {
                    self.apply(&RmsProp::<false> { smoothing, epsilon, momentum }, params, grads, &runs, &controls, &[])
                }
            }
        }
    }

    /// Runs a kernel over each run: reads g, `controls`, and with a mask that and `decay`; updates θ and the moments.
    fn apply<K: Kernel>(
        &mut self,
        kernel: &K,
        params: &mut Params<B>,
        grads: &Params<B>,
        runs: &[Range<usize>],
        controls: &[f64],
        decay: &[f64],
    ) -> Result<()> {
        let backend = params.backend().clone();
        let host: Vec<B::Elem> = controls.iter().chain(decay).map(|&v| B::Elem::from_f64(v)).collect();
        let numbers = backend.upload(&host)?;
        for run in runs {
            let shape = Shape::flat(run.len());
            let here = Window::contiguous(shape, run.start);
            let number =
                |i: usize| View::<B>::new(&numbers, Window { shape, offset: i, batch_stride: 0, channel_stride: 0, pixel_stride: 0 });
            let mut read = vec![View::new(grads.buffer(), here)?];
            for i in 0..controls.len() {
                read.push(number(i)?);
            }
            if let Some(mask) = &self.mask {
                read.push(View::new(mask.buffer(), here)?);
            }
            for i in 0..decay.len() {
                read.push(number(controls.len() + i)?);
            }
            let mut update = vec![Update::new(params.buffer_mut(), Access::ReadWrite, &[here])];
            update.extend(self.arenas.iter_mut().map(|arena| Update::new(arena.buffer_mut(), Access::ReadWrite, &[here])));
            backend.zip(kernel, shape, &read, &mut update, &mut [], &mut [])?;
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

/// Ranges of the arena that hold parameters which learn; padding between two of them is included and stays 0.
fn learning_runs(layout: &Layout) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    for entry in layout.entries() {
        if entry.is_frozen() {
            open = false;
        } else if let (true, Some(run)) = (open, runs.last_mut()) {
            run.end = entry.range().end;
        } else {
            runs.push(entry.range());
            open = true;
        }
    }
    runs
}
