//! Index lists of a box: where taps are read and where results go.

use super::geometry::Geometry;
use super::micro::StoreOp;
use super::plan::{Axis, Layout, Piece};
use std::cell::RefCell;

/// Lists that a thread reuses from box to box.
#[derive(Default)]
pub(crate) struct Index {
    /// Offsets of taps.
    pub(crate) off: Vec<usize>,
    /// See [`Panel`](super::micro::Panel).
    pub(crate) ops: Vec<StoreOp>,
    pub(crate) first: Vec<u32>,
    /// Ranges of vectors that have a target.
    pub(crate) runs: Vec<(usize, usize)>,
}

thread_local! {
    static INDEX: RefCell<Index> = RefCell::default();
}

/// Lends `body` the lists of this thread. `body` must not wait for other
/// tasks, as these might need the lists too.
pub(crate) fn with_index<R>(body: impl FnOnce(&mut Index) -> R) -> R {
    INDEX.with_borrow_mut(body)
}

/// Upper bound on the memory of the lists, in bytes.
pub(crate) fn index_bytes(positions: usize, taps: usize) -> usize {
    // Vectors grow in powers of two.
    2 * (taps * size_of::<usize>() + positions * (size_of::<StoreOp>() + size_of::<u32>() + size_of::<(usize, usize)>() / 2) + 64)
}

impl Index {
    /// Lists the targets of a box for one phase; `sample` is the distance of
    /// samples in the target.
    pub(crate) fn targets(&mut self, axes: &[Axis; 3], piece: &Piece, phase: [usize; 3], sample: usize, lanes: usize) {
        self.ops.clear();
        self.first.clear();
        let layout = &piece.layout;
        let range = |axis: usize| axes[axis].targets(piece.start[axis], piece.count[axis], phase[axis]);
        let [(lo0, hi0, base0), (lo1, hi1, base1), (lo2, hi2, base2)] = [range(0), range(1), range(2)];
        if lo2 < hi2 {
            let at = |axis: usize, base: isize, position: usize| (base + (axes[axis].target_step * position) as isize) as usize;
            let step = axes[2].target_step;
            for s in 0..layout.samples {
                for i0 in lo0..hi0 {
                    for i1 in lo1..hi1 {
                        let line = at(0, base0, i0) * axes[1].target + at(1, base1, i1);
                        let to = s * sample + line * axes[2].target + at(2, base2, lo2);
                        let q = s * layout.sample + i0 * layout.dist[0] + i1 * layout.dist[1] + lo2;
                        self.segment(q, hi2 - lo2, to, step, lanes);
                    }
                }
            }
        }
        self.finish(layout.positions.div_ceil(lanes));
    }

    /// Sends positions `q..q + len` to the elements from `to` on, `step` apart.
    pub(crate) fn segment(&mut self, mut q: usize, mut len: usize, mut to: usize, step: usize, lanes: usize) {
        while len > 0 {
            let (vector, lane) = (q / lanes, q % lanes);
            let n = (lanes - lane).min(len);
            let mask = (((1u64 << n) - 1) << lane) as u32;
            while self.first.len() <= vector {
                self.first.push(self.ops.len() as u32);
            }
            // Lines of a box of full width are adjacent in the target, so
            // that one operation can serve parts of two of them.
            let open = self.ops.len() > self.first[vector] as usize;
            match self.ops.last_mut() {
                Some(op) if open && op.to + op.mask.count_ones() as usize * step == to => {
                    op.mask |= mask;
                }
                _ => self.ops.push(StoreOp { to, mask }),
            }
            q += n;
            len -= n;
            to += n * step;
        }
    }

    /// Ends the list of targets, of `vectors` vectors.
    pub(crate) fn finish(&mut self, vectors: usize) {
        while self.first.len() <= vectors {
            self.first.push(self.ops.len() as u32);
        }
    }

    /// Lists the offsets of the taps, `[channel][tap]`.
    pub(crate) fn offsets(&mut self, taps: Taps<'_>, axes: &[Axis; 3], layout: &Layout, channels: usize) {
        self.off.clear();
        if channels == 0 {
            return;
        }
        taps.each(|_, phase, shift| self.off.push(layout.offset(axes, phase, shift)));
        let count = self.off.len();
        let plane = layout.phases * layout.stride;
        for c in 1..channels {
            for tap in 0..count {
                self.off.push(self.off[tap] + c * plane);
            }
        }
    }

    /// Lists the ranges of vectors that have a target.
    pub(crate) fn runs(&mut self) {
        self.runs.clear();
        for v in 0..self.first.len() - 1 {
            if self.first[v] == self.first[v + 1] {
                continue;
            }
            match self.runs.last_mut() {
                Some(run) if run.1 == v => run.1 = v + 1,
                _ => self.runs.push((v, v + 1)),
            }
        }
    }
}

/// The taps that contribute to a phase of the target.
#[derive(Clone, Copy)]
pub(crate) struct Taps<'a> {
    pub(crate) g: &'a Geometry,
    pub(crate) adjoint: bool,
    /// Phase of the target; zero for the forward operation.
    pub(crate) phase: [usize; 3],
}

impl Taps<'_> {
    /// The number of taps along an axis.
    fn along(&self, axis: usize) -> usize {
        let (k, s) = (self.g.kernel[axis], self.g.stride[axis]);
        if self.adjoint { k.saturating_sub(self.phase[axis]).div_ceil(s) } else { k }
    }

    /// The number of taps.
    pub(crate) fn count(&self) -> usize {
        (0..3).map(|axis| self.along(axis)).product()
    }

    /// Visits the taps: number of the tap in the kernel, phase of the source
    /// and shift.
    pub(crate) fn each(&self, mut visit: impl FnMut(usize, [usize; 3], [usize; 3])) {
        let g = self.g;
        let tap = |axis: usize, a: usize| {
            let s = g.stride[axis];
            if self.adjoint { (a * s + self.phase[axis], 0, (g.kernel[axis] - 1) / s - a) } else { (a, a % s, a / s) }
        };
        for a0 in 0..self.along(0) {
            let (t0, r0, d0) = tap(0, a0);
            for a1 in 0..self.along(1) {
                let (t1, r1, d1) = tap(1, a1);
                for a2 in 0..self.along(2) {
                    let (t2, r2, d2) = tap(2, a2);
                    let number = (t0 * g.kernel[1] + t1) * g.kernel[2] + t2;
                    visit(number, [r0, r1, r2], [d0, d1, d2]);
                }
            }
        }
    }
}
