//! Work side by side, on the current rayon pool.
//!
//! A gradient step is hundreds of short parallel regions with little between them. A rayon worker without work goes to sleep after some ten
//! microseconds, and waking it takes longer than many regions do; so a region also leaves a job behind that keeps one idle worker
//! looking for more work for a moment ([`LINGER`]), as OpenMP's threads do.

use rayon::Yield;
use rayon::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long an idle worker looks for work before it may sleep.
const LINGER: Duration = Duration::from_micros(150);

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
    (0..count).into_par_iter().with_max_len(1).for_each(|i| {
        let _inside = Inside::new();
        task(i);
    });
}

/// The results of a task for each number below `count`, in their order.
pub(crate) fn side_by_side<R: Send>(count: usize, task: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
    (0..count).into_par_iter().with_max_len(1).map(task).collect()
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
    if rayon::current_thread_index().is_some() || rayon::current_num_threads() == 1 { work() } else { rayon::scope(|_| work()) }
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
