//! The pointwise kernels of the optimizers.
//!
//! A kernel has four uniforms; what is constant through a run goes there, so that a device compiles one pipeline a run. What changes
//! from step to step is read from a buffer of a few numbers, each repeated over the arena.
//!
//! A rule reads g, the weight decay λ of each parameter (0 where there is none), the factor s on the gradient and up to three numbers of its
//! own; it updates θ and the moments. [`Averaged`] and [`Anew`] make of any rule one that does more in the same pass.

use inn_core::kernel::{Kernel, UNIFORMS};
use inn_core::scalar::Scalar;

/// Adam and AdamW. Numbers: a, e and the learning rate.
#[derive(Clone, Copy)]
pub(super) struct Adam {
    pub beta1: f64,
    pub beta2: f64,
}

impl Kernel for Adam {
    const READ: usize = 6;
    const UPDATE: usize = 3;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        // 1 - beta in f64: in f32 it would lose three digits at beta2 = 0.999.
        [self.beta1, 1.0 - self.beta1, self.beta2, 1.0 - self.beta2]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let g = r[0] * r[2];
        x[1] = u[0] * x[1] + u[1] * g;
        x[2] = u[2] * x[2] + u[3] * g.square();
        let kept = x[0] - r[5] * r[1] * x[0];
        x[0] = kept - r[3] * x[1] / (x[2].sqrt() + r[4]);
    }
}

/// Gradient descent; with momentum it updates the velocity as well. Number: the learning rate.
#[derive(Clone, Copy)]
pub(super) struct Sgd<const MOMENTUM: bool> {
    pub momentum: f64,
    pub nesterov: bool,
}

impl<const MOMENTUM: bool> Kernel for Sgd<MOMENTUM> {
    const READ: usize = 4;
    const UPDATE: usize = if MOMENTUM { 2 } else { 1 };
    fn uniforms(&self) -> [f64; UNIFORMS] {
        // The step is p g + q v: (0, 1) plain, (1, momentum) Nesterov.
        let (p, q) = if self.nesterov { (1.0, self.momentum) } else { (0.0, 1.0) };
        [self.momentum, p, q, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let mut g = r[0] * r[2] + r[1] * x[0];
        if MOMENTUM {
            x[1] = u[0] * x[1] + g;
            g = u[1] * g + u[2] * x[1];
        }
        x[0] = x[0] - r[3] * g;
    }
}

/// RMSProp; updates v and, with momentum, the velocity. It has no decay. Number: the learning rate.
#[derive(Clone, Copy)]
pub(super) struct RmsProp<const MOMENTUM: bool> {
    pub smoothing: f64,
    pub epsilon: f64,
    pub momentum: f64,
}

impl<const MOMENTUM: bool> Kernel for RmsProp<MOMENTUM> {
    const READ: usize = 4;
    const UPDATE: usize = if MOMENTUM { 3 } else { 2 };
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.smoothing, 1.0 - self.smoothing, self.epsilon, self.momentum]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let g = r[0] * r[2];
        x[1] = u[0] * x[1] + u[1] * g.square();
        let mut step = g / (x[1].sqrt() + u[2]);
        if MOMENTUM {
            x[2] = u[3] * x[2] + step;
            step = x[2];
        }
        x[0] = x[0] - r[3] * step;
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

/// A rule, then the average of what it made of θ: one number w more, and e, the last that is updated, += w (θ - e).
#[derive(Clone, Copy)]
pub(super) struct Averaged<K>(pub K);

impl<K: Kernel> Kernel for Averaged<K> {
    const READ: usize = K::READ + 1;
    const UPDATE: usize = K::UPDATE + 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        self.0.uniforms()
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        self.0.eval(u, &r[..K::READ], &mut x[..K::UPDATE], &mut [], &mut []);
        x[K::UPDATE] = x[K::UPDATE] + r[K::READ] * (x[0] - x[K::UPDATE]);
    }
}

/// The same with the results in places of their own: the old values are read after all else, the new ones only written.
#[derive(Clone, Copy)]
pub(super) struct Anew<K>(pub K);

impl<K: Kernel> Kernel for Anew<K> {
    const READ: usize = K::READ + K::UPDATE;
    const UPDATE: usize = K::UPDATE;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        self.0.uniforms()
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        x[..K::UPDATE].copy_from_slice(&r[K::READ..K::READ + K::UPDATE]);
        self.0.eval(u, &r[..K::READ], &mut x[..K::UPDATE], &mut [], &mut []);
    }
}

/// Sets four numbers.
#[derive(Clone, Copy)]
pub(super) struct Numbers(pub [f64; UNIFORMS]);

impl Kernel for Numbers {
    const READ: usize = 0;
    const UPDATE: usize = UNIFORMS;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        self.0
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], _: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        x.copy_from_slice(u);
    }
}
