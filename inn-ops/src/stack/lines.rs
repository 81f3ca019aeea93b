//! Between images and the arrays of a strip: neighbourhoods of pixels become rows, and rows are added back to neighbourhoods.
//!
//! Row `(c, t)` of a strip's array holds, for each of its pixels `p`, channel `c` of the image at `p + t - padding`, zero outside of the
//! image; that makes a convolution a matrix product. [`scatter`] is the exact adjoint of [`gather`].

use super::plan::{Strip, Taps};
use crate::simd::Lanes;

/// A window of an image (B, C, D, H, W).
#[derive(Clone, Copy)]
pub(crate) struct Image<T> {
    pub(super) data: *mut T,
    pub(super) channels: usize,
    pub(super) batch_stride: usize,
    pub(super) channel_stride: usize,
    /// Distance of the pixels of a line.
    pub(super) step: usize,
    pub(super) extents: [usize; 3],
}

// SAFETY: an address only; the plan says which task writes where.
unsafe impl<T: Send> Send for Image<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Image<T> {}

/// A strip of an image and its array, for one kernel.
pub(crate) struct Lines<'a, T> {
    pub(super) image: Image<T>,
    pub(super) taps: Taps,
    pub(super) strip: &'a Strip,
    /// Row 0 of the array.
    pub(super) rows: *mut T,
    pub(super) pitch: usize,
}

impl<T> Lines<'_, T> {
    /// The sample, z and y of a line.
    fn place(&self, line: usize) -> (usize, usize, usize) {
        let [depth, height, _] = self.image.extents;
        (line / (depth * height), line / height % depth, line % height)
    }

    /// The line that `line` shifted by a tap is, in elements from the start of the image; `None` outside of the image.
    fn shifted(&self, line: usize, tz: usize, ty: usize) -> Option<usize> {
        let [depth, height, width] = self.image.extents;
        let (b, z, y) = self.place(line);
        let z = (z + tz).checked_sub(self.taps.padding[0]).filter(|&z| z < depth)?;
        let y = (y + ty).checked_sub(self.taps.padding[1]).filter(|&y| y < height)?;
        Some(b * self.image.batch_stride + (z * height + y) * width * self.image.step)
    }
}

/// The bits of the lanes of vector `j` whose elements lie in `low..high`.
fn mask<L: Lanes>(j: usize, low: usize, high: usize) -> u32 {
    let bits = |n: usize| if n >= 32 { u32::MAX } else { (1u32 << n) - 1 };
    let clip = |at: usize| at.saturating_sub(j * L::N).min(L::N);
    bits(clip(high)) & !bits(clip(low))
}

/// Fills the rows of a strip from the image.
///
/// # Safety
/// The CPU must support `L`; the image must be readable wherever the strip's lines and their neighbours within it are, and the array must
/// have `channels * taps` rows of `pitch` elements, `pitch` being at least the strip's pixels and a vector.
#[inline(always)]
pub(crate) unsafe fn gather<L: Lanes>(p: &Lines<'_, L::Elem>) {
    let [kz, ky, kx] = p.taps.kernel;
    let width = p.image.extents[2];
    let (x0, count) = (p.strip.x.start, p.strip.x.len());
    let vectors = count.div_ceil(L::N);
    let padding = p.taps.padding[2];
    let mut masks = Vec::with_capacity(kx * vectors);
    for tx in 0..kx {
        let low = padding.saturating_sub(x0 + tx);
        let high = (width + padding).saturating_sub(x0 + tx).min(count);
        masks.extend((0..vectors).map(|j| mask::<L>(j, low, high)));
    }
    let mut sources = Vec::with_capacity(p.strip.lines.len());
    let pixels = p.strip.pixels();
    for tz in 0..kz {
        for ty in 0..ky {
            sources.clear();
            sources.extend(p.strip.lines.clone().map(|line| p.shifted(line, tz, ty)));
            for c in 0..p.image.channels {
                for tx in 0..kx {
                    let row = (c * kz + tz) * ky * kx + ty * kx + tx;
                    // SAFETY: lanes outside of the image are masked out, and their addresses only computed; a vector
                    // that is stored reaches past its line by less than a vector, into the next line or the row's end.
                    unsafe {
                        let to = p.rows.add(row * p.pitch);
                        let mut end = pixels / L::N * L::N;
                        while end < p.pitch {
                            L::zero().store(to.add(end));
                            end += L::N;
                        }
                        for (i, source) in sources.iter().enumerate() {
                            let to = to.add(i * count);
                            let Some(source) = source else {
                                for j in 0..vectors {
                                    L::zero().store(to.add(j * L::N));
                                }
                                continue;
                            };
                            let from = p.image.data.add(source + c * p.image.channel_stride);
                            let shift = (x0 + tx).wrapping_sub(padding).wrapping_mul(p.image.step);
                            let from = from.wrapping_add(shift);
                            for j in 0..vectors {
                                let m = masks[tx * vectors + j];
                                let at = from.wrapping_add(j * L::N * p.image.step);
                                let v = if p.image.step == 1 { L::load_masked(at, m) } else { L::gather(at, m, p.image.step) };
                                v.store(to.add(j * L::N));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Adds the rows of a strip to the image.
///
/// # Safety
/// As [`gather`]; in addition nothing else may access the image's pixels in reach of the strip meanwhile.
#[inline(always)]
pub(crate) unsafe fn scatter<L: Lanes>(p: &Lines<'_, L::Elem>) {
    let [kz, ky, kx] = p.taps.kernel;
    let [depth, height, width] = p.image.extents;
    let [pz, py, px] = p.taps.padding;
    let (x0, count) = (p.strip.x.start, p.strip.x.len());
    // Pixels of a line that the strip adds to.
    let (low, high) = (x0.saturating_sub(px), (x0 + count + kx - 1 - px).min(width));
    let vectors = (high - low).div_ceil(L::N);
    let mut masks = Vec::with_capacity((kx + 1) * vectors);
    for tx in 0..kx {
        // Pixel `low + i` takes element `low + i + px - tx - x0` of the row.
        let first = (x0 + tx).saturating_sub(low + px);
        let end = (x0 + tx + count).saturating_sub(low + px).min(high - low);
        masks.extend((0..vectors).map(|j| mask::<L>(j, first, end)));
    }
    masks.extend((0..vectors).map(|j| mask::<L>(j, 0, high - low)));
    let lines = depth * height;
    let reach = pz * height + py;
    let first_sample = p.strip.lines.start / lines;
    let last_sample = (p.strip.lines.end - 1) / lines;
    let from = p.strip.lines.start.saturating_sub(reach).max(first_sample * lines);
    let to = (p.strip.lines.end + reach).min((last_sample + 1) * lines);
    let mut sources = Vec::with_capacity(kz * ky);
    for line in from..to {
        let (b, z, y) = p.place(line);
        sources.clear();
        for tz in 0..kz {
            for ty in 0..ky {
                let z = (z + pz).checked_sub(tz).filter(|&z| z < depth);
                let y = (y + py).checked_sub(ty).filter(|&y| y < height);
                if let (Some(z), Some(y)) = (z, y) {
                    let source = (b * depth + z) * height + y;
                    if p.strip.lines.contains(&source) {
                        sources.push(((tz * ky + ty) * kx, source - p.strip.lines.start));
                    }
                }
            }
        }
        if sources.is_empty() {
            continue;
        }
        for c in 0..p.image.channels {
            // SAFETY: the line lies in the image, lanes outside of a row's part are masked out.
            unsafe {
                let offset = b * p.image.batch_stride + c * p.image.channel_stride + ((z * height + y) * width + low) * p.image.step;
                let to = p.image.data.add(offset);
                let rows = p.rows.add(c * kz * ky * kx * p.pitch);
                for j in 0..vectors {
                    let mut sum = L::zero();
                    for &(tap, i) in &sources {
                        for tx in 0..kx {
                            let row = rows.add((tap + tx) * p.pitch + i * count);
                            let at = row.wrapping_add((low + j * L::N + px).wrapping_sub(tx + x0));
                            sum = sum.add(L::load_masked(at, masks[tx * vectors + j]));
                        }
                    }
                    let m = masks[kx * vectors + j];
                    let to = to.add(j * L::N * p.image.step);
                    if p.image.step == 1 {
                        sum.compress(to, m, true);
                    } else {
                        sum.scatter(to, m, p.image.step, true);
                    }
                }
            }
        }
    }
}
