//! Squeezes: every spatial extent halves and the channels multiply by 2^rank, in place.

use crate::conv::scratch::with_buffer;
use crate::cpu::CpuElement;
use crate::haar::Lift;
use crate::wavelet;
use inn_core::{Direction, Error, Result, Shape, Squeeze, Window};
use rayon::prelude::*;

/// Below this many elements a squeeze is not worth waking other threads for.
const PARALLEL: usize = 1 << 15;

/// Squeezes (`Forward`) or unsqueezes (`Inverse`) the samples of a window in place; answers the new shape.
///
/// A sample is copied to scratch memory of its thread and back to its new places.
///
/// # Errors
/// Samples with gaps, or what [`Squeeze::output`] refuses.
pub(crate) fn squeeze<T: CpuElement>(squeeze: Squeeze, dir: Direction, window: Window, data: &mut [T]) -> Result<Shape> {
    let input = window.shape;
    let output = squeeze.output(dir, input)?;
    if !window.is_sample_contiguous() {
        return Err(Error::shape("squeeze input", "samples without gaps", format!("{window:?}")));
    }
    if input.is_empty() || squeeze == Squeeze::Column {
        return Ok(output);
    }
    if let Squeeze::Wavelet(wavelet) = squeeze {
        wavelet::squeeze(wavelet.taps(), dir, output, window, data);
        return Ok(output);
    }
    let len = input.sample_len();
    let large = if dir == Direction::Forward { input } else { output };
    let sample = |data: &mut [T]| {
        with_buffer(len, |copy: &mut [T]| {
            copy.copy_from_slice(data);
            rearrange(squeeze, dir, large, copy, data);
        });
    };
    let data = &mut data[window.offset..window.end()];
    let batch = input.batch();
    if batch == 1 {
        sample(data);
    } else if input.len() < PARALLEL {
        data.chunks_mut(window.batch_stride).for_each(|chunk| sample(&mut chunk[..len]));
    } else {
        data.par_chunks_mut(window.batch_stride).for_each(|chunk| sample(&mut chunk[..len]));
    }
    Ok(output)
}

/// Bytes of scratch memory that [`squeeze`] leaves with the threads.
pub(crate) fn scratch_bytes(squeeze: Squeeze, dir: Direction, x: Shape, element: usize) -> usize {
    match squeeze {
        Squeeze::Column => 0,
        Squeeze::Wavelet(_) => rayon::current_num_threads().min(x.batch() * x.channels()) * wavelet::scratch_len(dir, x) * element,
        _ => rayon::current_num_threads().min(x.batch()) * x.sample_len() * element,
    }
}

/// Moves one sample; `large` is the shape with few channels and many pixels.
fn rearrange<T: CpuElement>(squeeze: Squeeze, dir: Direction, large: Shape, from: &[T], to: &mut [T]) {
    let (rank, channels, extents) = (large.rank(), large.channels(), large.extents());
    let small: [usize; 3] = std::array::from_fn(|axis| if axis + rank >= 3 { extents[axis] / 2 } else { extents[axis] });
    let (bands, plane, small_plane) = (1usize << rank, large.pixels(), small.iter().product::<usize>());
    for c in 0..channels {
        if squeeze == Squeeze::Haar {
            // The order of sub-bands has its bits the other way round than q.
            let band = |q: usize| ((q.reverse_bits() >> (usize::BITS as usize - rank)) * channels + c) * small_plane;
            Lift { rank, small, large: extents }.channel(dir, from, to, c * plane, band);
            continue;
        }
        for q in 0..bands {
            let band = (q * channels + c) * small_plane;
            // Bits of q on the axes z, y, x. A pixel s of the sub-band lies at `first + s step` on each axis of the large side.
            let bit = [q >> 2 & 1, q >> 1 & 1, q & 1];
            let first: [usize; 3] = std::array::from_fn(|axis| if squeeze == Squeeze::Patch { bit[axis] * small[axis] } else { bit[axis] });
            let step: [usize; 3] = std::array::from_fn(|axis| if squeeze == Squeeze::Patch || axis + rank < 3 { 1 } else { 2 });
            for z in 0..small[0] {
                for y in 0..small[1] {
                    let row = ((first[0] + z * step[0]) * extents[1] + first[1] + y * step[1]) * extents[2];
                    let (big, little) = (c * plane + row + first[2], band + (z * small[1] + y) * small[2]);
                    move_row(dir, (big, step[2]), (little, small[2]), from, to);
                }
            }
        }
    }
}

/// Moves a row between `big.1` apart from `big.0` on and the `little.1` places from `little.0` on.
#[inline(always)]
fn move_row<T: Copy>(dir: Direction, big: (usize, usize), little: (usize, usize), from: &[T], to: &mut [T]) {
    let ((start, step), (at, len)) = (big, little);
    let (big, little) = (start..start + (len - 1) * step + 1, at..at + len);
    match (dir, step) {
        (Direction::Forward, 1) => to[little].copy_from_slice(&from[big]),
        (Direction::Inverse, 1) => to[big].copy_from_slice(&from[little]),
        (Direction::Forward, _) => to[little].iter_mut().zip(from[big].iter().step_by(2)).for_each(|(to, &from)| *to = from),
        (Direction::Inverse, _) => to[big].iter_mut().step_by(2).zip(&from[little]).for_each(|(to, &from)| *to = from),
    }
}
