//! Couplings whose conditioner is one stack, offered to the backend as a whole.

use super::Ports;
use inn_core::primitive::Primitive;
use inn_core::stack::{Pointwise, Stack, StackPass};
use inn_core::{Backend, Error, Gradients, Inputs, Kernel, Param, Result, Update, View, ViewMut};

/// Whether the backend takes a pass of a stack within a state.
fn takes<B: Backend, A: Pointwise>(backend: &B, stack: &Stack<'_, B, A>, state: &Update<'_, B>, pass: StackPass) -> Result<bool> {
    let kept = state.windows().first().map(|w| w.shape);
    let kept = kept.ok_or_else(|| Error::backend(backend.name(), "expected the windows of an input and of an output"))?;
    Ok(backend.takes(&Primitive::Stack { pass, shape: stack.shape_in_place(kept)? }))
}

/// [`Conditioner::couple`](inn_core::Conditioner::couple) of a stack.
pub(super) fn couple<B: Backend, A: Pointwise, K: Kernel>(
    stack: &Stack<'_, B, A>,
    at: &Inputs<'_, B>,
    kernel: &K,
    state: &mut Update<'_, B>,
    logdet: &mut ViewMut<'_, B>,
) -> Result<bool> {
    let taken = takes(at.backend(), stack, state, StackPass::Couple)?;
    if taken {
        at.backend().couple(stack, kernel, state, logdet)?;
    }
    Ok(taken)
}

/// [`Conditioner::couple_pull`](inn_core::Conditioner::couple_pull) of a stack with these `weights`, in the order of the backend's cotangents.
pub(super) fn couple_pull<B: Backend, A: Pointwise, K: Kernel>(
    (stack, ports, weights): (&Stack<'_, B, A>, Ports, &[Param]),
    at: &Inputs<'_, B>,
    kernel: &K,
    gl: View<'_, B>,
    (state, cotangent): (&mut Update<'_, B>, &mut Update<'_, B>),
    grads: &mut Gradients<'_, B>,
) -> Result<bool> {
    let taken = takes(at.backend(), stack, state, StackPass::CouplePull)?;
    if taken {
        let Gradients { theta, conditions } = grads;
        let mut gx = Vec::new();
        if let Some((index, _)) = ports.condition {
            gx.push(Gradients::<B>::of_condition(conditions, index, at.samples.clone())?);
        }
        at.backend().couple_pull(stack, kernel, gl, state, cotangent, &mut gx, &mut theta.update(weights)?)?;
    }
    Ok(taken)
}
