//! Between lines of images and folded rows, for a convolution that stands alone. The last tile of a line may reach past its end: pixels there are
//! zeros that go nowhere.

use super::super::walk::mask as lanes_of;
use super::lines::{add, ahead, collect, deal as deal_vector, fold_vector, mask};
use super::short::{self, is_short};
use super::{MOST_TILE, Scheme};
use crate::simd::Lanes;

/// For each vector of the `tiles` of a line that starts `first` pixels after a padding does, masks of the lanes that lie in the `width` pixels of what is
/// folded: of the first d of the first tile, the vectors of pixels that follow it, and the last d of the last tile, with the lane of that tile.
pub(crate) fn masks(lanes: usize, tile: usize, tiles: usize, width: usize, (padding, first): (usize, usize), to: &mut Vec<u32>) {
    let inside = |shift: usize| padding.saturating_sub(shift)..(width + padding).saturating_sub(shift).min(tile * tiles);
    let own = inside(first + 1);
    for j in 0..tiles.div_ceil(lanes) {
        let last = lanes.min(tiles - j * lanes) - 1;
        to.push(u32::from(inside(first).contains(&(tile * j * lanes))));
        to.extend((0..tile).map(|v| lanes_of(lanes, tile * j + v, own.start, own.end)));
        to.push(u32::from(inside(first + tile + 1).contains(&(tile * (j * lanes + last)))) << last);
    }
}

/// Lines of channels to fold, or a part of each.
pub(crate) struct Fold<'a, T> {
    /// The first channel, and the distance of channels.
    pub(crate) from: *const T,
    pub(crate) channels: usize,
    pub(crate) channel: usize,
    /// Where the lines of a channel start, `[plane][third][line]`; none outside of the image, which is zero there.
    pub(crate) lines: &'a [Option<usize>],
    pub(crate) padding: usize,
    pub(crate) planes: usize,
    pub(crate) thirds: usize,
    pub(crate) tiles: usize,
    /// As [`masks`] gives them, or [`short::masks`] where lines [are short](is_short), third by third.
    pub(crate) masks: &'a [u32],
    /// Row `((channel, plane, third), e)` gets V_e, line after line; rows are `pitch` apart, which holds a vector more than all tiles.
    pub(crate) to: *mut T,
    pub(crate) pitch: usize,
}

/// V_e = Σ_j B_ej d_j.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Fold`] describes must be valid.
#[inline(always)]
pub(crate) unsafe fn fold<L: Lanes, S: Scheme>(p: &Fold<'_, L::Elem>) {
    let lines = p.lines.len() / p.planes;
    let whole = lines * p.tiles / L::N * L::N;
    let vectors = p.tiles.div_ceil(L::N);
    let mut row = p.to;
    for c in 0..p.channels {
        let from = p.from.wrapping_add(c * p.channel);
        for (n, plane) in p.lines.chunks_exact(lines).enumerate() {
            let each = p.masks.len() / p.thirds;
            let masks = &p.masks[n % p.thirds * each..][..each];
            // SAFETY: lanes outside of the line are masked out, and their addresses only computed; a vector that is stored reaches past
            // its line by less than a vector, into the next line, which follows, or the row's end.
            unsafe {
                for end in (whole..p.pitch).step_by(L::N) {
                    for e in 0..S::PARTS {
                        L::zero().store(row.add(e * p.pitch + end));
                    }
                }
                if is_short(p.tiles, L::N) {
                    short::fold::<L, S>(p, from, plane, masks, row);
                    row = row.add(S::PARTS * p.pitch);
                    continue;
                }
                for (i, line) in plane.iter().enumerate() {
                    let to = row.add(i * p.tiles);
                    for j in 0..vectors {
                        let to = to.add(j * L::N);
                        let Some(line) = line else {
                            for e in 0..S::PARTS {
                                L::zero().store(to.add(e * p.pitch));
                            }
                            continue;
                        };
                        let masks = &masks[S::PARTS * j..][..S::PARTS];
                        let from = from.wrapping_add(line + S::TILE * j * L::N + 1).wrapping_sub(p.padding);
                        ahead::<L, S>(from.wrapping_add(p.channel));
                        fold_vector::<L, S>(from, masks, to, p.pitch);
                    }
                }
                row = row.add(S::PARTS * p.pitch);
            }
        }
    }
}

/// Rows to unfold into lines of a plane, or a part of each.
pub(crate) struct Unfold<T> {
    /// M_0, and the distance of the others; rows are `pitch` apart, which holds a vector more than all tiles.
    pub(crate) m: *const T,
    pub(crate) part: usize,
    pub(crate) pitch: usize,
    pub(crate) rows: usize,
    pub(crate) lines: usize,
    /// Distance of the lines, and what is written of each: its tiles, and their pixels.
    pub(crate) line: usize,
    pub(crate) tiles: usize,
    pub(crate) width: usize,
    /// The first line of the first row, and the distance of rows.
    pub(crate) to: *mut T,
    pub(crate) channel: usize,
    /// Whether to add to the lines rather than to overwrite them.
    pub(crate) accumulate: bool,
}

/// Lines, and tiles and pixels of each, `line` apart; lines without a gap between them, on both sides, are one.
fn joined(tile: usize, lines: usize, line: usize, tiles: usize, width: usize) -> [usize; 3] {
    if line == width && width == tile * tiles { [1, lines * tiles, lines * width] } else { [lines, tiles, width] }
}

/// The pixels of a vector of tiles whose M_e are `part` apart.
///
/// # Safety
/// The CPU must support `L`; the vectors must be readable.
#[inline(always)]
pub(super) unsafe fn unfold_vector<L: Lanes, S: Scheme>(from: *const L::Elem, part: usize) -> [L; MOST_TILE] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [None; MOST_TILE];
        for e in 0..S::PARTS {
            let m = L::load(from.add(e * part));
            for k in 0..S::TILE {
                sums[k] = add::<L>(sums[k], S::OUTPUT[k][e], m);
            }
        }
        let mut pixels = [L::zero(); MOST_TILE];
        for k in 0..S::TILE {
            pixels[k] = sums[k].unwrap_or(L::zero());
        }
        collect::<L, S>(pixels)
    }
}

/// y_i = Σ_e A_ie M_e.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Unfold`] describes must be valid.
#[inline(always)]
pub(crate) unsafe fn unfold<L: Lanes, S: Scheme>(p: &Unfold<L::Elem>) {
    let [lines, tiles, width] = joined(S::TILE, p.lines, p.line, p.tiles, p.width);
    let p = &Unfold { lines, tiles, width, ..*p };
    if is_short(p.tiles, L::N) {
        // SAFETY: the caller's promise.
        return unsafe { short::unfold::<L, S>(p) };
    }
    for r in 0..p.rows {
        for i in 0..p.lines {
            // SAFETY: the caller's promise; what is written lies within the line.
            unsafe {
                let from = p.m.add(r * p.pitch + i * p.tiles);
                let to = p.to.add(r * p.channel + i * p.line);
                for j in (0..p.tiles).step_by(L::N) {
                    let pixels = unfold_vector::<L, S>(from.add(j), p.part);
                    let left = p.width - S::TILE * j;
                    for k in 0..S::TILE {
                        let to = to.wrapping_add(S::TILE * j + k * L::N);
                        if left >= (k + 1) * L::N && !p.accumulate {
                            pixels[k].store(to);
                        } else if left > k * L::N {
                            pixels[k].compress(to, mask::<L>(k * L::N, 0, left), p.accumulate);
                        }
                    }
                }
            }
        }
    }
}

/// Lines of a plane, or a part of each, to deal by the places of pixels in their tiles.
pub(crate) struct Deal<T> {
    /// The first line of the first channel, and the distance of channels.
    pub(crate) from: *const T,
    pub(crate) channels: usize,
    pub(crate) channel: usize,
    pub(crate) lines: usize,
    /// Distance of the lines, and what is read of each: its tiles, and their pixels.
    pub(crate) line: usize,
    pub(crate) tiles: usize,
    pub(crate) width: usize,
    /// The pixels of place k of the tiles of a channel lie from `k * columns` on, whole vectors.
    pub(crate) to: *mut T,
    pub(crate) columns: usize,
    /// The column of the first tile; zeros follow those of the last lines that are dealt to the same columns.
    pub(crate) first: usize,
    /// Distance of the channels.
    pub(crate) row: usize,
}

/// x_k of all tiles, zeros after the last.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Deal`] describes must be valid.
#[inline(always)]
pub(crate) unsafe fn deal<L: Lanes, S: Scheme>(p: &Deal<L::Elem>) {
    let [lines, tiles, width] = joined(S::TILE, p.lines, p.line, p.tiles, p.width);
    let p = &Deal { lines, tiles, width, ..*p };
    let short = is_short(p.tiles, L::N);
    let vectors = p.tiles.div_ceil(L::N);
    let last = p.columns - L::N;
    for c in 0..p.channels {
        // SAFETY: as in `fold`, but that nothing is written past the last column.
        unsafe {
            let to = p.to.add(c * p.row);
            for k in 0..if p.first == 0 { S::TILE } else { 0 } {
                L::zero().store(to.add(k * p.columns + last));
            }
            if short {
                short::deal::<L, S>(p, p.from.wrapping_add(c * p.channel), to);
                continue;
            }
            for i in 0..p.lines {
                let from = p.from.wrapping_add(c * p.channel + i * p.line);
                for j in 0..vectors {
                    let mut masks = [0; MOST_TILE];
                    for k in 0..S::TILE {
                        masks[k] = mask::<L>((S::TILE * j + k) * L::N, 0, p.width);
                    }
                    let from = from.wrapping_add(S::TILE * j * L::N);
                    ahead::<L, S>(from.wrapping_add(p.channel));
                    let pixels = deal_vector::<L, S>(from, &masks);
                    let at = p.first + i * p.tiles + j * L::N;
                    let room = p.columns - at;
                    for k in 0..S::TILE {
                        let to = to.add(k * p.columns + at);
                        if room >= L::N { pixels[k].store(to) } else { pixels[k].store_first(to, room) }
                    }
                }
            }
        }
    }
}

/// Rows to copy several times, shifted, with a vector of zeros after each copy.
pub(crate) struct Shift<T> {
    pub(crate) from: *const T,
    /// Distance of the rows, and how many there are.
    pub(crate) row: usize,
    pub(crate) rows: usize,
    /// Elements of a copy.
    pub(crate) count: usize,
    /// Copies of a row, each from `by` elements after the one before.
    pub(crate) shifts: usize,
    pub(crate) by: usize,
    /// Rows `(row, shift)`, `pitch` apart.
    pub(crate) to: *mut T,
    pub(crate) pitch: usize,
}

/// Copies, by whole vectors.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Shift`] describes must be valid, up to whole vectors.
#[inline(always)]
pub(crate) unsafe fn shift<L: Lanes>(p: &Shift<L::Elem>) {
    for r in 0..p.rows {
        for s in 0..p.shifts {
            // SAFETY: the caller's promise.
            unsafe {
                let (from, to) = (p.from.add(r * p.row + s * p.by), p.to.add((r * p.shifts + s) * p.pitch));
                for i in (0..p.count).step_by(L::N) {
                    L::load(from.add(i)).store(to.add(i));
                }
                L::zero().store(to.add(p.count));
            }
        }
    }
}

/// Kernels of three taps, of some rows of a matrix.
pub(crate) struct Weights<T> {
    /// `[kernel][tap][row]`, rows filled up to a vector.
    pub(crate) from: *const T,
    pub(crate) kernels: usize,
    pub(crate) rows: usize,
    /// `[kernel][row]`, kernels `to_row` apart, for each e, `part` apart.
    pub(crate) to: *mut T,
    pub(crate) to_row: usize,
    pub(crate) part: usize,
}

/// U_e = Σ_t G_et w_t.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Weights`] describes must be valid.
#[inline(always)]
pub(crate) unsafe fn fold_weights<L: Lanes, S: Scheme>(p: &Weights<L::Elem>) {
    for k in 0..p.kernels {
        // SAFETY: the caller's promise.
        unsafe {
            let mut taps = [L::zero(); 3];
            for t in 0..3 {
                taps[t] = L::load(p.from.add((3 * k + t) * L::N));
            }
            for e in 0..S::PARTS {
                let mut sum = None;
                for t in 0..3 {
                    sum = add::<L>(sum, S::WEIGHT[e][t], taps[t]);
                }
                sum.unwrap_or(L::zero()).store_first(p.to.add(e * p.part + k * p.to_row), p.rows);
            }
        }
    }
}
