//! Memory-efficient invertible neural networks: tensors, backends, parameters and the contract of a layer.
//!
//! This crate knows no kernel and no layer. It says what a device has to answer ([`Backend`]), what a layer is ([`Invertible`]) and how all
//! public modes follow from it ([`Model`], [`Call`]), and it tests both ([`verify`]).
//!
//! | module | holds |
//! |---|---|
//! | [`shape`], [`view`], [`tensor`] | shapes as data, windows on buffers, tensors |
//! | [`backend`], [`kernel`], [`primitive`], [`scalar`] | the primitives of a device, pointwise kernels, number types |
//! | [`wavelet`] | orthogonal wavelet filters by name |
//! | [`params`] | parameters, gradients, tangents and moments as one vector with readable names |
//! | [`layer`], [`conditioner`], [`operator`] | the contracts: invertible layers, the networks inside couplings, linear operators |
//! | [`stack`], [`mix`] | the convolutions inside a conditioner, the mixing of a flow step: each as one offer to a backend |
//! | [`compose`] | tuples, chains, lanes, multiscale networks, reversal |
//! | [`model`] | forward, inverse, backward, JVP and Hessian products of any layer, by value |
//! | [`dual`], [`traced`], [`memory`] | backends on top of backends: tangents, traces, predictions of memory |
//! | [`visit`] | the layers of a network, one by one |
//! | [`terms`] | the scales of a layer, from its log-determinant |
//! | [`trail`] | drift of recomputed states, checkpoints, the first bad layer |

pub mod architecture;
pub mod backend;
pub mod compose;
pub mod conditioner;
pub mod dual;
pub mod error;
pub mod kernel;
pub mod layer;
pub mod memory;
pub mod mix;
pub mod model;
mod operands;
mod operations;
pub mod operator;
pub mod params;
pub mod primitive;
pub mod scalar;
pub mod shape;
pub mod shelf;
pub mod stack;
pub mod tensor;
pub mod terms;
pub mod traced;
pub mod trail;
pub mod verify;
pub mod view;
pub mod visit;
pub mod wavelet;

pub use architecture::Architecture;
pub use backend::{Backend, Conv, Direction, HostBackend, Squeeze, Write};
pub use compose::{Chain, Multiscale, Odd, On, Reversed, Scale};
pub use conditioner::{Conditioner, Saved};
pub use dual::Dual;
pub use error::{Error, Result};
pub use kernel::Kernel;
pub use layer::{Facts, Gradients, Inputs, Invertible, Setup};
pub use memory::{Memory, gradient_memory, gradient_memory_with_operator, map_bytes, peak_bytes};
pub use mix::Mix;
pub use model::{Along, Call, Given, Mapped, Model, NetCall, Pulled, Tangent};
pub use operator::LinearOperator;
pub use params::{Init, Layout, Param, Params, Scope};
pub use scalar::{Element, Scalar};
pub use shape::{Shape, Window};
pub use tensor::Tensor;
pub use terms::LogScales;
pub use traced::Traced;
pub use trail::{Drift, Trail};
pub use view::{Access, Update, View, ViewMut};
pub use visit::Visitor;
pub use wavelet::Wavelet;

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
