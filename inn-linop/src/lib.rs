//! Matrix-free linear operators with exact adjoints.
//!
//! An operator is known by its products A x and Aᵀ y ([`LinearOperator`]). This crate makes operators from operators, turns any invertible
//! layer or network into the operator of its Jacobian, and tests that an adjoint is one.
//!
//! | operator | is |
//! |---|---|
//! | [`Identity`], [`Diagonal`], [`Matrix`] | I, diag(d), a small dense M |
//! | [`Scaled`], [`Sum`], [`Composed`], [`Adjoint`] | a A, A + C, A C, Aᵀ; by the methods of [`Algebra`]: `scaled`, `plus`, `minus`, `then`, `adjoint` |
//! | [`Blocks`], [`BlockDiagonal`] | matrices of operators: rows, columns, diagonals, grids; the diagonal blocks of one operator |
//! | [`Kronecker`], [`Restriction`] | A along channels and C along pixels; parts of a vector |
//! | [`Jacobian`] | ∂f/∂x, ∂f/∂θ, ∂f/∂c or several, of a layer's forward or inverse [`Map`] |
//! | [`NetJacobian`] | the same of a conditioner, which need not be invertible |
//! | [`Hessian`], [`GaussNewton`] | second derivatives of an [`Objective`] of a map: exact, or without those of the map |
//! | [`LogdetBlocks`] | Gauss-Newton of the log-determinant, layer by layer |
//!
//! [`solve`] holds least squares, linear systems and nonlinear steps for any of them, [`spectral_norm`] and its kin the ends of their singular
//! values.
//!
//! # Batches
//! An operator whose domain and range have batch 1 treats each sample alike and is called with any batch. Composed with, or added to, an
//! operator for a batch of 8 it becomes one for 8. The exception is a Jacobian, which belongs to its point: at a point of one sample it
//! takes one sample.
//!
//! # Your own operator
//! Two methods and two shapes, then the dot test:
//! ```
//! use inn_core::{Backend, Result, Shape, View, ViewMut, Write};
//! use inn_linop::{LinearOperator, dot_test};
//! use inn_ops::Cpu;
//!
//! /// The first channel of an image.
//! struct First(Shape);
//!
//! impl<B: Backend> LinearOperator<B> for First {
//!     fn domain(&self) -> Shape {
//!         self.0
//!     }
//!     fn range(&self) -> Shape {
//!         self.0.with_channels(1)
//!     }
//!     fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
//!         match write {
//!             Write::Set => y.assign(backend, x.channels(0..1)),
//!             Write::Add => y.axpy(backend, 1.0, x.channels(0..1)),
//!         }
//!     }
//!     fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
//!         if write == Write::Set {
//!             x.fill(backend, 0.0)?;
//!         }
//!         x.channels(0..1).axpy(backend, 1.0, y)
//!     }
//! }
//!
//! let cpu = Cpu::<f64>::new();
//! dot_test(&cpu, &First(Shape::new(1, 3, &[8, 8])?), 7, 1e-12)?;
//! # Ok::<(), inn_core::Error>(())
//! ```

mod adjoint;
mod algebra;
mod block_diagonal;
mod blocks;
mod composed;
mod diagonal;
mod dot_test;
mod gate;
mod identity;
mod jacobian;
mod kronecker;
mod matrix;
mod restriction;
mod scaled;
pub mod solve;
mod spectrum;
mod sum;

pub use adjoint::Adjoint;
pub use algebra::Algebra;
pub use block_diagonal::BlockDiagonal;
pub use blocks::Blocks;
pub use composed::Composed;
pub use diagonal::Diagonal;
pub use dot_test::dot_test;
pub use identity::Identity;
pub use inn_core::LinearOperator;
pub use jacobian::{By, Curvature, GaussNewton, Hessian, Jacobian, LogdetBlocks, Map, NetJacobian, Objective};
pub use kronecker::Kronecker;
pub use matrix::Matrix;
pub use restriction::Restriction;
pub use scaled::Scaled;
pub use spectrum::{Ends, Estimate, SpectrumOptions, condition_with_inverse, extreme_singular_values, spectral_norm};
pub use sum::Sum;

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
