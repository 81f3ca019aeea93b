//! The inner loops compiled for every instruction set, as tables of functions.

use super::copy::{self, Pixels, Source};
use super::dot::{self, Dot};
use super::interleave::{self, Interleave};
use super::micro::{self, Panel, Product};
use super::outer::{self, Outer, Turn};
use crate::simd::{Element, Level};
use crate::stack::fold::{self, Folding, Four, Scheme, Two};
use crate::stack::lines::{self, Lines};

/// Computes rows of a matrix product.
pub(crate) type ProductFn<T> = unsafe fn(&Product<T>);

/// Adds outer products for a number of rows.
pub(crate) type OuterFn<T> = unsafe fn(&Outer<'_, T>);

/// The kernels of one instruction set and element type. They require a CPU
/// that has the instruction set, and valid arguments (see [`micro`]).
pub(crate) struct Kernels<T: 'static> {
    /// Elements of a vector.
    pub(crate) lanes: usize,
    /// Bytes that planes should take: half of the second-level cache of the machines that have these instructions, or less.
    pub(crate) planes_bytes: usize,
    /// Vectors of multiplications that folding a vector of tiles takes as long as.
    pub(crate) fold_cost: usize,
    /// `panel[m - 1]` computes panels of `m` rows.
    pub(crate) panel: &'static [unsafe fn(&Panel<'_, T>)],
    /// `product[m - 1].0` computes `m` rows of a matrix product, best of as many vectors as the number beside it says.
    pub(crate) product: &'static [(ProductFn<T>, usize)],
    /// `outer[m - 1].0` computes `m` rows of sums of outer products, best of
    /// as many vectors as the number beside it says.
    pub(crate) outer: &'static [(OuterFn<T>, usize)],
    /// `dot[m - 1]` computes scalar products of `m` rows with a few others.
    pub(crate) dot: &'static [unsafe fn(&Dot<'_, T>)],
    /// Fill padded planes, of elements and of vectors.
    pub(crate) planes: unsafe fn(&Source<'_, T>),
    pub(crate) vectors: unsafe fn(&Pixels<'_, T>),
    /// Puts phases between each other.
    pub(crate) interleave: unsafe fn(&Interleave<'_, T>),
    /// Transposes.
    pub(crate) turn: unsafe fn(&Turn<'_, T>),
    /// From an image to the rows of a strip, and back.
    pub(crate) gather: unsafe fn(&Lines<'_, T>),
    pub(crate) scatter: unsafe fn(&Lines<'_, T>),
    /// Copies folded rows.
    pub(crate) shift: unsafe fn(&fold::Shift<T>),
    /// The same for folded rows, and transposing hidden arrays into folded ones, by [`Folding`].
    pub(crate) folded: [Folded<T>; 2],
}

/// Kernels of a scheme of folding.
pub(crate) struct Folded<T> {
    pub(crate) gather: unsafe fn(&Lines<'_, T>),
    pub(crate) scatter: unsafe fn(&Lines<'_, T>),
    pub(crate) turn: unsafe fn(&fold::Turn<T>),
    /// For convolutions that stand alone: lines of images into folded rows, folded rows into lines, and lines by the places of their pixels in tiles.
    pub(crate) fold: unsafe fn(&fold::FoldPlanes<'_, T>),
    pub(crate) unfold: unsafe fn(&fold::UnfoldPlanes<T>),
    pub(crate) deal: unsafe fn(&fold::Deal<T>),
    /// Lines that fill their tiles into folded arrays, transposed.
    pub(crate) turn_pixels: unsafe fn(&fold::Pixels<T>),
    /// Their weights.
    pub(crate) weights: unsafe fn(&fold::Weights<T>),
}

impl<T> Kernels<T> {
    /// The kernels of a scheme.
    pub(crate) fn folded(&self, folding: Folding) -> &Folded<T> {
        &self.folded[folding as usize]
    }
}

/// Gives the kernels of an element type. Not nameable outside of this crate.
pub trait Dispatch: Element {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn kernels(level: Level) -> &'static Kernels<Self>;
}

macro_rules! table {
    ($module:ident, $elem:ty, $lanes:ty, $(#[$enable:meta])?
     planes: $planes:expr, fold: $fold:expr, panel: [$(($mr:literal, $nv:literal)),*], outer: [$(($or:literal, $ov:literal)),*], dot: [$($dr:literal),*]) => {
        mod $module {
            use super::*;
            use crate::simd::Lanes;

            type L = $lanes;

            // SAFETY (all functions): as the generic function each calls.
            $(#[$enable])?
            unsafe fn panel<const MR: usize, const NV: usize>(p: &Panel<'_, $elem>) {
                // SAFETY: see above.
                unsafe { micro::panel::<L, MR, NV>(p) }
            }

            $(#[$enable])?
            unsafe fn product<const MR: usize, const NV: usize>(p: &Product<$elem>) {
                // SAFETY: see above.
                unsafe { micro::product::<L, MR, NV>(p) }
            }

            $(#[$enable])?
            unsafe fn outer<const MR: usize, const NV: usize>(p: &Outer<'_, $elem>) {
                // SAFETY: see above.
                unsafe { outer::outer::<L, MR, NV>(p) }
            }

            $(#[$enable])?
            unsafe fn dot<const MR: usize>(p: &Dot<'_, $elem>) {
                // SAFETY: see above.
                unsafe { dot::dot::<L, MR>(p) }
            }

            $(#[$enable])?
            unsafe fn turn(p: &Turn<'_, $elem>) {
                // SAFETY: see above.
                unsafe { outer::turn::<L>(p) }
            }

            $(#[$enable])?
            unsafe fn planes(p: &Source<'_, $elem>) {
                // SAFETY: see above.
                unsafe { copy::planes::<L>(p) }
            }

            $(#[$enable])?
            unsafe fn vectors(p: &Pixels<'_, $elem>) {
                // SAFETY: see above.
                unsafe { copy::vectors::<L>(p) }
            }

            $(#[$enable])?
            unsafe fn interleave(p: &Interleave<'_, $elem>) {
                // SAFETY: see above.
                unsafe { interleave::interleave::<L>(p) }
            }

            $(#[$enable])?
            unsafe fn gather(p: &Lines<'_, $elem>) {
                // SAFETY: see above.
                unsafe { lines::gather::<L>(p) }
            }

            $(#[$enable])?
            unsafe fn scatter(p: &Lines<'_, $elem>) {
                // SAFETY: see above.
                unsafe { lines::scatter::<L>(p) }
            }

            $(#[$enable])?
            unsafe fn gather_folded<S: Scheme>(p: &Lines<'_, $elem>) {
                // SAFETY: see above.
                unsafe { fold::gather::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn scatter_folded<S: Scheme>(p: &Lines<'_, $elem>) {
                // SAFETY: see above.
                unsafe { fold::scatter::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn turn_folded<S: Scheme>(p: &fold::Turn<$elem>) {
                // SAFETY: see above.
                unsafe { fold::turn::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn fold_planes<S: Scheme>(p: &fold::FoldPlanes<'_, $elem>) {
                // SAFETY: see above.
                unsafe { fold::fold::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn unfold_planes<S: Scheme>(p: &fold::UnfoldPlanes<$elem>) {
                // SAFETY: see above.
                unsafe { fold::unfold::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn deal_planes<S: Scheme>(p: &fold::Deal<$elem>) {
                // SAFETY: see above.
                unsafe { fold::deal::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn turn_pixels<S: Scheme>(p: &fold::Pixels<$elem>) {
                // SAFETY: see above.
                unsafe { fold::turn_pixels::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn fold_weights<S: Scheme>(p: &fold::Weights<$elem>) {
                // SAFETY: see above.
                unsafe { fold::fold_weights::<L, S>(p) }
            }

            $(#[$enable])?
            unsafe fn shift(p: &fold::Shift<$elem>) {
                // SAFETY: see above.
                unsafe { fold::shift::<L>(p) }
            }

            const fn folded<S: Scheme>() -> Folded<$elem> {
                Folded {
                    gather: gather_folded::<S>,
                    scatter: scatter_folded::<S>,
                    turn: turn_folded::<S>,
                    fold: fold_planes::<S>,
                    unfold: unfold_planes::<S>,
                    deal: deal_planes::<S>,
                    turn_pixels: turn_pixels::<S>,
                    weights: fold_weights::<S>,
                }
            }

            pub(super) static TABLE: Kernels<$elem> = Kernels {
                lanes: L::N,
                planes_bytes: $planes,
                fold_cost: $fold,
                panel: &[$(panel::<$mr, $nv>),*],
                product: &[$((product::<$mr, $nv>, $nv)),*],
                outer: &[$((outer::<$or, $ov>, $ov)),*],
                dot: &[$(dot::<$dr>),*],
                planes,
                vectors,
                interleave,
                turn,
                gather,
                scatter,
                shift,
                folded: [folded::<Two>(), folded::<Four>()],
            };
        }
    };
}

// The tiles fill the register file: rows times vectors accumulators, plus the
// vectors of one step and a broadcast factor. Tall tiles load less often (all
// loads of shifted vectors cross cache lines), so the row count stays large.
macro_rules! avx512 {
    ($module:ident, $elem:ty, $lanes:ty) => {
        #[cfg(target_arch = "x86_64")]
        table!(
            $module, $elem, $lanes,
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt,bmi2")]
            planes: 1 << 20, fold: 40, panel: [(1, 8), (2, 8), (3, 7), (4, 6), (5, 5), (6, 4), (7, 3), (8, 3), (9, 3)],
            outer: [(1, 8), (2, 8), (3, 7), (4, 6), (5, 5), (6, 4), (7, 3), (8, 3), (9, 3)],
            dot: [1, 2, 3, 4, 5, 6, 7, 8]
        );
    };
}
avx512!(avx512_f32, f32, crate::simd::avx512::F32x16);
avx512!(avx512_f64, f64, crate::simd::avx512::F64x8);

// Four rows of three vectors would take all 16 registers, and compilers then keep some of them in memory, at half the speed.
macro_rules! avx2 {
    ($module:ident, $elem:ty, $lanes:ty) => {
        #[cfg(target_arch = "x86_64")]
        table!(
            $module, $elem, $lanes,
            #[target_feature(enable = "avx2,fma,popcnt")]
            planes: 256 << 10, fold: 80, panel: [(1, 6), (2, 4), (3, 3), (4, 2), (5, 2), (6, 2)],
            outer: [(1, 6), (2, 4), (3, 3), (4, 2), (5, 2), (6, 2)],
            dot: [1, 2, 3, 4]
        );
    };
}
avx2!(avx2_f32, f32, crate::simd::avx2::F32x8);
avx2!(avx2_f64, f64, crate::simd::avx2::F64x4);

macro_rules! neon {
    ($module:ident, $elem:ty, $lanes:ty) => {
        #[cfg(target_arch = "aarch64")]
        table!(
            $module, $elem, $lanes,
            #[target_feature(enable = "neon")]
            planes: 256 << 10, fold: 40, panel: [(1, 8), (2, 8), (3, 7), (4, 6), (5, 5), (6, 4), (7, 3), (8, 3)],
            outer: [(1, 8), (2, 8), (3, 7), (4, 6), (5, 5), (6, 4), (7, 3), (8, 3)],
            dot: [1, 2, 3, 4, 5, 6, 7, 8]
        );
    };
}
neon!(neon_f32, f32, crate::simd::neon::F32x4);
neon!(neon_f64, f64, crate::simd::neon::F64x2);

table!(
    scalar_f32, f32, crate::simd::scalar::Quad<f32>,
    planes: 256 << 10, fold: 40, panel: [(1, 4), (2, 4), (3, 3), (4, 2)],
    outer: [(1, 4), (2, 4), (3, 3), (4, 2)],
    dot: [1, 2]
);
table!(
    scalar_f64, f64, crate::simd::scalar::Quad<f64>,
    planes: 256 << 10, fold: 40, panel: [(1, 2), (2, 2), (3, 1), (4, 1)],
    outer: [(1, 2), (2, 2), (3, 1), (4, 1)],
    dot: [1]
);

macro_rules! dispatch {
    ($elem:ty, $avx512:ident, $avx2:ident, $neon:ident, $scalar:ident) => {
        impl Dispatch for $elem {
            #[allow(private_interfaces)]
            fn kernels(level: Level) -> &'static Kernels<Self> {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 => &$avx512::TABLE,
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => &$avx2::TABLE,
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => &$neon::TABLE,
                    _ => &$scalar::TABLE,
                }
            }
        }
    };
}
dispatch!(f32, avx512_f32, avx2_f32, neon_f32, scalar_f32);
dispatch!(f64, avx512_f64, avx2_f64, neon_f64, scalar_f64);
