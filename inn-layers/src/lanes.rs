//! Couplings of two given lanes, and the additive coupling of i-RIM.

use crate::conditioner::{Net, NetConfig, Ports};
use crate::coupling::{Additive, Affine, Centered, Coupling, VolumePreserving};
use crate::permute::{Permute, Permuted, permuted};
use inn_core::{Error, Result, Scope};
use inn_ops::ScaleMap;

/// An affine coupling of two lanes: y1 = x1, y2 = exp ψ(u) ⊙ x2 + t, (u, t) = N(x1), ℓ = Σ ψ(u) (Dinh et al. 2017, arXiv:1605.08803).
pub type BasicCoupling = Coupling<Net, Affine>;

/// An additive coupling between an orthogonal mixing and its inverse (Putzky & Welling 2019, arXiv:1911.10914, section 3.2).
///
/// ```text
/// [x1; x2] = Q x,    y = Qᵀ [x1; x2 + N(x1)],    ℓ = 0
/// ```
/// for [`Permute::Both`], the paper's; see [`Permuted`] for the other modes. The gradients of both uses of Q add.
pub type IrimCoupling = Permuted<Coupling<Net, Additive>>;

/// A coupling whose log-scales sum to zero over a sample, so that ℓ = 0; see [`Centered`].
pub type GinCoupling = Permuted<Coupling<Centered<Net>, VolumePreserving>>;

/// Settings of an [`IrimCoupling`] or a [`GinCoupling`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaneConfig {
    /// The network inside the coupling.
    pub net: NetConfig,
    /// ψ of a GIN coupling; an additive one does not read it.
    pub scale: ScaleMap,
    /// Which channels are mixed.
    pub permute: Permute,
    /// Number of Householder reflections.
    pub reflections: usize,
}

impl Default for LaneConfig {
    /// Mixing before and after by three reflections.
    fn default() -> Self {
        Self { net: NetConfig::default(), scale: ScaleMap::default(), permute: Permute::Both, reflections: 3 }
    }
}

/// A coupling of two lanes of `channels` channels each; the first is kept.
///
/// # Errors
/// No channels, or settings that are out of range.
pub fn basic_coupling(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    condition: Option<(usize, usize)>,
    net: &NetConfig,
    scale: ScaleMap,
) -> Result<BasicCoupling> {
    scale.validate()?;
    let conditioner = net.build(scope, Ports { inputs: channels, outputs: 2 * channels, rank, condition })?;
    Ok(Coupling { conditioner, transform: Affine { scale }, kept: 0..channels, moved: channels..2 * channels })
}

fn kept(channels: usize) -> Result<usize> {
    if channels < 2 {
        return Err(Error::config("channels", format!("a coupling needs at least 2, got {channels}; squeeze first")));
    }
    Ok(channels.div_ceil(2))
}

/// Declares `mix` and `coupling` for `channels` channels, of which the first ⌈C/2⌉ are kept.
///
/// # Errors
/// Fewer than two channels, or settings that are out of range.
pub fn irim_coupling(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    condition: Option<(usize, usize)>,
    config: &LaneConfig,
) -> Result<IrimCoupling> {
    let kept = kept(channels)?;
    let ports = Ports { inputs: kept, outputs: channels - kept, rank, condition };
    let conditioner = config.net.build(&mut scope.sub("coupling"), ports)?;
    let coupling = Coupling { conditioner, transform: Additive, kept: 0..kept, moved: kept..channels };
    permuted(scope, config.permute, (kept, channels), config.reflections, coupling)
}

/// Declares `mix` and `coupling` for `channels` channels, of which the first ⌈C/2⌉ are kept.
///
/// # Errors
/// Fewer than two channels, or settings that are out of range.
pub fn gin_coupling(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    condition: Option<(usize, usize)>,
    config: &LaneConfig,
) -> Result<GinCoupling> {
    let kept = kept(channels)?;
    config.scale.validate()?;
    let ports = Ports { inputs: kept, outputs: 2 * (channels - kept), rank, condition };
    let net = config.net.build(&mut scope.sub("coupling"), ports)?;
    let conditioner = Centered { net, scale: config.scale };
    let coupling = Coupling { conditioner, transform: VolumePreserving, kept: 0..kept, moved: kept..channels };
    permuted(scope, config.permute, (kept, channels), config.reflections, coupling)
}
