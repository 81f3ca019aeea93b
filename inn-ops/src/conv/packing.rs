//! Weights in the order in which the forward operation and the input gradient take them.

use super::Planes;
use super::apply::Apply;
use super::index::{Index, with_index};
use super::kernels::{Dispatch, Kernels};
use super::outer::Turn;
use super::plan::split;
use super::scratch::Shared;
use crate::pool;
use std::ops::Range;

/// How many channels ahead weights are fetched into the cache.
const CHANNELS_AHEAD: usize = 2;

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
        let turn = |from: usize, rows: usize, columns: usize, to: *mut T, places: Option<&[usize]>, ahead: usize| {
            assert!(w.data.len() >= from + (rows - 1) * row + columns);
            let plain = Turn::new((w.data[from..].as_ptr(), row), rows, columns, (to, rows));
            // SAFETY: `Kernels` of an available level; the weights as asserted, and the callers have room for as many.
            unsafe { (kernels.turn)(&Turn { places, ahead: plain.ahead.max(ahead), ..plain }) };
        };
        let (first, channels) = (packed.channels.start, packed.channels.len());
        let rows = split(self.rows, self.blocks, block);
        let (start, rows, from) = (rows.start, rows.len(), rows.start * row + first * channel);
        if channels == 0 {
            return;
        }
        // Short rows of a channel follow each other, those of the next channel lie elsewhere.
        let ahead = |calls: usize| if calls > 1 { CHANNELS_AHEAD * channel } else { 0 };
        if self.phases == [1; 3] {
            // All taps in their order, which are adjacent, and channels may be too.
            let (calls, columns) = if channel == all { (1, channels * all) } else { (channels, all) };
            let at = packed.at(0, all, start);
            for c in 0..calls {
                turn(from + c * channel, rows, columns, to.get().wrapping_add(at + c * rows * all), None, ahead(calls));
            }
            return;
        }
        // Where each tap goes, of the first channel, and of each in its turn.
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
            // Within the packed weights, which have an element for each; no two blocks share one.
            turn(from + c * channel, rows, all, to.get(), Some(&index.off), ahead(channels));
            index.off.iter_mut().zip(&index.other).for_each(|(off, apart)| *off += apart);
        }
    }
}
