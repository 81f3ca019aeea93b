//! Any layer or network as one type, so that a generator can compose them and the compiler sees the harness once.

use inn_core::{Chain, Multiscale, On, Reversed, Squeeze, one_of};
use inn_layers::conditioner::ConditionalResidualBlock;
use inn_layers::coupling::{Additive, Coupling};
use inn_layers::glow::{GlowCoupling, GlowStep};
use inn_layers::hint::{ConditionalHint, HintCoupling};
use inn_layers::hyperbolic::{HyperbolicStep, SqueezeLanes};
use inn_layers::lanes::{BasicCoupling, GinCoupling, IrimCoupling};
use inn_layers::{ActNorm, AffineLayer, Conv1x1, Householder, LearnableSqueeze};
use inn_networks::conditional_hint::{ConditionalHintNetwork, MultiscaleConditionalHint};
use inn_networks::{ConcatenatedGlow, ConditionalGlow, Glow, Hyperbolic, IrimLoop, MultiscaleHint, SummarizedGlow, SummarizedHint};

one_of! {
    pub enum Any {
        ActNorm(ActNorm),
        Affine(AffineLayer),
        Householder(Householder),
        Conv1x1(Conv1x1),
        GlowStep(GlowStep),
        GlowCoupling(GlowCoupling),
        Basic(BasicCoupling),
        Gin(GinCoupling),
        Hint(HintCoupling),
        ConditionalHint(ConditionalHint),
        Irim(IrimCoupling),
        OtherShape(Coupling<ConditionalResidualBlock, Additive>),
        Hyperbolic(HyperbolicStep),
        Squeeze(Squeeze),
        Learnable(LearnableSqueeze),
        Lanes(SqueezeLanes),
        Chain(Chain<Any>),
        Reversed(Box<Reversed<Any>>),
        On(Box<On<Any>>),
        Scales(Multiscale<Any>),
        Glow(Glow),
        ConditionalGlow(ConditionalGlow),
        HyperbolicNet(Hyperbolic),
        Hints(MultiscaleHint),
        Pair(ConditionalHintNetwork),
        Pairs(MultiscaleConditionalHint),
        Summarized(Box<SummarizedGlow>),
        Concatenated(Box<ConcatenatedGlow>),
        SummarizedHint(Box<SummarizedHint>),
        Loop(IrimLoop),
    }
}
