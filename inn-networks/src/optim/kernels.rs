//! The pointwise kernels of the optimizers.
//!
//! A kernel has four uniforms; what is constant through a run goes there, so that a device compiles one pipeline a run. What changes
//! from step to step is read from a buffer of a few numbers, each repeated over the arena.

use inn_core::kernel::{Kernel, UNIFORMS};
use inn_core::scalar::Scalar;

/// Adam, and AdamW with `DECAY`. Reads g, s, a, e and, for the decay, the mask and the rate of it; updates θ, m, v.
#[derive(Clone, Copy)]
pub(super) struct Adam<const DECAY: bool> {
    pub beta1: f64,
    pub beta2: f64,
}

impl<const DECAY: bool> Kernel for Adam<DECAY> {
    const READ: usize = if DECAY { 6 } else { 4 };
    const UPDATE: usize = 3;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        // 1 - beta in f64: in f32 it would lose three digits at beta2 = 0.999.
        [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let g = r[0] * r[1];
        x[1] = u[0] * x[1] + u[1] * g;
        x[2] = u[2] * x[2] + u[3] * g.square();
        let kept = if DECAY { x[0] - r[5] * r[4] * x[0] } else { x[0] };
        x[0] = kept - r[2] * x[1] / (x[2].sqrt() + r[3]);
    }
}

/// Gradient descent. Reads g, s, the learning rate and, for the decay, the mask; updates θ and, with momentum, the velocity.
#[derive(Clone, Copy)]
pub(super) struct Sgd<const DECAY: bool, const MOMENTUM: bool> {
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
}

impl<const DECAY: bool, const MOMENTUM: bool> Kernel for Sgd<DECAY, MOMENTUM> {
    const READ: usize = if DECAY { 4 } else { 3 };
    const UPDATE: usize = if MOMENTUM { 2 } else { 1 };
    fn uniforms(&self) -> [f64; UNIFORMS] {
        // The step is p g + q v: (0, 1) plain, (1, momentum) Nesterov.
        let (p, q) = if self.nesterov { (1.0, self.momentum) } else { (0.0, 1.0) };
        [self.momentum, p, q, self.weight_decay]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let mut g = r[0] * r[1];
        if DECAY {
            g = g + u[3] * r[3] * x[0];
        }
        if MOMENTUM {
            x[1] = u[0] * x[1] + g;
            g = u[1] * g + u[2] * x[1];
        }
        x[0] = x[0] - r[2] * g;
    }
}

/// RMSProp. Reads g, s and the learning rate; updates θ, v and, with momentum, the velocity.
#[derive(Clone, Copy)]
pub(super) struct RmsProp<const MOMENTUM: bool> {
    pub smoothing: f64,
    pub epsilon: f64,
    pub momentum: f64,
}

impl<const MOMENTUM: bool> Kernel for RmsProp<MOMENTUM> {
    const READ: usize = 3;
    const UPDATE: usize = if MOMENTUM { 3 } else { 2 };
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.smoothing, 1.0 - self.smoothing, self.epsilon, self.momentum]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let g = r[0] * r[1];
        x[1] = u[0] * x[1] + u[1] * g.square();
        let mut step = g / (x[1].sqrt() + u[2]);
        if MOMENTUM {
            x[2] = u[3] * x[2] + step;
            step = x[2];
        }
        x[0] = x[0] - r[2] * step;
    }
}

/// e += w (x - e).
#[derive(Clone, Copy)]
pub(super) struct Average(pub f64);

impl Kernel for Average {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], x: &[T], e: &mut [T], _: &mut [T], _: &mut [T]) {
        e[0] = e[0] + u[0] * (x[0] - e[0]);
    }
}
