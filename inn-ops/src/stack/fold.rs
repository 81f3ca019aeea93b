//! Kernels of three taps along the last axis with two thirds of the multiplications (Winograd 1980; Lavin & Gray 2016,
//! arXiv:1509.09308, F(2, 3) in one dimension).
//!
//! Two neighbouring outputs, even and odd, take four neighbouring inputs d_0 .. d_3:
//!
//! ```text
//! V_0 = d_0 - d_2,    V_1 = d_1 + d_2,    V_2 = d_2 - d_1,    V_3 = d_1 - d_3
//! U_0 = w_0,    U_1 = (w_0 + w_1 + w_2)/2,    U_2 = (w_0 - w_1 + w_2)/2,    U_3 = -w_2
//! M_e = U_e V_e,    even = M_0 + M_1 + M_2,    odd = M_1 - M_2 + M_3
//! ```
//! The adjoint in d and in w follows line by line: with a = (even, even + odd, even - odd, odd) for cotangents or inputs of a transposed
//! convolution, Z_e = U_eᵀ a_e goes to d by Vᵀ, and gU_e = V_e a_eᵀ to w by Uᵀ. All terms are sums of two numbers, which costs half a digit.
//!
//! Hidden arrays of a strip hold even pixels first and odd pixels from the middle on; nothing between the two kernels minds.

use super::lines::Lines;
use super::walk::Walk;
use crate::cpu::CpuElement;
use crate::pool;
use crate::simd::{Element, Lanes, MAX_LANES, transpose};
use crate::zip::vector::{Job, Vector};
use inn_core::stack::Pointwise;
use std::sync::Mutex;

/// Arrays that take the place of one.
pub(super) const PARTS: usize = 4;

/// Kernels that are folded at one time.
const KERNELS: usize = 1024;

/// U_e of weights with three taps, `[e][kernel]` each.
pub(super) fn weights<T: CpuElement>(alone: bool, weights: [(&[T], &mut [T]); 2]) {
    let mut tasks = Vec::new();
    for (w, u) in weights {
        let mut parts = u.chunks_mut((w.len() / 3).max(1)).map(|u| u.chunks_mut(KERNELS));
        let Some([u0, u1, u2, u3]) =
            (0..PARTS).map(|_| parts.next()).collect::<Option<Vec<_>>>().and_then(|u| <[_; PARTS]>::try_from(u).ok())
        else {
            continue;
        };
        let parts = u0.zip(u1).zip(u2.zip(u3));
        tasks.extend(w.chunks(3 * KERNELS).zip(parts).map(|(w, ((u0, u1), (u2, u3)))| Mutex::new((w, [u0, u1, u2, u3]))));
    }
    let half = <T as inn_core::Scalar>::constant(0.5);
    pool::each(tasks.len(), alone, |i| {
        if let Ok(mut task) = tasks[i].lock() {
            let (w, [u0, u1, u2, u3]) = &mut *task;
            let us = u0.iter_mut().zip(u1.iter_mut()).zip(u2.iter_mut().zip(u3.iter_mut()));
            for (taps, ((u0, u1), (u2, u3))) in w.chunks_exact(3).zip(us) {
                let outer = (taps[0] + taps[2]) * half;
                let inner = taps[1] * half;
                (*u0, *u1, *u2, *u3) = (taps[0], outer + inner, outer - inner, -taps[2]);
            }
        }
    });
}

/// From gradients of U, rows `(r, e)` of `wide` elements, to those of w, rows `(r, tap)`.
pub(super) fn weight_gradients<T: CpuElement>(gu: &[T], wide: usize, gw: &mut [T]) {
    let half = <T as inn_core::Scalar>::constant(0.5);
    for (u, w) in gu.chunks_exact(PARTS * wide).zip(gw.chunks_exact_mut(3 * wide)) {
        let (u01, u23) = u.split_at(2 * wide);
        let ((u0, u1), (u2, u3)) = (u01.split_at(wide), u23.split_at(wide));
        let (w0, w12) = w.split_at_mut(wide);
        let (w1, w2) = w12.split_at_mut(wide);
        for i in 0..wide {
            let (both, difference) = ((u1[i] + u2[i]) * half, (u1[i] - u2[i]) * half);
            (w0[i], w1[i], w2[i]) = (u0[i] + both, difference, both - u3[i]);
        }
    }
}

/// Even and odd halves of hidden arrays, `pitch` apart from row to row, and the arrays M_0 .. M_3 or their like, `half` apart.
#[derive(Clone, Copy)]
pub(super) struct Halves<T> {
    pub(super) rows: usize,
    /// Elements of a half.
    pub(super) len: usize,
    pub(super) x: *mut T,
    pub(super) pitch: usize,
    /// M_0; the others follow after `rows * half` elements each.
    pub(super) m: *mut T,
    pub(super) half: usize,
}

impl<T: CpuElement> Halves<T> {
    /// even = M_0 + M_1 + M_2 and odd = M_1 - M_2 + M_3, at element `i` of a row.
    ///
    /// # Safety
    /// The row has the elements.
    #[inline(always)]
    unsafe fn unfolded<V: Vector<Elem = T>>(&self, row: usize, i: usize) -> [V; 2] {
        let mut m = [V::zero(); PARTS];
        for e in 0..PARTS {
            // SAFETY: the caller's promise.
            m[e] = unsafe { V::load(self.m.add((e * self.rows + row) * self.half + i)) };
        }
        [m[0] + m[1] + m[2], m[1] - m[2] + m[3]]
    }

    /// M_1 = even + odd, M_2 = even - odd, at element `i` of a row.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn put<V: Vector<Elem = T>>(&self, row: usize, i: usize, [even, odd]: [V; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            (even + odd).store(self.m.add((self.rows + row) * self.half + i));
            (even - odd).store(self.m.add((2 * self.rows + row) * self.half + i));
        }
    }
}

/// x = (even, odd) as y, of M_0 .. M_3; ρ(y) goes to `to`, rows as those of x.
pub(super) struct UnfoldActivate<T, A>(pub(super) Halves<T>, pub(super) *mut T, pub(super) A);

impl<T: CpuElement, A: Pointwise> Job<T> for UnfoldActivate<T, A> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let Self(h, to, rho) = self;
        for r in 0..h.rows {
            for i in (0..h.len).step_by(V::N) {
                // SAFETY: whoever makes the job vouches for the rows.
                unsafe {
                    let y = h.unfolded::<V>(r, i);
                    for side in 0..2 {
                        let at = r * h.pitch + side * h.len + i;
                        y[side].store(h.x.add(at));
                        rho.value(y[side]).store(to.add(at));
                    }
                }
            }
        }
    }
}

/// x = ρ(y), and M_1 and M_2 from it.
pub(super) struct ActivateFold<T, A>(pub(super) Halves<T>, pub(super) *const T, pub(super) A);

impl<T: CpuElement, A: Pointwise> Job<T> for ActivateFold<T, A> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let Self(h, y, rho) = self;
        for r in 0..h.rows {
            for i in (0..h.len).step_by(V::N) {
                // SAFETY: as in `UnfoldActivate`.
                unsafe {
                    let mut x = [V::zero(); 2];
                    for side in 0..2 {
                        let at = r * h.pitch + side * h.len + i;
                        x[side] = rho.value(V::load(y.add(at)));
                        x[side].store(h.x.add(at));
                    }
                    h.put(r, i, x);
                }
            }
        }
    }
}

/// x = ρ'(y) (even, odd) of M_0 .. M_3; sums += the sum of each row, lane by lane.
pub(super) struct UnfoldPull<T, A> {
    pub(super) halves: Halves<T>,
    pub(super) y: *const T,
    pub(super) sums: *mut T,
    /// Distance of the sums, at least a vector.
    pub(super) lanes: usize,
    pub(super) rho: A,
}

impl<T: CpuElement, A: Pointwise> Job<T> for UnfoldPull<T, A> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let h = self.halves;
        for r in 0..h.rows {
            // SAFETY: as in `UnfoldActivate`.
            unsafe {
                let mut sums = [V::zero(); 2];
                for i in (0..h.len).step_by(V::N) {
                    let g = h.unfolded::<V>(r, i);
                    for side in 0..2 {
                        let at = r * h.pitch + side * h.len + i;
                        let g = self.rho.derivative(V::load(self.y.add(at))) * g[side];
                        g.store(h.x.add(at));
                        sums[side] = sums[side] + g;
                    }
                }
                let place = self.sums.add(r * self.lanes);
                (V::load(place) + (sums[0] + sums[1])).store(place);
            }
        }
    }
}

/// M_1 and M_2 from x.
pub(super) struct Fold<T>(pub(super) Halves<T>);

impl<T: CpuElement> Job<T> for Fold<T> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let h = self.0;
        for r in 0..h.rows {
            for i in (0..h.len).step_by(V::N) {
                // SAFETY: as in `UnfoldActivate`.
                unsafe {
                    let x = h.x.add(r * h.pitch + i);
                    h.put(r, i, [V::load(x), V::load(x.add(h.len))]);
                }
            }
        }
    }
}

impl<T> Halves<T> {
    /// a_0 .. a_3 of what [`Fold`] has folded, with the distance of their rows.
    pub(super) fn folded(&self) -> [(*mut T, usize); PARTS] {
        // SAFETY: the halves and arrays that the fields describe.
        unsafe {
            let m = |e: usize| (self.m.add(e * self.rows * self.half), self.half);
            [(self.x, self.pitch), m(1), m(2), (self.x.add(self.len), self.pitch)]
        }
    }

    /// M_0 .. M_3, with the distance of their rows.
    pub(super) fn parts(&self) -> [(*mut T, usize); PARTS] {
        // SAFETY: as above.
        std::array::from_fn(|e| (unsafe { self.m.add(e * self.rows * self.half) }, self.half))
    }
}

/// Hidden rows, even pixels and `odd` elements later the odd ones, to turn into a_0 .. a_3, so that vectors run over the rows:
/// `[group of rows][column][row of the group]` each, filled up with zeros.
pub(crate) struct Turn<T> {
    pub(crate) from: *const T,
    pub(crate) odd: usize,
    /// Distance of the rows.
    pub(crate) row: usize,
    pub(crate) rows: usize,
    /// Elements of a half, whole vectors.
    pub(crate) columns: usize,
    pub(crate) to: *mut T,
    /// Distance of the four arrays.
    pub(crate) apart: usize,
}

/// A tile of `rows` rows, at most as many as a vector has lanes, with the vectors over the rows.
///
/// # Safety
/// The CPU must support `L`, and the rows must be readable.
#[inline(always)]
unsafe fn tile<L: Lanes>(from: *const L::Elem, row: usize, rows: usize) -> [L; MAX_LANES] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut v = [L::zero(); MAX_LANES];
        for i in 0..L::N {
            if i < rows {
                v[i] = L::load(from.add(i * row));
            }
        }
        transpose(&mut v);
        v
    }
}

/// Turns and folds.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Turn`] describes must be valid.
#[inline(always)]
pub(crate) unsafe fn turn<L: Lanes>(p: &Turn<L::Elem>) {
    for r in (0..p.rows).step_by(L::N) {
        let rows = (p.rows - r).min(L::N);
        for c in (0..p.columns).step_by(L::N) {
            // SAFETY: the caller's promise; `rows` are those that are left.
            unsafe {
                let minus = L::splat(L::Elem::MINUS_ONE);
                let from = p.from.add(r * p.row + c);
                let to = p.to.add(r * p.columns + c * L::N);
                // Not both tiles at one time, which would take all registers twice.
                let even = tile::<L>(from, p.row, rows);
                for j in 0..L::N {
                    even[j].store(to.add(j * L::N));
                }
                let odd = tile::<L>(from.add(p.odd), p.row, rows);
                for j in 0..L::N {
                    let to = to.add(j * L::N);
                    let even = L::load(to);
                    even.add(odd[j]).store(to.add(p.apart));
                    odd[j].mul_add(minus, even).store(to.add(2 * p.apart));
                    odd[j].store(to.add(3 * p.apart));
                }
            }
        }
    }
}

/// The bits of the lanes whose elements `first + lane` lie in `low..high`.
fn mask<L: Lanes>(first: usize, low: usize, high: usize) -> u32 {
    let bits = |n: usize| if n >= 32 { u32::MAX } else { (1u32 << n) - 1 };
    bits(high.saturating_sub(first).min(L::N)) & !bits(low.saturating_sub(first).min(L::N))
}

/// The even and the odd ones of two vectors of pixels.
///
/// # Safety
/// The CPU must support `L`; the lanes of the masks must be readable.
#[inline(always)]
unsafe fn pair<L: Lanes>(from: *const L::Elem, first: u32, second: u32) -> (L, L) {
    // SAFETY: the caller's promise.
    unsafe { L::load_masked(from, first).unzip(L::load_masked(from.wrapping_add(L::N), second)) }
}

/// The lines that a strip's neighbourhoods reach, of which those of one tap y follow each other: their sample and place, for each tap z.
fn reached(walk: &Walk) -> impl Iterator<Item = (usize, impl Iterator<Item = Option<(usize, isize)>>)> {
    let ([kz, ky, _], lines) = (walk.taps.kernel, walk.lines);
    (0..kz).map(move |tz| {
        let place = move |i: usize| {
            let (ty, line) = if i < lines { (0, i) } else { (i + 1 - lines, lines - 1) };
            // Places are those of tap x = 0, one pixel to the left.
            walk.places[(tz * ky + ty) * lines + line].map(|(sample, offset)| (sample, offset + 1))
        };
        (tz, (0..lines + ky - 1).map(place))
    })
}

/// Fills rows `((c, tap z), e)` of V with the lines of a strip and those above and below; a tap y is a shift by whole lines.
///
/// # Safety
/// As [`gather`](super::lines::gather), for rows of `p.pitch` elements that hold half of these lines and a vector.
#[inline(always)]
pub(crate) unsafe fn gather<L: Lanes>(p: &Lines<'_, L::Elem>) {
    let (walk, width) = (p.walk, p.walk.count);
    let tiles = width / 2;
    let whole = (walk.lines + walk.taps.kernel[1] - 1) * tiles / L::N * L::N;
    let vectors = tiles.div_ceil(L::N);
    // For each vector of tiles: the lanes of two vectors of pixels at the shifts -1, 0 and 2 that lie in the line.
    let mut masks = Vec::with_capacity(6 * vectors);
    for j in 0..vectors {
        for shift in [-1isize, 0, 2] {
            let low = usize::from(shift < 0);
            let high = if shift > 0 { width - 2 } else { width };
            masks.extend([0, L::N].map(|v| mask::<L>(2 * j * L::N + v, low, high)));
        }
    }
    let mut row = p.rows;
    for c in 0..p.image.channels {
        for (_, places) in reached(walk) {
            // SAFETY: lanes outside of the line are masked out, and their addresses only computed; a vector that is stored reaches past
            // its line by less than a vector, into the next line, which follows, or the row's end.
            unsafe {
                let minus = L::splat(L::Elem::MINUS_ONE);
                for end in (whole..p.pitch).step_by(L::N) {
                    for e in 0..PARTS {
                        L::zero().store(row.add(e * p.pitch + end));
                    }
                }
                let from = p.image.data.add(walk.sample * p.image.batch_stride + c * p.image.channel_stride);
                for (i, place) in places.enumerate() {
                    let to = row.add(i * tiles);
                    let Some((sample, offset)) = place else {
                        for j in 0..vectors {
                            for e in 0..PARTS {
                                L::zero().store(to.add(e * p.pitch + j * L::N));
                            }
                        }
                        continue;
                    };
                    let from = from.wrapping_add(sample * p.image.batch_stride).wrapping_offset(offset);
                    for j in 0..vectors {
                        let m = &masks[6 * j..6 * j + 6];
                        let from = from.wrapping_add(2 * j * L::N);
                        let (d0, _) = pair::<L>(from.wrapping_sub(1), m[0], m[1]);
                        let (d1, d2) = pair::<L>(from, m[2], m[3]);
                        let (d3, _) = pair::<L>(from.wrapping_add(2), m[4], m[5]);
                        let to = to.add(j * L::N);
                        d2.mul_add(minus, d0).store(to);
                        d1.add(d2).store(to.add(p.pitch));
                        d1.mul_add(minus, d2).store(to.add(2 * p.pitch));
                        d3.mul_add(minus, d1).store(to.add(3 * p.pitch));
                    }
                }
                row = row.add(PARTS * p.pitch);
            }
        }
    }
}

/// Adds rows of Z to the image, whole lines: even pixel j gets Z_1 - Z_2 + Z_3 and loses Z_3 of the tile before, the odd one gets
/// Z_1 + Z_2 - Z_0 and Z_0 of the tile after.
///
/// # Safety
/// As [`scatter`](super::lines::scatter), for rows as in [`gather`].
#[inline(always)]
pub(crate) unsafe fn scatter<L: Lanes>(p: &Lines<'_, L::Elem>) {
    let (walk, width) = (p.walk, p.walk.count);
    let tiles = width / 2;
    let planes = walk.taps.kernel[0];
    for (tz, places) in reached(walk) {
        for (i, (sample, offset)) in places.enumerate().filter_map(|(i, place)| Some((i, place?))) {
            for c in 0..p.image.channels {
                // SAFETY: lanes outside of a line are masked out, and their addresses only computed.
                unsafe {
                    let minus = L::splat(L::Elem::MINUS_ONE);
                    let first = (walk.sample + sample) * p.image.batch_stride + c * p.image.channel_stride;
                    let to = p.image.data.add(first).offset(offset);
                    let rows = p.rows.add((c * planes + tz) * PARTS * p.pitch + i * tiles);
                    for j in (0..tiles).step_by(L::N) {
                        let (here, after, before) = (mask::<L>(j, 0, tiles), mask::<L>(j, 0, tiles - 1), mask::<L>(j, 1, tiles));
                        let from = rows.add(j);
                        let [z0, z1, z2, z3] = std::array::from_fn(|e| L::load_masked(from.add(e * p.pitch), here));
                        let z0_after = L::load_masked(from.wrapping_add(1), after);
                        let z3_before = L::load_masked(from.add(3 * p.pitch).wrapping_sub(1), before);
                        let even = z3_before.mul_add(minus, z2.mul_add(minus, z1.add(z3)));
                        let odd = z0.mul_add(minus, z1.add(z2).add(z0_after));
                        let (low, high) = even.zip(odd);
                        let left = width - 2 * j;
                        low.compress(to.add(2 * j), mask::<L>(0, 0, left), true);
                        if left > L::N {
                            high.compress(to.add(2 * j + L::N), mask::<L>(L::N, 0, left), true);
                        }
                    }
                }
            }
        }
    }
}
