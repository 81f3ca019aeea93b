//! What the examples share: digits, pictures, figures of merit, the linear Gaussian estimate, memory readings.
//!
//! | module | holds |
//! |---|---|
//! | [`mnist`] | handwritten digits: IDX files, and those that ship with this crate |
//! | [`metrics`] | peak signal-to-noise ratio, coverage of credible intervals, moments of samples |
//! | [`wiener`] | the posterior mean of the linear Gaussian model |
//! | [`picture`] | grids of images with captions, as PNG files |
//! | [`inpainting`] | digits whose middle is hidden, seen through noise |
//! | [`memory`], [`machine`] | the resident set of this process, now and at its highest; the processor and its peak |
//! | [`convolution`] | a convolution and its adjoints, ready to be timed |
//! | [`random`] | numbers to measure with |
//! | [`cli`] | how the programs end and print |

pub mod cli;
pub mod convolution;
pub mod inpainting;
pub mod machine;
pub mod memory;
pub mod metrics;
pub mod mnist;
pub mod picture;
pub mod random;
pub mod wiener;

/// Keeps the program of the workspace's README true.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeExample;
