//! Vectors that a kernel is evaluated on.

use super::block::Operand;
use super::strip::Evaluate;
use super::{Grid, Sums};
use crate::simd::Level;
use inn_core::Scalar;

/// `N` numbers that a kernel treats at once.
///
/// # Safety
/// Values exist only on a CPU that has the instructions of the type, which [`Vectors::with`] checks once a call; all
/// methods rely on that. Loads and stores need no alignment, and `N` valid elements.
pub trait Vector: Scalar {
    /// What a lane holds.
    type Elem: Copy;
    /// The number of lanes, at most [`MAX_LANES`].
    const N: usize;

    /// Reads `N` elements.
    unsafe fn load(from: *const Self::Elem) -> Self;
    /// Writes `N` elements.
    unsafe fn store(self, to: *mut Self::Elem);
    /// One number in all lanes.
    fn splat(value: Self::Elem) -> Self;
    /// `self * a + b`, rounded once where there is an instruction for it.
    fn mul_add(self, a: Self, b: Self) -> Self;
}

/// The most lanes of any vector.
pub(crate) const MAX_LANES: usize = 16;

/// The bits of a vector of `f32`, for [`elementary`](super::elementary).
#[cfg(target_arch = "x86_64")]
pub(super) trait Bits: Scalar {
    /// 2^n for a whole -126 ≤ n ≤ 127.
    fn exp2(n: Self) -> Self;
    /// (m, e) with x = m 2^e and 1/2 ≤ m < 1, for a positive normal x.
    fn frexp(self) -> (Self, Self);
    /// The square root.
    fn root(self) -> Self;
}

/// One number: what runs where there is no vector type.
macro_rules! single {
    ($t:ident) => {
        impl Vector for $t {
            type Elem = $t;
            const N: usize = 1;
            #[inline(always)]
            unsafe fn load(from: *const $t) -> Self {
                // SAFETY: the caller vouches for one element.
                unsafe { *from }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                // SAFETY: the caller vouches for one element.
                unsafe { *to = self }
            }
            #[inline(always)]
            fn splat(value: $t) -> Self {
                value
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                self * a + b
            }
        }
    };
}
single!(f32);
single!(f64);

/// An element type with its vectors.
pub trait Vectors: Vector<Elem = Self> + Default + Send + Sync + 'static {
    /// Runs a job on the vectors of an instruction set.
    fn with(level: Level, job: impl Job<Self>);
    /// The lanes of a vector of an instruction set.
    fn lanes(level: Level) -> usize;
    /// Runs a call that is cut up. Here, so that it is compiled with this crate.
    fn run(grid: &Grid, kernel: &dyn Evaluate<Self>, operands: &[Operand<Self>]) -> Sums;
    /// Widens a sum.
    fn widen(self) -> f64;
    /// Rounds a sum.
    fn narrow(sum: f64) -> Self;
}

/// Work that is generic over the vector, compiled for each instruction set.
pub trait Job<T> {
    /// Does the work. Always inlined, so that it is compiled with the instructions of `V`.
    fn run<V: Vector<Elem = T>>(self);
}

macro_rules! vectors {
    ($t:ident, $avx512:ident, $avx2:ident) => {
        impl Vectors for $t {
            #[inline]
            fn with(level: Level, job: impl Job<Self>) {
                #[cfg(target_arch = "x86_64")]
                {
                    use super::x86::{$avx2, $avx512};
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt")]
                    fn wide<J: Job<$t>>(job: J) {
                        job.run::<$avx512>();
                    }
                    #[target_feature(enable = "avx2,fma,popcnt")]
                    fn half<J: Job<$t>>(job: J) {
                        job.run::<$avx2>();
                    }
                    match level {
                        // SAFETY: the CPU has the instructions; a caller that invents a level is refused.
                        Level::Avx512 if level.is_available() => return unsafe { wide(job) },
                        // SAFETY: as above.
                        Level::Avx2 if level.is_available() => return unsafe { half(job) },
                        _ => {}
                    }
                }
                let _ = level;
                job.run::<$t>();
            }
            fn lanes(level: Level) -> usize {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 if level.is_available() => super::x86::$avx512::N,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 if level.is_available() => super::x86::$avx2::N,
                    _ => 1,
                }
            }
            fn run(grid: &Grid, kernel: &dyn Evaluate<Self>, operands: &[Operand<Self>]) -> Sums {
                grid.run(kernel, operands)
            }
            #[inline(always)]
            fn widen(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn narrow(sum: f64) -> Self {
                sum as $t
            }
        }
    };
}
vectors!(f32, F32x16, F32x8);
vectors!(f64, F64x8, F64x4);
