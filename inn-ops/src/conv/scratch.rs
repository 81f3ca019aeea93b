//! Working memory that stays with its thread.

use crate::simd::Element;
use inn_core::shelf::LARGE;
use memmap2::MmapMut;
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

thread_local! {
    /// Buffers not in use. A task that a thread takes over while it waits, inside
    /// of a call that holds a buffer, simply takes another one.
    static FREE: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}

/// A cache line; short buffers are made of these to be aligned.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes of pages that threads hold.
static PAGES: AtomicUsize = AtomicUsize::new(0);

/// Bytes of working memory that threads hold in pages of their own, which no allocator sees.
pub(crate) fn pages() -> usize {
    PAGES.load(Relaxed)
}

enum Memory {
    Lines(Vec<Line>),
    /// Pages of its own go back to the system when a larger buffer takes their place; an allocator may keep the hole.
    Pages(MmapMut),
}

impl Memory {
    /// At least as many bytes, zeros.
    fn new(bytes: usize) -> Self {
        let pages = if bytes >= LARGE { MmapMut::map_anon(bytes).ok() } else { None };
        let lines = || Self::Lines(vec![Line([0; 64]); bytes.div_ceil(size_of::<Line>())]);
        pages.inspect(|pages| _ = PAGES.fetch_add(pages.len(), Relaxed)).map_or_else(lines, Self::Pages)
    }

    fn len(&self) -> usize {
        match self {
            Self::Lines(lines) => size_of_val(lines.as_slice()),
            Self::Pages(pages) => pages.len(),
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Lines(lines) => bytemuck::cast_slice_mut(lines),
            Self::Pages(pages) => pages,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Self::Pages(pages) = self {
            PAGES.fetch_sub(pages.len(), Relaxed);
        }
    }
}

/// Lends `body` a buffer of `len` elements with arbitrary contents, aligned to
/// cache lines. The memory is kept for the next call of this thread: the
/// smallest free buffer that is large enough, or else the largest, which grows.
pub(crate) fn with_buffer<T: Element, R>(len: usize, body: impl FnOnce(&mut [T]) -> R) -> R {
    let bytes = len * size_of::<T>();
    let free = FREE.with_borrow_mut(|free| {
        // In the order of their sizes.
        let at = free.partition_point(|buffer| buffer.len() < bytes).min(free.len().saturating_sub(1));
        (at < free.len()).then(|| free.remove(at))
    });
    let mut buffer = free.unwrap_or_else(|| Memory::new(0));
    if buffer.len() < bytes {
        drop(buffer);
        buffer = Memory::new(bytes);
    }
    let result = body(bytemuck::cast_slice_mut(&mut buffer.bytes()[..bytes]));
    FREE.with_borrow_mut(|free| {
        let at = free.partition_point(|other| other.len() < buffer.len());
        free.insert(at, buffer);
    });
    result
}

/// The same for two buffers.
pub(crate) fn with_two<T: Element, R>(first: usize, second: usize, body: impl FnOnce(&mut [T], &mut [T]) -> R) -> R {
    let start = first.next_multiple_of(size_of::<Line>() / size_of::<T>());
    with_buffer(start + second, |both: &mut [T]| {
        let (a, b) = both.split_at_mut(start);
        body(&mut a[..first], b)
    })
}

/// Bytes of working memory of an operation.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    /// What the calling thread holds for all.
    pub(crate) shared: usize,
    /// What each thread holds while it takes part.
    pub(crate) each: usize,
    /// Whether the calling thread is the only one.
    pub(crate) alone: bool,
}

impl Scratch {
    pub(crate) const NONE: Self = Self { shared: 0, each: 0, alone: true };

    /// Enough for either of two operations.
    pub(super) fn most(self, other: Self) -> Self {
        Self { shared: self.shared.max(other.shared), each: self.each.max(other.each), alone: self.alone && other.alone }
    }
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
