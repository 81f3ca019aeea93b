//! Working memory that stays with its thread.

use crate::simd::Element;
use std::cell::RefCell;

/// A cache line; buffers are made of these to be aligned.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    /// Buffers not in use. A stack: a call takes and returns them in the same
    /// order every time, so that each finds the one that has its size. A task
    /// that a thread takes over while it waits, inside of a call that holds a
    /// buffer, simply takes the next one.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `body` a buffer of `len` elements with arbitrary contents, aligned to
/// cache lines. The memory is kept for the next call of this thread.
pub(crate) fn with_buffer<T: Element, R>(len: usize, body: impl FnOnce(&mut [T]) -> R) -> R {
    let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < lines {
        // Not `resize`, which would copy the old contents.
        drop(buffer);
        buffer = vec![Line([0; 64]); lines];
    }
    let result = body(&mut bytemuck::cast_slice_mut(&mut buffer[..lines])[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

/// An address that several threads write to, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: only an address; whoever writes through it must rule out races.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(data: &mut [T]) -> Self {
        Shared(data.as_mut_ptr())
    }

    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}
