//! Random architectures: layers, channels, dimensions, levels, conditions, reversal, composition.

use crate::any::Any;
use inn_core::{Chain, Direction, Multiscale, Odd, On, Result, Reversed, Scale, Scope, Shape, Squeeze};
use inn_layers::conditioner::{ConditionalResidualBlock, DenseConfig, Head, NetConfig, ResNetConfig, ResidualConfig, SymmetricConfig};
use inn_layers::conv1x1::Form;
use inn_layers::coupling::{Additive, Coupling};
use inn_layers::glow::{StepConfig, glow_coupling, glow_step};
use inn_layers::hint::{ConditionalHint, HintConfig, hint_coupling};
use inn_layers::hyperbolic::{Resize, SqueezeLanes, hyperbolic_step};
use inn_layers::lanes::{LaneConfig, basic_coupling, gin_coupling, irim_coupling};
use inn_layers::permute::Permute;
use inn_layers::{ActNorm, AffineLayer, Conv1x1, Householder, LearnableSqueeze};
use inn_linop::Matrix;
use inn_ops::{Activation, Cpu, ScaleMap};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Kinds of layers that [`Draw::layer`] draws from.
pub const KINDS: usize = 20;

/// A stream of choices.
pub struct Draw {
    rng: ChaCha8Rng,
    /// Takes what was drawn whether it fits or not.
    pub wild: bool,
    draws: usize,
    /// Shapes of the conditions that the layers so far read.
    pub conditions: Vec<Shape>,
    /// The operator that the network applies.
    pub operator: Option<Matrix<Cpu<f64>>>,
    /// How often each kind was drawn.
    pub drawn: [usize; KINDS],
}

impl Draw {
    pub fn new(seed: u64, wild: bool) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), wild, draws: 0, conditions: Vec::new(), operator: None, drawn: [0; KINDS] }
    }

    /// A number of `low..=high`.
    pub fn int(&mut self, low: usize, high: usize) -> usize {
        self.rng.random_range(low..=high)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.int(1, n) == 1
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.int(0, of.len() - 1)].clone()
    }

    /// 2 to 9 channels in 0 to 3 dimensions; few values, so that the dense Jacobian is small.
    pub fn shape(&mut self) -> Shape {
        loop {
            let rank = self.int(0, 3);
            let spatial: Vec<usize> = (0..rank).map(|_| self.int(if self.wild { 1 } else { 2 }, [0, 9, 5, 4][rank])).collect();
            let shape = Shape::new(self.int(1, 3), self.int(if self.wild { 1 } else { 2 }, 9), &spatial).unwrap();
            if shape.sample_len() <= 72 {
                return shape;
            }
        }
    }

    /// Smooth, so that the Taylor test has no kinks to meet.
    pub fn activation(&mut self) -> Activation {
        self.pick(&[Activation::Sigmoid { low: -1.0, high: 1.0 }, Activation::Tanh, Activation::Silu, Activation::Softplus])
    }

    pub fn scale(&mut self) -> ScaleMap {
        self.pick(&[ScaleMap::default(), ScaleMap::Sigmoid { low: 0.5, high: 1.0 }, ScaleMap::ExpClamp { clamp: 1.0 }])
    }

    pub fn net(&mut self) -> NetConfig {
        // Deep compositions of sharper layers are ill-conditioned, and round trips then show that instead of defects.
        let (hidden, activation, last_gain) = (self.int(1, 4), self.activation(), 0.75);
        match self.int(0, 3) {
            0 => NetConfig::Dense(DenseConfig { hidden: vec![hidden; self.int(1, 2)], activation, last_gain, ..DenseConfig::default() }),
            1 => NetConfig::ResNet(ResNetConfig { hidden, blocks: self.int(1, 2), activation, last_gain, ..ResNetConfig::default() }),
            _ => NetConfig::Residual(ResidualConfig {
                hidden,
                outer_kernel: self.pick(&[1, 3, 3, 5]),
                inner_kernel: self.pick(&[1, 3]),
                head: self.pick(&[Head::Linear, Head::Activated, Head::Gated]),
                activation,
                last_gain,
                ..ResidualConfig::default()
            }),
        }
    }

    pub fn permute(&mut self) -> Permute {
        self.pick(&[Permute::None, Permute::Lower, Permute::Both, Permute::Full])
    }

    pub fn squeeze(&mut self) -> Squeeze {
        let wavelet = |name: &str| Squeeze::Wavelet(name.parse().unwrap());
        let all =
            [Squeeze::Checkerboard, Squeeze::Patch, Squeeze::Column, Squeeze::Haar, wavelet("db2"), wavelet("coif2"), wavelet("sym4")];
        self.pick(&all)
    }

    pub fn block(&mut self) -> SymmetricConfig {
        SymmetricConfig { hidden: Some(self.int(1, 4)), alpha: 0.4, activation: self.activation(), ..SymmetricConfig::default() }
    }

    pub fn step(&mut self) -> StepConfig {
        StepConfig { net: self.net(), scale: self.scale(), reflections: Some(self.int(1, 4)) }
    }

    /// A condition at this resolution, one time of three.
    fn condition(&mut self, shape: Shape) -> Option<(usize, usize)> {
        self.one_in(3).then(|| {
            let channels = self.int(1, 3);
            self.conditions.push(shape.with_channels(channels));
            (self.conditions.len() - 1, channels)
        })
    }

    fn after(&self, squeeze: Squeeze, shape: Shape) -> Option<Shape> {
        let squeezed = squeeze.output(Direction::Forward, shape).ok();
        // What does not fit is taken as it is by the wild, for the gate to refuse.
        if self.wild { squeezed.or(Some(shape)) } else { squeezed }
    }

    /// One layer that fits, and the shape after it.
    pub fn layer(&mut self, scope: &mut Scope<'_>, shape: Shape, depth: usize) -> Result<(Any, Shape)> {
        loop {
            let kind = self.int(0, KINDS - 1);
            // A draw that turns out not to fit leaves its parameters behind; the next has names of its own.
            self.draws += 1;
            if let Some(drawn) = self.of_kind(kind, &mut scope.sub(format!("draw{}", self.draws)), shape, depth)? {
                self.drawn[kind] += 1;
                return Ok(drawn);
            }
        }
    }

    fn of_kind(&mut self, kind: usize, scope: &mut Scope<'_>, shape: Shape, depth: usize) -> Result<Option<(Any, Shape)>> {
        let (channels, rank) = (shape.channels(), shape.rank());
        let pairs = self.wild || channels.is_multiple_of(2);
        if (kind >= 16 && depth == 0) || (channels < 2 && kind > 2 && !self.wild) {
            return Ok(None);
        }
        let layer = match kind {
            0 => Any::ActNorm(ActNorm::new(scope, channels)?),
            1 => Any::Affine(AffineLayer::new(scope, channels, shape.spatial())?),
            2 => Any::Householder(Householder::new(scope, channels, self.int(1, 5))?),
            3 => {
                let order = self.one_in(2).then(|| (0..channels).rev().collect());
                let form = self.pick(&[Form::Lu { order }, Form::Cayley, Form::Exponential, Form::Free]);
                Any::Conv1x1(Conv1x1::new(scope, channels, form, 0.2)?)
            }
            4 => Any::GlowStep(glow_step(scope, channels, rank, self.condition(shape), &self.step())?),
            5 => Any::GlowCoupling(glow_coupling(scope, channels, rank, self.condition(shape), &self.step())?),
            6 if pairs => Any::Basic(basic_coupling(scope, channels / 2, rank, self.condition(shape), &self.net(), self.scale())?),
            7 | 8 => {
                let config = LaneConfig { net: self.net(), scale: self.scale(), permute: self.permute(), reflections: self.int(1, 3) };
                let condition = self.condition(shape);
                match kind {
                    7 => Any::Gin(gin_coupling(scope, channels, rank, condition, &config)?),
                    _ => Any::Irim(irim_coupling(scope, channels, rank, condition, &config)?),
                }
            }
            9 => Any::Hint(hint_coupling(scope, channels, rank, self.condition(shape), &self.hint())?),
            10 if pairs && (self.wild || channels >= 4) => {
                let permute = if self.wild { self.permute() } else { self.pick(&[Permute::None, Permute::Full]) };
                Any::ConditionalHint(ConditionalHint::new(scope, channels / 2, rank, &HintConfig { permute, ..self.hint() })?)
            }
            11 => {
                let kept = self.int(1, channels.max(2) - 1);
                let data = self.shape().with_batch(shape.batch());
                self.conditions.push(data);
                let (index, image) = (self.conditions.len() - 1, shape.with_channels(kept));
                let config = ResidualConfig { hidden: 2, activation: self.activation(), last_gain: 1.0, ..ResidualConfig::default() };
                let conditioner = ConditionalResidualBlock::new(scope, image, (index, data), channels.max(2) - kept, &config)?;
                Any::OtherShape(Coupling { conditioner, transform: Additive, kept: 0..kept, moved: kept..channels })
            }
            12 if pairs => return self.resized(scope, shape),
            13 | 14 => {
                let squeeze = self.squeeze();
                let lanes = self.int(1, 2);
                if !self.wild && kind == 14 && !channels.is_multiple_of(lanes) {
                    return Ok(None);
                }
                let Some(after) = self.after(squeeze, shape) else { return Ok(None) };
                let lanes = SqueezeLanes { forward: Direction::Forward, lanes, squeeze };
                return Ok(Some((if kind == 13 { Any::Squeeze(squeeze) } else { Any::Lanes(lanes) }, after)));
            }
            15 => {
                let stride = self.int(2, 3);
                let fits = rank > 0 && stride.pow(rank as u32) < 16 && shape.spatial().iter().all(|e| e.is_multiple_of(stride));
                if !fits && !self.wild {
                    return Ok(None);
                }
                let learned = LearnableSqueeze::new(scope, rank, stride)?;
                let mut extents = shape.extents();
                extents[3 - rank..].iter_mut().for_each(|e| *e = e.div_ceil(stride));
                let after = shape.with_channels(channels * stride.pow(rank as u32)).with_extents(extents);
                return Ok(Some((Any::Learnable(learned), after)));
            }
            16 => return self.chain(scope, shape, depth - 1).map(Some),
            17 => {
                let (layer, after) = self.chain(scope, shape, depth - 1)?;
                if after != shape {
                    // Down and up again.
                    let back = self.same_squeezes(scope, shape, depth)?;
                    return Ok(back.map(|layer| (layer, shape)));
                }
                Any::Reversed(Box::new(Reversed(layer)))
            }
            18 if channels > 2 => {
                let first = self.int(0, channels - 2);
                let range = first..self.int(first + 1, channels);
                let (layer, after) = self.layer(&mut scope.sub("part"), shape.with_channels(range.len()), 0)?;
                if after != shape.with_channels(range.len()) && !self.wild {
                    return Ok(None);
                }
                Any::On(Box::new(On { channels: range, layer }))
            }
            19 if rank > 0 => return self.scales(scope, shape).map(|s| s.map(|s| (s, shape))),
            _ => return Ok(None),
        };
        Ok(Some((layer, shape)))
    }

    pub fn hint(&mut self) -> HintConfig {
        let (net, scale, permute) = (self.net(), self.scale(), self.permute());
        HintConfig { net, scale, permute, shared: self.one_in(2), leaf: self.int(1, 4), reflections: self.int(1, 3) }
    }

    /// A leapfrog step, which may change the resolution of both states.
    fn resized(&mut self, scope: &mut Scope<'_>, shape: Shape) -> Result<Option<(Any, Shape)>> {
        let (each, rank) = (shape.channels() / 2, shape.rank());
        let resize = self.pick(&[Resize::Keep, Resize::Coarsen, Resize::Refine]);
        let dir = match resize {
            Resize::Keep => None,
            Resize::Coarsen => Some(Direction::Forward),
            Resize::Refine => Some(Direction::Inverse),
        };
        let lane = dir.map_or(Ok(shape.with_channels(each)), |dir| Squeeze::Haar.output(dir, shape.with_channels(each)));
        let after = match lane {
            Ok(lane) => lane.with_channels(2 * lane.channels()),
            Err(_) if self.wild => shape,
            Err(_) => return Ok(None),
        };
        let (lane, config) = (self.int(0, 1), self.block());
        Ok(Some((Any::Hyperbolic(hyperbolic_step(scope, resize, lane, each, rank, &config)?), after)))
    }

    /// A squeeze, a layer, and the squeeze undone.
    fn same_squeezes(&mut self, scope: &mut Scope<'_>, shape: Shape, depth: usize) -> Result<Option<Any>> {
        let squeeze = self.squeeze();
        let Some(inner) = self.after(squeeze, shape) else { return Ok(None) };
        let (layer, after) = self.layer(&mut scope.sub("inside"), inner, depth - 1)?;
        if after != inner && !self.wild {
            return Ok(None);
        }
        let mut parts = vec![Any::Squeeze(squeeze), layer, Any::Reversed(Box::new(Reversed(Any::Squeeze(squeeze))))].into_iter();
        Ok(Some(Any::Chain(Chain::build(scope, "sandwich", 3, |_, _| Ok(parts.next().unwrap()))?)))
    }

    /// One to three layers.
    fn chain(&mut self, scope: &mut Scope<'_>, shape: Shape, depth: usize) -> Result<(Any, Shape)> {
        let (count, mut shape) = (self.int(1, 3), shape);
        let chain = Chain::build(scope, "layer", count, |scope, _| {
            let (layer, after) = self.layer(scope, shape, depth)?;
            shape = after;
            Ok(layer)
        })?;
        Ok((Any::Chain(chain), shape))
    }

    /// Two levels, any extents: odd ones are carried.
    fn scales(&mut self, scope: &mut Scope<'_>, shape: Shape) -> Result<Option<Any>> {
        let odd = if self.wild { self.pick(&[Odd::Refuse, Odd::Carry]) } else { Odd::Carry };
        let (mut scales, mut shape, squeeze) = (Vec::new(), shape, self.squeeze());
        let levels = self.int(1, 2);
        for level in 0..levels {
            let inner = odd.even(shape).and_then(|even| squeeze.output(Direction::Forward, even));
            let inner = match inner {
                Ok(inner) => inner,
                Err(_) if self.wild => shape,
                // A level less.
                Err(_) => break,
            };
            let (layer, after) = loop {
                let (layer, after) = self.layer(&mut scope.sub(format!("level{level}")), inner, 0)?;
                if after == inner || self.wild {
                    break (layer, after);
                }
            };
            let keep = self.int(1, after.channels());
            scales.push(Scale { squeeze: Some(squeeze), layer, keep });
            shape = inner.with_channels(keep);
        }
        Ok((!scales.is_empty()).then_some(Any::Scales(Multiscale { rank: shape.rank(), odd, scales })))
    }

    /// A composition at the top, reversed or not, with the shape that goes in.
    pub fn composition(&mut self, scope: &mut Scope<'_>) -> Result<(Any, Shape)> {
        let shape = self.shape();
        let (layer, after) = self.chain(scope, shape, 2)?;
        Ok(if self.one_in(3) { (Any::Reversed(Box::new(Reversed(layer))), after) } else { (layer, shape) })
    }
}
