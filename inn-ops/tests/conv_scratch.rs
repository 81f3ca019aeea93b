//! The memory that a convolution really takes, counted, against
//! `scratch_bytes`.

mod conv_common;

use conv_common::{Case, Number, Random, Shape};
use inn_ops::conv::{Geometry, Op, forward, input_gradient, scratch_bytes, weight_gradient};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

struct Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all memory comes from and returns to `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), SeqCst) + layout.size();
        PEAK.fetch_max(live, SeqCst);
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as for this function.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SHAPES: [Shape; 28] = [
    (8, 6, 128, [1, 32, 32], [1, 3, 3], [1; 3], [0, 1, 1]),
    (8, 128, 12, [1, 32, 32], [1, 3, 3], [1; 3], [0, 1, 1]),
    (2, 64, 64, [1, 48, 48], [1, 1, 1], [1; 3], [0; 3]),
    (1, 8, 40, [1, 120, 121], [1, 3, 3], [1, 2, 2], [0, 1, 1]),
    (2, 64, 64, [1, 48, 48], [1, 3, 3], [1; 3], [0, 1, 1]),
    (40, 2, 32, [1, 8, 8], [1, 3, 3], [1; 3], [0, 1, 1]),
    (1, 17, 16, [20, 24, 24], [3, 3, 3], [1; 3], [1, 1, 1]),
    (2, 5, 16, [1, 1, 5000], [1, 1, 5], [1; 3], [0, 0, 2]),
    (3, 70, 90, [1, 31, 33], [1, 1, 1], [1; 3], [0; 3]),
    (4, 100, 100, [1, 16, 16], [1, 3, 3], [1; 3], [0, 1, 1]),
    (3, 101, 91, [9, 10, 7], [3, 3, 3], [1; 3], [1; 3]),
    (2, 60, 40, [13, 12, 12], [3, 2, 6], [1; 3], [1, 1, 3]),
    (512, 64, 64, [1, 1, 1], [1, 1, 1], [1; 3], [0; 3]),
    (512, 2, 64, [1, 1, 1], [1, 1, 1], [1; 3], [0; 3]),
    (1, 256, 200, [1, 4, 4], [1, 3, 3], [1; 3], [0, 1, 1]),
    (400, 300, 310, [1, 1, 1], [1, 1, 1], [1; 3], [0; 3]),
    (5, 6, 100, [1, 28, 28], [1, 1, 1], [1; 3], [0; 3]),
    (2, 185, 3, [1, 1, 12538], [1, 1, 1], [1; 3], [0; 3]),
    (1, 2, 64, [1, 90, 91], [1, 3, 3], [1; 3], [0, 1, 1]),
    (2, 40, 1, [1, 1, 60001], [1, 1, 9], [1; 3], [0, 0, 4]),
    (1, 1, 40, [34, 32, 33], [3, 3, 3], [1; 3], [1; 3]),
    (30, 64, 2, [1, 9, 11], [1, 5, 5], [1; 3], [0, 2, 2]),
    (2, 32, 32, [32, 33, 31], [3; 3], [2; 3], [1; 3]),
    (8, 41, 64, [1, 64, 64], [1, 4, 4], [1, 4, 4], [0; 3]),
    (1, 20, 90, [1, 1, 20001], [1, 1, 5], [1, 1, 3], [0, 0, 2]),
    (2, 160, 120, [14, 14, 15], [7; 3], [3; 3], [3; 3]),
    (3, 130, 19, [1, 20, 33], [1; 3], [1; 3], [0; 3]),
    (5, 40, 36, [1, 13, 20], [1, 5, 7], [1; 3], [0, 2, 3]),
];

fn pages_of_threads() -> usize {
    inn_ops::Cpu::<f32>::new().footprint().threads
}

fn check_scratch<T: Number>() {
    // Stacks, deques and the like of the pool, and blocks of its queue.
    const SLACK: usize = 16 << 10;
    let mut random = Random(3);
    for (batch, i, o, input, kernel, stride, padding) in SHAPES {
        let g = Geometry::new(batch, i, o, input, kernel, stride, padding).unwrap();
        let case = Case::<T>::new(&mut random, g, false);
        for op in [Op::Forward, Op::InputGradient, Op::WeightGradient] {
            for threads in [1, 3] {
                let mut out = case.clone();
                // Threads without any buffers from before.
                let mut handles = Vec::new();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).spawn_handler(|thread| {
                    handles.push(std::thread::spawn(|| thread.run()));
                    Ok(())
                });
                let pool = pool.build().unwrap();
                pool.broadcast(|_| ());
                let (before, pages) = (LIVE.load(SeqCst), pages_of_threads());
                PEAK.store(before, SeqCst);
                pool.install(|| match op {
                    Op::Forward => forward(&g, case.x.planes(), case.w.planes(), out.y.planes_mut(), false).unwrap(),
                    Op::InputGradient => input_gradient(&g, case.y.planes(), case.w.planes(), out.x.planes_mut(), false).unwrap(),
                    Op::WeightGradient => weight_gradient(&g, case.x.planes(), case.y.planes(), out.w.planes_mut(), false).unwrap(),
                });
                let heap = PEAK.load(SeqCst) - before;
                // Buffers stay with their threads, large ones in pages that no allocator sees.
                let (taken, bound) = (heap + pages_of_threads() - pages, scratch_bytes::<T>(&g, op, threads));
                // Their buffers must be gone before the next count.
                drop(pool);
                handles.into_iter().for_each(|handle| handle.join().unwrap());
                assert!(taken <= bound + SLACK, "{taken} bytes instead of {bound} for {op:?} of {g:?} on {threads} threads");
                // On one thread the bound is not far from the memory taken.
                assert!(threads > 1 || 2 * taken + 8 * SLACK >= bound, "{bound} bytes promised, {taken} taken for {op:?} of {g:?}");
            }
        }
    }
}

/// One test, as others beside it would be counted too.
#[test]
fn no_more_memory_than_promised() {
    check_scratch::<f32>();
    check_scratch::<f64>();
}
