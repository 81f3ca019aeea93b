//! Any layer or network as one type, so that a generator can compose them and the compiler sees the harness once.

use inn_core::{Backend, Chain, Direction, Facts, Gradients, Inputs, Invertible, Multiscale, On, Result, Reversed, Setup, Shape, Squeeze};
use inn_core::{View, ViewMut, Visitor};
use inn_layers::conditioner::ConditionalResidualBlock;
use inn_layers::coupling::{Additive, Coupling};
use inn_layers::glow::{GlowCoupling, GlowStep};
use inn_layers::hint::{ConditionalHint, HintCoupling};
use inn_layers::hyperbolic::{HyperbolicStep, SqueezeLanes};
use inn_layers::lanes::{BasicCoupling, GinCoupling, IrimCoupling};
use inn_layers::{ActNorm, AffineLayer, Conv1x1, Householder, LearnableSqueeze};
use inn_networks::conditional_hint::{ConditionalHintNetwork, MultiscaleConditionalHint};
use inn_networks::{ConditionalGlow, Glow, Hyperbolic, IrimLoop, MultiscaleHint, SummarizedGlow};

macro_rules! any {
    ($($variant:ident($layer:ty)),+ $(,)?) => {
        pub enum Any { $($variant($layer)),+ }

        macro_rules! each {
            ($any:expr, $l:ident => $body:expr) => {
                match $any { $(Any::$variant($l) => $body),+ }
            };
        }
    };
}

any! {
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
    Loop(IrimLoop),
}

impl Invertible for Any {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        each!(self, l => l.check(dir, facts, input))
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        each!(self, l => l.map(dir, at, x, logdet))
    }
    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        each!(self, l => l.pull(dir, at, y, gy, gl, grads))
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        each!(self, l => l.initialize(dir, at, x))
    }
    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        each!(self, l => l.walk(path, dir, at, x, visitor))
    }
    fn name(&self) -> String {
        each!(self, l => l.name())
    }
}
