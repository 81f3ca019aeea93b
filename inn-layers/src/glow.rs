//! The steps of Glow.

use crate::actnorm::ActNorm;
use crate::conditioner::{Net, NetConfig, Ports};
use crate::coupling::{Affine, Coupling};
use crate::householder::Householder;
use inn_core::{Error, Result, Scope};
use inn_ops::ScaleMap;

/// Orthogonal mixing and an affine coupling (Kingma & Dhariwal 2018, with the mixing of Putzky & Welling 2019).
///
/// ```text
/// [x1; x2] = H_m ... H_1 x,    (u, t) = N(x2, condition),    y = [exp ψ(u) ⊙ x1 + t; x2],    ℓ = Σ ψ(u)
/// ```
/// x1 has [`half`](inn_ops::split::half) of the channels.
pub type GlowCoupling = (Householder, Coupling<Net, Affine>);

/// Activation normalization and a [`GlowCoupling`]: one flow step.
pub type GlowStep = (ActNorm, Householder, Coupling<Net, Affine>);

/// Settings of a flow step.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepConfig {
    /// The network inside the coupling.
    pub net: NetConfig,
    /// The map from the network's output to the logarithm of the scale.
    pub scale: ScaleMap,
    /// Number of Householder reflections; 3 when absent.
    pub reflections: Option<usize>,
}

/// Builds a coupling with its mixing, `mix` and `coupling`, for `channels` channels; a condition makes it conditional.
///
/// # Errors
/// Fewer than two channels, or settings that are out of range.
pub fn glow_coupling(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    condition: Option<(usize, usize)>,
    config: &StepConfig,
) -> Result<GlowCoupling> {
    if channels < 2 {
        return Err(Error::config("channels", format!("a coupling needs at least 2, got {channels}; squeeze first")));
    }
    let first = inn_ops::split::half(channels);
    let mix = Householder::new(&mut scope.sub("mix"), channels, config.reflections.unwrap_or(3))?;
    let ports = Ports { inputs: channels - first, outputs: 2 * first, rank, condition };
    let conditioner = config.net.build(&mut scope.sub("coupling"), ports)?;
    let coupling = Coupling { conditioner, transform: Affine { scale: config.scale }, kept: first..channels, moved: 0..first };
    Ok((mix, coupling))
}

/// Builds a flow step, `actnorm`, `mix` and `coupling`.
///
/// # Errors
/// As [`glow_coupling`].
pub fn glow_step(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    condition: Option<(usize, usize)>,
    config: &StepConfig,
) -> Result<GlowStep> {
    let actnorm = ActNorm::new(&mut scope.sub("actnorm"), channels)?;
    let (mix, coupling) = glow_coupling(scope, channels, rank, condition, config)?;
    Ok((actnorm, mix, coupling))
}
