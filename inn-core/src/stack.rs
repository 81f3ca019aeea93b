//! The stack of convolutions inside a conditioner, as one offer to a backend.

use crate::backend::Backend;
use crate::error::Result;
use crate::primitive::Primitive;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::view::{Update, View};

/// A pointwise function with its derivative, as a type that a backend can compile into a fused kernel.
pub trait Pointwise: Copy + Send + Sync + 'static {
    /// ρ(x).
    fn value<T: Scalar>(&self, x: T) -> T;
    /// ρ'(x).
    fn derivative<T: Scalar>(&self, x: T) -> T;

    /// The slopes above and below 0 of a function that has no other parts, such as ReLU: a backend may then have a kernel without
    /// a choice of functions in it.
    fn slopes(&self) -> Option<Slopes> {
        None
    }
}

/// `above x` where x ≥ 0, `below x` elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slopes {
    /// The slope at 0 and above.
    pub above: f64,
    /// The slope below 0.
    pub below: f64,
}

impl Pointwise for Slopes {
    #[inline(always)]
    fn value<T: Scalar>(&self, x: T) -> T {
        self.derivative(x) * x
    }
    #[inline(always)]
    fn derivative<T: Scalar>(&self, x: T) -> T {
        x.select_ge(T::zero(), T::constant(self.above), T::constant(self.below))
    }
    fn slopes(&self) -> Option<Self> {
        Some(*self)
    }
}

/// A weight (outputs, inputs, kernel..) and a bias (1, outputs).
pub struct Affine<'a, B: Backend> {
    /// W.
    pub weight: View<'a, B>,
    /// b.
    pub bias: View<'a, B>,
}

impl<B: Backend> Clone for Affine<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Affine<'_, B> {}

/// How a [`Stack`] ends.
pub enum Last<'a, B: Backend> {
    /// `out = Wᵀ * X`, the transposed convolution with a weight (hidden, outputs, kernel..) and the padding of the first.
    Transposed(View<'a, B>),
    /// `out = W X + b`, pixel by pixel.
    Affine(Affine<'a, B>),
}

/// A convolution, layers that treat each pixel alike, and a way back, with one activation:
///
/// ```text
/// Y_1 = W_1 * x + b_1,    X_i = ρ(Y_i),    Y_i = W_i X_{i-1} + b_i (+ X_{i-1}),    out = Wᵀ * X_n   or   W X_n + b
/// ```
/// Strides are 1, and the kernels keep the extents of x. `x` may lie in several windows, whose channels follow each other in W_1: a
/// state and its condition.
///
/// Such a stack is where the hidden channels live. A backend that takes it up carries all of it out on one tile of pixels after the other
/// ([`Backend::stack`], [`Backend::stack_vjp`]), so that hidden values stay near the core that needs them; the composed form is
/// the conditioner's own text.
pub struct Stack<'a, B: Backend, A> {
    /// ρ.
    pub activation: A,
    /// x.
    pub inputs: &'a [View<'a, B>],
    /// Padding of the first convolution (and of the transposed one).
    pub padding: usize,
    /// W_1 and b_1.
    pub first: Affine<'a, B>,
    /// W_i and b_i, each (hidden, hidden).
    pub middle: &'a [Affine<'a, B>],
    /// Whether the middle layers add their input.
    pub skip: bool,
    /// The way back.
    pub last: Last<'a, B>,
}

/// Which pass over a [`Stack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackPass {
    /// out from x.
    Map,
    /// The same, keeping what the adjoint needs.
    Keep,
    /// The cotangents of x and of all weights, from what was kept.
    Adjoint,
    /// The map once more together with its adjoint, keeping nothing.
    Both,
    /// The map, whose output goes to a kernel ([`Backend::couple`]).
    Couple,
    /// The way back of that ([`Backend::couple_pull`]).
    CouplePull,
}

/// The shapes of a [`Stack`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StackShape {
    /// x, all windows together.
    pub x: Shape,
    /// Padding of the first convolution.
    pub padding: usize,
    /// W_1, (hidden, inputs, kernel..).
    pub first: Shape,
    /// Number of middle layers.
    pub middle: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Whether the last layer is a transposed convolution.
    pub transposed: bool,
}

impl StackShape {
    /// Hidden channels.
    pub fn hidden(&self) -> usize {
        self.first.batch()
    }

    /// Multiplications by weights at each pixel, one way.
    pub fn weights(&self) -> usize {
        let last = self.outputs * if self.transposed { self.first.pixels() } else { 1 };
        self.hidden() * (self.first.sample_len() + self.middle * self.hidden() + last)
    }
}

impl<B: Backend, A> Stack<'_, B, A> {
    /// The shapes.
    ///
    /// # Errors
    /// Parts that do not fit together.
    pub fn shape(&self) -> Result<StackShape> {
        self.shape_after(&[])
    }

    /// The shapes of a stack that reads `kept`, a window of the state that it changes, before its other inputs
    /// ([`Backend::stack_add`]).
    ///
    /// # Errors
    /// As [`shape`](Self::shape).
    pub fn shape_in_place(&self, kept: Shape) -> Result<StackShape> {
        self.shape_after(&[kept])
    }

    fn shape_after(&self, before: &[Shape]) -> Result<StackShape> {
        let refuse = |what: &str| crate::error::Error::backend("stack", format!("expected {what}"));
        let inputs: Vec<Shape> = before.iter().copied().chain(self.inputs.iter().map(View::shape)).collect();
        let Some(&x) = inputs.first() else { return Err(refuse("at least one input")) };
        let channels = inputs.iter().map(|s| s.channels()).sum();
        if !inputs.iter().all(|s| s.batch() == x.batch() && s.extents() == x.extents()) {
            return Err(refuse("inputs of equal batch and extents"));
        }
        let first = self.first.weight.shape();
        let hidden = first.batch();
        let bias = |b: &View<'_, B>, n: usize| (b.shape().batch(), b.shape().channels(), b.shape().pixels()) == (1, n, 1);
        if first.channels() != channels || first.rank() != x.rank() || !bias(&self.first.bias, hidden) {
            return Err(refuse("a first weight that fits the inputs, and a bias a hidden channel"));
        }
        let square = |a: &Affine<'_, B>| a.weight.shape().dims().iter().product::<usize>() == hidden * hidden && bias(&a.bias, hidden);
        if !self.middle.iter().all(square) {
            return Err(refuse("square middle weights"));
        }
        let (outputs, fits) = match &self.last {
            Last::Transposed(w) => (w.shape().channels(), w.shape().batch() == hidden && w.shape().extents() == first.extents()),
            Last::Affine(a) => {
                let (outputs, s) = (a.weight.shape().batch(), a.weight.shape());
                (outputs, s.channels() == hidden && s.pixels() == 1 && bias(&a.bias, outputs))
            }
        };
        if !fits {
            return Err(refuse("a last weight that fits the hidden channels"));
        }
        let transposed = matches!(self.last, Last::Transposed(_));
        Ok(StackShape { x: x.with_channels(channels), padding: self.padding, first, middle: self.middle.len(), outputs, transposed })
    }

    /// The description of a pass.
    ///
    /// # Errors
    /// As [`shape`](Self::shape).
    pub fn primitive(&self, pass: StackPass) -> Result<Primitive> {
        Ok(Primitive::Stack { pass, shape: self.shape()? })
    }
}

/// The description of a pass within a state; see [`Backend::stack_add`].
pub(crate) fn in_place<B: Backend, A>(stack: &Stack<'_, B, A>, state: &Update<'_, B>, pass: StackPass) -> Result<Primitive> {
    let kept = state.windows().first().map(|w| w.shape);
    let kept = kept.ok_or_else(|| crate::error::Error::backend("stack", "expected the windows of an input and of an output"))?;
    Ok(Primitive::Stack { pass, shape: stack.shape_in_place(kept)? })
}
