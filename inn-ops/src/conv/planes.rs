//! Windows into arrays of planes, and their validation.

use super::ConvElement;
use super::clear;
use super::dense::Matrix;
use super::plan::split;
use super::scratch::Shared;
use crate::pool;
use crate::simd::{Element, Level};

/// Elements that are worth a task of their own to be set to zero.
const CLEARED: usize = 1 << 14;

/// Read access to an array of planes, `[batch][channel][pixel]`: the pixels of
/// a channel are contiguous, channels and samples start at multiples of the
/// given distances. The array may be a window of a larger one, such as a range
/// of its channels. Elements between the planes are not accessed.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a, T> {
    /// The elements, from the first pixel of the first channel on; at least
    /// up to the last pixel of the last channel of the last sample.
    pub data: &'a [T],
    /// Elements from one sample to the next.
    pub batch_stride: usize,
    /// Elements from one channel to the next.
    pub channel_stride: usize,
}

/// Write access to an array of planes, laid out as [`Planes`]. No two planes
/// may overlap.
#[derive(Debug)]
pub struct PlanesMut<'a, T> {
    /// The elements, from the first pixel of the first channel on; at least
    /// up to the last pixel of the last channel of the last sample.
    pub data: &'a mut [T],
    /// Elements from one sample to the next.
    pub batch_stride: usize,
    /// Elements from one channel to the next.
    pub channel_stride: usize,
}

/// Why the arguments of a convolution are not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvError {
    /// The extents are not those of a convolution.
    Geometry(&'static str),
    /// An array is too short for its shape and strides.
    Length {
        /// Which array.
        array: &'static str,
        /// The elements it must have, if that is a number at all.
        needed: Option<usize>,
        /// The elements it has.
        found: usize,
    },
    /// Planes of an array to be written overlap.
    Overlap {
        /// Which array.
        array: &'static str,
    },
    /// This machine cannot run kernels of the level.
    Level(Level),
}

impl std::fmt::Display for ConvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConvError::Geometry(why) => write!(f, "not a convolution: {why}"),
            ConvError::Length { array, needed: Some(needed), found } => {
                write!(f, "array {array} needs {needed} elements but has {found}")
            }
            ConvError::Length { array, needed: None, found } => {
                write!(f, "array {array} needs more elements than memory can hold but has {found}")
            }
            ConvError::Overlap { array } => {
                write!(f, "planes of array {array}, which is written to, overlap")
            }
            ConvError::Level(level) => write!(f, "this machine has no {level:?} instructions"),
        }
    }
}

impl std::error::Error for ConvError {}

/// Elements up to the end of the last plane.
fn needed(batch: usize, channels: usize, plane: usize, strides: [usize; 2]) -> Option<usize> {
    if batch == 0 || channels == 0 {
        return Some(0);
    }
    let last = (batch - 1).checked_mul(strides[0])?;
    last.checked_add((channels - 1).checked_mul(strides[1])?)?.checked_add(plane)
}

fn check_length(array: &'static str, found: usize, needed: Option<usize>) -> Result<(), ConvError> {
    match needed {
        Some(count) if count <= found => Ok(()),
        _ => Err(ConvError::Length { array, needed, found }),
    }
}

impl<'a, T: ConvElement> Planes<'a, T> {
    pub(super) fn check(&self, array: &'static str, batch: usize, channels: usize, plane: usize) -> Result<(), ConvError> {
        let strides = [self.batch_stride, self.channel_stride];
        check_length(array, self.data.len(), needed(batch, channels, plane, strides))
    }

    /// The matrix of one pixel of all planes.
    pub(super) fn tap(&self, tap: usize, row: usize, column: usize) -> Matrix<'a, T> {
        Matrix { data: self.data.get(tap..).unwrap_or_default(), row, column }
    }
}

impl<T: Element> PlanesMut<'_, T> {
    pub(super) fn check(&self, array: &'static str, batch: usize, channels: usize, plane: usize) -> Result<(), ConvError> {
        let (b, c) = (self.batch_stride, self.channel_stride);
        let needed = needed(batch, channels, plane, [b, c]);
        check_length(array, self.data.len(), needed)?;
        if batch == 0 || channels == 0 {
            return Ok(());
        }
        // The planes of one axis must fit between those of the other. With
        // the length checked, the products do not overflow.
        let channels_inside = (channels == 1 || c >= plane) && (batch == 1 || b >= (channels - 1) * c + plane);
        let batch_inside = (batch == 1 || b >= plane) && (channels == 1 || c >= (batch - 1) * b + plane);
        if channels_inside || batch_inside { Ok(()) } else { Err(ConvError::Overlap { array }) }
    }

    /// Sets all pixels to zero.
    pub(super) fn clear(self, batch: usize, channels: usize, plane: usize) -> Self {
        let (data, rows) = (Shared::new(&mut *self.data), batch * channels);
        let pieces = rows.div_ceil(CLEARED.div_ceil(plane.max(1)));
        let pass_by = clear::passes_by::<T>(rows * plane);
        pool::each(pieces, false, |piece| {
            for row in split(rows, pieces, piece) {
                let start = row / channels * self.batch_stride + row % channels * self.channel_stride;
                // SAFETY: within the data, as the callers checked; no two rows share a pixel.
                clear::zero(unsafe { std::slice::from_raw_parts_mut(data.get().add(start), plane) }, pass_by);
            }
            clear::done(pass_by);
        });
        self
    }
}
