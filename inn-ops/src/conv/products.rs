//! Scalar products of many rows by few, as they lie in memory: for weight gradients of channels that fill no vector.

pub(super) use super::dot::BESIDE;
use super::dot::{Dot, tile_len};
use super::kernels::Kernels;
use super::outer::Run;
use super::plan::splits;
use crate::simd::Element;
use std::ops::Range;

/// All products of `many` rows by `few`, in tiles of sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Products {
    pub(super) many: usize,
    pub(super) few: usize,
}

impl Products {
    /// Number of tiles.
    pub(super) fn count<T>(&self, kernels: &Kernels<T>) -> usize {
        self.many.div_ceil(kernels.dot.len()) * self.few.div_ceil(BESIDE)
    }

    /// Elements of all tiles.
    pub(super) fn len<T>(&self, kernels: &Kernels<T>) -> usize {
        self.count(kernels) * tile(kernels)
    }

    /// Tiles, one after the other: for each block of the many rows, and each of the few.
    fn tiles<T>(&self, kernels: &Kernels<T>) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let few = self.few;
        let blocks = splits(self.many, self.many.div_ceil(kernels.dot.len()));
        blocks.flat_map(move |block| splits(few, few.div_ceil(BESIDE)).map(move |few| (block.clone(), few)))
    }

    /// Adds the products of `runs` to `sums`, or begins them with those, for `some` of the tiles. Arrays come with the distance of their rows.
    ///
    /// # Safety
    /// Both arrays have the elements of all runs in each of their rows, and the level of the kernels is available.
    pub(super) unsafe fn add<T: Element>(
        &self,
        kernels: &Kernels<T>,
        (many, many_row): (&[T], usize),
        (few, few_row): (&[T], usize),
        runs: &[Run],
        (some, sums): (Range<usize>, &mut [T]),
        accumulate: bool,
    ) {
        for ((block, rows), sums) in self.tiles(kernels).skip(some.start).zip(sums.chunks_exact_mut(tile(kernels))).take(some.len()) {
            let dot = Dot {
                a: many[block.start * many_row..].as_ptr(),
                a_row: many_row,
                b: few[rows.start * few_row..].as_ptr(),
                b_row: few_row,
                b_rows: rows.len(),
                runs,
                to: sums.as_mut_ptr(),
                accumulate,
            };
            // SAFETY: the caller's promise; a tile has room for the sums of any block.
            unsafe { kernels.dot[block.len() - 1](&dot) };
        }
    }

    /// Visits all sums, with the numbers of their rows.
    pub(super) fn each<T: Element>(&self, kernels: &Kernels<T>, sums: &[T], mut visit: impl FnMut(usize, usize, T)) {
        for ((block, few), sums) in self.tiles(kernels).zip(sums.chunks_exact(tile(kernels))) {
            for (k, sums) in block.zip(sums.chunks_exact(BESIDE)) {
                few.clone().zip(sums).for_each(|(row, &sum)| visit(k, row, sum));
            }
        }
    }
}

/// Elements of a tile, that of the largest block.
pub(super) fn tile<T>(kernels: &Kernels<T>) -> usize {
    tile_len(kernels.dot.len(), kernels.lanes)
}
