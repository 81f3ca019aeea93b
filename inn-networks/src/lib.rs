//! Invertible networks, the densities they define, and their training.
//!
//! | module | holds |
//! |---|---|
//! | [`glow`] | Glow: multiscale, in 1 to 3 dimensions and for dense data |
//! | [`encoder`] | conditional Glow; conditions that are encoded once, or concatenated of several observations |
//! | [`hint`] | HINT at several scales |
//! | [`conditional_hint`] | HINT on two lanes, one of which conditions the other, at one scale and several |
//! | [`lane_scales`] | what squeezes and splits two lanes |
//! | [`posterior`] | conditional HINT on one lane, given the other; given several observations |
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
//!
//! # Data flow
//! What passes through each network, forward; the inverse runs every line from right to left with the same parts. `ℓ` is the logarithm of |det| of
//! the line, summed over the parts that have one.
//!
//! [`Glow`]: levels of steps. A split leaves half of the channels alone from then on, as latent.
//! ```text
//! x ── squeeze ── [ActNorm ── Q ── coupling] x K ──┬── squeeze ── [..] x K ──┬── ..  z_L
//!                                                  └── z_1                   └── z_2          z = (z_1, .., z_L) in the shape of x
//! ```
//! [Multiscale HINT](hint::MultiscaleHint): the same with a recursion in the place of the coupling.
//! ```text
//! x ── squeeze ── [ActNorm ── Q ── h] x K ──┬── ..          h:  x_a ───────●──── h ── y_a
//!                                           └── z_1             x_b ── h ──┴───────── y_b       ● scales and shifts
//! ```
//! [Conditional Glow](encoder::ConditionalGlow): a pyramid of conditions beside the levels.
//! ```text
//! c ── ActNorm ── squeeze ── N_0 ──┬── squeeze ── N_1 ──┬── ..
//!                                  ▼                    ▼
//! x ─────────── squeeze ── [step(.; c_0)] x K ──┬── squeeze ── [step(.; c_1)] x K ── ..
//!                                               └── z_1
//! ```
//! [Conditional HINT](conditional_hint::ConditionalHintNetwork): two lanes, the second by itself.
//! ```text
//! x ── [ActNorm ── Q_x ── h_x ──●── ] x K ── z_x
//!                               │
//! y ── [ActNorm ── Q_y ─────────┴── h_y ] x K ── z_y
//! ```
//! [Multiscale conditional HINT](conditional_hint::MultiscaleConditionalHint): both lanes squeezed, and split.
//! ```text
//! x ── squeeze ──┐                            ┌──┬── squeeze ──┐
//!                ├── [conditional HINT] x K ──┤  └── z_x1      ├── [..] x K ── ..
//! y ── squeeze ──┘                            └──┬── squeeze ──┘
//!                                                └── z_y1
//! ```
//! [Leapfrog](hyperbolic::Hyperbolic): two states of a wave equation, each step of which makes the next from both.
//! ```text
//! X_0 ── resize ──────────────────(-)── X_2 ── resize ── ..
//!                                  │
//! X_1 ── resize ──┬── 2 X + F(X) ──┘
//!                 └──────────────────── X_1 ── resize ── ..
//! ```
//! [i-RIM loop](irim::IrimLoop): a solver whose steps are invertible, with an operator J from outside.
//! ```text
//!          D, J
//!           ▼
//! η ──┬── Jᵀ(J Ψ(η) - D) ── N ──┐
//!     └─────────────────────────│──┬── layer ──┬── η
//! s ───────────────────────────(+)─┘           └── s       x iterations
//! ```
//! [Summarized](summary::SummarizedGlow): a network S on the observation, in front of any conditional one.
//! ```text
//! y ── S ── (mean over pixels ── head ── repeat) ── c
//!                                                   ▼
//! x ─────────────────────────────── conditional network ── z
//! ```
//! [Concatenated](encoder::ConcatenatedGlow): several observations, beside each other at each level.
//! ```text
//! y_1 ── pyramid ──┬── d_0 ─────────┬── d_1 ── ..
//! y_2 ── S ── v ── repeat           repeat
//!                  ▼                ▼
//! x ── squeeze ── [step] x K ──┬── squeeze ── [step] x K ── ..
//!                              └── z_1
//! ```
//! [Summarized HINT](posterior::SummarizedHint): what several observations say is the lane y of a conditional HINT, of which x alone is mapped.
//! ```text
//! y_1 ── S_1 ──┬── y ──────────┐
//! y_2 ── S_2 ──┘               ▼
//! x ────────────── conditional HINT ── z_x
//! ```

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
pub mod posterior;
pub mod preprocess;
pub mod sampling;
pub mod summary;
pub mod train;

pub use conditional_hint::{ConditionalHintConfig, MultiscaleConditionalHintConfig};
pub use density::{Density, bits_per_dim};
pub use diagnose::{Diagnosis, diagnose};
pub use encoder::{ConcatenatedGlow, ConcatenatedGlowConfig, ConditionalGlow, ConditionalGlowConfig, PyramidConfig};
pub use glow::{Glow, GlowConfig};
pub use hint::{MultiscaleHint, MultiscaleHintConfig};
pub use hyperbolic::{Hyperbolic, HyperbolicConfig};
pub use irim::{IrimLoop, IrimLoopConfig};
pub use posterior::{SummarizedHint, SummarizedHintConfig};
pub use sampling::{Drawn, Sampling};
pub use summary::{SummarizedGlow, SummarizedGlowConfig, SummaryConfig};

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
