//! Several observations as one condition: their encodings beside each other, along the channels.

use super::{Encoded, Encoder, Pyramid, PyramidConfig, first, missing};
use crate::glow::{Glow, GlowConfig};
use crate::summary::{Summary, SummaryConfig, repeated, sum_pixels};
use inn_core::{Architecture, Backend, Direction, Error, Facts, Gradients, Inputs, Result, Scope, Setup, Shape, Tensor, View, Window};
use std::ops::Range;

/// Encoders E_1, E_2, .. of one observation or more each, whose conditions are concatenated along the channels, level by level.
///
/// ```text
/// d_l = [E_1(y_1)_l; E_2(y_2, y_3)_l; ..]        a lone vector v stands at every level: d_l = [..; repeat(v); ..]
/// ```
/// The observations are conditions 0, 1, .. of the call, of one batch: the first encoder reads as many of them as it takes, the second those that
/// follow, and so on. Each has its own channels, extents and rank. What an encoder makes of them has to fit the others: a condition for each
/// level, of the extents that the others have there, or one vector (B, C) for all levels, which is repeated over their pixels. Concatenations
/// may stand in each other.
///
/// Backward, with g_l = ∂φ/∂d_l: E_i gets its own channels of g_l; a vector gets the sum of them over the levels and pixels. Each takes them to its
/// parameters and to its own observations.
///
/// ```
/// use inn_core::{Architecture, Given, Shape, Tensor};
/// use inn_networks::encoder::{ConcatenatedGlowConfig, ObservationConfig};
/// use inn_networks::{GlowConfig, PyramidConfig, SummaryConfig, summary::Reduce};
/// use inn_ops::Cpu;
///
/// // A blurred image of the extents of the state, and a series of any length.
/// let image = ObservationConfig::Pyramid(PyramidConfig { channels: 2, ..PyramidConfig::default() });
/// let series = SummaryConfig { channels: 3, rank: 1, features: 4, reduce: Reduce::Mean, ..SummaryConfig::default() };
/// let config = ConcatenatedGlowConfig {
///     flow: GlowConfig { channels: 1, levels: 2, steps: 1, ..GlowConfig::default() },
///     observations: vec![image, ObservationConfig::Summary(series)],
/// };
/// let cpu = Cpu::<f32>::new();
/// let model = config.model(&cpu, 0)?;
/// let full = |dims: &[usize]| Tensor::full(&cpu, Shape::from_dims(dims)?, 0.5);
/// let observations = [full(&[2, 2, 8, 8])?, full(&[2, 3, 11])?];
/// let y = model.with(Given::conditions(&observations)).forward(full(&[2, 1, 8, 8])?)?.state;
/// assert_eq!(y.shape(), Shape::new(2, 1, &[8, 8])?);
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Concatenate<E> {
    parts: Vec<E>,
    levels: usize,
}

/// The place of one of the parts: its observations, and its channels at each level.
struct Place {
    observations: Range<usize>,
    shapes: Vec<Shape>,
}

impl Place {
    /// What the part has at a level. A lone vector stands at all of them.
    fn at(&self, level: usize) -> Option<(usize, Shape)> {
        let level = if self.is_vector() { 0 } else { level };
        self.shapes.get(level).map(|&shape| (level, shape))
    }

    fn is_vector(&self) -> bool {
        matches!(self.shapes[..], [one] if one.rank() == 0)
    }
}

impl<E: Encoder> Concatenate<E> {
    /// Encoders beside each other, for a network that reads `levels` conditions.
    ///
    /// # Errors
    /// No encoder, or no level.
    pub fn new(parts: Vec<E>, levels: usize) -> Result<Self> {
        if parts.is_empty() || levels == 0 {
            let got = format!("{} of them and {levels} levels", parts.len());
            return Err(Error::config("observations", format!("expected at least one encoder and one level, got {got}")));
        }
        Ok(Self { parts, levels })
    }

    /// The encoders.
    pub fn parts(&self) -> &[E] {
        &self.parts
    }

    fn places(&self, facts: Facts<'_>) -> Result<Vec<Place>> {
        let mut start = 0;
        let place = |part: &E| {
            let observations = start..start + part.observations();
            start = observations.end;
            let conditions = of(facts.conditions, &observations)?;
            let shapes = part.check(Facts { conditions, ..facts }).map_err(|e| at_condition(&observations, e))?;
            Ok(Place { observations, shapes })
        };
        self.parts.iter().map(place).collect()
    }

    /// The places again, for a call whose gate has been passed.
    fn places_at<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Vec<Place>> {
        let shapes: Vec<Shape> = at.conditions.iter().map(Tensor::shape).collect();
        let operator = at.operator.map(|a| (a.domain(), a.range()));
        self.places(Facts { layout: at.theta.layout(), conditions: &shapes, operator })
    }

    /// The shape of d_l.
    fn joined(&self, places: &[Place], level: usize) -> Result<Shape> {
        let mut whole: Option<Shape> = None;
        for (i, place) in places.iter().enumerate() {
            let fits = place.is_vector() || place.shapes.len() == self.levels;
            let Some((_, shape)) = place.at(level).filter(|_| fits) else {
                let (expected, got) = (format!("{} conditions, one a level, or one vector", self.levels), place.shapes.len());
                return Err(Error::shape(format!("what encoder {i} makes"), expected, got));
            };
            let Some(before) = whole else {
                whole = Some(shape);
                continue;
            };
            let of = || format!("what encoder {i} makes at level {level}");
            if shape.batch() != before.batch() {
                return Err(Error::shape(of(), format!("a batch of {}, as before it", before.batch()), shape));
            }
            if shape.rank() > 0 && before.rank() > 0 && shape.spatial() != before.spatial() {
                return Err(Error::shape(of(), format!("the extents {:?} of those before it, or a vector", before.spatial()), shape));
            }
            let extents = if before.rank() > 0 { before } else { shape };
            whole = Some(extents.with_channels(before.channels() + shape.channels()));
        }
        whole.ok_or_else(|| missing(0))
    }
}

/// The observations of a part.
fn of<'a, T>(observations: &'a [T], range: &Range<usize>) -> Result<&'a [T]> {
    observations.get(range.clone()).ok_or_else(|| missing(observations.len()))
}

/// An error of a part, which counts its own observations, with their places in the call.
fn at_condition(range: &Range<usize>, error: Error) -> Error {
    match error {
        Error::Shape { tensor, expected, got } => {
            let own = tensor.strip_prefix("condition ").and_then(|k| k.parse::<usize>().ok());
            let tensor = match own {
                Some(k) => format!("condition {}", range.start + k),
                None => format!("from condition {} on: {tensor}", range.start),
            };
            Error::Shape { tensor, expected, got }
        }
        other => other,
    }
}

/// A copy of some channels.
fn copy<B: Backend>(from: &Tensor<B>, channels: Range<usize>) -> Result<Tensor<B>> {
    let mut to = Tensor::scratch(from.backend(), from.shape().with_channels(channels.len()))?;
    to.view_mut().assign(from.backend(), from.view().channels(channels))?;
    Ok(to)
}

/// Those channels of the first pixel.
fn first_pixel<B: Backend>(from: &Tensor<B>, channels: Range<usize>) -> Result<Tensor<B>> {
    let shape = Shape::rows(from.shape().batch(), channels.len());
    let mut to = Tensor::scratch(from.backend(), shape)?;
    let window = Window { shape, ..from.view().channels(channels).window() };
    to.view_mut().assign(from.backend(), View::new(from.buffer(), window)?)?;
    Ok(to)
}

impl<E: Encoder> Encoder for Concatenate<E> {
    fn observations(&self) -> usize {
        self.parts.iter().map(Encoder::observations).sum()
    }

    /// The shapes of d_0 .. d_{L-1}.
    fn check(&self, facts: Facts<'_>) -> Result<Vec<Shape>> {
        let observations = of(facts.conditions, &(0..self.observations()))?;
        let batch = first(observations)?.batch();
        if let Some((i, other)) = observations.iter().enumerate().find(|(_, shape)| shape.batch() != batch) {
            return Err(Error::shape(format!("condition {i}"), format!("a batch of {batch}, that of condition 0"), other));
        }
        let places = self.places(facts)?;
        (0..self.levels).map(|level| self.joined(&places, level)).collect()
    }

    fn belongs(&self, observations: &[Shape], state: Shape) -> Result<()> {
        let mut start = 0;
        self.parts.iter().try_for_each(|part| {
            let range = start..start + part.observations();
            start = range.end;
            part.belongs(of(observations, &range)?, state).map_err(|e| at_condition(&range, e))
        })
    }

    fn encode<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Vec<Tensor<B>>> {
        let (backend, places) = (at.backend(), self.places_at(at)?);
        let shapes = (0..self.levels).map(|level| self.joined(&places, level)).collect::<Result<Vec<_>>>()?;
        let mut levels = shapes.iter().map(|&shape| Tensor::scratch(backend, shape)).collect::<Result<Vec<_>>>()?;
        let mut starts = vec![0; self.levels];
        for (part, place) in self.parts.iter().zip(&places) {
            let made = part.encode(&at.with_conditions(of(at.conditions, &place.observations)?))?;
            for (level, (whole, start)) in levels.iter_mut().zip(&mut starts).enumerate() {
                let own = place.at(level).and_then(|(own, _)| made.get(own)).ok_or_else(|| missing(level))?;
                let channels = *start..*start + own.shape().channels();
                *start = channels.end;
                let extents = whole.shape().with_channels(channels.len());
                let view = if place.is_vector() { repeated(own, extents)? } else { own.view() };
                whole.view_mut().channels(channels).assign(backend, view)?;
            }
        }
        Ok(levels)
    }

    fn pull<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        encoded: &[Tensor<B>],
        cotangents: Vec<Tensor<B>>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let places = self.places_at(at)?;
        let mut starts = vec![0; self.levels];
        for (part, place) in self.parts.iter().zip(&places) {
            let (mut made, mut gs): (Vec<Tensor<B>>, Vec<Tensor<B>>) = Default::default();
            for (level, ((d, g), start)) in encoded.iter().zip(&cotangents).zip(&mut starts).enumerate() {
                let (_, shape) = place.at(level).ok_or_else(|| missing(level))?;
                let channels = *start..*start + shape.channels();
                *start = channels.end;
                let g = copy(g, channels.clone())?;
                if !place.is_vector() {
                    made.push(copy(d, channels)?);
                    gs.push(g);
                    continue;
                }
                if level == 0 {
                    made.push(first_pixel(d, channels)?);
                    gs.push(Tensor::zeros(at.backend(), shape)?);
                }
                if let [vector] = &mut gs[..] {
                    sum_pixels(at.backend(), 1.0, g.view(), vector)?;
                }
            }
            let own = grads.conditions.get_mut(place.observations.clone()).ok_or_else(|| missing(place.observations.start))?;
            let mut own = Gradients { theta: &mut *grads.theta, conditions: own };
            part.pull(&at.with_conditions(of(at.conditions, &place.observations)?), &made, gs, &mut own)?;
        }
        Ok(())
    }

    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>) -> Result<()> {
        let (mut start, conditions) = (0, at.conditions);
        self.parts.iter().try_for_each(|part| {
            let range = start..start + part.observations();
            start = range.end;
            let mut own = Setup { theta: &mut *at.theta, conditions: of(conditions, &range)?, operator: at.operator };
            part.initialize(dir, &mut own)
        })
    }
}

/// The encoder of one observation of [`ConcatenatedGlow`].
#[derive(Clone, Debug)]
pub enum Observation {
    /// A field with the extents of the state, a condition at each level.
    Pyramid(Pyramid),
    /// What a network makes of an observation of any extents.
    Summary(Box<Summary>),
}

macro_rules! each {
    ($observation:expr, $encoder:ident => $body:expr) => {
        match $observation {
            Observation::Pyramid($encoder) => $body,
            Observation::Summary($encoder) => $body,
        }
    };
}

impl Encoder for Observation {
    fn check(&self, facts: Facts<'_>) -> Result<Vec<Shape>> {
        each!(self, encoder => encoder.check(facts))
    }
    fn belongs(&self, observations: &[Shape], state: Shape) -> Result<()> {
        each!(self, encoder => encoder.belongs(observations, state))
    }
    fn encode<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Vec<Tensor<B>>> {
        each!(self, encoder => encoder.encode(at))
    }
    fn pull<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        encoded: &[Tensor<B>],
        cotangents: Vec<Tensor<B>>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        each!(self, encoder => encoder.pull(at, encoded, cotangents, grads))
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>) -> Result<()> {
        each!(self, encoder => encoder.initialize(dir, at))
    }
}

/// Settings of one [`Observation`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ObservationConfig {
    /// A pyramid over a field with the extents of the state.
    Pyramid(PyramidConfig),
    /// A summary network. Its extents are empty, so that its vector stands at every level.
    Summary(SummaryConfig),
}

impl ObservationConfig {
    /// The encoder for the levels of `flow`, and its channels at each of them.
    fn build(&self, scope: &mut Scope<'_>, flow: &GlowConfig) -> Result<(Observation, Vec<usize>)> {
        Ok(match self {
            Self::Pyramid(config) => {
                let pyramid = Pyramid::new(scope, config, flow)?;
                let widths = pyramid.widths().to_vec();
                (Observation::Pyramid(pyramid), widths)
            }
            Self::Summary(config) => (Observation::Summary(Box::new(Summary::new(scope, config)?)), vec![config.features; flow.levels]),
        })
    }
}

/// Glow with a condition at every level that is concatenated of several observations.
///
/// ```text
/// y_1 -> pyramid -> d_0, d_1, ..        y_2 -> summary -> v
/// x -> squeeze -> K steps(.; d_0, v) -> split -> squeeze -> K steps(.; d_1, v) ..
/// ```
pub type ConcatenatedGlow = Encoded<Glow, Concatenate<Observation>>;

/// Settings of [`ConcatenatedGlow`]. Condition i is the observation i.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConcatenatedGlowConfig {
    /// The flow.
    pub flow: GlowConfig,
    /// The observations, at least one. Vectors alone condition dense flows; states with extents need a pyramid among them.
    pub observations: Vec<ObservationConfig>,
}

impl Architecture for ConcatenatedGlowConfig {
    const KIND: &'static str = "concatenated_glow";
    type Network = ConcatenatedGlow;

    fn build(&self, scope: &mut Scope<'_>) -> Result<ConcatenatedGlow> {
        let (mut parts, mut widths) = (Vec::new(), vec![0; self.flow.levels]);
        for (i, observation) in self.observations.iter().enumerate() {
            let (part, own) = observation.build(&mut scope.sub(format!("observation{i}")), &self.flow)?;
            parts.push(part);
            widths.iter_mut().zip(own).for_each(|(width, own)| *width += own);
        }
        let encoder = Concatenate::new(parts, self.flow.levels)?;
        Ok(Encoded::new(encoder, self.flow.build_conditional(scope, &widths)?))
    }
}
