//! Weights of the original library, InvertibleNetworks.jl, in networks of ours.
//!
//! The original keeps the parameters of a layer or network as an ordered list of arrays. A [`Correspondence`] says, array by array, which
//! parameter of ours holds it and how it lies there; it is used both ways. [`Original`] gives it for whole networks, and [`model`] is all that
//! an import takes:
//!
//! ```no_run
//! use inn_networks::GlowConfig;
//! use inn_networks::import::{self, Source};
//! use inn_ops::Cpu;
//!
//! // NetworkGlow(3, 64, 2, 8; split_scales = true)
//! let config = GlowConfig { channels: 3, levels: 2, steps: 8, step: import::step_config(64), ..GlowConfig::default() };
//! let source = Source::open("glow.safetensors")?;
//! let model = import::model(&Cpu::<f32>::new(), &config, &source.list("theta.")?)?;
//! # Ok::<(), inn_core::Error>(())
//! ```
//!
//! # Files
//! A file is a safetensors file with the arrays `theta.000`, `theta.001`, .. in the order of the original's `get_params`. The original is
//! column-major and its axes are (x, y, z, channel, batch); the file has the same memory with the axes reversed, which is what row-major
//! (batch, channel, z, y, x) is. So only two things differ from our parameters:
//!
//! | original | ours |
//! |---|---|
//! | true convolution, kernels (k, .., c_in, c_out), stored (c_out, c_in, .., k) | cross-correlation: every spatial axis of the kernel flipped |
//! | vectors v1, v2, v3 of a 1x1 convolution, each (C) | the rows of one matrix `vectors`, (3, C) |
//!
//! The third kernel of a residual block is that of a transposed convolution in both, so it is only flipped. States and conditions
//! need nothing. The latent of a flow with splitting has another order: the original's is one vector \[Z_1; ..; Z_{L-1}; X_L\], each part over the
//! whole batch, and ours has the shape of the data, see [`Multiscale`](inn_core::Multiscale).
//!
//! # Settings
//! Our defaults are not the original's: [`step_config`] has those of its couplings (a sigmoid scale and coefficients behind a ReLU). Without
//! `split_scales` the original squeezes nothing: set `squeeze: None, split: false`. With one input channel it always splits.

mod correspondence;
mod networks;
mod source;

pub use correspondence::{Correspondence, Form, Slot};
pub use networks::{Original, hint_config, lane_config, loop_hint_config, model, step_config};
pub use source::{Array, Source};
