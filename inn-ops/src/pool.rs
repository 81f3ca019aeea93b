//! Work side by side, on the current rayon pool.
//!
//! A gradient step is hundreds of short parallel regions with little between them. A rayon worker without work goes to sleep after some ten
//! microseconds, and waking it takes longer than many regions do; so a region also leaves a job behind that keeps one idle worker
//! looking for more work for a moment ([`LINGER`]), as OpenMP's threads do. Who waits for the others at the end of a region looks as long.

use rayon::Yield;
use rayon::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an idle worker looks for work, or for the end of a region, before it may sleep.
const LINGER: Duration = Duration::from_micros(150);

/// The most threads of a region.
const PARTS: usize = 64;

static LINGERING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Tasks of ours that this thread is inside of, lingering counted as one.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Counts a task of this thread until it is dropped.
struct Inside;

impl Inside {
    fn new() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Runs a task for each number below `count`, in no order; on the calling thread alone if `alone`.
pub(crate) fn each(count: usize, alone: bool, task: impl Fn(usize) + Sync + Send) {
    erased(count, alone, &task);
}

/// Compiled once, whatever the task.
fn erased(count: usize, alone: bool, task: &(dyn Fn(usize) + Sync)) {
    let threads = rayon::current_num_threads();
    if alone || count <= 1 || threads == 1 {
        return (0..count).for_each(task);
    }
    if let Some(owner) = rayon::current_thread_index()
        && LINGERING.load(Ordering::Relaxed) + 1 < threads
    {
        rayon::spawn(move || linger(owner));
    }
    // Each thread has a part of the numbers of its own, the same in every region of as many tasks, so that what it wrote in the last one is near
    // it; then it helps the others.
    let parts = threads.min(count).min(PARTS);
    let next: [AtomicUsize; PARTS] = std::array::from_fn(|part| AtomicUsize::new(part * count / parts));
    let (arrived, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let _inside = Inside::new();
        let own = arrived.fetch_add(1, Ordering::Relaxed);
        for part in (0..parts).map(|i| (own + i) % parts) {
            loop {
                let i = next[part].fetch_add(1, Ordering::Relaxed);
                if i >= (part + 1) * count / parts {
                    break;
                }
                task(i);
                done.fetch_add(1, Ordering::Release);
            }
        }
    };
    rayon::scope(|scope| {
        (1..parts).for_each(|_| scope.spawn(|_| work()));
        work();
        // The others are about to be done. A thread that waits in the pool falls asleep sooner than it is worth.
        let start = Instant::now();
        while done.load(Ordering::Acquire) < count && start.elapsed() < LINGER {
            std::hint::spin_loop();
        }
    });
}

/// The results of a task for each number below `count`, in their order.
pub(crate) fn side_by_side<R: Send>(count: usize, task: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
    let results: Vec<Mutex<Option<R>>> = (0..count).map(|_| Mutex::default()).collect();
    apart(count, &|i| *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(task(i)));
    results.into_iter().filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// Compiled once, whatever the task.
fn apart(count: usize, task: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().with_max_len(1).for_each(task);
}

/// Looks for work until there has been none for a while. A thread that waits for others inside of a task may come by this too; it has to
/// return at once, or those who wait for it would wait for the end of the search.
fn linger(owner: usize) {
    if rayon::current_thread_index() == Some(owner) || DEPTH.with(Cell::get) > 0 {
        return;
    }
    LINGERING.fetch_add(1, Ordering::Relaxed);
    let mut idle = Instant::now();
    loop {
        if rayon::yield_now() == Some(Yield::Executed) {
            idle = Instant::now();
        } else if idle.elapsed() > LINGER {
            break;
        } else {
            std::hint::spin_loop();
        }
    }
    LINGERING.fetch_sub(1, Ordering::Relaxed);
}

/// Runs `work` on a worker of the current pool, so that its regions need not each come in from outside.
pub(crate) fn enter<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() || rayon::current_num_threads() == 1 {
        return work();
    }
    let (mut work, mut result) = (Some(work), None);
    on_a_worker(&mut || result = work.take().map(|work| work()));
    result.unwrap_or_else(|| unreachable!("a scope has run its work when it ends"))
}

/// Compiled once, whatever the work.
fn on_a_worker(work: &mut (dyn FnMut() + Send)) {
    rayon::scope(|_| work());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_regions_finish_and_count_once() {
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                for _ in 0..200 {
                    let sum = AtomicUsize::new(0);
                    each(5, false, |i| {
                        each(7, false, |j| {
                            sum.fetch_add(i * 7 + j, Ordering::Relaxed);
                        })
                    });
                    assert_eq!(sum.into_inner(), (0..35).sum());
                }
            });
        }
        assert!(enter(|| rayon::current_thread_index().is_some() || rayon::current_num_threads() == 1));
    }

    #[test]
    fn a_panic_in_a_task_leaves_the_pool_usable() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.install(|| each(8, false, |i| assert!(i != 3)))));
        assert!(failed.is_err());
        let sum = AtomicUsize::new(0);
        pool.install(|| each(8, false, |i| _ = sum.fetch_add(i, Ordering::Relaxed)));
        assert_eq!(sum.into_inner(), 28);
    }
}
