//! The CPU backend of invertible neural networks, and what layers compute with.
//!
//! | module | holds |
//! |---|---|
//! | [`cpu`], [`buffer`] | [`Cpu`], the backend for `f32` and `f64`, and its pool of buffers |
//! | [`conv`], [`simd`] | convolution and its two adjoints; instruction sets, chosen at run time |
//! | [`squeeze`], [`wavelet`] | checkerboard, patch, column, Haar and wavelet squeezes |
//! | [`activation`], [`scale_map`], [`pointwise`] | activations, the scales of couplings, and kernels made of them |
//! | [`split`], [`loss`] | splitting and concatenating channels; objectives with gradient and Hessian |
//! | [`projection`] | projections onto sets, point-to-set distances with gradients |

pub mod activation;
pub mod buffer;
pub mod conv;
pub mod cpu;
mod haar;
pub mod loss;
mod mix;
pub mod pointwise;
mod pool;
pub mod projection;
pub mod scale_map;
pub mod simd;
pub mod split;
pub mod squeeze;
mod stack;
pub mod wavelet;
mod zip;

pub use activation::Activation;
pub use buffer::CpuBuffer;
pub use cpu::{Cpu, CpuElement};
pub use scale_map::ScaleMap;

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
