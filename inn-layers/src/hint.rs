//! Recursive couplings (HINT), alone and on two lanes.

use crate::conditioner::{Net, NetConfig, Ports};
use crate::coupling::{Affine, Coupling};
use crate::householder::Householder;
use crate::permute::{Permute, Permuted, permuted};
use inn_core::{Backend, Direction, Error, Facts, Gradients, Inputs, Invertible, On, Result, Scope, Setup, Shape, View, ViewMut};
use inn_ops::ScaleMap;
use std::ops::Range;

/// The couplings of a recursion, in the order of application.
///
/// ```text
/// h(x) = [h(x_a); S(x_a) ⊙ h(x_b) + T(x_a)]     with more than `leaf` channels,     [x_a; S(x_a) ⊙ x_b + T(x_a)]  with fewer
/// ```
/// (Kruse et al. 2020, arXiv:1905.10687, section 3). x_a is what the coupling reads, not h(x_a), so one pass in place over
/// h on x_b, then the coupling, then h on x_a is the whole recursion: a list of couplings of ranges of one state. Everything else follows from
/// the list: ℓ is the sum, the inverse goes backwards, and the Jacobian is a triangle over the leaves.
///
/// x_a are the first ⌈C/2⌉ of C channels. Couplings of one depth and one number of channels may share their network; its gradients then add up
/// over the uses.
pub type Hint = Vec<Coupling<Net, Affine>>;

/// HINT with its mixing, see [`Permuted`].
pub type HintCoupling = Permuted<Hint>;

/// Settings of a HINT coupling.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HintConfig {
    /// The network inside each coupling.
    pub net: NetConfig,
    /// The map from the network's output to the logarithm of the scale.
    pub scale: ScaleMap,
    /// Which channels are mixed.
    pub permute: Permute,
    /// Couplings of one depth and size share their network, as in the original; the paper has a network for each.
    pub shared: bool,
    /// Ranges of more channels than this are divided further, at least 1.
    pub leaf: usize,
    /// Number of Householder reflections of the mixing.
    pub reflections: usize,
}

impl Default for HintConfig {
    /// A network for each coupling, down to four channels, all channels mixed by three reflections.
    fn default() -> Self {
        Self { net: NetConfig::default(), scale: ScaleMap::default(), permute: Permute::Full, shared: false, leaf: 4, reflections: 3 }
    }
}

/// The first half of a range, the larger one if they differ.
fn halves(range: &Range<usize>) -> (Range<usize>, Range<usize>) {
    let middle = range.start + range.len().div_ceil(2);
    (range.start..middle, middle..range.end)
}

/// The recursion while it is built.
struct Builder<'a> {
    config: &'a HintConfig,
    rank: usize,
    condition: Option<(usize, usize)>,
    /// First channel of the whole range.
    origin: usize,
    /// Couplings so far, with their depth.
    done: Vec<(usize, Coupling<Net, Affine>)>,
}

impl Builder<'_> {
    /// The couplings on the channels of `range`, declared as `coupling{depth}_{channels}` where they are shared, else with their place too.
    fn build(&mut self, scope: &mut Scope<'_>, range: Range<usize>, depth: usize) -> Result<Hint> {
        if range.len() < 2 {
            return Ok(vec![]);
        }
        let (kept, moved) = halves(&range);
        let shared = self.config.shared;
        let like = |c: &Coupling<Net, Affine>| c.kept.len() == kept.len() && c.moved.len() == moved.len();
        let known = self.done.iter().find(|(d, c)| shared && *d == depth && like(c));
        let conditioner = match known {
            Some((_, coupling)) => coupling.conditioner.clone(),
            None => {
                let place = if shared { String::new() } else { format!("_at{}", range.start - self.origin) };
                let ports = Ports { inputs: kept.len(), outputs: 2 * moved.len(), rank: self.rank, condition: self.condition };
                self.config.net.build(&mut scope.sub(format!("coupling{depth}_{}{place}", range.len())), ports)?
            }
        };
        let transform = Affine { scale: self.config.scale };
        let coupling = Coupling { conditioner, transform, kept: kept.clone(), moved: moved.clone() };
        self.done.push((depth, coupling.clone()));
        if range.len() <= self.config.leaf {
            return Ok(vec![coupling]);
        }
        let mut list = self.build(scope, moved, depth + 1)?;
        list.push(coupling);
        list.extend(self.build(scope, kept, depth + 1)?);
        Ok(list)
    }
}

impl HintConfig {
    fn validate(&self, channels: usize) -> Result<()> {
        if channels < 2 {
            return Err(Error::config("channels", format!("a coupling needs at least 2, got {channels}; squeeze first")));
        }
        if self.leaf == 0 {
            return Err(Error::config("leaf", "expected at least 1, got 0"));
        }
        self.scale.validate()
    }
}

/// The recursion on the channels of `range`, without mixing. A condition makes every coupling conditional.
///
/// # Errors
/// Fewer than two channels, or settings that are out of range.
pub fn hint(
    scope: &mut Scope<'_>,
    range: Range<usize>,
    rank: usize,
    condition: Option<(usize, usize)>,
    config: &HintConfig,
) -> Result<Hint> {
    config.validate(range.len())?;
    let mut builder = Builder { config, rank, condition, origin: range.start, done: Vec::new() };
    builder.build(scope, range, 0)
}

/// A HINT coupling for `channels` channels, with `mix` as the configuration asks.
///
/// # Errors
/// As [`hint`].
pub fn hint_coupling(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    condition: Option<(usize, usize)>,
    config: &HintConfig,
) -> Result<HintCoupling> {
    let couplings = hint(scope, 0..channels, rank, condition, config)?;
    permuted(scope, config.permute, (channels.div_ceil(2), channels), config.reflections, couplings)
}

/// Two lanes, the second of which conditions the first (Kruse et al. 2020, section 4): the layer of a conditional HINT flow.
///
/// ```text
/// y' = Q_y y,    z_y = h_y(y'),    x' = h_x(Q_x x),    z_x = S(y') ⊙ x' + T(y'),    ℓ = ℓ_x + ℓ_y + ℓ_yx
/// ```
/// The state is [x; y], two lanes of n channels each. z_y does not depend on x: the lane y alone is an invertible map, [`lane`](Self::lane),
/// and with it the layer is one of the conditional density p(x | y) as well as of the joint one. The coupling reads y', before h_y changes it.
/// The Q are absent for [`Permute::None`] and mix all channels of a lane otherwise.
#[derive(Clone, Debug)]
pub struct ConditionalHint {
    lanes: (Vec<On<Householder>>, Hint),
    lane: HintCoupling,
}

impl ConditionalHint {
    /// Declares `x`, `y` (couplings and mixing of the lanes) and `coupling` for lanes of `channels` channels.
    ///
    /// # Errors
    /// As [`hint`]; a mixing that is undone after the layer, or of one half, which two lanes do not have.
    pub fn new(scope: &mut Scope<'_>, channels: usize, rank: usize, config: &HintConfig) -> Result<Self> {
        config.validate(channels)?;
        if matches!(config.permute, Permute::Lower | Permute::Both) {
            return Err(Error::config("permute", format!("expected none or full for two lanes, got {:?}", config.permute)));
        }
        let (x, y) = (0..channels, channels..2 * channels);
        let mut couplings = hint(&mut scope.sub("x"), x.clone(), rank, None, config)?;
        let own = hint(&mut scope.sub("y"), y.clone(), rank, None, config)?;
        let conditioner = config.net.build(&mut scope.sub("coupling"), Ports::new(channels, 2 * channels, rank))?;
        couplings.push(Coupling { conditioner, transform: Affine { scale: config.scale }, kept: y.clone(), moved: x.clone() });
        couplings.extend(own.iter().cloned());

        let moved_down = |c: &Coupling<Net, Affine>| Coupling {
            kept: c.kept.start - channels..c.kept.end - channels,
            moved: c.moved.start - channels..c.moved.end - channels,
            ..c.clone()
        };
        let alone: Hint = own.iter().map(moved_down).collect();
        let (mut mixes, mut mix) = (vec![], vec![]);
        if config.permute == Permute::Full {
            let q_x = Householder::new(&mut scope.sub("x.mix"), channels, config.reflections)?;
            let q_y = Householder::new(&mut scope.sub("y.mix"), channels, config.reflections)?;
            mix.push(On { channels: 0..channels, layer: q_y.clone() });
            mixes = vec![On { channels: x, layer: q_x }, On { channels: y, layer: q_y }];
        }
        Ok(Self { lanes: (mixes, couplings), lane: (mix, alone, vec![]) })
    }

    /// The map y -> z_y of the second lane alone, on n channels, with the layer's own parameters.
    pub fn lane(&self) -> &HintCoupling {
        &self.lane
    }
}

impl Invertible for ConditionalHint {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let couplings = &self.lanes.1;
        let channels = couplings.iter().map(|c| c.kept.end.max(c.moved.end)).max().unwrap_or(0);
        if input.channels() != channels {
            return Err(Error::shape("input of ConditionalHint", format!("two lanes, {channels} channels"), input));
        }
        self.lanes.check(dir, facts, input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        self.lanes.map(dir, at, x, logdet)
    }
    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        self.lanes.pull(dir, at, y, gy, gl, grads)
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        self.lanes.initialize(dir, at, x)
    }
}
