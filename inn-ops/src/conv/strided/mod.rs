//! Strides without a copy for each of their phases: a box of the input is copied as it is, lines after lines, with its padding and halo (a *frame*),
//! and the kernels take every stride-th pixel of it. Those that have channels in their lanes can, as they broadcast single pixels.
//!
//! What a frame holds is what the same convolution without strides would need, of which the one with strides computes some positions.

mod forward;

pub(super) use forward::{apply, scratch};

use super::geometry::Geometry;
use super::plan::{Axis, Layout, Piece, Plan};

/// Boxes of output positions and their frames.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    /// The boxes.
    pub(super) cut: Plan,
    /// The convolution without strides.
    pub(super) dense: Geometry,
    /// Its planes, of the same boxes.
    pub(super) plan: Plan,
    /// Pixels of a frame from one position to the next.
    pub(super) step: [usize; 3],
}

impl Frames {
    /// Boxes of about so many positions, fewer if `fits` says that they are too many.
    pub(super) fn new(g: &Geometry, mut wanted: usize, least: usize, fits: impl Fn(&Self) -> bool) -> Self {
        let axes = [0, 1, 2].map(|axis| Axis::forward(g, axis));
        let reach = |axis: usize, count: usize| (count - 1) * g.stride[axis] + 1;
        let dense = Geometry { stride: [1; 3], output: [0, 1, 2].map(|axis| reach(axis, g.output[axis])), ..*g };
        loop {
            let cut = Plan::with_positions(axes, g.batch, wanted);
            let counts = [0, 1, 2].map(|axis| reach(axis, g.output[axis].div_ceil(cut.parts[axis])));
            let axes = [0, 1, 2].map(|axis| Axis::forward(&dense, axis));
            // The longest planes are those without shared zeros.
            let bound = Layout::apart(&axes, counts, g.batch.div_ceil(cut.groups.max(1)));
            let lines = bound.samples * (counts[0] + axes[0].halo) * (counts[1] + axes[1].halo);
            let plan = Plan { axes, plane_len: bound.stride, channel_len: bound.stride, positions: bound.positions, lines, ..cut };
            let frames = Frames { cut, dense, plan, step: g.stride };
            if wanted <= least || fits(&frames) {
                return frames;
            }
            wanted = wanted * 3 / 4;
        }
    }

    /// Planes with a copy for each phase, or for each tap of a lowered axis.
    pub(super) fn phases(g: &Geometry, plan: Plan) -> Self {
        Frames { cut: plan, dense: *g, plan, step: [1; 3] }
    }

    /// Box number `index`, and what is copied for it.
    pub(super) fn piece(&self, index: usize) -> (Piece, Piece) {
        let cut = self.cut.piece(index);
        if self.step == [1; 3] {
            return (cut, cut);
        }
        let start = [0, 1, 2].map(|axis| cut.start[axis] * self.step[axis]);
        let count = [0, 1, 2].map(|axis| (cut.count[axis] - 1) * self.step[axis] + 1);
        let layout = Layout::new(&self.plan.axes, start, count, cut.layout.samples);
        (cut, Piece { sample: cut.sample, start, count, layout })
    }
}

/// Whether frames hold little but what is needed.
pub(super) fn framed(g: &Geometry) -> bool {
    g.stride != [1; 3] && (0..3).all(|axis| g.stride[axis] <= g.kernel[axis])
}
