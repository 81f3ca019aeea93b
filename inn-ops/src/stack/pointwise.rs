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

/// x = ρ(y).
pub(super) struct Activate<T, A> {
    pub(super) at: Rows,
    pub(super) y: *const T,
    pub(super) x: *mut T,
    pub(super) rho: A,
}

impl<T: CpuElement, A: Pointwise> Job<T> for Activate<T, A> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        for r in 0..self.at.rows {
            // SAFETY: whoever makes the job vouches for the rows of y and x.
            unsafe {
                let (y, x) = (self.y.add(r * self.at.pitch), self.x.add(r * self.at.pitch));
                for i in (0..self.at.len).step_by(V::N) {
                    self.rho.value(V::load(y.add(i))).store(x.add(i));
                }
            }
        }
    }
}

/// g = ρ'(y) g; sums += the sum of each row, lane by lane.
pub(super) struct Pull<T, A> {
    pub(super) at: Rows,
    pub(super) y: *const T,
    pub(super) g: *mut T,
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
                    let v = self.rho.derivative(V::load(y.add(i))) * V::load(g.add(i));
                    v.store(g.add(i));
                    sum = sum + v;
                }
                let place = self.sums.add(r * self.lanes);
                (V::load(place) + sum).store(place);
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
