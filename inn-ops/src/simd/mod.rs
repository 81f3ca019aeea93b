//! Short vectors of `f32` and `f64` for the numerical kernels.
//!
//! `Lanes` is the small set of vector operations the kernels need; every
//! instruction set implements it with the intrinsics of `std::arch`. Kernels
//! are written once, generic over `Lanes` and `#[inline(always)]`, and then
//! instantiated inside functions that carry the right `#[target_feature]`, so
//! that no build flag such as `-C target-cpu` is needed. [`level`] chooses the
//! instruction set once per process.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;

/// The instruction sets that kernels are compiled for, from the widest to the
/// most portable one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// 512-bit vectors (x86-64 with AVX-512 F, BW, DQ and VL).
    Avx512,
    /// 256-bit vectors with fused multiply-add (x86-64 with AVX2 and FMA).
    Avx2,
    /// 128-bit vectors of 64-bit ARM.
    Neon,
    /// Portable code, left to the compiler to vectorize.
    Scalar,
}

impl Level {
    /// All levels, the widest first.
    pub const ALL: [Level; 4] = [Level::Avx512, Level::Avx2, Level::Neon, Level::Scalar];

    /// Whether this machine can run kernels of this level.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("bmi2")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("popcnt"),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Level::Scalar => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The levels this machine can run, the widest first.
    pub fn available() -> impl Iterator<Item = Level> {
        Self::ALL.into_iter().filter(|level| level.is_available())
    }
}

/// The level the kernels of this process use: the widest available one, or
/// the one named by the environment variable `INN_SIMD` (`avx512`, `avx2`,
/// `neon` or `scalar`) if that is available. Decided on the first call.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wanted = std::env::var("INN_SIMD").unwrap_or_default();
        let forced = match wanted.trim().to_ascii_lowercase().as_str() {
            "avx512" => Some(Level::Avx512),
            "avx2" => Some(Level::Avx2),
            "neon" => Some(Level::Neon),
            "scalar" => Some(Level::Scalar),
            _ => None,
        };
        match forced {
            Some(level) if level.is_available() => level,
            _ => Level::available().next().unwrap_or(Level::Scalar),
        }
    })
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A scalar the vectors are made of: `f32` or `f64`.
pub trait Element:
    sealed::Sealed
    + bytemuck::Pod
    + Send
    + Sync
    + PartialOrd
    + std::fmt::Debug
    + std::ops::Add<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::AddAssign
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The nearest number.
    fn of(value: f64) -> Self;
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Element for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
}

/// The largest number of lanes of any vector type.
pub(crate) const MAX_LANES: usize = 16;

/// A vector register of `N` elements.
///
/// # Safety
///
/// All functions require that the CPU supports the instruction set of the
/// implementing type, and must end up inlined in a function that enables it
/// (otherwise they are correct but slow). Pointers need no alignment, and must
/// be valid for the lanes that a function accesses.
pub(crate) trait Lanes: Copy {
    /// The element of a lane.
    type Elem: Element;
    /// The number of lanes, at most [`MAX_LANES`].
    const N: usize;

    /// All lanes zero.
    unsafe fn zero() -> Self;
    /// All lanes equal to `value`.
    unsafe fn splat(value: Self::Elem) -> Self;
    /// Reads `N` elements.
    unsafe fn load(from: *const Self::Elem) -> Self;
    /// Writes `N` elements.
    unsafe fn store(self, to: *mut Self::Elem);
    /// `self * factor + sum`.
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self;
    /// Lane by lane sum.
    unsafe fn add(self, other: Self) -> Self;
    /// `self` times `above` in the lanes where `gate` is at least 0, times `below` in the others.
    unsafe fn scaled(self, gate: Self, above: Self, below: Self) -> Self;
    /// Interleaves two vectors: `a[0] b[0] a[1] b[1] ...`, as the low and the
    /// high half of that.
    unsafe fn zip(self, other: Self) -> (Self, Self);

    /// The inverse of [`zip`](Self::zip): the elements of even and of odd place of two vectors in a row.
    #[inline(always)]
    unsafe fn unzip(self, other: Self) -> (Self, Self) {
        let (mut a, mut b) = (self, other);
        // As often as 2 can be multiplied by itself to give 2 N, less once: a perfect shuffle of 2 N cards has that order.
        let mut span = 1;
        while span < Self::N {
            // SAFETY: as for this function.
            (a, b) = unsafe { a.zip(b) };
            span *= 2;
        }
        (a, b)
    }

    /// Lane `i` gets what lane `i - 1` has, the first one 0.
    #[inline(always)]
    unsafe fn up(self) -> Self {
        let mut lanes = [Self::Elem::ZERO; MAX_LANES + 1];
        // SAFETY: as for this function; the array has an element more than lanes.
        unsafe {
            self.store(lanes[1..].as_mut_ptr());
            Self::load(lanes.as_ptr())
        }
    }

    /// Lane `i` gets what lane `i + 1` has, the last one 0.
    #[inline(always)]
    unsafe fn down(self) -> Self {
        let mut lanes = [Self::Elem::ZERO; MAX_LANES + 1];
        // SAFETY: as above.
        unsafe {
            self.store(lanes.as_mut_ptr());
            lanes[Self::N] = Self::Elem::ZERO;
            Self::load(lanes[1..].as_ptr())
        }
    }

    /// The lanes whose bit is set in `mask`, zero in the others.
    #[inline(always)]
    unsafe fn kept(self, mask: u32) -> Self {
        let mut lanes = [Self::Elem::ZERO; MAX_LANES];
        // SAFETY: as for this function; the array has all lanes.
        unsafe {
            self.store(lanes.as_mut_ptr());
            Self::load_masked(lanes.as_ptr(), mask)
        }
    }

    /// Asks for memory that will be read soon; any address is allowed.
    #[inline(always)]
    fn prefetch(_from: *const Self::Elem) {}

    /// Reads the lanes whose bit is set in `mask` from their place after
    /// `from`, the others are zero and their memory is not accessed.
    #[inline(always)]
    unsafe fn load_masked(from: *const Self::Elem, mask: u32) -> Self {
        // SAFETY: all lanes are valid if the mask is full, and those in the
        // mask otherwise.
        unsafe { if mask == u32::MAX >> (32 - Self::N) { Self::load(from) } else { Self::gather(from, mask, 1) } }
    }

    /// Writes the first `count` lanes.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut Self::Elem, count: usize) {
        // SAFETY: as for this function.
        unsafe { self.compress(to, u32::MAX >> (32 - count), false) }
    }

    /// The columns of a square of `N` by `N` elements whose rows are `row` apart, but for a function that is applied to them on the way,
    /// in whatever order they come.
    #[inline(always)]
    unsafe fn columns(from: *const Self::Elem, row: usize, apply: impl Fn(Self) -> Self) -> [Self; MAX_LANES] {
        // SAFETY: the caller vouches for the rows.
        unsafe {
            let mut v = [Self::zero(); MAX_LANES];
            for i in 0..Self::N {
                v[i] = apply(Self::load(from.add(i * row)));
            }
            transpose(&mut v);
            v
        }
    }

    /// [`load_masked`](Self::load_masked) of elements that are `step` apart.
    #[inline(always)]
    unsafe fn gather(from: *const Self::Elem, mask: u32, step: usize) -> Self {
        // SAFETY: as for this function.
        unsafe { gather(from, mask, step) }
    }

    /// Adjacent elements dealt out to `S` vectors, at most 4: lane `i` of vector `r` is element `from + i * S + r` where the mask of `r` has bit `i`, else zero.
    #[inline(always)]
    unsafe fn deal<const S: usize>(from: *const Self::Elem, masks: &[u16; 4]) -> [Self; S] {
        // SAFETY: as for this function.
        unsafe {
            let mut v = [Self::zero(); S];
            for r in 0..S {
                v[r] = Self::gather(from.wrapping_add(r), masks[r].into(), S);
            }
            v
        }
    }

    /// The way back of [`deal`](Self::deal): lane `i` of vector `r` becomes element `i * S + r` of the vectors one after the other.
    #[inline(always)]
    unsafe fn interleave<const S: usize>(v: [Self; S]) -> [Self; S] {
        let mut lines = v;
        // SAFETY: as for this function.
        unsafe {
            if S == 2 {
                (lines[0], lines[1]) = v[0].zip(v[1]);
            } else if S == 4 {
                let (even, odd) = (v[0].zip(v[2]), v[1].zip(v[3]));
                (lines[0], lines[1]) = even.0.zip(odd.0);
                (lines[2], lines[3]) = even.1.zip(odd.1);
            } else {
                (lines[0], lines[1], lines[2]) = Self::threes([v[0], v[1], v[2]]).into();
            }
        }
        lines
    }

    /// [`interleave`](Self::interleave) of three.
    #[inline(always)]
    unsafe fn threes(v: [Self; 3]) -> [Self; 3] {
        let (mut elements, mut lanes) = ([Self::Elem::ZERO; 3 * MAX_LANES], [Self::Elem::ZERO; MAX_LANES]);
        // SAFETY: as for this function; the arrays have `N` elements a vector.
        unsafe {
            for r in 0..3 {
                v[r].store(lanes.as_mut_ptr());
                for i in 0..Self::N {
                    elements[3 * i + r] = lanes[i];
                }
            }
            let at = elements.as_ptr();
            [Self::load(at), Self::load(at.add(Self::N)), Self::load(at.add(2 * Self::N))]
        }
    }

    /// Writes the lanes whose bit is set in `mask` one after the other,
    /// `step` elements apart, from `to` on; adds them to what is there if
    /// `accumulate`.
    #[inline(always)]
    unsafe fn scatter(self, to: *mut Self::Elem, mask: u32, step: usize, accumulate: bool) {
        // SAFETY: as for this function.
        unsafe { scatter(self, to, mask, step, accumulate) }
    }

    /// [`scatter`](Self::scatter) to adjacent places (`step` of one).
    #[inline(always)]
    unsafe fn compress(self, to: *mut Self::Elem, mask: u32, accumulate: bool) {
        let full = mask == u32::MAX >> (32 - Self::N);
        // SAFETY: all `N` places are valid if the mask is full, and those
        // counted by the mask otherwise.
        unsafe {
            if full {
                let value = if accumulate { self.add(Self::load(to)) } else { self };
                value.store(to);
            } else {
                self.scatter(to, mask, 1, accumulate);
            }
        }
    }
}

/// [`Lanes::scatter`], lane by lane.
///
/// # Safety
///
/// As the functions of [`Lanes`].
#[inline(always)]
unsafe fn scatter<L: Lanes>(v: L, to: *mut L::Elem, mask: u32, step: usize, accumulate: bool) {
    let mut lanes = [L::Elem::ZERO; MAX_LANES];
    // SAFETY: the array has at least `N` elements.
    unsafe { v.store(lanes.as_mut_ptr()) };
    let mut rest = mask;
    let mut at = to;
    while rest != 0 {
        let value = lanes[rest.trailing_zeros() as usize % MAX_LANES];
        // SAFETY: the caller vouches for as many places as the mask has
        // bits; `wrapping_add` only ever passes them after the last one.
        unsafe { *at = if accumulate { *at + value } else { value } };
        at = at.wrapping_add(step);
        rest &= rest - 1;
    }
}

/// Transposes the square of the first `N` vectors.
///
/// # Safety
///
/// As the functions of [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn transpose<L: Lanes>(v: &mut [L; MAX_LANES]) {
    // Dealing the rows out like cards, as often as it takes to halve them all; a loop would keep them in memory.
    // SAFETY: as for this function.
    unsafe {
        shuffle(v);
        if L::N > 2 {
            shuffle(v);
        }
        if L::N > 4 {
            shuffle(v);
        }
        if L::N > 8 {
            shuffle(v);
        }
    }
}

/// Puts the rows of one half between those of the other, elements likewise.
///
/// # Safety
///
/// As the functions of [`Lanes`].
#[inline(always)]
unsafe fn shuffle<L: Lanes>(v: &mut [L; MAX_LANES]) {
    let old = *v;
    for i in 0..L::N / 2 {
        // SAFETY: as for this function.
        (v[2 * i], v[2 * i + 1]) = unsafe { old[i].zip(old[i + L::N / 2]) };
    }
}

/// [`Lanes::gather`], lane by lane.
///
/// # Safety
///
/// As the functions of [`Lanes`].
#[inline(always)]
unsafe fn gather<L: Lanes>(from: *const L::Elem, mask: u32, step: usize) -> L {
    let mut lanes = [L::Elem::ZERO; MAX_LANES];
    for lane in 0..L::N {
        if mask >> lane & 1 != 0 {
            // SAFETY: the caller vouches for the lanes in the mask.
            lanes[lane] = unsafe { *from.wrapping_add(lane * step) };
        }
    }
    // SAFETY: the array has at least `N` elements.
    unsafe { L::load(lanes.as_ptr()) }
}

#[cfg(test)]
mod tests;
