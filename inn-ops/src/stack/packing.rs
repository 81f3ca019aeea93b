//! The weights of a stack, packed as products take them.

use super::Ending;
use super::common::{Common, Part};
use super::fold::{self, with_scheme};
use super::product::{Packed, Source, pack};
use crate::conv::scratch::with_buffer;
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
    /// The first and the last weight as products take them: themselves, or those that they are folded to.
    fn with_weights<R>(&self, body: impl FnOnce(&[&[T]], &[&[T]]) -> R) -> R {
        let (Ending::Transposed(last) | Ending::Affine(last, _)) = self.weights.last;
        let first = self.weights.first.0;
        let Some(folding) = self.plan.folding else {
            return body(&[first], &[last]);
        };
        let parts = folding.parts();
        let lengths = [first.len() / 3, last.len() / 3];
        with_buffer(parts * (lengths[0] + lengths[1]), |folded: &mut [T]| {
            let (to_first, to_last) = folded.split_at_mut(parts * lengths[0]);
            with_scheme!(folding, S => fold::weights::<T, S>(self.level, self.alone, [(first, to_first), (last, to_last)]));
            let (first, last): (Vec<_>, Vec<_>) = (to_first.chunks(lengths[0]).collect(), to_last.chunks(lengths[1]).collect());
            body(&first, &last)
        })
    }

    /// The rows of a part in a folded weight, or in the weight itself.
    fn rows(&self, part: &Part) -> Range<usize> {
        let taps = self.plan.taps();
        part.rows.start / taps..part.rows.end / taps
    }

    /// W_1, W_i and Wᵀ (or an affine W), packed into `to`.
    pub(super) fn pack_forward<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        self.with_weights(|first, last| self.forward(first, last, to))
    }

    /// W_1ᵀ, W_iᵀ and W (or the transpose of an affine one), packed into `to`.
    pub(super) fn pack_back<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        self.with_weights(|first, last| self.back(first, last, to))
    }

    /// Both ways, from weights that are folded once.
    pub(super) fn pack_both<'b>(&self, forth: &'b mut [T], back: &'b mut [T]) -> (Way<'b, T>, Way<'b, T>) {
        self.with_weights(|first, last| (self.forward(first, last, forth), self.back(first, last, back)))
    }

    fn forward<'b>(&self, first: &[&[T]], last: &[&[T]], to: &'b mut [T]) -> Way<'b, T> {
        let hidden = self.plan.hidden;
        let mut sources = Vec::new();
        for part in &self.ins {
            sources.extend(first.iter().map(|w| Source::plain(w, hidden, w.len() / hidden).part_of_columns(self.rows(part))));
        }
        sources.extend(self.weights.middle.iter().map(|(w, _)| Source::plain(w, hidden, hidden).plus_identity(self.weights.skip)));
        for part in &self.outs {
            for w in last {
                let rows = w.len() / hidden;
                let source = match self.weights.last {
                    Ending::Transposed(_) => Source::turned(w, rows, hidden),
                    Ending::Affine(..) => Source::plain(w, rows, hidden),
                };
                sources.extend(self.shifts(source.part_of_rows(self.rows(part))));
            }
        }
        self.pack(&sources, self.plan.arrays(), to)
    }

    fn back<'b>(&self, first: &[&[T]], last: &[&[T]], to: &'b mut [T]) -> Way<'b, T> {
        let hidden = self.plan.hidden;
        let mut sources = Vec::new();
        for part in &self.ins {
            for w in first {
                sources.extend(self.shifts(Source::turned(w, w.len() / hidden, hidden).part_of_rows(self.rows(part))));
            }
        }
        sources.extend(self.weights.middle.iter().map(|(w, _)| Source::turned(w, hidden, hidden).plus_identity(self.weights.skip)));
        for part in &self.outs {
            sources.extend(last.iter().map(|w| {
                let rows = w.len() / hidden;
                match self.weights.last {
                    Ending::Transposed(_) => Source::plain(w, hidden, rows).part_of_columns(self.rows(part)),
                    Ending::Affine(..) => Source::turned(w, hidden, rows).part_of_columns(self.rows(part)),
                }
            }));
        }
        self.pack(&sources, self.plan.arrays() * self.plan.shifts(), to)
    }

    /// The rows of a matrix whose product is a neighbourhood, by their shifts.
    fn shifts<'b>(&self, source: Source<'b, T>) -> impl Iterator<Item = Source<'b, T>> + use<'b, T, A> {
        let count = self.plan.shifts();
        (0..count).map(move |shift| source.every(shift, count))
    }

    /// Packs sources, of which each part has `firsts` first ones.
    fn pack<'b>(&self, sources: &[Source<'_, T>], firsts: usize, to: &'b mut [T]) -> Way<'b, T> {
        let mut first = pack(self.kernels, self.alone, sources, to);
        let mut middle = first.split_off(self.ins.len() * firsts);
        let last = middle.split_off(self.plan.middle);
        Way { first, middle, last }
    }
}
