//! A few vectors of pixels at a time, which stay in the first-level cache until all of the map has passed.

use super::Numbers;
use crate::cpu::CpuElement;
use crate::simd::Level;
use crate::zip::vector::{Job, Vector};
use inn_core::Direction;

/// Pixels of one image: `pixel` of a channel at `first + channel * c + pixel * step`.
#[derive(Clone, Copy)]
pub(super) struct Lane<T> {
    pub(super) first: *mut T,
    pub(super) step: usize,
    pub(super) channel: usize,
}

/// Pixels of a state and of its cotangent.
#[derive(Clone, Copy)]
pub(super) struct Span<T> {
    pub(super) state: Lane<T>,
    pub(super) cotangent: Option<Lane<T>>,
    pub(super) pixels: usize,
}

/// The pass over a span, whose pixels nobody else accesses meanwhile.
pub(super) struct Work<'a, T> {
    pub(super) numbers: &'a Numbers<T>,
    /// Which way the state goes.
    pub(super) way: Direction,
    pub(super) span: Span<T>,
    /// Room for [`stage_len`] numbers.
    pub(super) stage: &'a mut [T],
    /// A vector for each sum of the gradients, if there is a cotangent.
    pub(super) sums: &'a mut [T],
}

/// Vectors of a tile: of the state and its cotangent, with their inner products, they fit into the registers, of which there are twice as many where
/// vectors have 16 lanes.
const fn width(lanes: usize) -> usize {
    if lanes >= 16 { 4 } else { 2 }
}

/// Numbers of the arrays that take the place of pixels which do not lie side by side, or fill no vector.
pub(super) fn stage_len<T: CpuElement>(level: Level, channels: usize, pull: bool) -> usize {
    let lanes = T::lanes(level);
    channels * lanes * width(lanes) * if pull { 2 } else { 1 }
}

impl<T: CpuElement> Job<T> for Work<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(mut self) {
        match self.span.cotangent {
            Some(cotangent) => self.pass::<V, true>(cotangent),
            // Not looked at.
            None => self.pass::<V, false>(self.span.state),
        }
    }
}

impl<T: CpuElement> Work<'_, T> {
    #[inline(always)]
    fn pass<V: Vector<Elem = T>, const PULL: bool>(&mut self, cotangent: Lane<T>) {
        if const { width(V::N) == 4 } {
            self.tiles::<V, 4, PULL>(cotangent);
        } else {
            self.tiles::<V, 2, PULL>(cotangent);
        }
    }

    #[inline(always)]
    fn tiles<V: Vector<Elem = T>, const W: usize, const PULL: bool>(&mut self, cotangent: Lane<T>) {
        let Span { state, pixels, .. } = self.span;
        let adjacent = state.step == 1 && (!PULL || cotangent.step == 1);
        let mut done = 0;
        while done < pixels {
            let left = pixels - done;
            // SAFETY: whoever made the span vouches for its pixels; the stage has room for a tile of both.
            unsafe {
                let at = |lane: Lane<T>| Lane { first: lane.first.add(done * lane.step), ..lane };
                let (state, cotangent) = (at(state), at(cotangent));
                done += if adjacent && left >= W * V::N {
                    self.tile::<V, W, PULL>(state, cotangent);
                    W * V::N
                } else if adjacent && left >= V::N {
                    self.tile::<V, 1, PULL>(state, cotangent);
                    V::N
                } else if left > V::N {
                    self.staged::<V, W, PULL>(state, cotangent, left.min(W * V::N));
                    left.min(W * V::N)
                } else {
                    self.staged::<V, 1, PULL>(state, cotangent, left);
                    left
                };
            }
        }
    }

    /// A tile that is copied to where its pixels lie side by side, filled up with zeros, which add nothing to the sums, and back.
    ///
    /// # Safety
    /// The pixels exist, at most as many as the tile has.
    #[inline(always)]
    unsafe fn staged<V: Vector<Elem = T>, const W: usize, const PULL: bool>(&mut self, state: Lane<T>, cotangent: Lane<T>, pixels: usize) {
        let channels = self.numbers.channels;
        let size = channels * W * V::N;
        if pixels < W * V::N {
            self.stage[..if PULL { 2 * size } else { size }].fill(T::default());
        }
        let first = self.stage.as_mut_ptr();
        let staged = |i: usize| Lane { first: first.wrapping_add(i * size), step: 1, channel: W * V::N };
        let copy = |from: Lane<T>, to: Lane<T>, pixels: usize| {
            for c in 0..channels {
                for p in 0..pixels {
                    // SAFETY: the caller's promise; the stage has a tile for either.
                    unsafe { *to.first.add(c * to.channel + p * to.step) = *from.first.add(c * from.channel + p * from.step) };
                }
            }
        };
        let (x, g) = (staged(0), staged(1));
        copy(state, x, pixels);
        if PULL {
            copy(cotangent, g, pixels);
        }
        // SAFETY: as above.
        unsafe { self.tile::<V, W, PULL>(x, g) };
        copy(x, state, pixels);
        if PULL {
            copy(g, cotangent, pixels);
        }
    }

    /// `W` vectors of adjacent pixels. Each sweep over the channels ends a reflection and takes the inner products for the next.
    ///
    /// # Safety
    /// The pixels exist.
    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = T>, const W: usize, const PULL: bool>(&mut self, state: Lane<T>, cotangent: Lane<T>) {
        let (numbers, forward, sums) = (self.numbers, self.way == Direction::Forward, self.sums.as_mut_ptr());
        let (channels, count) = (numbers.channels, numbers.count());
        let row = |k: usize| {
            let i = if forward { k } else { count - 1 - k };
            (i, &numbers.rows[i * (channels + 1)..][..channels + 1])
        };
        let (scales, biases) = numbers.affine.split_at(numbers.affine.len() / 2);
        let affine = !scales.is_empty();
        // SAFETY: there is a vector of sums for each number of each row, then for each scale and each bias.
        let add = |place: usize, values: [V; W]| unsafe {
            let place = sums.add(place * V::N);
            values.into_iter().fold(V::load(place), |sum, v| sum + v).store(place);
        };
        let (scale_sums, bias_sums) = (count * channels, (count + 1) * channels);
        let (mut dx, mut dg) = ([V::zero(); W], [V::zero(); W]);
        for k in 0..=count {
            let ended = (k > 0).then(|| row(k - 1));
            let next = (k < count).then(|| row(k).1);
            let (mut next_dx, mut next_dg) = ([V::zero(); W], [V::zero(); W]);
            if let Some((_, row)) = ended {
                let factor = V::splat(row[0]);
                (dx, dg) = (dx.map(|d| d * factor), dg.map(|d| d * factor));
            }
            for c in 0..channels {
                // SAFETY: the caller's promise.
                unsafe {
                    let (at_x, at_g) = (state.first.add(c * state.channel), cotangent.first.add(c * cotangent.channel));
                    let mut x: [V; W] = std::array::from_fn(|w| V::load(at_x.add(w * V::N)));
                    let mut g = [V::zero(); W];
                    if PULL {
                        g = std::array::from_fn(|w| V::load(at_g.add(w * V::N)));
                    }
                    if affine && forward && k == 0 {
                        let (s, b) = (V::splat(scales[c]), V::splat(biases[c]));
                        if PULL {
                            g = g.map(|g| g / s);
                            add(scale_sums + c, std::array::from_fn(|w| -(g[w] * x[w])));
                            add(bias_sums + c, g.map(|g| -g));
                        }
                        x = x.map(|x| s.mul_add(x, b));
                    }
                    if let Some((i, row)) = ended {
                        let v = V::splat(row[1 + c]);
                        if PULL {
                            // The inner products have the factor already.
                            add(i * channels + c, std::array::from_fn(|w| x[w] * dg[w] - g[w] * dx[w]));
                            g = std::array::from_fn(|w| v.mul_add(dg[w], g[w]));
                        }
                        x = std::array::from_fn(|w| v.mul_add(dx[w], x[w]));
                    }
                    if affine && !forward && k == count {
                        let (s, b) = (V::splat(scales[c]), V::splat(biases[c]));
                        x = x.map(|x| (x - b) / s);
                        if PULL {
                            add(scale_sums + c, std::array::from_fn(|w| g[w] * x[w]));
                            add(bias_sums + c, g);
                            g = g.map(|g| s * g);
                        }
                    }
                    for w in 0..W {
                        x[w].store(at_x.add(w * V::N));
                        if PULL {
                            g[w].store(at_g.add(w * V::N));
                        }
                    }
                    if let Some(row) = next {
                        let v = V::splat(row[1 + c]);
                        next_dx = std::array::from_fn(|w| v.mul_add(x[w], next_dx[w]));
                        if PULL {
                            next_dg = std::array::from_fn(|w| v.mul_add(g[w], next_dg[w]));
                        }
                    }
                }
            }
            (dx, dg) = (next_dx, next_dg);
        }
    }
}
