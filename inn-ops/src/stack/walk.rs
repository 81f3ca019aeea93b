//! Where the pixels of a strip and their neighbours lie, worked out once for all channels.

use super::cut::Strip;
use super::flat::Flat;
use super::fold;
use super::plan::Taps;
use std::ops::Range;

/// The places of one strip for one kernel.
#[derive(Default)]
pub(crate) struct Walk {
    pub(super) taps: Taps,
    /// The first sample of the strip; all others are counted from it.
    pub(super) sample: usize,
    /// The strip, counted from its first sample.
    strip: Strip,
    /// Lines of the strip, and pixels, tiles and vectors of each.
    pub(super) lines: usize,
    pub(super) count: usize,
    pub(super) tiles: usize,
    pub(super) vectors: usize,
    /// For each tap (z, y) and line: the sample from the first on, and the element of its channel where tap x = 0 of the line's first pixel lies, which may be
    /// outside of the line; none where the whole line is outside of the image.
    pub(super) places: Vec<Option<(usize, isize)>>,
    /// For each tap x and vector, the lanes that lie in the image. Of folded strips, those of [`masks`](fold::masks).
    pub(super) masks: Vec<u32>,
    /// Of folded strips, whether lines go on before and after them.
    pub(super) before: bool,
    pub(super) after: bool,
    /// Lines that the strip adds to.
    pub(super) targets: Vec<Target>,
    /// Tap, shift within its row, and tap x, of all that is added to the targets.
    pub(super) sources: Vec<(usize, isize, usize)>,
    /// Vectors of a target.
    pub(super) reached: usize,
    /// For each tap x and vector of a target, the lanes that lie in the strip.
    pub(super) reached_masks: Vec<u32>,
    /// The lanes of a target's vectors that exist.
    pub(super) ends: Vec<u32>,
    /// Takes the place of all of these, from the places on.
    runs: Flat,
    flat: bool,
    /// What else all of this was made for: lanes, extents, taps, pixels of a tile.
    known: Option<(usize, [usize; 3], Taps, usize)>,
}

/// A line that a strip adds to.
pub(super) struct Target {
    /// From the first on.
    pub(super) sample: usize,
    /// Its first pixel in reach, within a channel.
    pub(super) offset: usize,
    pub(super) sources: Range<usize>,
}

/// The bits of the lanes of vector `j` whose elements lie in `low..high`.
pub(super) fn mask(lanes: usize, j: usize, low: usize, high: usize) -> u32 {
    let bits = |n: usize| if n >= 32 { u32::MAX } else { (1u32 << n) - 1 };
    let clip = |at: usize| at.saturating_sub(j * lanes).min(lanes);
    bits(clip(high)) & !bits(clip(low))
}

impl Walk {
    /// Pixels of the strip.
    pub(super) fn pixels(&self) -> usize {
        self.lines * self.count
    }

    /// Tiles of the strip, pixels where it is not folded.
    pub(super) fn all_tiles(&self) -> usize {
        self.lines * self.tiles
    }

    /// The strip as runs of pixels, where its lines are short.
    pub(super) fn flat(&self) -> Option<&Flat> {
        self.flat.then_some(&self.runs)
    }

    /// Works the places of a strip out, for vectors of `lanes` elements; keeps the memory, and what it knows of the strip before. Strips of short
    /// lines may become runs of pixels, unless they are folded, with more than one pixel to a `tile`.
    pub(crate) fn set(&mut self, lanes: usize, extents: [usize; 3], taps: Taps, strip: &Strip, tile: usize) {
        let [depth, height, width] = extents;
        let ([kz, ky, kx], [pz, py, px]) = (taps.kernel, taps.padding);
        let plane = depth * height;
        self.sample = strip.lines.start / plane;
        let shift = self.sample * plane;
        let strip = Strip { lines: strip.lines.start - shift..strip.lines.end - shift, x: strip.x.clone() };
        // Strips of equal form follow each other: groups of samples, or the same part of one sample after the other.
        let known = Some((lanes, extents, taps, tile));
        if strip == self.strip && known == self.known {
            return;
        }
        (self.strip, self.known) = (strip.clone(), known);
        let (x0, count) = (strip.x.start, strip.x.len());
        (self.taps, self.lines, self.count, self.vectors) = (taps, strip.lines.len(), count, count.div_ceil(lanes));
        self.tiles = count.div_ceil(tile);
        self.flat = tile == 1 && width < lanes && count == width && (2..=Flat::MOST_TAPS).contains(&taps.count());
        if self.flat {
            return self.runs.set(lanes, extents, taps, &strip);
        }
        let place = |line: usize| (line / plane, line / height % depth, line % height);

        self.places.clear();
        for tz in 0..kz {
            for ty in 0..ky {
                self.places.extend(strip.lines.clone().map(|line| {
                    let (b, z, y) = place(line);
                    let z = (z + tz).checked_sub(pz).filter(|&z| z < depth)?;
                    let y = (y + ty).checked_sub(py).filter(|&y| y < height)?;
                    Some((b, ((z * height + y) * width + x0) as isize - px as isize))
                }));
            }
        }
        self.masks.clear();
        if tile > 1 {
            (self.before, self.after) = (x0 > 0, x0 + count < width);
            return fold::masks(lanes, tile, self.tiles, width, (1, x0), &mut self.masks);
        }
        for tx in 0..kx {
            let low = px.saturating_sub(x0 + tx);
            let high = (width + px).saturating_sub(x0 + tx).min(count);
            self.masks.extend((0..self.vectors).map(|j| mask(lanes, j, low, high)));
        }

        // Pixels of a line that the strip adds to.
        let (low, high) = (x0.saturating_sub(px), (x0 + count + kx - 1 - px).min(width));
        self.reached = (high - low).div_ceil(lanes);
        self.reached_masks.clear();
        for tx in 0..kx {
            // Pixel `low + i` takes element `low + i + px - tx - x0` of the row.
            let first = (x0 + tx).saturating_sub(low + px);
            let end = (x0 + tx + count).saturating_sub(low + px).min(high - low);
            self.reached_masks.extend((0..self.reached).map(|j| mask(lanes, j, first, end)));
        }
        self.ends.clear();
        self.ends.extend((0..self.reached).map(|j| mask(lanes, j, 0, high - low)));

        self.targets.clear();
        self.sources.clear();
        let reach = pz * height + py;
        let from = strip.lines.start.saturating_sub(reach);
        let to = (strip.lines.end + reach).min(((strip.lines.end - 1) / plane + 1) * plane);
        for line in from..to {
            let (b, z, y) = place(line);
            let start = self.sources.len();
            for tz in 0..kz {
                for ty in 0..ky {
                    let z = (z + pz).checked_sub(tz).filter(|&z| z < depth);
                    let y = (y + py).checked_sub(ty).filter(|&y| y < height);
                    let (Some(z), Some(y)) = (z, y) else { continue };
                    let source = (b * depth + z) * height + y;
                    if !strip.lines.contains(&source) {
                        continue;
                    }
                    let first = ((source - strip.lines.start) * count + low + px) as isize - x0 as isize;
                    self.sources.extend((0..kx).map(|tx| ((tz * ky + ty) * kx + tx, first - tx as isize, tx)));
                }
            }
            if self.sources.len() > start {
                self.targets.push(Target { sample: b, offset: (z * height + y) * width + low, sources: start..self.sources.len() });
            }
        }
    }
}
