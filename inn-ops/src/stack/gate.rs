//! What passes ask of their operands, and operands as addresses.

use super::lines::Image;
use super::plan::Plan;
use super::sums::Add;
use super::{Ending, Weights, plan, takes};
use crate::cpu::{Cpu, CpuElement};
use inn_core::stack::{Last, Stack, StackPass, StackShape};
use inn_core::view::{Update, View, ViewMut};
use inn_core::{Error, Result, Window};
use std::ops::Range;

/// The gate of the passes within a state: shapes, and two disjoint windows of them, the second with the channels of one of the `groups` of the
/// output.
pub(super) fn in_place<T: CpuElement, A>(
    stack: &Stack<'_, Cpu<T>, A>,
    pass: StackPass,
    groups: usize,
    name: &str,
    update: &Update<'_, Cpu<T>>,
) -> Result<(StackShape, Plan, [Window; 2])> {
    let &[kept, moved] = update.windows() else {
        return Err(Error::backend("stack", format!("expected two windows of the {name}, got {:?}", update.windows())));
    };
    let shape = stack.shape_in_place(kept.shape)?;
    expect_taken::<T>(pass, &shape)?;
    let expected = kept.shape.with_channels(shape.outputs);
    inn_core::error::expect_shape("output of a stack", expected, moved.shape.with_channels(moved.shape.channels() * groups))?;
    if !kept.is_disjoint(&moved) || !kept.is_injective() || !moved.is_injective() {
        return Err(Error::backend("stack", format!("expected disjoint windows of the {name}, got {kept:?} and {moved:?}")));
    }
    let plan = plan::<T>(&shape, pass);
    Ok((shape, plan, [kept, moved]))
}

pub(super) fn lanes<T: CpuElement>(plan: &Plan, update: &mut Update<'_, Cpu<T>>, windows: [Window; 2]) -> Result<[Image<T>; 2]> {
    let values = update.buffer_mut().as_mut_slice();
    let (data, len) = (values.as_mut_ptr(), values.len());
    Ok([from_window(plan, data, len, windows[0])?, from_window(plan, data, len, windows[1])?])
}

/// Where the gradients of the weights go, checked.
pub(super) fn gradient_places<T: CpuElement, A>(
    stack: &Stack<'_, Cpu<T>, A>,
    shape: &StackShape,
    gradients: &Update<'_, Cpu<T>>,
) -> Result<Vec<Range<usize>>> {
    let mut expected = vec![shape.first.len(), shape.hidden()];
    stack.middle.iter().for_each(|_| expected.extend([shape.hidden() * shape.hidden(), shape.hidden()]));
    match &stack.last {
        Last::Transposed(w) => expected.push(w.shape().len()),
        Last::Affine(a) => expected.extend([a.weight.shape().len(), shape.outputs]),
    }
    let (windows, len) = (gradients.windows(), gradients.buffer().as_slice().len());
    let fits = |w: &Window, n: usize| w.is_contiguous() && w.shape.len() == n && w.end() <= len;
    if windows.len() != expected.len() || !windows.iter().zip(&expected).all(|(w, &n)| fits(w, n)) {
        return Err(Error::backend("stack", format!("expected contiguous cotangents of {expected:?} elements, got {windows:?}")));
    }
    Ok(windows.iter().map(|w| w.offset..w.end()).collect())
}

/// Hands the places of the gradients out, one at a time.
pub(super) fn adder<'a, T: CpuElement>(
    gradients: &'a mut Update<'_, Cpu<T>>,
    places: &'a [Range<usize>],
) -> impl FnMut(usize, Add<'_, T>) + use<'a, T> {
    let to = gradients.buffer_mut().as_mut_slice();
    |i, add| add(&mut to[places[i].clone()])
}

pub(super) fn checked<T: CpuElement, A>(stack: &Stack<'_, Cpu<T>, A>) -> Result<StackShape> {
    let shape = stack.shape()?;
    expect_taken::<T>(StackPass::Map, &shape)?;
    Ok(shape)
}

fn expect_taken<T: CpuElement>(pass: StackPass, shape: &StackShape) -> Result<()> {
    if takes::<T>(pass, shape) {
        return Ok(());
    }
    Err(Error::backend("stack", format!("expected a stack that the backend takes, got {shape:?}")))
}

/// Cotangents of the inputs besides the state, each of its input's shape.
pub(super) fn expect_cotangents<T: CpuElement, A>(stack: &Stack<'_, Cpu<T>, A>, gx: &[ViewMut<'_, Cpu<T>>]) -> Result<()> {
    if gx.len() == stack.inputs.len() && gx.iter().zip(stack.inputs).all(|(g, x)| g.shape() == x.shape()) {
        return Ok(());
    }
    Err(Error::backend("stack", "expected a cotangent of the shape of each input"))
}

pub(super) fn weights<'a, T: CpuElement, A>(stack: &Stack<'a, Cpu<T>, A>) -> Result<Weights<'a, T>> {
    let slice = |v: &View<'a, Cpu<T>>| -> Result<&'a [T]> {
        let w = v.window();
        let values = v.buffer().as_slice().get(w.offset..w.end()).filter(|_| w.is_contiguous());
        values.ok_or_else(|| Error::shape("weight of a stack", "a contiguous window within its buffer", format!("{w:?}")))
    };
    let middle = stack.middle.iter().map(|a| Ok((slice(&a.weight)?, slice(&a.bias)?))).collect::<Result<_>>()?;
    let last = match &stack.last {
        Last::Transposed(w) => Ending::Transposed(slice(w)?),
        Last::Affine(a) => Ending::Affine(slice(&a.weight)?, slice(&a.bias)?),
    };
    Ok(Weights { first: (slice(&stack.first.weight)?, slice(&stack.first.bias)?), middle, skip: stack.skip, last })
}

pub(super) fn image<T: CpuElement>(plan: &Plan, view: &View<'_, Cpu<T>>) -> Result<Image<T>> {
    from_window(plan, view.buffer().as_slice().as_ptr().cast_mut(), view.buffer().as_slice().len(), view.window())
}

pub(super) fn image_mut<T: CpuElement>(plan: &Plan, view: &mut ViewMut<'_, Cpu<T>>) -> Result<Image<T>> {
    let w = view.window();
    if !w.is_injective() {
        return Err(Error::shape("output of a stack", "a window without repetition", format!("{w:?}")));
    }
    let values = view.buffer_mut().as_mut_slice();
    from_window(plan, values.as_mut_ptr(), values.len(), w)
}

pub(super) fn from_window<T>(plan: &Plan, data: *mut T, len: usize, w: Window) -> Result<Image<T>> {
    if w.end() > len || (w.pixel_stride != 1 && w.shape.pixels() > 1) {
        return Err(Error::shape("image of a stack", "a window within its buffer, pixels without gaps", format!("{w:?}")));
    }
    let (batch_stride, step) = if plan.samples_are_pixels { (0, w.batch_stride) } else { (w.batch_stride, 1) };
    // SAFETY: the window starts within the buffer.
    let data = unsafe { data.add(w.offset) };
    Ok(Image { data, channels: w.shape.channels(), batch_stride, channel_stride: w.channel_stride, step })
}
