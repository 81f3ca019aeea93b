//! The pointwise map with sums.
//!
//! A call becomes rows of consecutive elements: the pixels of each channel of each sample, or, for dense data, the channels of each
//! sample. Axes that no sum and no stride tells apart are merged first, so that small images and flat vectors have long rows too. Rows are
//! cut into blocks, blocks are dealt to tasks, and a task evaluates the kernel on vectors.
//!
//! How the work is cut depends on shapes alone, and partial sums are added in the order of the blocks: any number of threads gives the same
//! bits.

mod block;
mod strip;
// Only these processors have vectors of their own here; others take the functions of the standard library.
#[cfg(target_arch = "x86_64")]
mod elementary;
pub(crate) mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use vector::Vectors;

use crate::cpu::{Cpu, CpuElement};
use crate::pool;
use crate::simd;
pub(crate) use block::Operand;
use block::{Along, Block};
use inn_core::backend::check_zip;
use inn_core::kernel::Arity;
use inn_core::view::{Access, Update, View};
use inn_core::{Kernel, Result, Shape, Window};
use strip::{Evaluate, Typed};

/// Elements of a block at most: what a partial sum in the number type of the tensor covers.
const BLOCK: usize = 4096;
/// Elements of a task at least, where there are that many.
const TASK: usize = 4096;

pub(crate) fn zip<T: CpuElement, K: Kernel>(
    cpu: &Cpu<T>,
    kernel: &K,
    domain: Shape,
    read: &[View<'_, Cpu<T>>],
    update: &mut [Update<'_, Cpu<T>>],
    channel_sums: &mut [Update<'_, Cpu<T>>],
    sample_sums: &mut [Update<'_, Cpu<T>>],
) -> Result<()> {
    check_zip::<Cpu<T>, K>(cpu, domain, read, update, channel_sums, sample_sums)?;
    if !domain.is_empty() {
        call(&Typed(kernel), domain, read, update, channel_sums, sample_sums);
    }
    Ok(())
}

/// The call, once its operands are known to fit together.
fn call<T: CpuElement>(
    kernel: &dyn Evaluate<T>,
    domain: Shape,
    read: &[View<'_, Cpu<T>>],
    update: &mut [Update<'_, Cpu<T>>],
    channel_sums: &mut [Update<'_, Cpu<T>>],
    sample_sums: &mut [Update<'_, Cpu<T>>],
) {
    let mut operands = Vec::with_capacity(kernel.arity().read + kernel.arity().update);
    for view in read {
        operands.push(Operand::new(view.buffer().as_slice().as_ptr().cast_mut(), view.window(), true));
    }
    for update in update.iter_mut() {
        let (base, old) = (update.buffer_mut().as_mut_slice().as_mut_ptr(), update.access() == Access::ReadWrite);
        operands.extend(update.windows().iter().map(|&window| Operand::new(base, window, old)));
    }
    let grid = Grid::of(kernel.arity(), domain, &mut operands);
    let sums = T::run(&grid, kernel, &operands);
    for (k, (u, w)) in places(channel_sums).into_iter().enumerate() {
        let values = channel_sums[u].buffer_mut().as_mut_slice();
        for c in 0..domain.channels() {
            let at = w.offset + c * w.channel_stride;
            values[at] = T::narrow(values[at].widen() + sums.channel[k * domain.channels() + c]);
        }
    }
    for (k, (u, w)) in places(sample_sums).into_iter().enumerate() {
        let values = sample_sums[u].buffer_mut().as_mut_slice();
        for b in 0..domain.batch() {
            let at = w.offset + b * w.batch_stride;
            values[at] = T::narrow(values[at].widen() + sums.sample[k * domain.batch() + b]);
        }
    }
}

/// A part of a call, within a task of somebody else's: the sample sums of its domain.
///
/// # Safety
/// The operands are those that the kernel takes, in its order, over the domain; they lie in memory that nobody else accesses, but to read what
/// is read only, and windows that are written have no place twice and no place in common.
pub(crate) unsafe fn part<T: CpuElement, K: Kernel>(kernel: &K, domain: Shape, operands: &mut [Operand<T>]) -> Vec<f64> {
    let kernel = &Typed(kernel);
    let grid = Grid { alone: true, ..Grid::of(Evaluate::<T>::arity(kernel), domain, operands) };
    T::run(&grid, kernel, operands).sample
}

/// Each window with the number of its update.
fn places<T: CpuElement>(updates: &[Update<'_, Cpu<T>>]) -> Vec<(usize, Window)> {
    updates.iter().enumerate().flat_map(|(i, u)| u.windows().iter().map(move |&w| (i, w))).collect()
}

/// How a call is cut up.
#[derive(Clone, Copy)]
pub struct Grid {
    batch: usize,
    channels: usize,
    /// Elements of a row.
    row: usize,
    /// The sums that have one value an element of a row.
    along: Along,
    /// Elements of a block of a row.
    block: usize,
    blocks: usize,
    /// Rows of a task; a task keeps to one block of each.
    rows_per_task: usize,
    tasks_per_block: usize,
    /// Whether to stay on one thread.
    alone: bool,
}

/// Channels of dense data up to which a row runs over samples instead.
const FEW: usize = 16;

/// Sums, operand by operand.
pub struct Sums {
    channel: Vec<f64>,
    sample: Vec<f64>,
}

/// A pointer to where tasks leave their sums, each in a place of its own.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);
// SAFETY: tasks write to disjoint places, see `Grid::run`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl Grid {
    /// Chooses the rows and rewrites the strides of the operands to match.
    fn of<T>(arity: Arity, domain: Shape, operands: &mut [Operand<T>]) -> Self {
        let (mut batch, mut channels, mut row) = (domain.batch(), domain.channels(), domain.pixels());
        let mut along = Along::Neither;
        if row == 1 && channels < FEW && channels < batch {
            operands.iter_mut().for_each(|o| (o.element, o.batch) = (o.batch, 0));
            (row, batch) = (batch, 1);
            along = if arity.sample_sums > 0 { Along::Samples } else { Along::Neither };
        } else if row == 1 {
            operands.iter_mut().for_each(|o| (o.element, o.channel) = (o.channel, 0));
            (row, channels) = (channels, 1);
            along = if arity.channel_sums > 0 { Along::Channels } else { Along::Neither };
        } else if arity.channel_sums == 0 && operands.iter().all(|o| channels == 1 || o.channel == row * o.element) {
            operands.iter_mut().for_each(|o| o.channel = 0);
            (row, channels) = (row * channels, 1);
        }
        if channels == 1 && arity.sample_sums + arity.channel_sums == 0 {
            if row == 1 {
                operands.iter_mut().for_each(|o| (o.element, o.batch) = (o.batch, 0));
                (row, batch) = (batch, 1);
            } else if operands.iter().all(|o| batch == 1 || o.batch == row * o.element) {
                (row, batch) = (row * batch, 1);
            }
        }
        let block = row.min(BLOCK);
        let rows = batch * channels;
        // A task of a dense call covers all rows that it can, since each has a vector of sums.
        let rows_per_task = (TASK / block).clamp(1, rows);
        Self {
            batch,
            channels,
            row,
            along,
            block,
            blocks: row.div_ceil(block),
            rows_per_task,
            tasks_per_block: rows.div_ceil(rows_per_task),
            alone: false,
        }
    }

    fn run<T: CpuElement>(&self, kernel: &dyn Evaluate<T>, operands: &[Operand<T>]) -> Sums {
        let arity = kernel.arity();
        let rows = self.batch * self.channels;
        let tasks = self.tasks_per_block * self.blocks;
        // For each block of each row: its sample sums and then its channel sums, except those along the row.
        let (per_row, along) = self.along.split(arity);
        let mut row_sums = vec![T::default(); rows * self.blocks * per_row];
        // For each task: a value for each element of its block.
        let per_task = along * self.block;
        let mut dense_sums = vec![T::default(); tasks * per_task];
        let (row_out, dense_out) = (Shared(row_sums.as_mut_ptr()), Shared(dense_sums.as_mut_ptr()));
        let level = simd::level();
        let task = |t: usize| {
            let (row_out, dense_out) = (row_out, dense_out);
            let (k, group) = (t / self.tasks_per_block, t % self.tasks_per_block);
            let first = group * self.rows_per_task;
            let last = (first + self.rows_per_task).min(rows);
            let start = k * self.block;
            // SAFETY: the operands outlive the call and lie within their buffers, and windows that are written have no place twice
            // and no place in common (`check_zip`). Each task has rows and a place for its sums that are no other task's.
            unsafe {
                let block = Block {
                    kernel,
                    level,
                    operands,
                    channels: self.channels,
                    rows: first..last,
                    elements: start..(start + self.block).min(self.row),
                    row_sums: row_out.0.add((k * rows + first) * per_row),
                    dense_sums: dense_out.0.add(t * per_task),
                    along: self.along,
                    stride: self.block,
                };
                block.run();
            }
        };
        pool::each(tasks, self.alone, task);
        self.combine(arity, &row_sums, per_row, &dense_sums, per_task)
    }

    /// Adds partial sums in the order of blocks and rows.
    fn combine<T: CpuElement>(&self, arity: Arity, row_sums: &[T], per_row: usize, dense_sums: &[T], per_task: usize) -> Sums {
        let width = if self.along == Along::Channels { self.row } else { self.channels };
        let height = if self.along == Along::Samples { self.row } else { self.batch };
        let mut sums = Sums { channel: vec![0.0; arity.channel_sums * width], sample: vec![0.0; arity.sample_sums * height] };
        let samples = if self.along == Along::Samples { 0 } else { arity.sample_sums };
        if per_row > 0 {
            let rows = self.batch * self.channels;
            for (i, partial) in row_sums.chunks_exact(per_row).enumerate() {
                let (b, c) = (i % rows / self.channels, i % rows % self.channels);
                for (k, value) in partial[..samples].iter().enumerate() {
                    sums.sample[k * height + b] += value.widen();
                }
                for (k, value) in partial[samples..].iter().enumerate() {
                    sums.channel[k * width + c] += value.widen();
                }
            }
        }
        if per_task > 0 {
            for (t, partial) in dense_sums.chunks_exact(per_task).enumerate() {
                let start = t / self.tasks_per_block * self.block;
                let len = self.block.min(self.row - start);
                let (to, width) = if self.along == Along::Samples { (&mut sums.sample, height) } else { (&mut sums.channel, width) };
                for (k, values) in partial.chunks_exact(self.block).enumerate() {
                    for (sum, value) in to[k * width + start..].iter_mut().zip(&values[..len]) {
                        *sum += value.widen();
                    }
                }
            }
        }
        sums
    }
}
