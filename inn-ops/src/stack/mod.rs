//! The stack of convolutions inside a conditioner, fused: the CPU's answer to [`inn_core::stack`].
//!
//! A strip of pixels passes through all layers, forward or backward, before the next one starts, in arrays `[channel][pixel]` that stay in
//! the cache of one core. The first convolution becomes a matrix product on gathered neighbourhoods, the transposed one a
//! product whose rows are scattered, and everything between is pixel by pixel; so all arithmetic runs in the register-blocked kernels of
//! [`conv`](crate::conv). Gathering and scattering cost a pass over the few channels outside, and nothing over the hidden ones.

mod adjoint;
mod common;
mod cut;
mod flat;
pub(crate) mod fold;
pub(crate) mod lines;
mod map;
mod packing;
mod plan;
mod pointwise;
mod product;
mod steps;
mod walk;

pub(crate) use plan::Plan;

use crate::cpu::{Cpu, CpuElement};
use crate::simd;
use adjoint::{Add, Hidden};
use inn_core::memory::Scratch;
use inn_core::stack::{Last, Pointwise, Stack, StackPass, StackShape};
use inn_core::view::{Update, View, ViewMut};
use inn_core::{Backend, Error, Result, Window, Write};
use lines::Image;
use std::ops::Range;

/// Rows of neighbourhoods at most; with more, the hidden channels are too few to be worth gathering for.
const MOST_ROWS: usize = 1 << 14;

/// Weights as contiguous slices.
struct Weights<'a, T> {
    first: (&'a [T], &'a [T]),
    middle: Vec<(&'a [T], &'a [T])>,
    skip: bool,
    last: Ending<'a, T>,
}

#[derive(Clone, Copy)]
enum Ending<'a, T> {
    Transposed(&'a [T]),
    Affine(&'a [T], &'a [T]),
}

/// Evaluates an expression with the activation, or with its slopes where it has no other parts.
macro_rules! with_slopes {
    ($activation:expr, $rho:ident => $body:expr) => {
        match $activation.slopes() {
            Some($rho) => $body,
            None => {
                let $rho = $activation;
                $body
            }
        }
    };
}

fn plan<T: CpuElement>(shape: &StackShape) -> Plan {
    Plan::new(shape, T::kernels(simd::level()).lanes, size_of::<T>())
}

/// Whether the stack keeps extents and its neighbourhoods fit in the cache.
pub(crate) fn takes<T: CpuElement>(shape: &StackShape) -> bool {
    let (rank, kernel) = (shape.x.rank(), shape.first.extents());
    let same = kernel[3 - rank..].iter().all(|&k| k == 2 * shape.padding + 1);
    let plan = plan::<T>(shape);
    let (rows_in, rows_out) = plan.outer_rows();
    same && rows_in.max(rows_out) <= MOST_ROWS
}

pub(crate) fn kept<T: CpuElement>(shape: &StackShape) -> usize {
    plan::<T>(shape).kept()
}

/// Working memory of a pass.
pub(crate) fn scratch<T: CpuElement>(pass: StackPass, shape: &StackShape, threads: usize) -> Scratch {
    let plan = plan::<T>(shape);
    let shared = || adjoint::shared_len::<T>(&plan, &Hidden::Kept(&[]));
    let (buffer, each, tasks) = match pass {
        StackPass::Adjoint => (shared(), adjoint::thread_len(&plan, true), plan.slots),
        StackPass::Both => (map::packed_len(&plan) + shared(), adjoint::thread_len(&plan, false), plan.slots),
        _ => (map::packed_len(&plan), map::thread_len(&plan, pass == StackPass::Keep), plan.tasks()),
    };
    Scratch { buffer: buffer * size_of::<T>(), threads: threads.min(tasks) * each * size_of::<T>() }
}

/// The stack's map. See [`inn_core::Backend::stack`].
pub(crate) fn map<T: CpuElement, A: Pointwise>(
    cpu: &Cpu<T>,
    stack: &Stack<'_, Cpu<T>, A>,
    out: &mut ViewMut<'_, Cpu<T>>,
    write: Write,
    kept: Option<&mut [T]>,
) -> Result<()> {
    let shape = checked::<T, A>(stack)?;
    let plan = plan::<T>(&shape);
    inn_core::error::expect_shape("output of a stack", shape.x.with_channels(shape.outputs), out.shape())?;
    if let Some(kept) = &kept
        && kept.len() != plan.kept()
    {
        return Err(Error::shape("what a stack keeps", plan.kept(), kept.len()));
    }
    if write == Write::Set {
        out.fill(cpu, 0.0)?;
    }
    let weights = weights(stack)?;
    let inputs = stack.inputs.iter().map(|x| image(&plan, x)).collect::<Result<Vec<_>>>()?;
    let out = image_mut(&plan, out)?;
    let mut packed = cpu.alloc(map::packed_len(&plan))?;
    // SAFETY: the images are windows within their buffers, `out` is borrowed alone and covers no pixel twice.
    with_slopes!(stack.activation, rho => unsafe { map::map(&plan, rho, &weights, &inputs, out, kept, packed.as_mut_slice()) });
    Ok(())
}

/// The stack's adjoint. See [`inn_core::Backend::stack_vjp`].
pub(crate) fn vjp<T: CpuElement, A: Pointwise>(
    cpu: &Cpu<T>,
    stack: &Stack<'_, Cpu<T>, A>,
    kept: &[T],
    gout: &View<'_, Cpu<T>>,
    gx: &mut [ViewMut<'_, Cpu<T>>],
    gradients: &mut Update<'_, Cpu<T>>,
) -> Result<()> {
    let shape = checked::<T, A>(stack)?;
    let plan = plan::<T>(&shape);
    inn_core::error::expect_shape("cotangent of a stack", shape.x.with_channels(shape.outputs), gout.shape())?;
    if kept.len() != plan.kept() {
        return Err(Error::shape("what a stack keeps", plan.kept(), kept.len()));
    }
    if gx.len() != stack.inputs.len() || gx.iter().zip(stack.inputs).any(|(g, x)| g.shape() != x.shape()) {
        return Err(Error::backend("stack", "expected a cotangent of the shape of each input"));
    }
    let places = gradient_places(stack, &shape, gradients)?;
    let weights = weights(stack)?;
    let inputs = stack.inputs.iter().map(|x| image(&plan, x)).collect::<Result<Vec<_>>>()?;
    let gx = gx.iter_mut().map(|g| image_mut(&plan, g)).collect::<Result<Vec<_>>>()?;
    let gout = image(&plan, gout)?;
    let hidden = Hidden::Kept(kept);
    let mut shared = cpu.alloc(adjoint::shared_len(&plan, &hidden))?;
    let write = adder(gradients, &places);
    // SAFETY: as in `map`; what was kept has the plan's length.
    with_slopes!(stack.activation, rho => unsafe {
        adjoint::adjoint(&plan, rho, &weights, (&inputs, &gx), gout, hidden, shared.as_mut_slice(), write)
    });
    Ok(())
}

/// The map within one state. See [`inn_core::Backend::stack_add`].
pub(crate) fn add<T: CpuElement, A: Pointwise>(cpu: &Cpu<T>, stack: &Stack<'_, Cpu<T>, A>, state: &mut Update<'_, Cpu<T>>) -> Result<()> {
    let (_, plan, windows) = in_place(stack, "state", state)?;
    let weights = weights(stack)?;
    let [kept, moved] = lanes(&plan, state, windows)?;
    let mut inputs = vec![kept];
    for x in stack.inputs {
        inputs.push(image(&plan, x)?);
    }
    let mut packed = cpu.alloc(map::packed_len(&plan))?;
    // SAFETY: the windows are disjoint and lie within the buffer that is borrowed alone.
    with_slopes!(stack.activation, rho => unsafe { map::map(&plan, rho, &weights, &inputs, moved, None, packed.as_mut_slice()) });
    Ok(())
}

/// The map within one state and its adjoint. See [`inn_core::Backend::stack_pull`].
pub(crate) fn pull<T: CpuElement, A: Pointwise>(
    cpu: &Cpu<T>,
    stack: &Stack<'_, Cpu<T>, A>,
    state: &mut Update<'_, Cpu<T>>,
    cotangent: &mut Update<'_, Cpu<T>>,
    gx: &mut [ViewMut<'_, Cpu<T>>],
    gradients: &mut Update<'_, Cpu<T>>,
) -> Result<()> {
    let (shape, plan, windows) = in_place(stack, "state", state)?;
    let (_, _, cotangents) = in_place(stack, "cotangent", cotangent)?;
    if gx.len() != stack.inputs.len() || gx.iter().zip(stack.inputs).any(|(g, x)| g.shape() != x.shape()) {
        return Err(Error::backend("stack", "expected a cotangent of the shape of each input"));
    }
    let places = gradient_places(stack, &shape, gradients)?;
    let weights = weights(stack)?;
    let [kept, moved] = lanes(&plan, state, windows)?;
    let [gkept, gout] = lanes(&plan, cotangent, cotangents)?;
    let (mut inputs, mut to) = (vec![kept], vec![gkept]);
    for (x, g) in stack.inputs.iter().zip(gx) {
        inputs.push(image(&plan, x)?);
        to.push(image_mut(&plan, g)?);
    }
    let hidden = Hidden::Again(moved);
    let mut shared = cpu.alloc(adjoint::shared_len(&plan, &hidden))?;
    let write = adder(gradients, &places);
    // SAFETY: as in `add`, for both buffers.
    with_slopes!(stack.activation, rho => unsafe {
        adjoint::adjoint(&plan, rho, &weights, (&inputs, &to), gout, hidden, shared.as_mut_slice(), write)
    });
    Ok(())
}

/// The gate of the passes within a state: shapes, and two disjoint windows of them.
fn in_place<T: CpuElement, A>(
    stack: &Stack<'_, Cpu<T>, A>,
    name: &str,
    update: &Update<'_, Cpu<T>>,
) -> Result<(StackShape, Plan, [Window; 2])> {
    let &[kept, moved] = update.windows() else {
        return Err(Error::backend("stack", format!("expected two windows of the {name}, got {:?}", update.windows())));
    };
    let shape = stack.shape_in_place(kept.shape)?;
    if !takes::<T>(&shape) {
        return Err(Error::backend("stack", format!("expected a stack that the backend takes, got {shape:?}")));
    }
    inn_core::error::expect_shape("output of a stack", kept.shape.with_channels(shape.outputs), moved.shape)?;
    if !kept.is_disjoint(&moved) || !kept.is_injective() || !moved.is_injective() {
        return Err(Error::backend("stack", format!("expected disjoint windows of the {name}, got {kept:?} and {moved:?}")));
    }
    let plan = plan::<T>(&shape);
    Ok((shape, plan, [kept, moved]))
}

fn lanes<T: CpuElement>(plan: &Plan, update: &mut Update<'_, Cpu<T>>, windows: [Window; 2]) -> Result<[Image<T>; 2]> {
    let values = update.buffer_mut().as_mut_slice();
    let (data, len) = (values.as_mut_ptr(), values.len());
    Ok([from_window(plan, data, len, windows[0])?, from_window(plan, data, len, windows[1])?])
}

/// Where the gradients of the weights go, checked.
fn gradient_places<T: CpuElement, A>(
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
fn adder<'a, T: CpuElement>(
    gradients: &'a mut Update<'_, Cpu<T>>,
    places: &'a [Range<usize>],
) -> impl FnMut(usize, Add<'_, T>) + use<'a, T> {
    let to = gradients.buffer_mut().as_mut_slice();
    |i, add| add(&mut to[places[i].clone()])
}

fn checked<T: CpuElement, A>(stack: &Stack<'_, Cpu<T>, A>) -> Result<StackShape> {
    let shape = stack.shape()?;
    if !takes::<T>(&shape) {
        return Err(Error::backend("stack", format!("expected a stack that the backend takes, got {shape:?}")));
    }
    Ok(shape)
}

fn weights<'a, T: CpuElement, A>(stack: &Stack<'a, Cpu<T>, A>) -> Result<Weights<'a, T>> {
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

fn image<T: CpuElement>(plan: &Plan, view: &View<'_, Cpu<T>>) -> Result<Image<T>> {
    from_window(plan, view.buffer().as_slice().as_ptr().cast_mut(), view.buffer().as_slice().len(), view.window())
}

fn image_mut<T: CpuElement>(plan: &Plan, view: &mut ViewMut<'_, Cpu<T>>) -> Result<Image<T>> {
    let w = view.window();
    if !w.is_injective() {
        return Err(Error::shape("output of a stack", "a window without repetition", format!("{w:?}")));
    }
    let values = view.buffer_mut().as_mut_slice();
    from_window(plan, values.as_mut_ptr(), values.len(), w)
}

fn from_window<T>(plan: &Plan, data: *mut T, len: usize, w: Window) -> Result<Image<T>> {
    if w.end() > len || (w.pixel_stride != 1 && w.shape.pixels() > 1) {
        return Err(Error::shape("image of a stack", "a window within its buffer, pixels without gaps", format!("{w:?}")));
    }
    let (batch_stride, step) = if plan.samples_are_pixels { (0, w.batch_stride) } else { (w.batch_stride, 1) };
    // SAFETY: the window starts within the buffer.
    let data = unsafe { data.add(w.offset) };
    Ok(Image { data, channels: w.shape.channels(), batch_stride, channel_stride: w.channel_stride, step })
}
