//! Shapes as data: (batch, channel, up to three spatial extents), row-major.

use crate::error::{Error, Result};
use std::fmt;
use std::ops::Range;

/// The shape of a tensor: `batch` samples of `channels` planes with `rank` spatial axes.
///
/// Row-major, the convention of NumPy, PyTorch and safetensors: the last spatial axis is contiguous. Dense data have rank 0
/// and one pixel a channel. An extent of 1 is not a missing axis, so the rank is part of the shape.
///
/// ```
/// # use inn_core::Shape;
/// let images = Shape::new(8, 3, &[32, 48])?;
/// assert_eq!((images.pixels(), images.sample_len(), images.len()), (1536, 4608, 36864));
/// assert_eq!(images.to_string(), "(8, 3, 32, 48)");
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    batch: usize,
    channels: usize,
    extents: [usize; 3],
    rank: usize,
}

impl Shape {
    /// A shape with `spatial.len()` (0 to 3) spatial axes, outermost first.
    ///
    /// # Errors
    /// More than three axes, a zero anywhere, or more elements than `isize::MAX`.
    pub fn new(batch: usize, channels: usize, spatial: &[usize]) -> Result<Self> {
        if spatial.len() > 3 {
            return Err(Error::shape("shape", "0 to 3 spatial axes", format!("{} axes", spatial.len())));
        }
        let mut extents = [1; 3];
        extents[3 - spatial.len()..].copy_from_slice(spatial);
        let shape = Self { batch, channels, extents, rank: spatial.len() };
        let len = [batch, channels].iter().chain(&extents).try_fold(1usize, |n, &e| n.checked_mul(e));
        match len {
            Some(0) => Err(Error::shape("shape", "a positive size in every axis", shape)),
            Some(n) if n <= isize::MAX as usize / 8 => Ok(shape),
            _ => Err(Error::shape("shape", "a number of elements that can be addressed", shape)),
        }
    }

    /// Dense data: `batch` rows of `channels` values. Unlike [`Shape::new`] it checks nothing; for shapes derived from checked ones.
    pub const fn rows(batch: usize, channels: usize) -> Self {
        Self { batch, channels, extents: [1; 3], rank: 0 }
    }

    /// One sample of one channel with `len` pixels in a row: how flat buffers are seen.
    pub const fn flat(len: usize) -> Self {
        Self { batch: 1, channels: 1, extents: [1, 1, len], rank: 1 }
    }

    /// One value for each of `batch` samples: the shape of a log-determinant.
    pub const fn per_sample(batch: usize) -> Self {
        Self::rows(batch, 1)
    }

    /// One value for each of `channels` channels: the shape of a bias.
    pub const fn per_channel(channels: usize) -> Self {
        Self::rows(1, channels)
    }

    /// Number of samples.
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// Number of channels.
    pub const fn channels(&self) -> usize {
        self.channels
    }

    /// The three extents, outermost first; axes that are missing have extent 1 and come first.
    pub const fn extents(&self) -> [usize; 3] {
        self.extents
    }

    /// The extents of the axes that exist, outermost first.
    pub fn spatial(&self) -> &[usize] {
        &self.extents[3 - self.rank..]
    }

    /// Number of spatial axes, 0 to 3.
    pub const fn rank(&self) -> usize {
        self.rank
    }

    /// Pixels (voxels) of a channel.
    pub const fn pixels(&self) -> usize {
        self.extents[0] * self.extents[1] * self.extents[2]
    }

    /// Elements of a sample.
    pub const fn sample_len(&self) -> usize {
        self.channels * self.pixels()
    }

    /// Elements of the whole tensor.
    pub const fn len(&self) -> usize {
        self.batch * self.sample_len()
    }

    /// Whether nothing is in it (only windows of zero channels or samples).
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same with another number of samples.
    #[must_use]
    pub const fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// The same with another number of channels.
    #[must_use]
    pub const fn with_channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// The same with other extents (missing axes first, as in [`extents`](Self::extents)).
    #[must_use]
    pub const fn with_extents(mut self, extents: [usize; 3]) -> Self {
        self.extents = extents;
        self
    }

    /// The axes that exist as one list: batch, channels, extents. How ndarray and files see it.
    pub fn dims(&self) -> Vec<usize> {
        let mut dims = vec![self.batch, self.channels];
        dims.extend_from_slice(self.spatial());
        dims
    }

    /// The shape of an array with these axes (2 to 5 of them).
    ///
    /// # Errors
    /// Another number of axes, or what [`Shape::new`] rejects.
    pub fn from_dims(dims: &[usize]) -> Result<Self> {
        match dims {
            [batch, channels, spatial @ ..] => Self::new(*batch, *channels, spatial),
            _ => Err(Error::shape("array", "(batch, channel, up to three extents)", format!("{dims:?}"))),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}", self.batch, self.channels)?;
        for e in self.spatial() {
            write!(f, ", {e}")?;
        }
        write!(f, ")")
    }
}

/// Where a view lies in its buffer: element `(b, c, p)` is at `offset + b * batch_stride + c * channel_stride + p * pixel_stride`.
///
/// Channel halves, lanes, latents of a multiscale network and ranges of samples are windows on one buffer, so nothing is
/// split or concatenated by copying. A stride of 0 repeats a value: a bias is a window over a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What the window covers.
    pub shape: Shape,
    /// Position of its first element.
    pub offset: usize,
    /// Distance of two samples.
    pub batch_stride: usize,
    /// Distance of two channels.
    pub channel_stride: usize,
    /// Distance of two pixels: 1, or 0 in a broadcast.
    pub pixel_stride: usize,
}

impl Window {
    /// A dense, row-major tensor that starts at `offset`.
    pub const fn contiguous(shape: Shape, offset: usize) -> Self {
        Self { shape, offset, batch_stride: shape.sample_len(), channel_stride: shape.pixels(), pixel_stride: 1 }
    }

    /// The channels of a range, those of them that exist: a part never reaches out of the whole, and the primitive that meets a shape
    /// which is too small refuses it.
    #[must_use]
    pub fn channels(mut self, range: Range<usize>) -> Self {
        let end = range.end.min(self.shape.channels);
        let start = range.start.min(end);
        self.offset += start * self.channel_stride;
        self.shape.channels = end - start;
        self
    }

    /// The samples of a range, those of them that exist.
    #[must_use]
    pub fn samples(mut self, range: Range<usize>) -> Self {
        let end = range.end.min(self.shape.batch);
        let start = range.start.min(end);
        self.offset += start * self.batch_stride;
        self.shape.batch = end - start;
        self
    }

    /// A window on one value a channel, `(1, C)`, repeated over the samples and pixels of `domain`.
    #[must_use]
    pub fn over_pixels(self, domain: Shape) -> Self {
        Self { shape: domain, batch_stride: 0, pixel_stride: 0, ..self }
    }

    /// A window on one value a sample, `(B, 1)`, repeated over the channels and pixels of `domain`.
    #[must_use]
    pub fn over_channels(self, domain: Shape) -> Self {
        Self { shape: domain, channel_stride: 0, pixel_stride: 0, ..self }
    }

    /// The elements of a sample lie without gaps, so that a permutation of them may change channels into pixels.
    pub fn is_sample_contiguous(&self) -> bool {
        self.pixel_stride == 1 && (self.channel_stride == self.shape.pixels() || self.shape.channels <= 1)
    }

    /// All elements lie without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.is_sample_contiguous() && (self.batch_stride == self.shape.sample_len() || self.shape.batch <= 1)
    }

    /// One past the last element it reaches.
    pub fn end(&self) -> usize {
        if self.shape.is_empty() {
            return self.offset;
        }
        self.offset
            + (self.shape.batch - 1) * self.batch_stride
            + (self.shape.channels - 1) * self.channel_stride
            + (self.shape.pixels() - 1) * self.pixel_stride
            + 1
    }

    /// No two elements of the window share a place: what a window has to be before it is written through.
    pub fn is_injective(&self) -> bool {
        let s = &self.shape;
        let pixels = (s.pixels() - 1) * self.pixel_stride + 1;
        let channels = (s.channels.max(1) - 1) * self.channel_stride + pixels;
        (s.pixels() == 1 || self.pixel_stride > 0)
            && (s.channels <= 1 || self.channel_stride >= pixels)
            && (s.batch <= 1 || self.batch_stride >= channels)
    }

    /// Whether two windows of one buffer have no element in common, decided for those that a layer makes: ranges of
    /// channels or samples of one tensor, or regions apart. Answers `false` when in doubt.
    pub fn is_disjoint(&self, other: &Window) -> bool {
        if self.end() <= other.offset || other.end() <= self.offset {
            return true;
        }
        // Channel ranges of one tensor: equal batch stride, and both fit side by side within one period of it.
        let period = self.batch_stride;
        if period == 0 || period != other.batch_stride {
            return false;
        }
        let width = |w: &Window| w.samples(0..w.shape.batch.min(1)).end() - w.offset;
        let (low, high) = if self.offset <= other.offset { (self, other) } else { (other, self) };
        let gap = high.offset - low.offset;
        let (shift, turns) = (gap % period, gap / period);
        let apart = shift >= width(low) && shift + width(high) <= period;
        // Whole turns apart only shift the sample index.
        apart || turns >= low.shape.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_what_has_no_elements_or_too_many() {
        assert!(Shape::new(0, 3, &[4]).is_err());
        assert!(Shape::new(1, 0, &[]).is_err());
        assert!(Shape::new(1, 1, &[1, 1, 1, 1]).is_err());
        assert!(Shape::new(usize::MAX, 2, &[2]).is_err());
    }

    #[test]
    fn windows_of_one_tensor() {
        let all = Window::contiguous(Shape::new(3, 5, &[4]).unwrap(), 0);
        let (a, b) = (all.channels(0..2), all.channels(2..5));
        assert!(a.is_disjoint(&b) && b.is_disjoint(&a) && !a.is_disjoint(&all) && !a.is_disjoint(&all.channels(1..3)));
        assert!(all.samples(0..1).is_disjoint(&all.samples(1..3)));
        assert!(!all.samples(0..2).is_disjoint(&all.samples(1..3)));
        assert_eq!(b.end(), 60);
        assert!(a.is_injective() && !a.over_pixels(a.shape).is_injective());
        let beyond = all.channels(3..9).samples(2..7);
        assert_eq!((beyond.shape.channels(), beyond.shape.batch(), beyond.end()), (2, 1, all.end()));
        assert!(all.channels(7..9).shape.is_empty());
    }
}
