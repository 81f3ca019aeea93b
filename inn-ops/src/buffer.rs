//! Buffers of the CPU backend and the pool that they return to.

use inn_core::Element;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Storage of the CPU backend: a vector that returns to the pool of its backend when it is dropped.
pub struct CpuBuffer<T: Element> {
    values: Vec<T>,
    pool: Arc<Pool<T>>,
    /// Buffers that came from the host are freed instead, since nothing will ask for their length again.
    pooled: bool,
}

impl<T: Element> CpuBuffer<T> {
    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        &self.values
    }

    /// The elements, to change.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// Gives the elements up to the caller; the pool forgets them.
    pub(crate) fn into_vec(mut self) -> Vec<T> {
        let values = std::mem::take(&mut self.values);
        self.pool.state().alive -= bytes(&values);
        self.pooled = false;
        values
    }
}

impl<T: Element> Drop for CpuBuffer<T> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut state = self.pool.state();
        state.alive -= bytes(&values);
        if self.pooled && !values.is_empty() {
            state.pooled += bytes(&values);
            state.free.push_back(values);
        }
    }
}

/// Free buffers, oldest first, and what is alive.
///
/// The pool never makes the footprint larger than the most that was ever alive: before memory is taken from the system, the oldest free
/// buffers make room. So what [`inn_core::memory`] predicts from the order of allocations alone is what the process holds.
pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    free: VecDeque<Vec<T>>,
    alive: usize,
    pooled: usize,
    peak: usize,
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
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { free: VecDeque::new(), alive: 0, pooled: 0, peak: 0 }) }
    }
}

fn bytes<T>(values: &[T]) -> usize {
    size_of_val(values)
}

impl<T: Element> Pool<T> {
    /// No invariant can be broken half way, so a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of `len` elements with unspecified contents; `None` where the system has no memory left.
    pub(crate) fn alloc(self: &Arc<Self>, len: usize) -> Option<CpuBuffer<T>> {
        let size = len.checked_mul(size_of::<T>())?;
        let mut state = self.state();
        // The youngest first: it is the likeliest to be in the cache.
        let reused = state.free.iter().rposition(|values| values.len() == len).and_then(|at| state.free.remove(at));
        let values = match reused {
            Some(values) => {
                state.pooled -= size;
                state.enter(size);
                values
            }
            None => {
                state.enter(size);
                drop(state);
                // Zeroed by the system page by page on first use, which costs nothing up front.
                match bytemuck::allocation::try_zeroed_slice_box::<T>(len) {
                    Ok(values) => values.into_vec(),
                    Err(()) => {
                        self.state().alive -= size;
                        return None;
                    }
                }
            }
        };
        Some(CpuBuffer { values, pool: self.clone(), pooled: true })
    }

    /// Takes over a vector of the host's.
    pub(crate) fn adopt(self: &Arc<Self>, values: Vec<T>) -> CpuBuffer<T> {
        self.state().enter(bytes(&values));
        CpuBuffer { values, pool: self.clone(), pooled: false }
    }

    /// Frees what is kept for reuse.
    pub(crate) fn trim(&self) {
        let mut state = self.state();
        state.free.clear();
        state.pooled = 0;
    }

    pub(crate) fn footprint(&self) -> Footprint {
        let state = self.state();
        Footprint { alive: state.alive, pooled: state.pooled, peak: state.peak }
    }
}

impl<T: Element> State<T> {
    /// Counts a buffer that comes alive and makes room for it.
    fn enter(&mut self, size: usize) {
        self.alive += size;
        self.peak = self.peak.max(self.alive);
        while self.alive + self.pooled > self.peak {
            match self.free.pop_front() {
                Some(oldest) => self.pooled -= bytes(&oldest),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuses_the_exact_length_and_stays_below_the_peak() {
        let pool = Arc::new(Pool::<f64>::default());
        let (a, b) = (pool.alloc(10).unwrap(), pool.alloc(20).unwrap());
        assert!(a.as_slice().iter().all(|&v| v == 0.0));
        let at = a.as_slice().as_ptr();
        drop(a);
        assert_eq!(pool.footprint(), Footprint { alive: 160, pooled: 80, peak: 240 });
        let a = pool.alloc(10).unwrap();
        assert_eq!(a.as_slice().as_ptr(), at);
        drop((a, b));
        assert_eq!(pool.footprint(), Footprint { alive: 0, pooled: 240, peak: 240 });
        // 15 elements are new; the oldest (10) has to go, and 20 after it.
        let c = pool.alloc(15).unwrap();
        assert_eq!(pool.footprint(), Footprint { alive: 120, pooled: 0, peak: 240 });
        drop(c);
        pool.trim();
        assert_eq!(pool.footprint(), Footprint { alive: 0, pooled: 0, peak: 240 });
    }

    #[test]
    fn buffers_of_the_host_are_counted_but_not_kept() {
        let pool = Arc::new(Pool::<f32>::default());
        let adopted = pool.adopt(vec![1.0; 8]);
        assert_eq!(pool.footprint(), Footprint { alive: 32, pooled: 0, peak: 32 });
        drop(adopted);
        assert_eq!(pool.footprint(), Footprint { alive: 0, pooled: 0, peak: 32 });
        let buffer = pool.alloc(4).unwrap();
        assert_eq!(buffer.into_vec().len(), 4);
        assert_eq!(pool.footprint(), Footprint { alive: 0, pooled: 0, peak: 32 });
    }

    #[test]
    fn too_much_is_refused() {
        let pool = Arc::new(Pool::<f64>::default());
        assert!(pool.alloc(usize::MAX / 4).is_none() && pool.alloc(1 << 58).is_none());
        assert_eq!(pool.footprint().alive, 0);
    }
}
