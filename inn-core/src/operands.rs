//! The gate of a pointwise primitive: whether its operands fit.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernel::{Arity, Kernel, MAX_OPERANDS};
use crate::shape::Shape;
use crate::view::{Update, View};

/// The gate of [`Backend::zip`], for implementors: operand counts, shapes, disjointness.
///
/// # Errors
/// As documented for [`Backend::zip`].
pub fn check_zip<B: Backend, K: Kernel>(
    backend: &B,
    domain: Shape,
    read: &[View<'_, B>],
    update: &[Update<'_, B>],
    channel_sums: &[Update<'_, B>],
    sample_sums: &[Update<'_, B>],
) -> Result<()> {
    check_operands(backend, kernel_name::<K>, Arity::of::<K>(), domain, read, update, channel_sums, sample_sums)
}

/// Apart from the kernel, so that it is compiled once a backend.
fn check_operands<B: Backend>(
    backend: &B,
    name: fn() -> &'static str,
    arity: Arity,
    domain: Shape,
    read: &[View<'_, B>],
    update: &[Update<'_, B>],
    channel_sums: &[Update<'_, B>],
    sample_sums: &[Update<'_, B>],
) -> Result<()> {
    let windows = |updates: &[Update<'_, B>]| updates.iter().map(|u| u.windows().len()).sum::<usize>();
    let got = [read.len(), windows(update), windows(channel_sums), windows(sample_sums)];
    let expected = [arity.read, arity.update, arity.channel_sums, arity.sample_sums];
    let fail = |reason: String| Err(Error::backend(backend.name(), format!("{}: {reason}", name())));
    if got != expected || expected.iter().any(|&n| n > 2 * MAX_OPERANDS) {
        return fail(format!("expected {expected:?} operands (read, update, channel sums, sample sums), got {got:?}"));
    }
    for shape in read.iter().map(View::shape).chain(update.iter().flat_map(|u| u.windows().iter().map(|w| w.shape))) {
        if (shape.batch(), shape.channels(), shape.pixels()) != (domain.batch(), domain.channels(), domain.pixels()) {
            return fail(format!("expected operands of {domain}, got {shape}"));
        }
    }
    for view in read {
        // A view that was made to repeat over another domain may reach past what it lies in.
        let (w, len) = (view.window(), B::len(view.buffer()));
        if w.end() > len {
            return fail(format!("expected a window within {len} elements, got {w:?}"));
        }
    }
    let sums = [(channel_sums, (1, domain.channels())), (sample_sums, (domain.batch(), 1))];
    for (updates, expected) in sums {
        for window in updates.iter().flat_map(Update::windows) {
            if (window.shape.batch(), window.shape.channels()) != expected || window.shape.pixels() != 1 {
                return fail(format!("expected sums of {expected:?}, got {}", window.shape));
            }
        }
    }
    for u in update.iter().chain(channel_sums).chain(sample_sums) {
        let w = u.windows();
        for (i, a) in w.iter().enumerate() {
            if a.end() > B::len(u.buffer()) || (!a.shape.is_empty() && !a.is_injective()) {
                return fail(format!("expected a window within {} elements, got {a:?}", B::len(u.buffer())));
            }
            if w[..i].iter().any(|b| !a.is_disjoint(b)) {
                return fail("expected disjoint windows in one update".into());
            }
        }
    }
    Ok(())
}

/// The last part of a kernel's type name.
pub fn kernel_name<K>() -> &'static str {
    let name = std::any::type_name::<K>();
    let end = name.find('<').unwrap_or(name.len());
    let start = name[..end].rfind("::").map_or(0, |i| i + 2);
    &name[start..]
}
