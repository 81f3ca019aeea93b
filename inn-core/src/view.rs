//! Views: a window and the buffer that it lies in. A written buffer is borrowed once, as a GPU binds it once.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernel::blas;
use crate::shape::{Shape, Window};
use std::ops::Range;

/// A window on a buffer, to read from.
pub struct View<'a, B: Backend> {
    buffer: &'a B::Buffer,
    window: Window,
}

impl<B: Backend> Clone for View<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for View<'_, B> {}

impl<'a, B: Backend> View<'a, B> {
    /// A view of `buffer` through `window`.
    ///
    /// # Errors
    /// The window reaches past the end of the buffer.
    pub fn new(buffer: &'a B::Buffer, window: Window) -> Result<Self> {
        check_reach::<B>(buffer, &window)?;
        Ok(Self { buffer, window })
    }

    /// The buffer.
    pub fn buffer(&self) -> &'a B::Buffer {
        self.buffer
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The shape of what is seen.
    pub fn shape(&self) -> Shape {
        self.window.shape
    }

    /// The channels of a range.
    #[must_use]
    pub fn channels(self, range: Range<usize>) -> Self {
        Self { window: self.window.channels(range), ..self }
    }

    /// The samples of a range.
    #[must_use]
    pub fn samples(self, range: Range<usize>) -> Self {
        Self { window: self.window.samples(range), ..self }
    }

    /// One value a channel, repeated over `domain`. See [`Window::over_pixels`].
    #[must_use]
    pub fn over_pixels(self, domain: Shape) -> Self {
        Self { window: self.window.over_pixels(domain), ..self }
    }

    /// One value a sample, repeated over `domain`. See [`Window::over_channels`].
    #[must_use]
    pub fn over_channels(self, domain: Shape) -> Self {
        Self { window: self.window.over_channels(domain), ..self }
    }

    /// The same elements as another shape of as many elements a sample, such as a flat row or a matrix seen as a 1x1 kernel.
    ///
    /// # Errors
    /// The samples are not contiguous, or the shape has another number of elements.
    pub fn reshape(mut self, shape: Shape) -> Result<Self> {
        let old = self.window.shape;
        if !self.window.is_sample_contiguous() || old.sample_len() != shape.sample_len() || old.batch() != shape.batch() {
            return Err(Error::shape("view", format!("contiguous samples of {} elements", shape.sample_len()), old));
        }
        self.window.channel_stride = shape.pixels();
        self.window.shape = shape;
        Ok(self)
    }

    /// One sample, repeated `batch` times: a condition that all samples share. Other batches stay as they are.
    #[must_use]
    pub fn repeat(mut self, batch: usize) -> Self {
        if self.window.shape.batch() == 1 && batch != 1 {
            self.window.shape = self.window.shape.with_batch(batch);
            self.window.batch_stride = 0;
        }
        self
    }
}

fn check_reach<B: Backend>(buffer: &B::Buffer, window: &Window) -> Result<()> {
    let len = B::len(buffer);
    if window.end() <= len {
        Ok(())
    } else {
        Err(Error::shape("view", format!("a window within {len} elements"), format!("one that ends at {}", window.end())))
    }
}

/// A window on a buffer, to change in place.
pub struct ViewMut<'a, B: Backend> {
    buffer: &'a mut B::Buffer,
    window: Window,
}

impl<'a, B: Backend> ViewMut<'a, B> {
    /// A view of `buffer` through `window`.
    ///
    /// # Errors
    /// The window reaches past the end of the buffer, or two of its elements share a place.
    pub fn new(buffer: &'a mut B::Buffer, window: Window) -> Result<Self> {
        check_reach::<B>(buffer, &window)?;
        if !window.shape.is_empty() && !window.is_injective() {
            return Err(Error::shape("view", "a window without repeated elements", format!("{window:?}")));
        }
        Ok(Self { buffer, window })
    }

    /// The buffer, to read.
    pub fn buffer(&self) -> &B::Buffer {
        self.buffer
    }

    /// The buffer, to write.
    pub fn buffer_mut(&mut self) -> &mut B::Buffer {
        self.buffer
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The shape of what is seen.
    pub fn shape(&self) -> Shape {
        self.window.shape
    }

    /// Sees the same elements in another arrangement: what a squeeze does after it has moved them.
    ///
    /// # Errors
    /// The samples are not contiguous, or the shape has another number of elements a sample or of samples.
    pub fn reshape(&mut self, shape: Shape) -> Result<()> {
        let old = self.window.shape;
        if !self.window.is_sample_contiguous() || old.sample_len() != shape.sample_len() || old.batch() != shape.batch() {
            return Err(Error::shape("view", format!("contiguous samples of {} elements", shape.sample_len()), old));
        }
        self.window.channel_stride = shape.pixels();
        self.window.shape = shape;
        Ok(())
    }

    /// Sees the first elements of each sample as another shape, or more of them again: what carrying does. Strides between samples stay.
    ///
    /// # Errors
    /// The shape reaches into the next sample or past the end of the buffer.
    pub(crate) fn narrow(&mut self, shape: Shape) -> Result<()> {
        let window = Window { batch_stride: self.window.batch_stride, ..Window::contiguous(shape, self.window.offset) };
        check_reach::<B>(self.buffer, &window)?;
        if !window.is_injective() {
            return Err(Error::shape("view", format!("at most {} elements a sample", window.batch_stride), shape));
        }
        self.window = window;
        Ok(())
    }

    /// The same view, borrowed for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, B> {
        ViewMut { buffer: self.buffer, window: self.window }
    }

    /// To read only.
    pub fn view(&self) -> View<'_, B> {
        View { buffer: self.buffer, window: self.window }
    }

    /// The channels of a range.
    pub fn channels(&mut self, range: Range<usize>) -> ViewMut<'_, B> {
        ViewMut { buffer: self.buffer, window: self.window.channels(range) }
    }

    /// The samples of a range.
    pub fn samples(&mut self, range: Range<usize>) -> ViewMut<'_, B> {
        ViewMut { buffer: self.buffer, window: self.window.samples(range) }
    }

    /// As the operand of a kernel that reads and writes it.
    pub fn update(&mut self) -> Update<'_, B> {
        Update::new(self.buffer, Access::ReadWrite, &[self.window])
    }

    /// As the operand of a kernel that only writes it: what was there before is not read.
    pub fn set(&mut self) -> Update<'_, B> {
        Update::new(self.buffer, Access::Write, &[self.window])
    }

    /// Several channel ranges of one buffer as operands of one kernel.
    pub fn update_channels(&mut self, ranges: &[Range<usize>]) -> Update<'_, B> {
        let mut update = Update::new(self.buffer, Access::ReadWrite, &[]);
        for range in ranges {
            update.push(self.window.channels(range.clone()));
        }
        update
    }

    /// Fills the window with a constant.
    pub fn fill(&mut self, backend: &B, value: f64) -> Result<()> {
        let shape = self.shape();
        backend.zip(&blas::Fill(value), shape, &[], &mut [self.set()], &mut [], &mut [])
    }

    /// Overwrites the window with `source`, of the same shape.
    pub fn assign(&mut self, backend: &B, source: View<'_, B>) -> Result<()> {
        let shape = self.shape();
        backend.zip(&blas::Assign, shape, &[source], &mut [self.set()], &mut [], &mut [])
    }

    /// Adds `a * source`, of the same shape.
    pub fn axpy(&mut self, backend: &B, a: f64, source: View<'_, B>) -> Result<()> {
        let shape = self.shape();
        backend.zip(&blas::Axpy(a), shape, &[source], &mut [self.update()], &mut [], &mut [])
    }
}

/// How a kernel uses what it updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads the old value and writes a new one.
    ReadWrite,
    /// Writes only; the old value may be anything, even NaN.
    Write,
}

/// Most windows of one buffer in one [`Update`].
pub const MAX_WINDOWS: usize = 8;

/// One buffer that a kernel writes, bound once, with the windows that it writes through.
///
/// Two mutable views of one buffer cannot exist, in Rust as on a GPU. Operands that share a buffer (scale and shift, two
/// lanes) are therefore windows of one update, given as numbers; they have to be disjoint, which the backend checks.
pub struct Update<'a, B: Backend> {
    buffer: &'a mut B::Buffer,
    access: Access,
    windows: [Window; MAX_WINDOWS],
    count: usize,
}

impl<'a, B: Backend> Update<'a, B> {
    /// An update of `buffer` through `windows`, of which there are at most [`MAX_WINDOWS`].
    pub fn new(buffer: &'a mut B::Buffer, access: Access, windows: &[Window]) -> Self {
        let mut update = Self { buffer, access, windows: [Window::contiguous(Shape::rows(0, 0), 0); MAX_WINDOWS], count: 0 };
        for &window in windows {
            update.push(window);
        }
        update
    }

    /// One window more. One too many is dropped, and the backend then reports the missing operand.
    pub fn push(&mut self, window: Window) {
        if self.count < MAX_WINDOWS {
            self.windows[self.count] = window;
            self.count += 1;
        }
    }

    /// The windows.
    pub fn windows(&self) -> &[Window] {
        &self.windows[..self.count]
    }

    /// How the windows are used.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The buffer, to read.
    pub fn buffer(&self) -> &B::Buffer {
        self.buffer
    }

    /// The buffer, to write.
    pub fn buffer_mut(&mut self) -> &mut B::Buffer {
        self.buffer
    }
}
