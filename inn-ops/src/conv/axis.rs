//! What an operation does along one spatial axis.

use super::geometry::Geometry;

/// One spatial axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    /// First position, and number of positions.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Extent of the source.
    pub(crate) source: usize,
    /// Element `j` of phase `r` of a plane whose box starts at position `v`
    /// holds the source at `source_step * (v + j) + r + source_shift`.
    pub(crate) source_step: usize,
    pub(crate) source_shift: isize,
    pub(crate) source_phases: usize,
    /// Elements of a plane beyond the positions of its box.
    pub(crate) halo: usize,
    /// Whether there is a plane for each tap.
    lowered: bool,
    /// Extent of the target.
    pub(crate) target: usize,
    /// Position `v` in phase `r` is the target at
    /// `target_step * v + r + target_shift`.
    pub(crate) target_step: usize,
    pub(crate) target_shift: isize,
}

impl Axis {
    /// Axis of the forward operation and the weight gradient.
    pub(super) fn forward(g: &Geometry, axis: usize) -> Self {
        let (k, s) = (g.kernel[axis], g.stride[axis]);
        Axis {
            first: 0,
            count: g.output[axis],
            source: g.input[axis],
            source_step: s,
            source_shift: -(g.padding[axis] as isize),
            source_phases: s.min(k),
            halo: (k - 1) / s,
            lowered: false,
            target: g.output[axis],
            target_step: 1,
            target_shift: 0,
        }
    }

    /// Axis of the input gradient. With `u + padding = stride * v + r` for an
    /// input pixel `u`, tap `t = stride * a + r` connects it with output
    /// pixel `v - a`.
    pub(super) fn input_gradient(g: &Geometry, axis: usize) -> Self {
        let (k, s, p) = (g.kernel[axis], g.stride[axis], g.padding[axis]);
        let halo = (k - 1) / s;
        let first = p / s;
        Axis {
            first,
            count: (g.input[axis] - 1 + p) / s + 1 - first,
            source: g.output[axis],
            source_step: 1,
            source_shift: -(halo as isize),
            source_phases: 1,
            halo,
            lowered: false,
            target: g.input[axis],
            target_step: s,
            target_shift: -(p as isize),
        }
    }

    /// The same with a plane for each of the `taps` that it shifts by.
    pub(super) fn lowered(self, taps: usize) -> Self {
        Axis { source_phases: taps, halo: 0, lowered: true, ..self }
    }

    /// The plane of a tap that needs `phase` of the stride `shift` elements on, and the shift in that plane.
    pub(super) fn plane(&self, phase: usize, shift: usize) -> (usize, usize) {
        if self.lowered { (phase + self.source_step * shift, 0) } else { (phase, shift) }
    }

    /// The elements of a plane, of a box of `count` positions from `start` on,
    /// that the source has, and the source index of element 0.
    pub(crate) fn sources(&self, start: usize, count: usize, phase: usize) -> (usize, usize, isize) {
        let base = (self.source_step * start + phase) as isize + self.source_shift;
        let step = self.source_step as isize;
        let reach = (count + self.halo) as isize;
        let up = |distance: isize| (distance.max(0) + step - 1) / step;
        let hi = up(self.source as isize - base).min(reach);
        let lo = up(-base).min(hi);
        (lo as usize, hi as usize, base)
    }

    /// Upper bound on the memory of [`Index::pixels`](super::index::Index::pixels), of a box that is one of so many parts.
    pub(super) fn pixels_bytes(&self, parts: usize) -> usize {
        let reach = self.count.div_ceil(parts) + self.halo;
        // Vectors grow in powers of two.
        2 * (self.source_phases * reach * size_of::<usize>() + (self.source_step * reach + self.source_phases + 1) * size_of::<u32>())
    }

    /// How many elements a line may share with the next.
    pub(super) fn overlap(&self, start: usize, count: usize) -> usize {
        let reach = count + self.halo;
        let zeros = |phase| {
            let (lo, hi, _) = self.sources(start, count, phase);
            if lo == hi { reach } else { lo.min(reach - hi) }
        };
        (0..self.source_phases).map(zeros).min().unwrap_or(0).min(self.halo)
    }

    /// The positions of a box, relative to its start, that have a target in
    /// `phase`, and the target of position 0.
    pub(crate) fn targets(&self, start: usize, count: usize, phase: usize) -> (usize, usize, isize) {
        let base = (self.target_step * start + phase) as isize + self.target_shift;
        let step = self.target_step as isize;
        let up = |distance: isize| (distance.max(0) + step - 1) / step;
        let hi = up(self.target as isize - base).min(count as isize);
        let lo = up(-base).min(hi);
        (lo as usize, hi as usize, base)
    }
}
