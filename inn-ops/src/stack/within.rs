//! Passes within one state: the stack reads some of its channels, and changes others.

use super::adjoint::{self, Hidden};
use super::coupling;
use super::gate::{adder, expect_cotangents, gradient_places, image, image_mut, in_place, lanes, weights};
use super::map;
use super::with_slopes;
use crate::conv::scratch::Shared;
use crate::cpu::{Cpu, CpuElement};
use crate::zip::{self, Operand};
use inn_core::kernel::Arity;
use inn_core::stack::{Pointwise, Stack, StackPass};
use inn_core::view::{Update, View, ViewMut};
use inn_core::{Backend, Error, Kernel, Result, Shape, Window};
use std::ops::Range;

/// The map within one state. See [`inn_core::Backend::stack_add`].
pub(crate) fn add<T: CpuElement, A: Pointwise>(cpu: &Cpu<T>, stack: &Stack<'_, Cpu<T>, A>, state: &mut Update<'_, Cpu<T>>) -> Result<()> {
    let (_, plan, windows) = in_place(stack, StackPass::Map, 1, "state", state)?;
    let weights = weights(stack)?;
    let [kept, moved] = lanes(&plan, state, windows)?;
    let mut inputs = vec![kept];
    for x in stack.inputs {
        inputs.push(image(&plan, x)?);
    }
    let mut packed = cpu.alloc(map::shared_len(&plan))?;
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
    let (shape, plan, windows) = in_place(stack, StackPass::Both, 1, "state", state)?;
    let (_, _, cotangents) = in_place(stack, StackPass::Both, 1, "cotangent", cotangent)?;
    expect_cotangents(stack, gx)?;
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

/// A stack whose output goes to a kernel. See [`inn_core::Backend::couple`].
pub(crate) fn couple<T: CpuElement, A: Pointwise, K: Kernel>(
    cpu: &Cpu<T>,
    stack: &Stack<'_, Cpu<T>, A>,
    kernel: &K,
    state: &mut Update<'_, Cpu<T>>,
    logdet: &mut ViewMut<'_, Cpu<T>>,
) -> Result<()> {
    let groups = K::READ;
    expect_arity::<K>([groups.max(1), 1, 0, K::SAMPLE_SUMS.min(1)])?;
    let (_, plan, [kept, moved]) = in_place(stack, StackPass::Couple, groups, "state", state)?;
    let weights = weights(stack)?;
    let mut inputs = lanes(&plan, state, [kept, moved])?[..1].to_vec();
    for x in stack.inputs {
        inputs.push(image(&plan, x)?);
    }
    let sums = logdet.window();
    expect_per_sample(moved.shape, sums, logdet.buffer().as_slice().len())?;
    let (values, logdet) = (Shared::new(state.buffer_mut().as_mut_slice()), Shared::new(logdet.buffer_mut().as_mut_slice()));
    let meet = |samples: Range<usize>, pixels: Range<usize>, out: *mut T| {
        let all = moved.samples(samples.clone());
        let here = part(all, &pixels);
        let mut operands: Vec<_> = output(all.shape, groups, &pixels, out).collect();
        operands.push(Operand::new(values.get(), here, true));
        // SAFETY: the windows lie within their buffers, and the output where it was announced; each group of samples has its own parts of all.
        unsafe {
            for (sum, sample) in zip::part(kernel, here.shape, &mut operands).into_iter().zip(samples) {
                let place = logdet.get().add(sums.offset + sample * sums.batch_stride);
                *place = T::narrow((*place).widen() + sum);
            }
        }
    };
    let mut packed = cpu.alloc(coupling::shared_len(&plan, false))?;
    // SAFETY: as in `add`; the kernel changes what the stack does not read.
    with_slopes!(stack.activation, rho => unsafe { coupling::map(&plan, rho, &weights, &inputs, &meet, packed.as_mut_slice()) });
    Ok(())
}

/// The way back of a stack whose output goes to a kernel. See [`inn_core::Backend::couple_pull`].
pub(crate) fn couple_pull<T: CpuElement, A: Pointwise, K: Kernel>(
    cpu: &Cpu<T>,
    stack: &Stack<'_, Cpu<T>, A>,
    kernel: &K,
    gl: &View<'_, Cpu<T>>,
    (state, cotangent): (&mut Update<'_, Cpu<T>>, &mut Update<'_, Cpu<T>>),
    gx: &mut [ViewMut<'_, Cpu<T>>],
    gradients: &mut Update<'_, Cpu<T>>,
) -> Result<()> {
    let groups = K::UPDATE.saturating_sub(2);
    expect_arity::<K>([1, groups.max(1) + 2, 0, 0])?;
    let (shape, plan, [kept, moved]) = in_place(stack, StackPass::CouplePull, groups, "state", state)?;
    let (_, _, [gkept, gmoved]) = in_place(stack, StackPass::CouplePull, groups, "cotangent", cotangent)?;
    expect_cotangents(stack, gx)?;
    let places = gradient_places(stack, &shape, gradients)?;
    let weights = weights(stack)?;
    let mut inputs = lanes(&plan, state, [kept, moved])?[..1].to_vec();
    let mut to = lanes(&plan, cotangent, [gkept, gmoved])?[..1].to_vec();
    for (x, g) in stack.inputs.iter().zip(gx) {
        inputs.push(image(&plan, x)?);
        to.push(image_mut(&plan, g)?);
    }
    expect_per_sample(moved.shape, gl.window(), gl.buffer().as_slice().len())?;
    let (values, cotangents) = (Shared::new(state.buffer_mut().as_mut_slice()), Shared::new(cotangent.buffer_mut().as_mut_slice()));
    let read = gl.buffer().as_slice();
    let per_sample = gl.window();
    let meet = |samples: Range<usize>, pixels: Range<usize>, out: *mut T| {
        let all = moved.samples(samples.clone());
        let (here, there) = (part(all, &pixels), part(gmoved.samples(samples.clone()), &pixels));
        let mut operands = vec![
            Operand::new(read.as_ptr().cast_mut(), per_sample.samples(samples).over_channels(here.shape), true),
            Operand::new(values.get(), here, true),
            Operand::new(cotangents.get(), there, true),
        ];
        operands.extend(output(all.shape, groups, &pixels, out));
        // SAFETY: as in `couple`; what is read alone is not written.
        unsafe { zip::part(kernel, here.shape, &mut operands) };
    };
    let mut shared = cpu.alloc(coupling::shared_len(&plan, true))?;
    let write = adder(gradients, &places);
    // SAFETY: as in `couple`, for both buffers.
    with_slopes!(stack.activation, rho => unsafe {
        coupling::pull(&plan, rho, &weights, (&inputs, &to), &meet, shared.as_mut_slice(), write)
    });
    Ok(())
}

/// Some pixels of a window.
fn part(w: Window, pixels: &Range<usize>) -> Window {
    if pixels.len() == w.shape.pixels() {
        return w;
    }
    let shape = w.shape.with_extents([1, 1, pixels.len()]);
    Window { offset: w.offset + pixels.start * w.pixel_stride, shape, ..w }
}

/// The groups of the output of some samples, of the shape of what they change: some pixels of them.
fn output<T>(moved: Shape, groups: usize, pixels: &Range<usize>, out: *mut T) -> impl Iterator<Item = Operand<T>> {
    let window = part(Window::contiguous(moved.with_channels(groups * moved.channels()), 0), pixels);
    (0..groups).map(move |i| Operand::new(out, window.channels(i * moved.channels()..(i + 1) * moved.channels()), true))
}

fn expect_arity<K: Kernel>(expected: [usize; 4]) -> Result<()> {
    let arity = Arity::of::<K>();
    let got = [arity.read, arity.update, arity.channel_sums, arity.sample_sums];
    if got == expected {
        return Ok(());
    }
    Err(Error::backend(
        "coupling",
        format!("expected a kernel of {expected:?} operands (read, update, channel sums, sample sums), got {got:?}"),
    ))
}

/// One value a sample.
fn expect_per_sample(moved: Shape, values: Window, len: usize) -> Result<()> {
    inn_core::error::expect_shape("values of the samples of a coupling", Shape::per_sample(moved.batch()), values.shape)?;
    if values.end() > len || !values.is_injective() {
        return Err(Error::shape("values of the samples of a coupling", "a window within its buffer", format!("{values:?}")));
    }
    Ok(())
}
