//! Pointwise kernels: one scalar function, given to a backend as a type.

use crate::scalar::Scalar;

/// Most operands of one kind that a kernel may have, before [`Dual`](crate::dual::Dual) doubles them.
pub const MAX_OPERANDS: usize = 8;

/// Numbers that change from call to call (a step size, a pixel count): at most this many a kernel.
pub const UNIFORMS: usize = 4;

/// A pointwise map with sums, the one primitive that all elementwise mathematics goes through
/// ([`Backend::zip`](crate::backend::Backend::zip)).
///
/// For each element `(b, c, p)` of the domain a backend loads `READ` values and `UPDATE` values, calls [`eval`](Self::eval), and
/// stores the `UPDATE` values back. What `eval` leaves in `channel_sums` is summed over `b` and `p` and **added** to one value
/// a channel; what it leaves in `sample_sums` is summed over `c` and `p` and **added** to one value a sample.
///
/// The scalar is a parameter of the function, so one text computes in f32, f64 and in SIMD lanes, differentiates itself on
/// [`Pair`](crate::scalar::Pair)s, counts its operations, and can be recorded as shader source. It has to be pure, without
/// branches on values ([`Scalar::select_ge`]), and all its tunable numbers come from [`uniforms`](Self::uniforms).
pub trait Kernel: Copy + Send + Sync + 'static {
    /// Values that are read only.
    const READ: usize;
    /// Values that are read and written (or only written, where the [`Update`](crate::view::Update) says so).
    const UPDATE: usize;
    /// Sums per channel.
    const CHANNEL_SUMS: usize = 0;
    /// Sums per sample.
    const SAMPLE_SUMS: usize = 0;

    /// Numbers handed to `eval` as `uniforms`; unused ones are 0.
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [0.0; UNIFORMS]
    }

    /// The function. Slices have the lengths of the constants above; sums come in as zero.
    fn eval<T: Scalar>(&self, uniforms: &[T; UNIFORMS], read: &[T], update: &mut [T], channel_sums: &mut [T], sample_sums: &mut [T]);
}

/// How many operands of each kind a kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// [`Kernel::READ`].
    pub read: usize,
    /// [`Kernel::UPDATE`].
    pub update: usize,
    /// [`Kernel::CHANNEL_SUMS`].
    pub channel_sums: usize,
    /// [`Kernel::SAMPLE_SUMS`].
    pub sample_sums: usize,
}

impl Arity {
    /// That of `K`.
    pub const fn of<K: Kernel>() -> Self {
        Self { read: K::READ, update: K::UPDATE, channel_sums: K::CHANNEL_SUMS, sample_sums: K::SAMPLE_SUMS }
    }
}

/// Kernels of linear algebra on flat buffers and of broadcasting.
pub mod blas {
    use super::*;

    /// y += a x.
    #[derive(Clone, Copy, Debug)]
    pub struct Axpy(pub f64);
    impl Kernel for Axpy {
        const READ: usize = 1;
        const UPDATE: usize = 1;
        fn uniforms(&self) -> [f64; UNIFORMS] {
            [self.0, 0.0, 0.0, 0.0]
        }
        #[inline(always)]
        fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], x: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
            y[0] = y[0] + u[0] * x[0];
        }
    }

    /// y = a y.
    #[derive(Clone, Copy, Debug)]
    pub struct Scale(pub f64);
    impl Kernel for Scale {
        const READ: usize = 0;
        const UPDATE: usize = 1;
        fn uniforms(&self) -> [f64; UNIFORMS] {
            [self.0, 0.0, 0.0, 0.0]
        }
        #[inline(always)]
        fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], _: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
            y[0] = u[0] * y[0];
        }
    }

    /// y = a, whatever y was.
    #[derive(Clone, Copy, Debug)]
    pub struct Fill(pub f64);
    impl Kernel for Fill {
        const READ: usize = 0;
        const UPDATE: usize = 1;
        fn uniforms(&self) -> [f64; UNIFORMS] {
            [self.0, 0.0, 0.0, 0.0]
        }
        #[inline(always)]
        fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], _: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
            y[0] = u[0];
        }
    }

    /// y = x.
    #[derive(Clone, Copy, Debug)]
    pub struct Assign;
    impl Kernel for Assign {
        const READ: usize = 1;
        const UPDATE: usize = 1;
        #[inline(always)]
        fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], x: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
            y[0] = x[0];
        }
    }

    /// s += <x, y>, for each sample.
    #[derive(Clone, Copy, Debug)]
    pub struct Dot;
    impl Kernel for Dot {
        const READ: usize = 2;
        const UPDATE: usize = 0;
        const SAMPLE_SUMS: usize = 1;
        #[inline(always)]
        fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], x: &[T], _: &mut [T], _: &mut [T], s: &mut [T]) {
            s[0] = x[0] * x[1];
        }
    }
}
