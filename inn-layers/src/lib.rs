//! Invertible layers and the networks inside them.
//!
//! Every layer is written once against [`inn_core::Invertible`] and runs in f32 and f64, on every backend, for dense data and in 1, 2 and 3
//! dimensions. Its page holds its map, its log-determinant and the derivation of its gradient.
//!
//! | layer | map | log-determinant |
//! |---|---|---|
//! | [`ActNorm`] | y = s ⊙ x + b per channel | N Σ ln\|s\| |
//! | [`AffineLayer`] | y = s ⊙ x + b per value | Σ ln\|s\| |
//! | [`Conv1x1`] | y = W x per pixel: W = P L U, Cayley or exponential of a skew matrix, free | N ln\|det W\| |
//! | [`Householder`] | y = H_m ... H_1 x per pixel | 0 |
//! | [`Mixing`] | y = H_m ... H_1 (s ⊙ x + b) per pixel | N Σ ln\|s\| |
//! | [`Coupling`] with [`Affine`](coupling::Affine) | y = \[x1; exp ψ(u) ⊙ x2 + t\], (u, t) = N(x1) | Σ ψ(u) |
//! | [`Coupling`] with [`Additive`](coupling::Additive) | y = \[x1; x2 + N(x1)\] | 0 |
//! | [`GlowCoupling`](glow::GlowCoupling), [`GlowStep`] | mixing and affine coupling, with ActNorm | sum |
//! | [`BasicCoupling`](lanes::BasicCoupling) | y = \[x1; exp ψ(u) ⊙ x2 + t\] on two lanes | Σ ψ(u) |
//! | [`HintCoupling`](hint::HintCoupling) | h(x) = \[h(x1); S(x1) ⊙ h(x2) + T(x1)\], recursively | sum |
//! | [`ConditionalHint`](hint::ConditionalHint) | HINT on two lanes, the second of which conditions the first | sum |
//! | [`IrimCoupling`](lanes::IrimCoupling) | y = Qᵀ \[x1; x2 + N(x1)\], \[x1; x2\] = Q x | 0 |
//! | [`GinCoupling`](lanes::GinCoupling) | an affine coupling whose log-scales sum to 0 | 0 |
//! | [`HyperbolicLayer`](hyperbolic::HyperbolicLayer) | N = 2 Q - P + F(Q) on two lanes | 0 |
//! | [`SqueezeLanes`](hyperbolic::SqueezeLanes), [`inn_core::Squeeze`] | resolution for channels | 0 |
//! | [`LearnableSqueeze`] | strided convolution with an orthogonal kernel exp A | 0 |
//!
//! [`permute`] mixes channels around any layer. Composition (tuples, chains, lanes, scales, reversal) is in [`inn_core::compose`]. The networks
//! inside couplings are in [`conditioner`]; a coupling becomes conditional when its network reads a condition.

pub mod actnorm;
pub mod affine;
pub mod conditioner;
pub mod conv1x1;
pub mod coupling;
pub mod glow;
pub mod hint;
pub mod householder;
pub mod hyperbolic;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod instances;
pub mod lanes;
pub mod learnable_squeeze;
pub mod mixing;
pub mod permute;

pub use actnorm::ActNorm;
pub use affine::AffineLayer;
pub use conv1x1::Conv1x1;
pub use coupling::Coupling;
pub use glow::{GlowStep, StepConfig};
pub use householder::Householder;
pub use learnable_squeeze::LearnableSqueeze;
pub use mixing::Mixing;

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
