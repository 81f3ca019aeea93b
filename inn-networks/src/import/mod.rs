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
//! See [`julia`] for how a Julia user exports a model, which settings are which constructor, and how names and layouts map.

#[doc = include_str!("julia.md")]
pub mod julia {
    #[cfg(doc)]
    use super::{Array, Correspondence, Original, Source, model};
}

mod correspondence;
mod networks;
mod npz;
mod source;

pub use correspondence::{Correspondence, Form, Slot};
pub use networks::{Original, dense_step_config, hint_config, lane_config, loop_hint_config, model, step_config};
pub use source::{Array, Source};
