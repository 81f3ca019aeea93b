//! Buffers of the CPU backend and the pool that they return to.

use crate::conv::scratch;
use inn_core::Element;
use inn_core::shelf::{LARGE, Shelf, Stored};
use memmap2::MmapMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where elements lie.
enum Storage<T> {
    /// In a vector, from the host or too short to be worth pages of its own.
    Vector(Vec<T>),
    /// In pages of its own, from their start: from [`LARGE`] on. They go back to the system when they are freed, whatever the allocator
    /// would do with holes of such sizes (glibc keeps them, and a process grows by a good half of what it needs).
    Pages(MmapMut, usize),
}

impl<T: Element> Storage<T> {
    /// Zeroed by the system page by page on first use, which costs nothing up front. `None` where there is no memory left.
    fn new(len: usize) -> Option<Self> {
        let size = len.checked_mul(size_of::<T>())?;
        if size >= LARGE {
            // Lengths that no allocation can have are refused before the system sees them.
            return isize::try_from(size).ok().and_then(|_| MmapMut::map_anon(size).ok()).map(|pages| Self::Pages(pages, len));
        }
        bytemuck::allocation::try_zeroed_slice_box::<T>(len).ok().map(|values| Self::Vector(values.into_vec()))
    }

    /// The first elements.
    fn cut(mut self, elements: usize) -> Self {
        if let Self::Pages(_, len) = &mut self {
            *len = elements;
        }
        self
    }

    fn len(&self) -> usize {
        match self {
            Self::Vector(values) => values.len(),
            Self::Pages(_, len) => *len,
        }
    }

    /// The bytes of its own pages, if it has any.
    fn pages(&self) -> usize {
        match self {
            Self::Vector(_) => 0,
            Self::Pages(pages, _) => pages.len(),
        }
    }

    fn as_slice(&self) -> &[T] {
        match self {
            Self::Vector(values) => values,
            Self::Pages(pages, len) => bytemuck::cast_slice(&pages[..len * size_of::<T>()]),
        }
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::Vector(values) => values,
            Self::Pages(pages, len) => bytemuck::cast_slice_mut(&mut pages[..*len * size_of::<T>()]),
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Vector(Vec::new()))
    }
}

impl<T: Element> Stored for Storage<T> {
    fn bytes(&self) -> usize {
        match self {
            Self::Vector(values) => size_of_val(values.as_slice()),
            Self::Pages(pages, _) => pages.len(),
        }
    }
}

/// Storage of the CPU backend, which returns to the pool of its backend when it is dropped.
pub struct CpuBuffer<T: Element> {
    values: Storage<T>,
    pool: Arc<Pool<T>>,
    /// Buffers that came from the host are freed instead, since nothing will ask for their length again.
    pooled: bool,
}

impl<T: Element> CpuBuffer<T> {
    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        self.values.as_slice()
    }

    /// The elements, to change.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.values.as_mut_slice()
    }

    /// Gives the elements up to the caller; the pool forgets them. Those that came from the host move, others may be copied.
    pub(crate) fn into_vec(mut self) -> Vec<T> {
        let values = self.values.take();
        let mut state = self.pool.state();
        state.shelf.forget(values.bytes());
        state.pages -= values.pages();
        drop(state);
        self.pooled = false;
        match values {
            Storage::Vector(values) => values,
            pages => pages.as_slice().to_vec(),
        }
    }
}

impl<T: Element> Drop for CpuBuffer<T> {
    fn drop(&mut self) {
        let values = self.values.take();
        let mut state = self.pool.state();
        if self.pooled && values.len() > 0 {
            state.shelf.give(values);
        } else {
            state.shelf.forget(values.bytes());
            state.pages -= values.pages();
        }
    }
}

/// The shelf of a backend, which all its buffers return to.
pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    shelf: Shelf<Storage<T>>,
    pages: usize,
    small: usize,
}

/// What a pool holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Buffers in use.
    pub alive: usize,
    /// Buffers kept for reuse.
    pub pooled: usize,
    /// The most that was in use at one time.
    pub peak: usize,
    /// The most that was held at one time, in use or not.
    pub most: usize,
    /// The same of buffers that are too small for pages of their own; no allocator sees the others.
    pub small: usize,
    /// Pages of working memory that threads hold now, whatever the backend they work for; no allocator sees these either.
    pub threads: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { shelf: Shelf::default(), pages: 0, small: 0 }) }
    }
}

impl<T: Element> Pool<T> {
    /// No invariant can be broken half way, so a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of `len` elements with unspecified contents; `None` where the system has no memory left.
    pub(crate) fn alloc(self: &Arc<Self>, len: usize) -> Option<CpuBuffer<T>> {
        let size = len.checked_mul(size_of::<T>())?;
        let reused = self.state().take(size);
        let values = match reused.or_else(|| Storage::new(len).inspect(|values| self.state().pages += values.pages())) {
            Some(values) => values.cut(len),
            None => {
                self.state().shelf.forget(size);
                return None;
            }
        };
        self.state().note();
        Some(CpuBuffer { values, pool: self.clone(), pooled: true })
    }

    /// Takes over a vector of the host's.
    pub(crate) fn adopt(self: &Arc<Self>, values: Vec<T>) -> CpuBuffer<T> {
        let values = Storage::Vector(values);
        let mut state = self.state();
        state.shelf.enter(values.bytes(), drop);
        state.note();
        CpuBuffer { values, pool: self.clone(), pooled: false }
    }

    /// Frees what is kept for reuse.
    pub(crate) fn trim(&self) {
        let mut state = self.state();
        let pages: usize = state.shelf.clear().map(|values| values.pages()).sum();
        state.pages -= pages;
    }

    pub(crate) fn footprint(&self) -> Footprint {
        let State { shelf, small, .. } = &*self.state();
        Footprint {
            alive: shelf.used(),
            pooled: shelf.kept(),
            peak: shelf.peak(),
            most: shelf.most(),
            small: *small,
            threads: scratch::pages(),
        }
    }
}

impl<T: Element> State<T> {
    fn take(&mut self, size: usize) -> Option<Storage<T>> {
        let pages = &mut self.pages;
        self.shelf.take(size, |values| *pages -= values.pages())
    }

    fn note(&mut self) {
        self.small = self.small.max(self.shelf.held().saturating_sub(self.pages));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without what other tests' threads hold.
    fn buffers<T: Element>(pool: &Pool<T>) -> Footprint {
        Footprint { threads: 0, ..pool.footprint() }
    }

    #[test]
    fn reuses_the_exact_length_and_stays_below_the_peak() {
        let pool = Arc::new(Pool::<f64>::default());
        let (a, b) = (pool.alloc(10).unwrap(), pool.alloc(20).unwrap());
        assert!(a.as_slice().iter().all(|&v| v == 0.0));
        let at = a.as_slice().as_ptr();
        drop(a);
        assert_eq!(buffers(&pool), Footprint { threads: 0, alive: 160, pooled: 80, peak: 240, most: 240, small: 240 });
        let a = pool.alloc(10).unwrap();
        assert_eq!(a.as_slice().as_ptr(), at);
        drop((a, b));
        assert_eq!(buffers(&pool), Footprint { threads: 0, alive: 0, pooled: 240, peak: 240, most: 240, small: 240 });
        // 320 bytes may be held, the peak and half of the largest buffer that came back: 40 have to go, for which that of 10 elements is enough.
        let c = pool.alloc(15).unwrap();
        assert_eq!(buffers(&pool), Footprint { threads: 0, alive: 120, pooled: 160, peak: 240, most: 280, small: 280 });
        drop(c);
        pool.trim();
        assert_eq!(buffers(&pool), Footprint { threads: 0, alive: 0, pooled: 0, peak: 240, most: 280, small: 280 });
    }

    #[test]
    fn buffers_of_the_host_are_counted_but_not_kept() {
        let pool = Arc::new(Pool::<f32>::default());
        let adopted = pool.adopt(vec![1.0; 8]);
        assert_eq!(buffers(&pool), Footprint { threads: 0, alive: 32, pooled: 0, peak: 32, most: 32, small: 32 });
        drop(adopted);
        assert_eq!(buffers(&pool), Footprint { threads: 0, alive: 0, pooled: 0, peak: 32, most: 32, small: 32 });
        let buffer = pool.alloc(4).unwrap();
        assert_eq!(buffer.into_vec().len(), 4);
        assert_eq!(buffers(&pool), Footprint { threads: 0, alive: 0, pooled: 0, peak: 32, most: 32, small: 32 });
    }

    #[test]
    fn too_much_is_refused() {
        let pool = Arc::new(Pool::<f64>::default());
        assert!(pool.alloc(usize::MAX / 4).is_none() && pool.alloc(1 << 58).is_none());
        assert_eq!(pool.footprint().alive, 0);
    }
}
