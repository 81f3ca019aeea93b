//! Why a network fails: one line a layer, and the layer to blame.
//!
//! Users of invertible networks report the same few failures: the inverse explodes or is inaccurate, values become NaN after some steps, scales
//! grow without bound, a 1x1 convolution is singular. [`diagnose`] passes data through the network layer by layer and measures at each what
//! these have in common; its [`Diagnosis`] prints as a table with the likely cause, goes to a file with serde, and is drawn by
//! `diagnose::plot` (feature `plot`).
//!
//! | column | is |
//! |---|---|
//! | round trip | \|f⁻¹(f(x)) - x\| / \|x\| of the layer |
//! | gain | \|f(x)\| / \|x\| |
//! | σ min, σ max | estimates of the smallest and largest singular value of ∂f/∂x, by a few steps of Lanczos on the map and on its inverse |
//! | condition | σ max / σ min: the digits that the inverse, and so the gradient, loses |
//! | ln det | its part of the log-determinant, mean over the batch |
//! | scale | smallest and largest scale of a coupling or normalization |
//!
//! ```
//! use inn_core::{Architecture, Shape, Tensor};
//! use inn_networks::{GlowConfig, diagnose::{Options, diagnose}};
//! use inn_ops::Cpu;
//!
//! let cpu = Cpu::<f32>::new();
//! let model = GlowConfig::dense(4, 2).model(&cpu, 0)?;
//! let x = Tensor::from_f64(&cpu, Shape::new(2, 4, &[])?, &[0.3, -1.0, 0.7, 0.1, -0.4, 0.9, 1.2, -0.8])?;
//! let diagnosis = diagnose(&model.call(), x, &Options::default())?;
//! assert!(diagnosis.is_healthy());
//! println!("{diagnosis}");
//! # Ok::<(), inn_core::Error>(())
//! ```

mod causes;
mod measure;
#[cfg(feature = "plot")]
mod plot;
mod report;

#[cfg(feature = "plot")]
pub use plot::plot;
pub use report::{Diagnosis, Fault, Finding, LayerReport, NonFinite, Range, Stage};

use inn_core::{Backend, Call, Direction, Element, Error, Invertible, Result, Tensor};
use measure::Measure;

/// How a network is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The direction in which the network is passed.
    pub direction: Direction,
    /// Steps of the estimates of singular values, each a product with the Jacobian of the layer and one with its adjoint; 0 leaves them out.
    pub steps: usize,
    /// Seed of their starts.
    pub seed: u64,
    /// Relative error of a round trip that is worth a finding; √ε of the number type when absent.
    pub round_trip_limit: Option<f64>,
    /// Scales and gains above this, or below one over it, are worth a finding.
    pub scale_limit: f64,
}

impl Default for Options {
    /// Forward, eight steps, √ε, a thousand: a bounded coupling stays within e^±2.
    fn default() -> Self {
        Self { direction: Direction::Forward, steps: 8, seed: 0, round_trip_limit: None, scale_limit: 1e3 }
    }
}

/// Passes `x` through the network layer by layer, and there and back as a whole. A layer whose input is not finite is not measured.
///
/// `call` is [`Model::call`](inn_core::Model::call), or [`Model::with`](inn_core::Model::with) of conditions. Costs about `4 steps + 4` passes.
/// A batch of a few samples is enough; the last layers of a deep network see only what reaches them.
///
/// # Errors
/// A shape that does not fit the network; settings out of range. What is wrong with numbers is in the diagnosis.
pub fn diagnose<L: Invertible, B: Backend>(call: &Call<'_, L, B>, x: Tensor<B>, options: &Options) -> Result<Diagnosis> {
    if options.scale_limit.is_nan() || options.scale_limit <= 1.0 {
        return Err(Error::config("scale_limit", format!("expected more than 1, got {}", options.scale_limit)));
    }
    let limit = options.round_trip_limit.unwrap_or(B::Elem::EPSILON.sqrt());
    if limit.is_nan() || limit <= 0.0 {
        return Err(Error::config("round_trip_limit", format!("expected a positive number, got {limit}")));
    }
    let dir = options.direction;
    call.check(dir, x.shape())?;
    let parameters = measure::bad_parameters(call.params())?;
    let mut measure = Measure::new(*options);
    let input = x.duplicate()?;
    call.walk(dir, x, &mut measure)?;
    let whole = measure::whole(call, dir, input)?;
    let mut diagnosis = Diagnosis {
        number_type: B::Elem::NAME.to_owned(),
        epsilon: B::Elem::EPSILON,
        direction: if dir == Direction::Forward { "forward" } else { "inverse" }.to_owned(),
        parameters: call.params().layout().count(),
        bad_parameters: parameters,
        layers: measure.layers,
        round_trip: whole.round_trip,
        gain: whole.gain,
        logdet: whole.logdet,
        findings: Vec::new(),
    };
    diagnosis.findings = causes::findings(&diagnosis, limit, options.scale_limit);
    Ok(diagnosis)
}
