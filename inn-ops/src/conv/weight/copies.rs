//! Copies of a box: channels as vectors, and as rows.

use super::{Weight, Wide, gy_len};
use crate::conv::Planes;
use crate::conv::apply::fill;
use crate::conv::copy::Pixels;
use crate::conv::index::{Index, each_line};
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::outer::Turn;
use crate::conv::plan::Piece;
use crate::conv::scratch::Shared;
use std::ops::Range;

impl Weight<'_> {
    /// Transposes channels of a box into vectors.
    pub(super) fn copy_vectors<T: Dispatch>(
        &self,
        (piece, copied): &(Piece, Piece),
        kernels: &Kernels<T>,
        x: Planes<'_, T>,
        gy: Planes<'_, T>,
        vectors: Range<usize>,
        to: &mut [T],
        index: &mut Index,
    ) {
        let lanes = self.lanes;
        let channels = |v: usize| v * lanes..((v + 1) * lanes).min(self.wide_channels);
        match self.wide {
            Wide::Output => {
                let len = gy_len(piece.pixels()) * lanes;
                assert!(to.len() >= vectors.len() * len);
                for (to, v) in to.chunks_exact_mut(len).zip(vectors) {
                    let channels = channels(v);
                    piece.segments(self.g.output, gy.batch_stride, |pixel, from, columns| {
                        let from = &gy.data[channels.start * gy.channel_stride + from..];
                        assert!(from.len() >= (channels.len() - 1) * gy.channel_stride + columns);
                        let (from, from_row, rows) = (from.as_ptr(), gy.channel_stride, channels.len());
                        let to = to[pixel * lanes..(pixel + columns) * lanes].as_mut_ptr();
                        let turn = Turn { pad: true, ..Turn::new((from, from_row), rows, columns, (to, lanes)) };
                        // SAFETY: `Kernels` of an available level; ranges as
                        // asserted.
                        unsafe { (kernels.turn)(&turn) };
                    });
                }
            }
            Wide::Input => {
                let (layout, plan) = (&copied.layout, &self.frames.plan);
                assert!(to.len() >= vectors.len() * layout.phases * layout.stride * lanes);
                let axes = &plan.axes;
                let skipped = index.pixels(&axes[2], copied.start[2], copied.count[2], layout.stride);
                let (columns, plain) = (index.place_first.len() - 1, axes[2].source_step == 1 && axes[2].source_phases == 1);
                let mut lines = 0;
                plan.each_source_phase(|_, phase| {
                    if phase[2] == 0 {
                        each_line(axes, copied, phase, 0, |_, _| lines += 1);
                    }
                });
                let whole = axes.iter().all(|axis| axis.halo == 0) && lines * index.places.len() == layout.phases * layout.positions;
                for (to, v) in to.chunks_exact_mut(layout.phases * layout.stride * lanes).zip(vectors) {
                    // Padding, and what fills up planes.
                    if !whole {
                        to.fill(T::ZERO);
                    }
                    let (to, channels) = (Shared::new(to), channels(v));
                    let first = piece.sample * x.batch_stride + channels.start * x.channel_stride;
                    plan.each_source_phase(|number, phase| {
                        if phase[2] > 0 || index.places.is_empty() {
                            return;
                        }
                        each_line(axes, copied, phase, x.batch_stride, |start, from| {
                            let from = x.data[first.wrapping_add_signed(from + skipped as isize)..].as_ptr();
                            let to = to.get().wrapping_add((number * layout.stride + start) * lanes);
                            let (channels, channel) = (channels.len(), x.channel_stride);
                            // SAFETY: `Kernels` of an available level; the source
                            // has the pixels of its lines, as the callers checked
                            // its shape; the planes are large enough as asserted
                            // above.
                            unsafe {
                                if plain {
                                    let (from_row, rows, to) = (channel, channels, to.wrapping_add(index.places[0] * lanes));
                                    let turn = Turn { pad: true, ..Turn::new((from, from_row), rows, columns, (to, lanes)) };
                                    (kernels.turn)(&turn);
                                } else {
                                    let (places, first) = (&index.places, &index.place_first);
                                    (kernels.vectors)(&Pixels { from, channels, channel, places, first, to });
                                }
                            }
                        });
                    });
                }
            }
        }
    }

    /// Copies the other channels of a box.
    pub(super) fn copy_rows<T: Dispatch>(
        &self,
        (piece, copied): &(Piece, Piece),
        kernels: &Kernels<T>,
        x: Planes<'_, T>,
        gy: Planes<'_, T>,
        rows: Range<usize>,
        to: &mut [T],
        index: &mut Index,
    ) {
        match self.wide {
            Wide::Output => fill(&self.frames.plan, copied, kernels, x, rows, to, index),
            Wide::Input => {
                for (to, o) in to.chunks_exact_mut(gy_len(piece.pixels())).zip(rows) {
                    piece.segments(self.g.output, gy.batch_stride, |pixel, from, len| {
                        let from = o * gy.channel_stride + from;
                        to[pixel..pixel + len].copy_from_slice(&gy.data[from..from + len]);
                    });
                }
            }
        }
    }
}
