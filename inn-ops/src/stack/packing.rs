//! The weights of a stack, packed as products take them.

use super::Ending;
use super::common::{Common, Part};
use super::matrix::{Kernel, Packed, Source, pack};
use crate::cpu::CpuElement;
use inn_core::stack::Pointwise;
use std::ops::Range;

/// The matrices of one way, in parts.
pub(super) struct Way<'a, T> {
    pub(super) first: Vec<Packed<'a, T>>,
    pub(super) middle: Vec<Packed<'a, T>>,
    pub(super) last: Vec<Packed<'a, T>>,
}

impl<'a, T: CpuElement, A: Pointwise> Common<'a, T, A> {
    /// The rows of a part: pixels of neighbourhoods, or kernels that are folded.
    fn rows(&self, part: &Part) -> Range<usize> {
        let taps = self.plan.taps();
        part.rows.start / taps..part.rows.end / taps
    }

    /// Part of the columns of a weight of the first or last kernel, which is stored with a row for each hidden channel: it takes neighbourhoods.
    fn gathered<'b>(&self, w: &'b [T], part: &Part) -> Source<'b, T> {
        let (hidden, columns) = (self.plan.hidden, w.len() / self.plan.hidden / self.plan.taps());
        let source = match self.plan.folding {
            Some(folding) => {
                let kernel = Kernel { folding, taps: 3, thirds: 1, places: None, apart: false };
                Source::strided(w, hidden, columns, (3 * columns, 3)).folded(kernel)
            }
            None => Source::plain(w, hidden, columns),
        };
        source.part_of_columns(self.rows(part))
    }

    /// The transpose of the same, which makes neighbourhoods: where kernels are folded, in a matrix for each shift by lines.
    fn scattered<'b>(&self, w: &'b [T], part: &Part) -> Source<'b, T> {
        let (hidden, shifts, rows) = (self.plan.hidden, self.plan.shifts(), self.rows(part));
        let all = w.len() / hidden / self.plan.taps() / shifts;
        let source = match self.plan.folding {
            Some(folding) => {
                let kernel = Kernel { folding, taps: 3 * shifts, thirds: shifts, places: None, apart: true };
                Source::strided(w, all, hidden, (3 * shifts, 3 * shifts * all)).folded(kernel)
            }
            None => Source::turned(w, all, hidden),
        };
        source.part_of_rows(rows.start / shifts..rows.end / shifts)
    }

    /// W_1, W_i and Wᵀ (or an affine W), packed into `to`.
    pub(super) fn pack_forward<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        let (hidden, first) = (self.plan.hidden, self.weights.first.0);
        let mut sources: Vec<_> = self.ins.iter().map(|part| self.gathered(first, part)).collect();
        sources.extend(self.weights.middle.iter().map(|(w, _)| Source::plain(w, hidden, hidden).plus_identity(self.weights.skip)));
        sources.extend(self.outs.iter().map(|part| match self.weights.last {
            Ending::Transposed(w) => self.scattered(w, part),
            Ending::Affine(w, _) => Source::plain(w, w.len() / hidden, hidden).part_of_rows(self.rows(part)),
        }));
        self.pack(&sources, self.plan.arrays(), to)
    }

    /// W_1ᵀ, W_iᵀ and W (or the transpose of an affine one), packed into `to`.
    pub(super) fn pack_back<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        let (hidden, first) = (self.plan.hidden, self.weights.first.0);
        let mut sources: Vec<_> = self.ins.iter().map(|part| self.scattered(first, part)).collect();
        sources.extend(self.weights.middle.iter().map(|(w, _)| Source::turned(w, hidden, hidden).plus_identity(self.weights.skip)));
        sources.extend(self.outs.iter().map(|part| match self.weights.last {
            Ending::Transposed(w) => self.gathered(w, part),
            Ending::Affine(w, _) => Source::turned(w, hidden, w.len() / hidden).part_of_columns(self.rows(part)),
        }));
        self.pack(&sources, self.plan.arrays() * self.plan.shifts(), to)
    }

    /// Packs sources, of which each part has `firsts` first ones.
    fn pack<'b>(&self, sources: &[Source<'_, T>], firsts: usize, to: &'b mut [T]) -> Way<'b, T> {
        let mut first = pack(self.kernels, self.alone, sources, to);
        let mut middle = first.split_off(self.ins.len() * firsts);
        let last = middle.split_off(self.plan.middle);
        Way { first, middle, last }
    }
}
