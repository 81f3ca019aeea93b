//! The measurements.

use super::Options;
use super::report::{LayerReport, NonFinite, Range, Stage};
use inn_core::{Backend, Call, Direction, Error, Given, Inputs, Invertible, Params, Result, Tensor, View, Visitor};
use inn_linop::{Jacobian, Map, SpectrumOptions, condition_with_inverse};

/// Relative error at which an estimate of a singular value is good enough.
const TOLERANCE: f64 = 1e-2;

/// Measures each layer that it is shown.
pub(super) struct Measure {
    options: Options,
    pub layers: Vec<LayerReport>,
}

impl Measure {
    pub fn new(options: Options) -> Self {
        Self { options, layers: Vec::new() }
    }
}

/// A number, if it is one.
fn number(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// |a - b| / |b|.
fn relative(a: &[f64], b: &[f64]) -> f64 {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    norm(&difference) / norm(b).max(f64::MIN_POSITIVE)
}

fn first_bad(stage: Stage, name: &str, values: &[f64]) -> Option<NonFinite> {
    let index = values.iter().position(|v| !v.is_finite())?;
    let value = values.get(index).map(|v| format!("{v}")).unwrap_or_default();
    Some(NonFinite { stage, name: name.to_owned(), index, value, count: values.iter().filter(|v| !v.is_finite()).count() })
}

/// Parameters with values that are not finite.
pub(super) fn bad_parameters<B: Backend>(theta: &Params<B>) -> Result<Vec<NonFinite>> {
    let flat = theta.to_flat()?;
    let entries = theta.layout().entries().iter();
    Ok(entries.filter_map(|e| first_bad(Stage::Parameter, e.name(), flat.get(e.range())?)).collect())
}

/// There and back through the whole network.
pub(super) struct Whole {
    pub round_trip: Option<f64>,
    pub gain: Option<f64>,
    pub logdet: Option<f64>,
}

pub(super) fn whole<L: Invertible, B: Backend>(call: &Call<'_, L, B>, dir: Direction, x: Tensor<B>) -> Result<Whole> {
    let input = x.to_f64()?;
    let out = call.map(dir, x)?;
    let (y, logdet) = (out.state.to_f64()?, out.logdet.to_f64()?);
    let back = call.map(dir.flip(), out.state)?.state.to_f64()?;
    Ok(Whole { round_trip: number(relative(&back, &input)), gain: number(norm(&y) / norm(&input)), logdet: number(mean(&logdet)) })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Smallest and largest, of numbers that are finite.
fn range(values: &[f64]) -> Option<Range> {
    let smallest = number(values.iter().copied().fold(f64::INFINITY, f64::min))?;
    Some(Range { smallest, largest: number(values.iter().copied().fold(f64::NEG_INFINITY, f64::max))? })
}

fn copy<B: Backend>(backend: &B, x: View<'_, B>) -> Result<Tensor<B>> {
    let mut tensor = Tensor::scratch(backend, x.shape())?;
    tensor.view_mut().assign(backend, x)?;
    Ok(tensor)
}

impl<B: Backend> Visitor<B> for Measure {
    fn visit<L: Invertible>(&mut self, path: &str, layer: &L, dir: Direction, at: &Inputs<'_, B>, x: View<'_, B>) -> Result<()> {
        let given = Given { conditions: at.conditions, operator: at.operator, trail: None };
        let call = Call::new(layer, at.theta, given);
        let x = copy(at.backend(), x)?;
        let path = if path.is_empty() { "network" } else { path };
        let mut report = LayerReport {
            path: path.to_owned(),
            kind: layer.name(),
            shape: x.shape().dims(),
            round_trip: None,
            gain: None,
            singular_values: None,
            condition: None,
            logdet: None,
            logdet_range: None,
            scale: None,
            scale_channels: None,
            non_finite: None,
        };
        let input = x.to_f64()?;
        report.non_finite = first_bad(Stage::Input, path, &input);
        if report.non_finite.is_none() {
            self.fill(&mut report, &call, dir, x, &input)?;
        }
        self.layers.push(report);
        Ok(())
    }
}

impl Measure {
    fn fill<L: Invertible, B: Backend>(
        &self,
        report: &mut LayerReport,
        call: &Call<'_, L, B>,
        dir: Direction,
        x: Tensor<B>,
        input: &[f64],
    ) -> Result<()> {
        let out = call.map(dir, x.duplicate()?)?;
        let (y, logdet) = (out.state.to_f64()?, out.logdet.to_f64()?);
        let back = call.map(dir.flip(), out.state.duplicate()?)?.state.to_f64()?;
        report.round_trip = number(relative(&back, input));
        report.gain = number(norm(&y) / norm(input));
        report.logdet = number(mean(&logdet));
        report.logdet_range = range(&logdet);
        report.non_finite = first_bad(Stage::Output, &report.path, &y)
            .or_else(|| first_bad(Stage::LogDeterminant, &report.path, &logdet))
            .or_else(|| first_bad(Stage::Inverse, &report.path, &back));
        if let Some(scales) = call.log_scales(dir, x.duplicate()?)? {
            report.scale = range(&[scales.smallest.exp(), scales.largest.exp()]);
            report.scale_channels = Some((scales.smallest_channel, scales.largest_channel));
        }
        if self.options.steps > 0 && report.non_finite.is_none() {
            let options = SpectrumOptions { steps: self.options.steps, tolerance: TOLERANCE, seed: self.options.seed };
            let map = Map::new(call.layer(), call.params()).given(call.given()).direction(dir);
            let forward = Jacobian::state(map, x)?;
            let inverse = Jacobian::state(map.direction(dir.flip()), out.state)?;
            match condition_with_inverse(call.params().backend(), &forward, &inverse, &options) {
                Ok(ends) => {
                    report.singular_values = range(&[ends.smallest.value, ends.largest.value]);
                    report.condition = number(ends.condition());
                }
                // Products that overflow are a finding, not a failure; the columns stay empty.
                Err(Error::NonFinite { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
