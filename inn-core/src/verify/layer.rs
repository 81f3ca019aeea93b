//! The checks of an invertible layer in one direction.

use super::Tolerances;
use super::derivatives::{self, Subject, best, central, gap, identical, reach};
use super::determinant::ln_abs_det;
use super::report::Report;
use super::space::{Blocks, Draw, deviation, norm, relative, worse};
use crate::backend::{Backend, Direction};
use crate::dual::Dual;
use crate::error::Result;
use crate::layer::{Gradients, Inputs};
use crate::model::{Along, Erased, Given, Layer, Maps, pull_pairs, push};
use crate::operator::LinearOperator;
use crate::params::{Layout, Params};
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Most values of a sample whose dense Jacobian is built.
const DENSE: usize = 256;

/// A layer with what it is called with, as a map of host numbers: blocks are the state, the conditions and the parameters.
pub(super) struct Bench<'a, B: Backend> {
    pub backend: &'a B,
    pub layer: &'a dyn Layer<B>,
    pub layout: &'a Arc<Layout>,
    pub operator: Option<&'a dyn LinearOperator<B>>,
    pub conditions: &'a [Shape],
    pub names: Vec<String>,
}

/// The names of the blocks of a point.
pub(super) fn names(conditions: usize, layout: &Layout) -> Vec<String> {
    let mut names = vec!["x".to_owned()];
    names.extend((0..conditions).map(|i| format!("condition {i}")));
    names.extend(layout.entries().iter().map(|e| e.name().to_owned()));
    names
}

/// Tensors of a point.
pub(super) struct Placed<B: Backend> {
    pub conditions: Vec<Tensor<B>>,
    pub theta: Params<B>,
}

/// Conditions and parameters on the device, from the blocks after the state.
pub(super) fn place<B: Backend>(backend: &B, layout: &Arc<Layout>, conditions: &[Shape], at: &Blocks) -> Result<Placed<B>> {
    let mut blocks = at.0.iter().skip(1);
    let tensors = conditions.iter().zip(&mut blocks).map(|(&shape, values)| Tensor::from_f64(backend, shape, values));
    let conditions = tensors.collect::<Result<Vec<_>>>()?;
    let mut flat = vec![0.0; layout.len()];
    for (entry, values) in layout.entries().iter().zip(at.0.iter().skip(1 + conditions.len())) {
        flat[entry.range()].copy_from_slice(values);
    }
    Ok(Placed { conditions, theta: Params::from_flat(backend, layout, &flat)? })
}

/// The blocks of a state, conditions and parameters.
pub(super) fn collect<B: Backend>(state: &Tensor<B>, conditions: &[Tensor<B>], theta: &Params<B>) -> Result<Blocks> {
    let mut blocks = vec![state.to_f64()?];
    for condition in conditions {
        blocks.push(condition.to_f64()?);
    }
    if !theta.layout().is_empty() {
        let flat = theta.to_flat()?;
        blocks.extend(theta.layout().entries().iter().map(|e| flat[e.range()].to_vec()));
    }
    Ok(Blocks(blocks))
}

impl<B: Backend> Bench<'_, B> {
    fn given<'b>(&'b self, placed: &'b Placed<B>) -> Given<'b, B> {
        Given { conditions: &placed.conditions, operator: self.operator, trail: None }
    }

    fn call<'b>(&'b self, placed: &'b Placed<B>) -> Erased<'b, B> {
        Erased { layer: self.layer, theta: &placed.theta, given: self.given(placed) }
    }

    fn place(&self, at: &Blocks) -> Result<Placed<B>> {
        place(self.backend, self.layout, self.conditions, at)
    }

    fn tensor(&self, shape: Shape, values: &[f64]) -> Result<Tensor<B>> {
        Tensor::from_f64(self.backend, shape, values)
    }

    /// (state, log-determinant) of the map taken.
    pub fn map(&self, dir: Direction, input: Shape, at: &Blocks) -> Result<Blocks> {
        let placed = self.place(at)?;
        let mapped = self.call(&placed).map(dir, self.tensor(input, &at.0[0])?)?;
        Ok(Blocks(vec![mapped.state.to_f64()?, mapped.logdet.to_f64()?]))
    }

    /// The recovered state, and the gradient of <cotangent, (state, log-determinant)> at the point whose image is `output`.
    pub fn pull(&self, dir: Direction, output: Shape, image: &[f64], at: &Blocks, cotangent: &Blocks) -> Result<(Vec<f64>, Blocks)> {
        let placed = self.place(at)?;
        let mut grads = Params::zeros(self.backend, self.layout)?;
        let gl = self.tensor(Shape::per_sample(output.batch()), &cotangent.0[1])?;
        let (y, gy) = (self.tensor(output, image)?, self.tensor(output, &cotangent.0[0])?);
        let pulled = self.call(&placed).pull(dir, y, gy, &gl, &mut grads)?;
        Ok((pulled.state.to_f64()?, collect(&pulled.cotangent, &pulled.conditions, &grads)?))
    }

    /// (state, log-determinant) and their tangents.
    pub fn push(&self, dir: Direction, input: Shape, at: &Blocks, direction: &Blocks) -> Result<(Blocks, Blocks)> {
        let (placed, along) = (self.place(at)?, self.place(direction)?);
        let (x, dx) = (self.tensor(input, &at.0[0])?, self.tensor(input, &direction.0[0])?);
        let along = Along { theta: Some(&along.theta), conditions: &along.conditions };
        let t = push(self.layer, &placed.theta, self.given(&placed), dir, x, dx, &along)?;
        let value = Blocks(vec![t.state.to_f64()?, t.logdet.to_f64()?]);
        Ok((value, Blocks(vec![t.tangent.to_f64()?, t.logdet_tangent.to_f64()?])))
    }
}

/// A bench, used in one direction.
pub(super) struct Directed<'a, 'b, B: Backend> {
    pub bench: &'b Bench<'a, B>,
    pub dir: Direction,
    pub input: Shape,
    pub output: Shape,
}

impl<B: Backend> Subject for Directed<'_, '_, B> {
    fn names(&self) -> &[String] {
        &self.bench.names
    }
    fn value(&self, at: &Blocks) -> Result<Blocks> {
        self.bench.map(self.dir, self.input, at)
    }
    fn gradient(&self, at: &Blocks, cotangent: &Blocks) -> Result<Blocks> {
        let image = self.value(at)?;
        Ok(self.bench.pull(self.dir, self.output, &image.0[0], at, cotangent)?.1)
    }
    fn tangent(&self, at: &Blocks, direction: &Blocks) -> Result<Blocks> {
        Ok(self.bench.push(self.dir, self.input, at, direction)?.1)
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["state", "log-determinant"]
    }
}

impl<B: Backend> Directed<'_, '_, B> {
    /// All checks at the point `at`.
    pub fn check(&self, at: &Blocks, draw: &mut Draw, tolerances: &Tolerances, report: &mut Report) -> Result<()> {
        let prefix = match self.dir {
            Direction::Forward => "forward: ",
            Direction::Inverse => "inverse: ",
        };
        let base = self.value(at)?;
        self.repeatable(prefix, at, &base, draw, report)?;
        self.round_trip(prefix, at, &base, tolerances, report)?;
        self.pullback(prefix, at, &base, draw, tolerances, report)?;
        derivatives::check(self, prefix, at, draw, tolerances, report)?;
        self.samples(prefix, at, &base, draw, tolerances, report)?;
        self.hessian(prefix, at, draw, tolerances, report)
    }

    /// Same input, same bits, whatever the storage held; and the log-determinant is added to what is there.
    fn repeatable(&self, prefix: &str, at: &Blocks, base: &Blocks, draw: &mut Draw, report: &mut Report) -> Result<()> {
        {
            // What a pool hands out next holds these numbers, if it does not clear it.
            let lens = [self.input.len(), self.output.len(), self.input.sample_len(), self.input.batch()];
            let dirty = lens.map(|len| Tensor::full(self.bench.backend, Shape::flat(len), f64::NAN));
            drop(dirty);
        }
        let again = self.value(at)?;
        report.at_most(format!("{prefix}same bits twice"), f64::from(u8::from(!identical(&again, base))), 0.0);
        let before = draw.normal(self.input.batch());
        let placed = self.bench.place(at)?;
        let mut x = self.bench.tensor(self.input, &at.0[0])?;
        let mut logdet = self.bench.tensor(Shape::per_sample(self.input.batch()), &before)?;
        Maps::<B>::map(self.bench.layer, self.dir, &self.inputs(&placed), &mut x.view_mut(), &mut logdet.view_mut())?;
        let added: Vec<f64> = logdet.to_f64()?.iter().zip(&before).map(|(a, b)| a - b).collect();
        report.at_most(format!("{prefix}log-determinant is added"), deviation(&added, &base.0[1], 1.0), 1e-12);
        Ok(())
    }

    fn inputs<'b>(&'b self, placed: &'b Placed<B>) -> Inputs<'b, B> {
        let (operator, samples) = (self.bench.operator, 0..self.input.batch());
        Inputs { theta: &placed.theta, conditions: &placed.conditions, operator, trail: None, samples }
    }

    fn round_trip(&self, prefix: &str, at: &Blocks, base: &Blocks, tolerances: &Tolerances, report: &mut Report) -> Result<()> {
        let mut image = at.clone();
        image.0[0].clone_from(&base.0[0]);
        let back = self.bench.map(self.dir.flip(), self.output, &image)?;
        report.at_most(format!("{prefix}round trip"), deviation(&back.0[0], &at.0[0], 1.0), tolerances.round_trip);
        let opposite: Vec<f64> = back.0[1].iter().map(|v| -v).collect();
        let gap = deviation(&opposite, &base.0[1], 1.0);
        report.at_most(format!("{prefix}log-determinants cancel"), gap, tolerances.round_trip);
        Ok(())
    }

    /// What holds of `pull` without differences: recovery, the opposite pull, accumulation, frozen parameters.
    fn pullback(
        &self,
        prefix: &str,
        at: &Blocks,
        base: &Blocks,
        draw: &mut Draw,
        tolerances: &Tolerances,
        report: &mut Report,
    ) -> Result<()> {
        let cotangent = draw.like(base);
        let (state, gradient) = self.bench.pull(self.dir, self.output, &base.0[0], at, &cotangent)?;
        report.at_most(format!("{prefix}pull recovers the state"), deviation(&state, &at.0[0], 1.0), tolerances.round_trip);

        let opposite = Blocks(vec![gradient.0[0].clone(), cotangent.0[1].clone()]);
        let (image, mut back) = self.bench.pull(self.dir.flip(), self.input, &state, at, &opposite)?;
        let state_gap = worse(deviation(&image, &base.0[0], 1.0), deviation(&back.0[0], &cotangent.0[0], 1.0));
        report.at_most(format!("{prefix}the opposite pull returns the cotangent"), state_gap, tolerances.round_trip);
        let mut negative = gradient.times(-1.0);
        back.0[0].clear();
        negative.0[0].clear();
        report.at_most(format!("{prefix}the opposite pull has the opposite gradient"), gap(&back, &negative, 1.0), tolerances.round_trip);

        // Twice into the same storage, which a layer of its own calls as a part of a network does.
        let placed = self.bench.place(at)?;
        let gl = self.bench.tensor(Shape::per_sample(self.output.batch()), &cotangent.0[1])?;
        let mut grads = Params::zeros(self.bench.backend, self.bench.layout)?;
        let zeros = self.bench.conditions.iter().map(|&shape| Tensor::zeros(self.bench.backend, shape));
        let mut conditions = zeros.collect::<Result<Vec<_>>>()?;
        let mut pulled = None;
        for _ in 0..2 {
            let (mut y, mut gy) = (self.bench.tensor(self.output, &base.0[0])?, self.bench.tensor(self.output, &cotangent.0[0])?);
            let mut gradients = Gradients { theta: &mut grads, conditions: &mut conditions };
            let at = self.inputs(&placed);
            Maps::<B>::pull(self.bench.layer, self.dir, &at, &mut y.view_mut(), &mut gy.view_mut(), gl.view(), &mut gradients)?;
            pulled = Some(gy);
        }
        if let Some(gy) = pulled {
            let mut twice = gradient.times(2.0);
            twice.0[0].clone_from(&gradient.0[0]);
            report.at_most(format!("{prefix}gradients accumulate"), gap(&collect(&gy, &conditions, &grads)?, &twice, 1.0), 1e-12);
        }
        if self.bench.layout.is_empty() {
            return Ok(());
        }
        let frozen = Bench { layout: &self.bench.layout.with_frozen(|_| true), names: Vec::new(), ..*self.bench };
        let (_, held) = frozen.pull(self.dir, self.output, &base.0[0], at, &cotangent)?;
        let first = 1 + self.bench.conditions.len();
        let left = held.0.iter().skip(first).map(|block| norm(block)).fold(0.0, worse);
        let rest = held.0.iter().zip(&gradient.0).take(first);
        let rest = rest.fold(0.0, |w, (a, b)| worse(w, deviation(a, b, 1.0)));
        report.at_most(format!("{prefix}frozen parameters have no gradient"), worse(left, rest), 1e-12);
        Ok(())
    }

    /// Each sample by itself: nothing leaks into another, and the log-determinant is that of its dense Jacobian.
    fn samples(
        &self,
        prefix: &str,
        at: &Blocks,
        base: &Blocks,
        draw: &mut Draw,
        tolerances: &Tolerances,
        report: &mut Report,
    ) -> Result<()> {
        let (batch, n) = (self.input.batch(), self.input.sample_len());
        let mut direction = at.zeros_like();
        if batch > 1 {
            let mut leak = 0.0;
            for b in 0..batch {
                direction.0[0].fill(0.0);
                direction.0[0][b * n..(b + 1) * n].copy_from_slice(&draw.normal(n));
                let mut tangent = self.tangent(at, &direction)?;
                tangent.0[0][b * n..(b + 1) * n].fill(0.0);
                tangent.0[1][b] = 0.0;
                leak = worse(leak, tangent.norm());
            }
            report.at_most(format!("{prefix}samples are independent"), leak, 0.0);
        }
        let name = format!("{prefix}log-determinant against the dense Jacobian");
        if n > DENSE {
            report.skipped(name, n as f64, DENSE as f64);
            return Ok(());
        }
        let mut columns = vec![Vec::with_capacity(n); batch];
        for j in 0..n {
            direction.0[0].fill(0.0);
            (0..batch).for_each(|b| direction.0[0][b * n + j] = 1.0);
            let tangent = self.tangent(at, &direction)?;
            for (columns, column) in columns.iter_mut().zip(tangent.0[0].chunks(n)) {
                columns.push(column.to_vec());
            }
        }
        let dense: Vec<f64> = columns.into_iter().map(ln_abs_det).collect();
        report.at_most(name, deviation(&base.0[1], &dense, 1.0), tolerances.determinant);
        Ok(())
    }

    /// Products with the Hessian of <g, F> against differences of gradients.
    fn hessian(&self, prefix: &str, at: &Blocks, draw: &mut Draw, tolerances: &Tolerances, report: &mut Report) -> Result<()> {
        let direction = draw.like(at);
        let (value, tangent) = self.bench.push(self.dir, self.input, at, &direction)?;
        let cotangent = draw.like(&value);
        let (placed, along) = (self.bench.place(at)?, self.bench.place(&direction)?);
        let along = Along { theta: Some(&along.theta), conditions: &along.conditions };
        let state = |values: &[f64]| self.bench.tensor(self.output, values);
        let gl = self.bench.tensor(Shape::per_sample(self.output.batch()), &cotangent.0[1])?;
        let (y, dy, gy) = (state(&value.0[0])?, state(&tangent.0[0])?, state(&cotangent.0[0])?);
        let (dual, given) = (Dual::<B>::new(self.bench.backend.clone()), self.bench.given(&placed));
        let gy = (gy, Tensor::zeros(self.bench.backend, self.output)?);
        let product = pull_pairs(self.bench.layer, &placed.theta, given, dual, self.dir, (y, dy), gy, &gl, &along)?;
        let recovered = deviation(&product.tangent.to_f64()?, &direction.0[0], 1.0);
        report.at_most(format!("{prefix}pull recovers the tangent"), recovered, tolerances.round_trip);
        let product = collect(&product.cotangent_tangent, &product.condition_tangents, &product.theta_tangent)?;
        let product: Vec<f64> = product.0.concat();
        let rounding = 1e-9 * (1.0 + norm(&product) + cotangent.norm());
        let errors = best(1, reach(&value, &tangent), |h| {
            let difference = central(h, |t| self.gradient(&at.plus(t, &direction), &cotangent))?;
            Ok(vec![relative(&difference.0.concat(), &product, rounding)])
        })?;
        report.at_most(format!("{prefix}Hessian product against differences"), errors[0], tolerances.differences);
        Ok(())
    }
}
