//! The stack of convolutions inside a conditioner, fused: the CPU's answer to [`inn_core::stack`].
//!
//! A strip of pixels passes through all layers, forward or backward, before the next one starts, in arrays `[channel][pixel]` that stay in
//! the cache of one core. The first convolution becomes a matrix product on gathered neighbourhoods, the transposed one a
//! product whose rows are scattered, and everything between is pixel by pixel; so all arithmetic runs in the register-blocked kernels of
//! [`conv`](crate::conv). Gathering and scattering cost a pass over the few channels outside, and nothing over the hidden ones.

mod adjoint;
mod common;
mod coupling;
mod cut;
mod flat;
pub(crate) mod fold;
mod gate;
pub(crate) mod lines;
mod map;
pub(crate) mod matrix;
mod packing;
mod plan;
mod pointwise;
pub(crate) mod product;
mod steps;
mod sums;
mod walk;
mod within;

pub(crate) use plan::Plan;
pub(crate) use within::{add, couple, couple_pull, pull};

use crate::cpu::{Cpu, CpuElement};
use crate::simd;
use adjoint::Hidden;
use gate::{adder, checked, gradient_places, image, image_mut};
use inn_core::memory::Scratch;
use inn_core::stack::{Pointwise, Stack, StackPass, StackShape};
use inn_core::view::{Update, View, ViewMut};
use inn_core::{Backend, Error, Result, Write};

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

use with_slopes;

fn plan<T: CpuElement>(shape: &StackShape, pass: StackPass) -> Plan {
    Plan::new(shape, pass, T::kernels(simd::level()).lanes, size_of::<T>())
}

/// Whether the stack keeps extents, its neighbourhoods fit in the cache, and a pass over a coupling may go group by group.
pub(crate) fn takes<T: CpuElement>(pass: StackPass, shape: &StackShape) -> bool {
    let (rank, kernel) = (shape.x.rank(), shape.first.extents());
    let same = kernel[3 - rank..].iter().all(|&k| k == 2 * shape.padding + 1);
    let plan = plan::<T>(shape, pass);
    let (rows_in, rows_out) = plan.outer_rows();
    let couples = match pass {
        StackPass::Couple => plan.couples(false),
        StackPass::CouplePull => plan.couples(true),
        _ => true,
    };
    same && rows_in.max(rows_out) <= MOST_ROWS && couples
}

pub(crate) fn kept<T: CpuElement>(shape: &StackShape) -> usize {
    plan::<T>(shape, StackPass::Keep).kept()
}

/// Working memory of a pass.
pub(crate) fn scratch<T: CpuElement>(pass: StackPass, shape: &StackShape, threads: usize) -> Scratch {
    let plan = plan::<T>(shape, pass);
    let shared = || adjoint::shared_len::<T>(&plan, &Hidden::Kept(&[]));
    let (buffer, each, tasks) = match pass {
        StackPass::Adjoint => (shared(), adjoint::thread_len(&plan, true), plan.slots),
        StackPass::Both => (map::shared_len(&plan) + shared(), adjoint::thread_len(&plan, false), plan.slots),
        StackPass::Couple | StackPass::CouplePull => {
            let back = pass == StackPass::CouplePull;
            (coupling::shared_len(&plan, back), coupling::thread_len(&plan, back), coupling::tasks(&plan, back))
        }
        StackPass::Map | StackPass::Keep => (map::shared_len(&plan), map::thread_len(&plan, pass == StackPass::Keep), plan.tasks()),
    };
    let threads = if plan.is_small() { 1 } else { threads.min(tasks) };
    Scratch { buffer: buffer * size_of::<T>(), caller: 0, each: each * size_of::<T>(), threads }
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
    let plan = plan::<T>(&shape, if kept.is_some() { StackPass::Keep } else { StackPass::Map });
    inn_core::error::expect_shape("output of a stack", shape.x.with_channels(shape.outputs), out.shape())?;
    if let Some(kept) = &kept
        && kept.len() != plan.kept()
    {
        return Err(Error::shape("what a stack keeps", plan.kept(), kept.len()));
    }
    if write == Write::Set {
        out.fill(cpu, 0.0)?;
    }
    let weights = gate::weights(stack)?;
    let inputs = stack.inputs.iter().map(|x| image(&plan, x)).collect::<Result<Vec<_>>>()?;
    let out = image_mut(&plan, out)?;
    let mut packed = cpu.alloc(map::shared_len(&plan))?;
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
    let plan = plan::<T>(&shape, StackPass::Adjoint);
    inn_core::error::expect_shape("cotangent of a stack", shape.x.with_channels(shape.outputs), gout.shape())?;
    if kept.len() != plan.kept() {
        return Err(Error::shape("what a stack keeps", plan.kept(), kept.len()));
    }
    if gx.len() != stack.inputs.len() || gx.iter().zip(stack.inputs).any(|(g, x)| g.shape() != x.shape()) {
        return Err(Error::backend("stack", "expected a cotangent of the shape of each input"));
    }
    let places = gradient_places(stack, &shape, gradients)?;
    let weights = gate::weights(stack)?;
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
