//! The channels of every pixel scaled, shifted and reflected in one pass over the image, see [`inn_core::mix::Mix`]; and the way back, which passes
//! over the image and its cotangent once.
//!
//! # Gradient
//! With u the input of a reflection H = I - 2 v vᵀ / n, n = |v|², y = H u its output, g the cotangent of y and q = H g that of u, summed over
//! samples and pixels (the derivation stands at `inn_layers::Householder`):
//! ```text
//! gv = -(2/n) γ,    γ = Σ y (gᵀv) - g (yᵀv) = Σ q (uᵀv) - u (qᵀv)
//! ```
//! So a reflection needs the two inner products that it computes anyway. The inverse map, whose output is u with the cotangent q, has the opposite
//! gradient, -(2/n) Σ u (qᵀv) - q (uᵀv). In terms of what stands in the two arrays before they are reflected, both are the same formula.
//!
//! Each pixel is a sum over channels in their order, whatever lies beside it. Gradients are summed lane by lane within a task, then task by task in
//! double precision, in an order that depends on shapes alone.

mod tile;

#[cfg(test)]
mod tests;

use crate::conv::plan::split;
use crate::conv::scratch::{Shared, with_buffer};
use crate::cpu::{Cpu, CpuElement};
use crate::pool;
use crate::simd;
use inn_core::memory::Scratch;
use inn_core::view::{Update, View, ViewMut};
use inn_core::{Direction, Error, Mix, Result, Scalar, Shape, Window};
use tile::{Lane, Span, Work};

/// Values of a task at least, where there are that many.
const TASK: usize = 1 << 15;
/// Sums of gradients side by side at most.
const SLOTS: usize = 32;

/// The numbers of a mix.
struct Numbers<T> {
    channels: usize,
    /// For each reflection its factor -2/|v|² and then v.
    rows: Vec<T>,
    /// The scales and then the biases, or nothing.
    affine: Vec<T>,
}

impl<T: CpuElement> Numbers<T> {
    fn read(mix: &Mix<'_, Cpu<T>>) -> Result<Self> {
        let v = mix.vectors.window();
        let (count, channels) = (v.shape.batch(), v.shape.channels());
        let vectors = values(&mix.vectors, Shape::rows(count, channels))?;
        let mut rows = Vec::with_capacity(count * (channels + 1));
        for i in 0..count {
            let row = |c: usize| vectors[i * v.batch_stride + c * v.channel_stride];
            let norm = (0..channels).fold(T::default(), |sum, c| sum + row(c) * row(c));
            rows.push(if norm >= <T as Scalar>::constant(TINY) { <T as Scalar>::constant(-2.0) / norm } else { T::default() });
            rows.extend((0..channels).map(row));
        }
        let mut affine = Vec::new();
        for view in mix.affine.iter().flatten() {
            let (values, step) = (values(view, Shape::per_channel(channels))?, view.window().channel_stride);
            affine.extend((0..channels).map(|c| values[c * step]));
        }
        Ok(Self { channels, rows, affine })
    }

    fn count(&self) -> usize {
        self.rows.len() / (self.channels + 1)
    }

    /// Sums of a gradient: γ of each reflection, then those of the scales and the biases.
    fn sums(&self) -> usize {
        self.count() * self.channels + self.affine.len()
    }

    /// Σ ln|s|.
    fn log_scale(&self) -> f64 {
        self.affine.iter().take(self.affine.len() / 2).map(|s| s.widen().abs().ln()).sum()
    }
}

/// |v|² below which a vector counts as zero.
const TINY: f64 = f32::MIN_POSITIVE as f64;

/// The elements of a view from its first on, if it has the shape.
fn values<'a, T: CpuElement>(view: &View<'a, Cpu<T>>, expected: Shape) -> Result<&'a [T]> {
    let (w, all) = (view.window(), view.buffer().as_slice());
    if (w.shape.batch(), w.shape.channels(), w.shape.pixels()) != (expected.batch(), expected.channels(), 1) || w.end() > all.len() {
        return Err(Error::shape("operand of a mix", format!("{expected} within its buffer"), format!("{w:?}")));
    }
    Ok(&all[w.offset.min(all.len())..])
}

/// How a state is cut into tasks.
#[derive(Clone, Copy)]
struct Cut {
    samples: usize,
    pixels: usize,
    /// Whether samples of one pixel take the place of pixels.
    samples_are_pixels: bool,
    /// Pixels of a task, parts of a sample and samples of a task.
    span: usize,
    spans: usize,
    group: usize,
    tasks: usize,
    slots: usize,
}

impl Cut {
    fn new(shape: Shape) -> Self {
        let samples_are_pixels = shape.pixels() == 1;
        let (samples, pixels) = if samples_are_pixels { (1, shape.batch()) } else { (shape.batch(), shape.pixels()) };
        let channels = shape.channels().max(1);
        let span = (TASK / channels).clamp(1, pixels.max(1)).next_multiple_of(64);
        let spans = pixels.div_ceil(span);
        // Whole samples together where images are small.
        let group = (TASK / (channels * pixels).max(1)).clamp(1, samples.max(1));
        let tasks = samples.div_ceil(group) * spans;
        Self { samples, pixels, samples_are_pixels, span, spans, group, tasks, slots: tasks.min(SLOTS) }
    }

    /// The pixels of a task, sample by sample: the number of the sample, the first pixel and how many.
    fn task(self, t: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (group, start) = (t / self.spans, t % self.spans * self.span);
        let samples = group * self.group..((group + 1) * self.group).min(self.samples);
        samples.map(move |sample| (sample, start, self.span.min(self.pixels - start)))
    }
}

/// A state in a buffer of which tasks write their own pixels.
struct Image<T> {
    data: Shared<T>,
    window: Window,
}

impl<T: CpuElement> Image<T> {
    fn new(name: &'static str, view: &mut ViewMut<'_, Cpu<T>>, channels: usize, like: Option<Shape>) -> Result<Self> {
        let window = view.window();
        let data = view.buffer_mut().as_mut_slice();
        let shape = like.unwrap_or_else(|| window.shape.with_channels(channels));
        if window.shape != shape {
            return Err(Error::shape(name, shape, window.shape));
        }
        let adjacent = window.pixel_stride == 1 || shape.pixels() <= 1;
        if window.end() > data.len() || !(shape.is_empty() || window.is_injective()) || !adjacent {
            return Err(Error::shape(name, "a window within its buffer, pixels without gaps", format!("{window:?}")));
        }
        Ok(Self { data: Shared::new(data), window })
    }

    /// A pixel and those after it.
    ///
    /// # Safety
    /// They exist.
    unsafe fn lane(&self, cut: Cut, sample: usize, pixel: usize) -> Lane<T> {
        let w = &self.window;
        let (offset, step) =
            if cut.samples_are_pixels { (pixel * w.batch_stride, w.batch_stride) } else { (sample * w.batch_stride + pixel, 1) };
        // SAFETY: the window lies within the buffer.
        Lane { first: unsafe { self.data.get().add(w.offset + offset) }, step, channel: w.channel_stride }
    }
}

/// The map. See [`inn_core::Backend::mix`].
pub(crate) fn map<T: CpuElement>(
    dir: Direction,
    mix: &Mix<'_, Cpu<T>>,
    x: &mut ViewMut<'_, Cpu<T>>,
    logdet: &mut ViewMut<'_, Cpu<T>>,
) -> Result<()> {
    let numbers = Numbers::read(mix)?;
    let image = Image::new("state to mix", x, numbers.channels, None)?;
    let shape = image.window.shape;
    if mix.affine.is_some() {
        let log_scale = dir.sign() * shape.pixels() as f64 * numbers.log_scale();
        let w = per_sample(logdet.window(), logdet.buffer().as_slice().len(), shape.batch())?;
        let logdet = logdet.buffer_mut().as_mut_slice();
        for b in 0..shape.batch() {
            let place = &mut logdet[w.offset + b * w.batch_stride];
            *place = T::narrow(place.widen() + log_scale);
        }
    }
    if shape.is_empty() {
        return Ok(());
    }
    let cut = Cut::new(shape);
    let level = simd::level();
    pool::each(cut.tasks, false, |t| {
        with_buffer(tile::stage_len::<T>(level, numbers.channels, false), |buffer: &mut [T]| {
            for (sample, first, pixels) in cut.task(t) {
                // SAFETY: the pixels exist and belong to this task.
                let span = unsafe { Span { state: image.lane(cut, sample, first), cotangent: None, pixels } };
                T::with(level, Work { numbers: &numbers, way: dir, span, stage: buffer, sums: &mut [] });
            }
        });
    });
    Ok(())
}

/// The way back. See [`inn_core::Backend::mix_pull`].
pub(crate) fn pull<T: CpuElement>(
    dir: Direction,
    mix: &Mix<'_, Cpu<T>>,
    y: &mut ViewMut<'_, Cpu<T>>,
    gy: &mut ViewMut<'_, Cpu<T>>,
    gl: &View<'_, Cpu<T>>,
    gradients: &mut Update<'_, Cpu<T>>,
) -> Result<()> {
    let numbers = Numbers::read(mix)?;
    let channels = numbers.channels;
    let image = Image::new("state to mix", y, channels, None)?;
    let shape = image.window.shape;
    let cotangent = Image::new("cotangent of a mix", gy, channels, Some(shape))?;
    let places = gradient_places(&numbers, gradients)?;
    let lambda = if mix.affine.is_some() { per_sample(gl.window(), gl.buffer().as_slice().len(), shape.batch())? } else { gl.window() };
    let cut = Cut::new(shape);
    let (level, count) = (simd::level(), numbers.sums());
    let stage = tile::stage_len::<T>(level, channels, true);
    let lanes = T::lanes(level);
    let mut total = vec![0.0; count];
    with_buffer(cut.slots * count, |slots: &mut [f64]| {
        let shared = Shared::new(slots);
        pool::each(cut.slots, false, |slot| {
            // SAFETY: every slot has sums of its own.
            let own = unsafe { std::slice::from_raw_parts_mut(shared.get().add(slot * count), count) };
            own.fill(0.0);
            with_buffer(stage + count * lanes, |buffer: &mut [T]| {
                let (stage, sums) = buffer.split_at_mut(stage);
                for t in split(cut.tasks, cut.slots, slot) {
                    sums.fill(T::default());
                    for (sample, first, pixels) in cut.task(t) {
                        // SAFETY: the pixels exist and belong to this task, in both images.
                        let span = unsafe {
                            Span { state: image.lane(cut, sample, first), cotangent: Some(cotangent.lane(cut, sample, first)), pixels }
                        };
                        T::with(level, Work { numbers: &numbers, way: dir.flip(), span, stage, sums });
                    }
                    for (own, lanes) in own.iter_mut().zip(sums.chunks_exact(lanes)) {
                        *own += lanes.iter().map(|sum| sum.widen()).sum::<f64>();
                    }
                }
            });
        });
        for slot in slots.chunks_exact(count.max(1)) {
            total.iter_mut().zip(slot).for_each(|(total, sum)| *total += sum);
        }
    });
    // ∂ℓ/∂s = ±N/s.
    if mix.affine.is_some() {
        let gl = gl.buffer().as_slice();
        let weight: f64 = (0..shape.batch()).map(|b| gl[lambda.offset + b * lambda.batch_stride].widen()).sum();
        let weight = dir.sign() * shape.pixels() as f64 * weight;
        let scales = &mut total[count - 2 * channels..][..channels];
        scales.iter_mut().zip(&numbers.affine).for_each(|(sum, s)| *sum += weight / s.widen());
    }
    let to = gradients.buffer_mut().as_mut_slice();
    for (place, sum) in places.iter().flat_map(|w| places_of(*w)).zip(&total) {
        to[place] = T::narrow(to[place].widen() + sum);
    }
    Ok(())
}

/// The places of a window of rows, one after the other.
fn places_of(w: Window) -> impl Iterator<Item = usize> {
    let channels = w.shape.channels();
    (0..w.shape.batch() * channels).map(move |i| w.offset + i / channels * w.batch_stride + i % channels * w.channel_stride)
}

/// The windows of the gradients, if they fit.
fn gradient_places<T: CpuElement>(numbers: &Numbers<T>, gradients: &Update<'_, Cpu<T>>) -> Result<Vec<Window>> {
    let (count, channels) = (numbers.count(), numbers.channels);
    let mut expected = vec![(count, channels)];
    expected.resize(1 + numbers.affine.len() / channels.max(1), (1, channels));
    let windows = gradients.windows();
    let got: Vec<_> = windows.iter().map(|w| (w.shape.batch(), w.shape.channels())).collect();
    let inside = windows.iter().all(|w| w.shape.pixels() == 1 && w.end() <= gradients.buffer().as_slice().len());
    if got != expected || !inside {
        return Err(Error::shape("gradients of a mix", format!("{expected:?} within their buffer"), format!("{windows:?}")));
    }
    Ok(windows.to_vec())
}

/// The window of a number for each sample, if it is one.
fn per_sample(w: Window, len: usize, batch: usize) -> Result<Window> {
    let expected = Shape::per_sample(batch);
    if (w.shape.batch(), w.shape.channels(), w.shape.pixels()) != (batch, 1, 1) || w.end() > len {
        return Err(Error::shape("log-determinants of a mix", format!("{expected} within its buffer"), format!("{w:?}")));
    }
    Ok(w)
}

/// Working memory of a pass over a state of the shape `x`.
pub(crate) fn scratch<T: CpuElement>(pull: bool, affine: bool, count: usize, x: Shape, threads: usize) -> Scratch {
    let (cut, level) = (Cut::new(x), simd::level());
    let sums = if pull { (count + if affine { 2 } else { 0 }) * x.channels() } else { 0 };
    let each = (tile::stage_len::<T>(level, x.channels(), pull) + sums * T::lanes(level)) * size_of::<T>();
    Scratch { buffer: 0, caller: cut.slots * sums * size_of::<f64>(), each, threads: threads.min(cut.tasks.max(1)) }
}
