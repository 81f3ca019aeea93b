//! Few channels on one side: the taps of all of them are rows, and the many channels of the other side are read where they lie, once, without a copy.
//!
//! If the target has few channels, a matrix product on the source's pixels makes the rows, which are then added to the pixels that their taps reach.
//! This is the input gradient; forward, kernels are mirrored:
//!
//! ```text
//! R[(c, t), p] = sum over k of w[k, c, t] * source[k, p],      target[c, p + t - padding] += R[(c, t), p]
//! ```
//! The weight gradient gathers the rows, zero outside of the image, and consists of scalar products; if it is the output that has few channels, kernels are
//! mirrored:
//!
//! ```text
//! R[(c, t), p] = few[c, p + t - padding],      gw[k, c, t] = sum over p of many[k, p] * R[(c, t), p]
//! ```
//! A kernel of one tap has no neighbourhoods, and the few channels are rows as they are. All of this is done strip by strip: lines of a sample, parts of a signal, or a few small samples.

mod apply;
mod weight;

pub(super) use apply::{apply, scratch as apply_scratch};
pub(super) use weight::{scratch as weight_scratch, weight_gradient};

use super::geometry::Geometry;
use super::plan::{row_len, split};
use crate::stack::lines::{Strip, Taps};
use std::ops::Range;

/// Rows at most.
const MOST_ROWS: usize = 256;
/// Bytes of the rows of a strip, and those at most, where it has to be longer.
const STRIP_BYTES: usize = 256 << 10;
const MOST_BYTES: usize = 4 << 20;

/// Bytes of a line of the cache, and the distance at which lines meet in its first level.
const LINE: usize = 64;
const PERIOD: usize = 4 << 10;

/// The decomposition of a call.
struct Plan {
    batch: usize,
    many: usize,
    few: usize,
    extents: [usize; 3],
    taps: Taps,
    lanes: usize,
    /// Strips of a sample: groups of lines, or parts of the only one; otherwise groups of samples.
    strips: usize,
    groups: usize,
    /// Distance of the rows of a strip.
    pitch: usize,
    /// Whether not worth more than one thread.
    alone: bool,
}

impl Plan {
    /// The plan of a convolution that keeps extents, with strips of some `pixels`, if there are as many, and at least `wanted` ones of a sample; `meet`
    /// tells whether they add to pixels of their neighbours.
    fn new(g: &Geometry, [many, few]: [usize; 2], lanes: usize, bytes: usize, pixels: usize, wanted: usize, meet: bool) -> Option<Self> {
        let same = g.stride == [1; 3] && (0..3).all(|axis| g.kernel[axis] == 2 * g.padding[axis] + 1);
        let rows = few.saturating_mul(g.taps());
        let all = g.input_pixels();
        if !same || all < lanes || many == 0 || rows > MOST_ROWS {
            return None;
        }
        let ([depth, height, width], [pz, py, px]) = (g.input, g.padding);
        let (units, each, reach) = if depth * height == 1 { (width, 1, px) } else { (depth * height, width, pz * height + py + px.min(1)) };
        // Between two strips at one time lies one that both may reach into.
        let most = if meet { units / (2 * reach).max(1) } else { units };
        let size = |units: usize| units * each * rows * bytes;
        let strips = size(units).div_ceil(STRIP_BYTES).max(wanted).min(most).max(1);
        if size(units.div_ceil(strips)) > MOST_BYTES {
            return None;
        }
        // A number that is dealt evenly.
        let groups = if strips > 1 { g.batch } else { g.batch.div_ceil((pixels / all).max(1)).next_power_of_two().min(g.batch) };
        let longest = g.batch.div_ceil(groups) * units.div_ceil(strips) * each;
        Some(Self {
            batch: g.batch,
            many,
            few,
            extents: g.input,
            taps: Taps { kernel: g.kernel, padding: g.padding },
            lanes,
            strips,
            groups,
            pitch: row_len(longest, lanes),
            alone: (rows * many).saturating_mul(all).saturating_mul(g.batch) <= super::apply::SMALL,
        })
    }

    fn rows(&self) -> usize {
        self.few * self.taps.count()
    }

    fn pixels(&self) -> usize {
        self.extents.iter().product()
    }

    /// What whole vectors of a sample have by its pixels.
    fn filled(&self) -> f64 {
        self.pixels().next_multiple_of(self.lanes) as f64 / self.pixels() as f64
    }

    /// The strip of a number of the samples of a group, and its pixels in each.
    fn strip(&self, samples: &Range<usize>, index: usize) -> (Strip, Range<usize>) {
        let [depth, height, width] = self.extents;
        let lines = depth * height;
        if lines == 1 {
            let x = split(width, self.strips, index);
            return (Strip { lines: samples.clone(), x: x.clone() }, x);
        }
        let own = split(lines, self.strips, index);
        let all = samples.start * lines + own.start..(samples.end - 1) * lines + own.end;
        (Strip { lines: all, x: 0..width }, own.start * width..own.end * width)
    }

    /// Bytes of the lists of places, masks, and what is added to each line, of a strip.
    fn lists(&self) -> usize {
        let ([kz, ky, kx], taps) = (self.taps.kernel, self.taps.count());
        let lines = self.pitch.div_ceil(self.extents[2]);
        let places = lines * 24 * (kz * ky + taps) + 40 * (lines + kz * self.extents[1] + ky);
        let masks = 12 * (kx + 1) * (self.extents[2].min(self.pitch) / self.lanes + 2) + 16 * taps * (self.pitch / self.lanes + 2);
        2 * places + masks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::kernels::Dispatch;
    use crate::simd::Level;

    /// The convolutions that the tests against nested loops have for this are decomposed in each way: several samples to a strip, strips of a sample
    /// in images and volumes, parts of signals; one tap.
    #[test]
    fn few_channels_are_decomposed_in_each_way() {
        let shapes = [
            (17, 2, 40, [1, 11, 13], 3, [false, false]),
            (5, 3, 70, [1, 29, 31], 3, [true, false]),
            (2, 1, 33, [1, 70, 37], 5, [true, true]),
            (1, 2, 40, [1, 1, 40000], 5, [true, true]),
            (1, 1, 40, [10, 12, 13], 3, [true, true]),
        ];
        for level in Level::available() {
            let kernels = f32::kernels(level);
            for (batch, few, many, input, k, cut) in shapes {
                let kernel = input.map(|extent| if extent > 1 { k } else { 1 });
                let g = Geometry::new(batch, few, many, input, kernel, [1; 3], kernel.map(|k| k / 2)).unwrap();
                let apply = apply::plan(&g, true, kernels).unwrap();
                let (weight, inputs) = weight::plan(&g, kernels).unwrap();
                assert!(inputs && [apply.strips > 1, weight.strips > 1] == cut, "{g:?} at {level:?}");
                assert!(cut[0] || batch < 17 || apply.groups < batch && weight.groups < batch, "{g:?} at {level:?}");
            }
            let one = Geometry::new(3, 5, 70, [1, 9, 11], [1; 3], [1; 3], [0; 3]).unwrap();
            assert!(
                apply::plan(&one, true, kernels).is_none() && weight::plan(&one, kernels).is_some_and(|(plan, _)| plan.gathered() == 0)
            );
            // Neither stays where both sides have many channels.
            let many = Geometry::new(2, 64, 64, [1, 32, 32], [1, 3, 3], [1; 3], [0, 1, 1]).unwrap();
            assert!(apply::plan(&many, true, kernels).is_none() && weight::plan(&many, kernels).is_none());
        }
    }
}
