//! Activations on the arrays of a strip.

use crate::cpu::CpuElement;
use crate::zip::vector::{Job, Vector};
use inn_core::stack::Pointwise;

/// Rows of `len` elements, `pitch` apart. `len` is a multiple of every vector.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) rows: usize,
    pub(super) len: usize,
    pub(super) pitch: usize,
}

/// y += b (+ x), x = ρ(y).
pub(super) struct Activate<T, A> {
    pub(super) at: Rows,
    pub(super) y: *mut T,
    pub(super) x: *mut T,
    /// One bias a row; none where y has it already.
    pub(super) bias: Option<*const T>,
    pub(super) skip: bool,
    pub(super) rho: A,
}

impl<T: CpuElement, A: Pointwise> Job<T> for Activate<T, A> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        for r in 0..self.at.rows {
            // SAFETY: whoever makes the job vouches for the rows of y and x, and a bias for each.
            unsafe {
                let (y, x) = (self.y.add(r * self.at.pitch), self.x.add(r * self.at.pitch));
                match self.bias {
                    Some(bias) => {
                        let b = V::splat(*bias.add(r));
                        for i in (0..self.at.len).step_by(V::N) {
                            let mut v = V::load(y.add(i)) + b;
                            if self.skip {
                                v = v + V::load(x.add(i));
                            }
                            v.store(y.add(i));
                            self.rho.value(v).store(x.add(i));
                        }
                    }
                    None => {
                        for i in (0..self.at.len).step_by(V::N) {
                            self.rho.value(V::load(y.add(i))).store(x.add(i));
                        }
                    }
                }
            }
        }
    }
}

/// g = ρ'(y) (g + extra); sums += the sum of each row, lane by lane.
pub(super) struct Pull<T, A> {
    pub(super) at: Rows,
    pub(super) y: *const T,
    pub(super) g: *mut T,
    pub(super) extra: Option<*const T>,
    pub(super) sums: *mut T,
    /// Distance of the sums, at least a vector.
    pub(super) lanes: usize,
    pub(super) rho: A,
}

impl<T: CpuElement, A: Pointwise> Job<T> for Pull<T, A> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        for r in 0..self.at.rows {
            // SAFETY: as in `Activate`.
            unsafe {
                let (y, g) = (self.y.add(r * self.at.pitch), self.g.add(r * self.at.pitch));
                let mut sum = V::zero();
                for i in (0..self.at.len).step_by(V::N) {
                    let mut v = V::load(g.add(i));
                    if let Some(extra) = self.extra {
                        v = v + V::load(extra.add(r * self.at.pitch + i));
                    }
                    let v = self.rho.derivative(V::load(y.add(i))) * v;
                    v.store(g.add(i));
                    sum = sum + v;
                }
                let place = self.sums.add(r * self.lanes);
                (V::load(place) + sum).store(place);
            }
        }
    }
}

/// y += b.
pub(super) struct AddBias<T> {
    pub(super) at: Rows,
    pub(super) y: *mut T,
    pub(super) bias: *const T,
}

impl<T: CpuElement> Job<T> for AddBias<T> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        for r in 0..self.at.rows {
            // SAFETY: as in `Activate`.
            unsafe {
                let (y, b) = (self.y.add(r * self.at.pitch), V::splat(*self.bias.add(r)));
                for i in (0..self.at.len).step_by(V::N) {
                    (V::load(y.add(i)) + b).store(y.add(i));
                }
            }
        }
    }
}

/// sums += the sum of each row, lane by lane.
pub(super) struct SumRows<T> {
    pub(super) at: Rows,
    pub(super) g: *const T,
    pub(super) sums: *mut T,
    /// Distance of the sums, at least a vector.
    pub(super) lanes: usize,
}

impl<T: CpuElement> Job<T> for SumRows<T> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        for r in 0..self.at.rows {
            // SAFETY: as in `Activate`.
            unsafe {
                let g = self.g.add(r * self.at.pitch);
                let mut sum = V::zero();
                for i in (0..self.at.len).step_by(V::N) {
                    sum = sum + V::load(g.add(i));
                }
                let place = self.sums.add(r * self.lanes);
                (V::load(place) + sum).store(place);
            }
        }
    }
}
