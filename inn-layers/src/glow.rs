//! The steps of Glow.

use crate::conditioner::{Net, NetConfig, Ports};
use crate::coupling::{Affine, Coupling};
use crate::householder::Householder;
use crate::mixing::Mixing;
use inn_core::{Backend, Direction, Error, Inputs, Invertible, Result, Scope, ViewMut, Visitor};
use inn_ops::ScaleMap;

/// Orthogonal mixing and an affine coupling (Kingma & Dhariwal 2018, with the mixing of Putzky & Welling 2019).
///
/// ```text
/// [x1; x2] = H_m ... H_1 x,    (u, t) = N(x2, condition),    y = [exp ψ(u) ⊙ x1 + t; x2],    ℓ = Σ ψ(u)
/// ```
/// x1 has [`half`](inn_ops::split::half) of the channels.
pub type GlowCoupling = (Householder, Coupling<Net, Affine>);

/// Activation normalization, mixing and an affine coupling as in [`GlowCoupling`]: one flow step.
#[derive(Debug)]
pub struct GlowStep {
    mixing: Mixing,
    coupling: Coupling<Net, Affine>,
}

impl GlowStep {
    /// The two parts in their order.
    fn parts(&self) -> (&Mixing, &Coupling<Net, Affine>) {
        (&self.mixing, &self.coupling)
    }
}

impl Invertible for GlowStep {
    inn_core::delegate_maps!(self, dir => dir; step => step.parts());
    /// Normalization, mixing and coupling are seen as three layers.
    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        let (actnorm, reflections) = self.mixing.layers();
        (actnorm, reflections, &self.coupling).walk(path, dir, at, x, visitor)
    }
}

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

impl StepConfig {
    fn reflections(&self) -> usize {
        self.reflections.unwrap_or(3)
    }
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
    expect_two(channels)?;
    let mix = Householder::new(&mut scope.sub("mix"), channels, config.reflections())?;
    Ok((mix, affine_coupling(scope, channels, rank, condition, config)?))
}

fn expect_two(channels: usize) -> Result<()> {
    if channels < 2 {
        return Err(Error::config("channels", format!("a coupling needs at least 2, got {channels}; squeeze first")));
    }
    Ok(())
}

fn affine_coupling(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    condition: Option<(usize, usize)>,
    config: &StepConfig,
) -> Result<Coupling<Net, Affine>> {
    let first = inn_ops::split::half(channels);
    let ports = Ports { inputs: channels - first, outputs: 2 * first, rank, condition };
    let conditioner = config.net.build(&mut scope.sub("coupling"), ports)?;
    Ok(Coupling { conditioner, transform: Affine { scale: config.scale }, kept: first..channels, moved: 0..first })
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
    expect_two(channels)?;
    let mixing = Mixing::new(scope, channels, config.reflections())?;
    Ok(GlowStep { mixing, coupling: affine_coupling(scope, channels, rank, condition, config)? })
}
