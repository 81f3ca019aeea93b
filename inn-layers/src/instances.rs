//! Code of every layer on the CPU, compiled with this crate.
//!
//! A layer is generic over its backend, so the compiler writes its code where a backend is named: again in every program. Builds that share
//! generics between crates (rustc does so below optimization level 2) find the code here instead. Others do not compile this module, for
//! they would not use it.

use crate::conditioner::{ConditionalResidualBlock, Net};
use crate::coupling::{Additive, Affine, Coupling};
use crate::glow::{GlowCoupling, GlowStep};
use crate::hint::{ConditionalHint, HintCoupling};
use crate::hyperbolic::{HyperbolicStep, SqueezeLanes};
use crate::lanes::{GinCoupling, IrimCoupling};
use crate::{ActNorm, AffineLayer, Conv1x1, Householder, LearnableSqueeze, Mixing};
use inn_core::dual::Dual;
use inn_core::{Backend, Direction, Gradients, Inputs, Invertible, Result, Setup, Squeeze, View, ViewMut};
use inn_ops::Cpu;

type Map<L, B> = fn(&L, Direction, &Inputs<'_, B>, &mut ViewMut<'_, B>, &mut ViewMut<'_, B>) -> Result<()>;
type Pull<L, B> =
    fn(&L, Direction, &Inputs<'_, B>, &mut ViewMut<'_, B>, &mut ViewMut<'_, B>, View<'_, B>, &mut Gradients<'_, B>) -> Result<()>;
type Initialize<L, B> = fn(&L, Direction, &mut Setup<'_, B>, &mut ViewMut<'_, B>) -> Result<()>;

/// A layer's maps on a backend, and on pairs over it.
fn layer<L: Invertible, B: Backend>() -> [*const (); 5] {
    [
        (L::map::<B> as Map<L, B>) as *const (),
        (L::pull::<B> as Pull<L, B>) as *const (),
        (L::initialize::<B> as Initialize<L, B>) as *const (),
        (L::map::<Dual<B>> as Map<L, Dual<B>>) as *const (),
        (L::pull::<Dual<B>> as Pull<L, Dual<B>>) as *const (),
    ]
}

fn layers<B: Backend>() -> Vec<[*const (); 5]> {
    vec![
        layer::<ActNorm, B>(),
        layer::<AffineLayer, B>(),
        layer::<Conv1x1, B>(),
        layer::<Householder, B>(),
        layer::<LearnableSqueeze, B>(),
        layer::<Mixing, B>(),
        layer::<Squeeze, B>(),
        layer::<SqueezeLanes, B>(),
        layer::<GlowStep, B>(),
        layer::<GlowCoupling, B>(),
        layer::<Coupling<Net, Affine>, B>(),
        layer::<Coupling<ConditionalResidualBlock, Additive>, B>(),
        layer::<HintCoupling, B>(),
        layer::<ConditionalHint, B>(),
        layer::<IrimCoupling, B>(),
        layer::<GinCoupling, B>(),
        layer::<HyperbolicStep, B>(),
    ]
}

/// Addresses of the code, so that none of it is left out.
#[doc(hidden)]
pub fn instances() -> Vec<[*const (); 5]> {
    [layers::<Cpu<f32>>(), layers::<Cpu<f64>>()].concat()
}
