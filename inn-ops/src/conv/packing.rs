//! Weights in the order in which the forward operation and the input gradient take them.

use super::Planes;
use super::apply::Apply;
use super::index::{Index, with_index};
use super::kernels::{Dispatch, Kernels};
use super::outer::Turn;
use super::plan::split;
use super::scratch::{Shared, with_buffer};
use crate::pool;
use std::ops::Range;

/// Packed weights, `[phase][block of rows][channel][tap][row of the block]`, of some rows, whole blocks of them, and channels.
pub(super) struct Packed {
    pub(super) rows: Range<usize>,
    pub(super) channels: Range<usize>,
}

impl Packed {
    /// Where the block that starts with a row is, in a phase of `count` taps with `before` taps in all phases before.
    pub(super) fn at(&self, before: usize, count: usize, row: usize) -> usize {
        (before * self.rows.len() + (row - self.rows.start) * count) * self.channels.len()
    }
}

impl Apply<'_> {
    /// Arranges all weights as the kernels take them.
    pub(super) fn pack<T: Dispatch>(&self, kernels: &Kernels<T>, w: Planes<'_, T>, packed: &mut [T]) {
        let all = Packed { rows: 0..self.rows, channels: 0..self.channels };
        let alone = self.small || packed.len() < 1 << 15;
        let shared = Shared::new(packed);
        pool::each(self.blocks, alone, |block| with_index(|index| self.pack_block(kernels, w, &all, block, shared, index)));
    }

    /// Arranges the weights of a block and of the channels of `packed` there.
    pub(super) fn pack_block<T: Dispatch>(
        &self,
        kernels: &Kernels<T>,
        w: Planes<'_, T>,
        packed: &Packed,
        block: usize,
        to: Shared<T>,
        index: &mut Index,
    ) {
        let (row, channel) = if self.adjoint { (w.channel_stride, w.batch_stride) } else { (w.batch_stride, w.channel_stride) };
        let all = self.g.taps();
        let turn = |from: usize, rows: usize, columns: usize, to: *mut T| {
            assert!(w.data.len() >= from + (rows - 1) * row + columns);
            let from = w.data[from..].as_ptr();
            let turn = Turn { from, from_row: row, rows, columns, to, to_row: rows, pad: false, accumulate: false, slopes: None };
            // SAFETY: `Kernels` of an available level; the weights as asserted, and the callers have room for as many.
            unsafe { (kernels.turn)(&turn) };
        };
        let (first, channels) = (packed.channels.start, packed.channels.len());
        let rows = split(self.rows, self.blocks, block);
        let (start, rows, from) = (rows.start, rows.len(), rows.start * row + first * channel);
        if channels == 0 {
            return;
        }
        if self.phases == [1; 3] {
            // All taps in their order, which are adjacent, and channels may be too.
            let (calls, columns) = if channel == all { (1, channels * all) } else { (channels, all) };
            let at = packed.at(0, all, start);
            for c in 0..calls {
                turn(from + c * channel, rows, columns, to.get().wrapping_add(at + c * rows * all));
            }
            return;
        }
        with_buffer(all * rows, |turned: &mut [T]| {
            // Where each tap of the first channel goes, and its distance to that of the next.
            index.off.resize(all, 0);
            index.other.resize(all, 0);
            self.each_phase(|_, taps, before| {
                let mut at = packed.at(before, taps.count(), start);
                taps.each(|number, _, _| {
                    index.off[number] = at;
                    index.other[number] = taps.count() * rows;
                    at += rows;
                });
            });
            for c in 0..channels {
                turn(from + c * channel, rows, all, turned.as_mut_ptr());
                for (turned, (off, apart)) in turned.chunks_exact(rows).zip(index.off.iter().zip(&index.other)) {
                    // SAFETY: within the packed weights, which have an element for each; no two blocks share one.
                    unsafe { std::slice::from_raw_parts_mut(to.get().add(off + c * apart), rows) }.copy_from_slice(turned);
                }
            }
        });
    }
}
