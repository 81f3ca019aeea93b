//! Invertible networks, the densities they define, and their training.
//!
//! | module | holds |
//! |---|---|
//! | [`glow`] | Glow: multiscale, in 1 to 3 dimensions and for dense data |
//! | [`encoder`] | conditional Glow; conditions that are encoded once |
//! | [`hint`] | HINT at several scales |
//! | [`conditional_hint`] | HINT on two lanes, one of which conditions the other, at one scale and several |
//! | [`lane_scales`] | what squeezes and splits two lanes |
//! | [`irim`] | the unrolled solver of i-RIM, with a linear operator |
//! | [`summary`] | summary networks in front of conditional ones |
//! | [`hyperbolic`] | leapfrog networks on two states |
//! | [`preprocess`] | scale, logit, dequantization |
//! | [`density`] | log-probabilities, samples, bits per dimension |
//! | [`sampling`] | many samples in passes of bounded memory |
//! | [`distributions`] | banana, moons, rings and others, with exact densities, to test flows on |
//! | [`mod@diagnose`] | what is wrong with a network, layer by layer |
//! | [`optim`] | optimizers, schedules, clipping, averages of weights |
//! | [`train`] | the training loop |
//! | [`files`] | one file that restores a network; checkpoints |
//! | [`import`] | weights of the original library, InvertibleNetworks.jl |
//! | [`guide`] | write your own layer |

pub mod conditional_hint;
pub mod density;
pub mod diagnose;
pub mod distributions;
pub mod encoder;
pub mod files;
pub mod glow;
pub mod guide;
pub mod hint;
pub mod hyperbolic;
pub mod import;
pub mod irim;
pub mod lane_scales;
mod levels;
pub mod optim;
#[cfg(feature = "plot")]
mod picture;
pub mod preprocess;
pub mod sampling;
pub mod summary;
pub mod train;

pub use conditional_hint::{ConditionalHintConfig, MultiscaleConditionalHintConfig};
pub use density::{Density, bits_per_dim};
pub use diagnose::{Diagnosis, diagnose};
pub use encoder::{ConditionalGlow, ConditionalGlowConfig, PyramidConfig};
pub use glow::{Glow, GlowConfig};
pub use hint::{MultiscaleHint, MultiscaleHintConfig};
pub use hyperbolic::{Hyperbolic, HyperbolicConfig};
pub use irim::{IrimLoop, IrimLoopConfig};
pub use sampling::{Drawn, Sampling};
pub use summary::{SummarizedGlow, SummarizedGlowConfig, SummaryConfig};

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
