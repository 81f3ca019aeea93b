//! Strips, and how they are dealt to tasks.
//!
//! Strips next to each other make a piece, which one task works off. The way back of a strip (a transposed convolution) also adds to the
//! pixels around it. Strips of the same sample meet there. As many as that concerns make a unit; units of even number pass before those of odd
//! number, and those of one phase may run side by side, since the one between keeps them apart. Where a few samples have too few units
//! for that, all strips run side by side and set aside what they add; that is added afterwards, in the same order.

use super::plan::Plan;
use crate::conv::plan::{split, sum_of_parts};
use std::ops::Range;

/// Lines of a strip, counted through all samples, and the pixels of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strip {
    pub(crate) lines: Range<usize>,
    pub(crate) x: Range<usize>,
}

/// Strips at most of a plane that is cut for two threads to share it, vectors of tiles of each at least, as products take two at one time, and how many times
/// those of the best cut there may be.
const MOST_SHARED: usize = 4;
const LEAST_VECTORS: usize = 2;
const MORE: f64 = 1.125;

/// What a strip is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    /// One of as many parts of a line, each of whole tiles of so many pixels, of which the line's end may cut one off.
    Line(usize, usize),
    /// One of as many groups of lines of a plane.
    Plane(usize),
    /// One of as many groups of lines of a sample.
    Sample(usize),
    /// One of as many groups of samples.
    Batch(usize),
}

/// Parts of `count` units, `each` unit some tiles, that together take the fewest vectors of tiles: about as many parts as have `most` units at most.
fn parts(count: usize, most: usize, each: usize, lanes: usize) -> (usize, f64) {
    let wanted = count.div_ceil(most);
    let vectors = |parts: usize| sum_of_parts(count, parts, |units| (units * each).div_ceil(lanes));
    // Two are as well one: neighbours do not run at one time.
    let fewest = if wanted == 2 { 1 } else { wanted - wanted / 4 };
    let near = fewest..=(wanted + wanted.div_ceil(4)).min(count);
    let all = near.map(|parts| (parts, vectors(parts)));
    let best = all.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.abs_diff(wanted).cmp(&b.0.abs_diff(wanted))));
    best.unwrap_or((wanted, vectors(wanted)))
}

impl Cut {
    /// Strips of about `most` pixels, folded by tiles of `tile`, and the vectors of tiles of all strips of a sample. Planes of a `few` samples (0 if they
    /// are not few) are cut so that two threads can share them.
    pub(super) fn folded([depth, height, width]: [usize; 3], tile: usize, most: usize, lanes: usize, few: usize) -> (Self, f64) {
        let tiles = width.div_ceil(tile);
        if tiles * tile > most {
            let (parts, vectors) = parts(tiles, most / tile, 1, lanes);
            (Self::Line(parts, tile), (depth * height) as f64 * vectors)
        } else {
            let (parts, vectors) = parts(height, most / (tiles * tile), tiles, lanes);
            let vectors_of = |lines: usize| (lines * tiles).div_ceil(lanes);
            let all = |parts: usize| sum_of_parts(height, parts, vectors_of);
            // What the busier one of two threads has to do.
            let busier = |parts: usize| (few * parts).div_ceil(2) * vectors_of(height.div_ceil(parts));
            let pays = |parts: &usize| vectors_of(height / parts) >= LEAST_VECTORS && all(*parts) <= MORE * vectors;
            let most = if few > 0 && depth == 1 { MOST_SHARED.min(height) } else { parts };
            let more = (parts + 1..=most).filter(pays);
            let parts = std::iter::once(parts).chain(more).min_by_key(|&parts| busier(parts)).unwrap_or(parts);
            let vectors = all(parts);
            (Self::Plane(parts), depth as f64 * vectors)
        }
    }

    /// Pixels of the longest strip, if a line is whole tiles.
    pub(super) fn longest(self, batch: usize, [depth, height, width]: [usize; 3]) -> usize {
        match self {
            Self::Line(parts, tile) => (width / tile).div_ceil(parts) * tile,
            Self::Plane(parts) => height.div_ceil(parts) * width,
            Self::Sample(parts) => (depth * height).div_ceil(parts) * width,
            Self::Batch(parts) => batch.div_ceil(parts) * depth * height * width,
        }
    }

    /// Pixels of the shortest strip.
    pub(super) fn shortest(self, [depth, height, width]: [usize; 3]) -> usize {
        match self {
            Self::Line(parts, tile) => width.div_ceil(tile) / parts * tile + width - width.next_multiple_of(tile),
            Self::Plane(parts) => height / parts * width,
            Self::Sample(parts) => depth * height / parts * width,
            Self::Batch(_) => depth * height * width,
        }
    }
}

impl Plan {
    /// How far, in pixels, a strip adds to what lies around it.
    pub(super) fn reach(&self) -> usize {
        let [kz, ky, kx] = self.first.kernel.map(|k| k / 2);
        (kz * self.extents[1] + ky) * self.extents[2] + kx
    }

    pub(super) fn strips(&self) -> usize {
        match self.cut {
            Cut::Line(parts, _) => self.batch * self.extents[0] * self.extents[1] * parts,
            Cut::Plane(parts) => self.batch * self.extents[0] * parts,
            Cut::Sample(parts) => self.batch * parts,
            Cut::Batch(parts) => parts,
        }
    }

    pub(super) fn strip(&self, index: usize) -> Strip {
        let lines = self.extents[0] * self.extents[1];
        let width = self.extents[2];
        match self.cut {
            Cut::Line(parts, tile) => {
                let (line, tiles) = (index / parts, split(width.div_ceil(tile), parts, index % parts));
                Strip { lines: line..line + 1, x: tiles.start * tile..(tiles.end * tile).min(width) }
            }
            Cut::Plane(parts) => {
                let height = self.extents[1];
                let (plane, within) = (index / parts, split(height, parts, index % parts));
                Strip { lines: plane * height + within.start..plane * height + within.end, x: 0..width }
            }
            Cut::Sample(parts) => {
                let (sample, within) = (index / parts, split(lines, parts, index % parts));
                Strip { lines: sample * lines + within.start..sample * lines + within.end, x: 0..width }
            }
            Cut::Batch(parts) => {
                let samples = split(self.batch, parts, index);
                Strip { lines: samples.start * lines..samples.end * lines, x: 0..width }
            }
        }
    }

    /// Number of phases.
    pub(super) fn phases(&self) -> usize {
        if self.parts > 1 { 2 } else { 1 }
    }

    /// The pieces of each phase.
    pub(super) fn tasks(&self) -> usize {
        match self.parts {
            _ if self.aside => self.strips(),
            0 | 1 => self.pieces,
            parts => self.batch * parts,
        }
    }

    /// The strips of a task of a phase, in their order: in a sample, units of even number before those of odd number, however many tasks share
    /// it. What meets at a pixel is therefore added in one order.
    pub(super) fn task(&self, phase: usize, index: usize) -> impl Iterator<Item = usize> + '_ {
        let strips = self.strips();
        let apart = matches!(self.cut, Cut::Batch(_)) || self.reach() == 0;
        let plain = match apart {
            _ if self.aside => index..index + 1,
            true => split(strips, self.pieces, index),
            false => 0..0,
        };
        let (samples, parities, part, parts) = if apart || self.aside {
            (0..0, 0..0, 0, 1)
        } else if self.parts > 1 {
            let sample = index / self.parts;
            (sample..sample + 1, phase..phase + 1, index % self.parts, self.parts)
        } else {
            (split(self.batch, self.pieces, index), 0..2, 0, 1)
        };
        plain.chain(samples.flat_map(move |sample| self.in_order(sample, parities.clone(), part, parts)))
    }

    /// The strips of a part of a sample, units of even number before those of odd number.
    fn in_order(&self, sample: usize, parities: Range<usize>, part: usize, parts: usize) -> impl Iterator<Item = usize> + '_ {
        let per_sample = self.strips() / self.batch.max(1);
        parities.flat_map(move |parity| {
            let own = (self.units + 1 - parity) / 2;
            split(own, parts, part).flat_map(move |k| {
                let within = split(per_sample, self.units, 2 * k + parity);
                sample * per_sample + within.start..sample * per_sample + within.end
            })
        })
    }

    /// Whether a strip is all of its samples.
    fn whole_samples(&self) -> bool {
        self.samples_are_pixels || matches!(self.cut, Cut::Batch(_))
    }

    /// Groups of strips that share no sample.
    pub(super) fn groups(&self) -> usize {
        if self.whole_samples() { self.strips() } else { self.batch }
    }

    /// The strips of a group, and its samples as the caller counts them.
    pub(super) fn group(&self, index: usize) -> (Range<usize>, Range<usize>) {
        if !self.whole_samples() {
            let per_sample = self.strips() / self.batch.max(1);
            return (index * per_sample..(index + 1) * per_sample, index..index + 1);
        }
        let strip = self.strip(index);
        let lines = self.extents[0] * self.extents[1];
        let samples = if self.samples_are_pixels { strip.x } else { strip.lines.start / lines..strip.lines.end / lines };
        (index..index + 1, samples)
    }

    /// The pixel of its sample after the last one of a strip.
    pub(super) fn end(&self, strip: usize) -> usize {
        let (strip, lines) = (self.strip(strip), self.extents[0] * self.extents[1]);
        ((strip.lines.end - 1) % lines.max(1)) * self.extents[2] + strip.x.end
    }

    /// Pixels of the shortest strip.
    pub(super) fn shortest(&self) -> usize {
        self.cut.shortest(self.extents)
    }

    /// The strips of a group in the order in which they meet.
    pub(super) fn group_strips(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let strips = self.group(index).0;
        let apart = self.whole_samples() || self.reach() == 0;
        let (plain, parities) = if apart { (strips, 0..0) } else { (0..0, 0..2) };
        plain.chain(self.in_order(index, parities, 0, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inn_core::Shape;
    use inn_core::stack::{StackPass, StackShape};

    fn plan(batch: usize, spatial: &[usize], kernel: usize, hidden: usize) -> Plan {
        let x = Shape::new(batch, 3, spatial).unwrap();
        let first = Shape::new(hidden, 3, &[kernel; 3][..spatial.len()]).unwrap();
        Plan::new(&StackShape { x, padding: kernel / 2, first, middle: 1, outputs: 2, transposed: true }, StackPass::Keep, 16, 4)
    }

    /// Every pixel is in one strip, every strip in one task, and tasks of one phase do not meet unless they set aside what they add.
    #[test]
    fn pieces_cover_the_batch_and_keep_apart() {
        let extents: [&[usize]; 19] = [
            &[],
            &[5],
            &[1000],
            &[8, 8],
            &[4, 4],
            &[32, 32],
            &[7, 50],
            &[3, 400],
            &[128, 96],
            &[9, 8, 7],
            &[20, 24, 24],
            &[2, 2, 300],
            &[16, 30, 34],
            &[64, 66],
            &[10, 40],
            &[5, 20],
            &[5, 21],
            &[6, 5, 47],
            &[3, 601],
        ];
        for spatial in extents {
            for (batch, kernel, hidden) in [(1, 3, 8), (1, 1, 128), (3, 5, 128), (16, 3, 33), (70, 1, 600), (2, 7, 600)] {
                let p = plan(batch, spatial, kernel, hidden);
                let lines = p.extents[0] * p.extents[1];
                let mut seen = vec![0; p.batch * lines * p.extents[2]];
                for phase in 0..p.phases() {
                    let mut owner = vec![usize::MAX; seen.len()];
                    for task in 0..p.tasks() {
                        for s in p.task(phase, task) {
                            let strip = p.strip(s);
                            let tiles = strip.lines.len() * strip.x.len().div_ceil(p.tile());
                            assert!(tiles.next_multiple_of(p.lanes) * p.tile() <= p.pitch && tiles <= p.piece);
                            assert!(strip.lines.len() * strip.x.len() >= p.shortest());
                            for line in strip.lines.clone() {
                                for x in strip.x.clone() {
                                    let at = line * p.extents[2] + x;
                                    seen[at] += 1;
                                    let sample = line / lines;
                                    let reach = p.reach();
                                    let (low, high) = (at.saturating_sub(reach), at + reach);
                                    let inside = sample * lines * p.extents[2]..(sample + 1) * lines * p.extents[2];
                                    for near in low.max(inside.start)..(high + 1).min(inside.end) {
                                        let alone = owner[near] == usize::MAX || owner[near] == task;
                                        assert!(p.aside || alone, "{spatial:?} {batch} {kernel}");
                                        owner[near] = task;
                                    }
                                }
                            }
                        }
                    }
                }
                assert!(seen.iter().all(|&n| n == 1), "{spatial:?} {batch} {kernel} {hidden}");
                let mut next = 0;
                for g in 0..p.groups() {
                    let (strips, samples) = p.group(g);
                    assert!(samples.start == next && !samples.is_empty(), "{spatial:?} {batch} {kernel} {hidden}");
                    next = samples.end;
                    let mut order: Vec<_> = p.group_strips(g).collect();
                    order.sort_unstable();
                    assert!(order.iter().copied().eq(strips), "{spatial:?} {batch} {kernel} {hidden}");
                }
                assert_eq!(next, batch);
            }
        }
    }

    /// Strips of a few samples run side by side where they are too few for phases; the tests of stacks have these shapes.
    #[test]
    fn strips_of_a_few_small_samples_set_aside_what_they_add() {
        for (batch, spatial, kernel, hidden) in [(1, [16, 16], 3, 128), (5, [16, 16], 3, 128), (1, [12, 30], 5, 60), (2, [14, 16], 5, 80)] {
            let p = plan(batch, &spatial, kernel, hidden);
            assert!(p.aside && p.phases() == 1 && p.tasks() >= 2 * batch, "{batch} {spatial:?} {kernel}");
        }
        // As many samples as go group by group, or a single strip, or enough of them for phases, or little to do.
        for (batch, spatial, kernel, hidden) in [(6, [16, 16], 3, 128), (1, [8, 8], 3, 128), (1, [64, 64], 3, 128), (1, [16, 16], 3, 16)] {
            assert!(!plan(batch, &spatial, kernel, hidden).aside, "{batch} {spatial:?} {kernel}");
        }
    }

    /// Weight gradients are shared by threads however wide hidden layers are, and few small samples too, if there is enough to do.
    #[test]
    fn two_threads_find_work_on_each_way() {
        for (batch, spatial, hidden, least) in [(8, [64, 64], 1024, 4), (1, [64, 64], 512, 4), (2, [16, 16], 512, 2), (8, [8, 8], 512, 2)] {
            let p = plan(batch, &spatial, 3, hidden);
            assert!(p.slots >= least && p.coupled_slots() >= least.min(batch), "{batch} {spatial:?} {hidden}: {}", p.slots);
        }
        for (batch, spatial, strips) in [(8, [4, 4], 2), (16, [4, 4], 2), (24, [4, 4], 4), (4, [4, 4], 2), (3, [4, 4], 1)] {
            assert_eq!(plan(batch, &spatial, 3, 256).strips(), strips, "{batch}");
        }
    }

    /// A thread has room for what a group needs, and no more than is near it.
    #[test]
    fn couplings_go_group_by_group_where_groups_are_many_and_small() {
        assert!(plan(8, &[64, 64], 3, 128).couples(true) && plan(6, &[512, 512], 3, 256).couples(true));
        // Few samples; planes whose neighbours are far; an output of 216 MB for each thread.
        assert!(!plan(5, &[64, 64], 3, 128).couples(false));
        assert!(!plan(8, &[8, 128, 128], 3, 128).couples(true) && plan(8, &[8, 128, 128], 3, 128).couples(false));
        assert!(!plan(6, &[300, 300, 300], 3, 8).couples(false));
    }
}
