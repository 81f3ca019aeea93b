//! Working memory that a thread keeps for its next call.

use bytemuck::Pod;
use std::cell::RefCell;

thread_local! {
    /// Buffers not in use, in words that are aligned for every element type.
    static FREE: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `body` `len` elements with arbitrary contents. The memory stays with the thread.
pub(crate) fn with_scratch<T: Pod, R>(len: usize, body: impl FnOnce(&mut [T]) -> R) -> R {
    const { assert!(align_of::<T>() <= align_of::<u64>()) };
    let words = (len * size_of::<T>()).div_ceil(size_of::<u64>());
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < words {
        // Not `resize`, which would copy the old contents.
        drop(buffer);
        buffer = vec![0; words];
    }
    let result = body(&mut bytemuck::cast_slice_mut(&mut buffer[..words])[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}
