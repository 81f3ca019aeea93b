//! Hidden arrays, folded and unfolded as they pass.

use super::{MOST_PARTS, MOST_TILE, Scheme, Tiles};
use crate::cpu::CpuElement;
use crate::zip::vector::{Job, Vector};
use inn_core::stack::Pointwise;
use std::marker::PhantomData;

/// `sum + c v`, for a constant that the compiler knows.
#[inline(always)]
fn add<V: Vector>(sum: V, c: f64, v: V) -> V {
    if c == 0.0 {
        sum
    } else if c == 1.0 {
        sum + v
    } else if c == -1.0 {
        sum - v
    } else {
        sum + V::constant(c) * v
    }
}

impl<T: CpuElement> Tiles<T> {
    /// y_i = Σ_e A_ie M_e, at element `i` of a row.
    ///
    /// # Safety
    /// The row has the elements.
    #[inline(always)]
    unsafe fn unfolded<V: Vector<Elem = T>, S: Scheme>(&self, row: usize, i: usize) -> [V; MOST_TILE] {
        let mut y = [V::zero(); MOST_TILE];
        for e in 0..S::PARTS {
            // SAFETY: the caller's promise.
            let m = unsafe { V::load(self.m.add((e * self.rows + row) * self.piece + i)) };
            for k in 0..S::TILE {
                y[k] = if e == 0 && S::OUTPUT[k][0] == 1.0 { m } else { add(y[k], S::OUTPUT[k][e], m) };
            }
        }
        y
    }

    /// M_e = Σ_i A_ie x_i for all but the first and the last, at element `i` of a row.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn put<V: Vector<Elem = T>, S: Scheme>(&self, row: usize, i: usize, x: [V; MOST_TILE]) {
        let mut m = [V::zero(); MOST_PARTS];
        for e in 1..S::PARTS - 1 {
            m[e] = x[0];
            for k in 1..S::TILE {
                m[e] = add(m[e], S::OUTPUT[k][e], x[k]);
            }
            // SAFETY: the caller's promise.
            unsafe { m[e].store(self.m.add((e * self.rows + row) * self.piece + i)) };
        }
    }
}

/// x as y, of M_e and a bias for each row; ρ(y) goes to `to`, rows as those of x.
pub(in super::super) struct UnfoldActivate<T, A, S> {
    pub(in super::super) tiles: Tiles<T>,
    pub(in super::super) bias: *const T,
    pub(in super::super) to: *mut T,
    pub(in super::super) rho: A,
    pub(in super::super) scheme: PhantomData<S>,
}

impl<T: CpuElement, A: Pointwise, S: Scheme> Job<T> for UnfoldActivate<T, A, S> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let t = self.tiles;
        for r in 0..t.rows {
            // SAFETY: whoever makes the job vouches for the rows and their biases.
            unsafe {
                let bias = V::splat(*self.bias.add(r));
                for i in (0..t.len).step_by(V::N) {
                    let y = t.unfolded::<V, S>(r, i);
                    for k in 0..S::TILE {
                        let (at, y) = (r * t.pitch + k * t.len + i, y[k] + bias);
                        y.store(t.x.add(at));
                        self.rho.value(y).store(self.to.add(at));
                    }
                }
            }
        }
    }
}

/// x = ρ(y), folded into M_e.
pub(in super::super) struct ActivateFold<T, A, S>(
    pub(in super::super) Tiles<T>,
    pub(in super::super) *const T,
    pub(in super::super) A,
    pub(in super::super) PhantomData<S>,
);

impl<T: CpuElement, A: Pointwise, S: Scheme> Job<T> for ActivateFold<T, A, S> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let Self(t, y, rho, _) = self;
        for r in 0..t.rows {
            for i in (0..t.len).step_by(V::N) {
                // SAFETY: as in `UnfoldActivate`.
                unsafe {
                    let mut x = [V::zero(); MOST_TILE];
                    for k in 0..S::TILE {
                        let at = r * t.pitch + k * t.len + i;
                        x[k] = rho.value(V::load(y.add(at)));
                        x[k].store(t.x.add(at));
                    }
                    t.put::<V, S>(r, i, x);
                }
            }
        }
    }
}

/// x = ρ'(y) times what M_e unfold to; sums += the sum of each row, lane by lane.
pub(in super::super) struct UnfoldPull<T, A, S> {
    pub(in super::super) tiles: Tiles<T>,
    pub(in super::super) y: *const T,
    pub(in super::super) sums: *mut T,
    /// Distance of the sums, at least a vector.
    pub(in super::super) lanes: usize,
    pub(in super::super) rho: A,
    pub(in super::super) scheme: PhantomData<S>,
}

impl<T: CpuElement, A: Pointwise, S: Scheme> Job<T> for UnfoldPull<T, A, S> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let t = self.tiles;
        for r in 0..t.rows {
            // SAFETY: as in `UnfoldActivate`.
            unsafe {
                let mut sums = [V::zero(); MOST_TILE];
                for i in (0..t.len).step_by(V::N) {
                    let g = t.unfolded::<V, S>(r, i);
                    for k in 0..S::TILE {
                        let at = r * t.pitch + k * t.len + i;
                        let g = self.rho.derivative(V::load(self.y.add(at))) * g[k];
                        g.store(t.x.add(at));
                        sums[k] = sums[k] + g;
                    }
                }
                let place = self.sums.add(r * self.lanes);
                (V::load(place) + ((sums[0] + sums[1]) + (sums[2] + sums[3]))).store(place);
            }
        }
    }
}

/// x, of M_e.
pub(in super::super) struct Unfold<T, S>(pub(in super::super) Tiles<T>, pub(in super::super) PhantomData<S>);

impl<T: CpuElement, S: Scheme> Job<T> for Unfold<T, S> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let t = self.0;
        for r in 0..t.rows {
            for i in (0..t.len).step_by(V::N) {
                // SAFETY: as in `UnfoldActivate`.
                unsafe {
                    let x = t.unfolded::<V, S>(r, i);
                    for k in 0..S::TILE {
                        x[k].store(t.x.add(r * t.pitch + k * t.len + i));
                    }
                }
            }
        }
    }
}

/// M_e from x.
pub(in super::super) struct Fold<T, S>(pub(in super::super) Tiles<T>, pub(in super::super) PhantomData<S>);

impl<T: CpuElement, S: Scheme> Job<T> for Fold<T, S> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let t = self.0;
        for r in 0..t.rows {
            for i in (0..t.len).step_by(V::N) {
                // SAFETY: as in `UnfoldActivate`.
                unsafe {
                    let mut x = [V::zero(); MOST_TILE];
                    for k in 0..S::TILE {
                        x[k] = V::load(t.x.add(r * t.pitch + k * t.len + i));
                    }
                    t.put::<V, S>(r, i, x);
                }
            }
        }
    }
}
