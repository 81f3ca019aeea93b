//! The checks of a conditioner.

use super::Tolerances;
use super::derivatives::{self, Subject, gap, identical};
use super::layer::{Placed, collect, place};
use super::report::Report;
use super::space::{Blocks, Draw, deviation, worse};
use crate::backend::Backend;
use crate::conditioner::Conditioner;
use crate::error::Result;
use crate::layer::{Gradients, Inputs};
use crate::model::{Along, Given, NetCall};
use crate::params::Layout;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// A conditioner with what it is called with.
pub(super) struct Net<'a, N, B: Backend> {
    pub backend: &'a B,
    pub net: &'a N,
    pub layout: &'a Arc<Layout>,
    pub conditions: &'a [Shape],
    pub names: Vec<String>,
    pub input: Shape,
    pub output: Shape,
}

fn inputs<B: Backend>(placed: &Placed<B>, samples: Range<usize>) -> Inputs<'_, B> {
    Inputs { theta: &placed.theta, conditions: &placed.conditions, operator: None, trail: None, samples }
}

impl<N: Conditioner, B: Backend> Net<'_, N, B> {
    fn place(&self, at: &Blocks) -> Result<Placed<B>> {
        place(self.backend, self.layout, self.conditions, at)
    }

    /// `times` times the gradient, on top of `start`; with the output's cotangent.
    fn vjp(&self, at: &Blocks, cotangent: &Blocks, start: &Blocks, times: usize) -> Result<Blocks> {
        let placed = self.place(at)?;
        let Placed { conditions: mut gc, theta: mut gtheta } = self.place(start)?;
        let x = Tensor::from_f64(self.backend, self.input, &at.0[0])?;
        let mut gx = Tensor::from_f64(self.backend, self.input, &start.0[0])?;
        let at = inputs(&placed, 0..self.input.batch());
        for _ in 0..times {
            let mut out = Tensor::scratch(self.backend, self.output)?;
            let saved = self.net.forward(&at, x.view(), &mut out.view_mut())?;
            let mut gout = Tensor::from_f64(self.backend, self.output, &cotangent.0[0])?;
            let mut grads = Gradients { theta: &mut gtheta, conditions: &mut gc };
            self.net.vjp(&at, x.view(), saved, &mut gout.view_mut(), &mut gx.view_mut(), &mut grads)?;
        }
        collect(&gx, &gc, &gtheta)
    }

    pub fn check(&self, at: &Blocks, draw: &mut Draw, tolerances: &Tolerances, report: &mut Report) -> Result<()> {
        let base = self.value(at)?;
        report.at_most("same bits twice", f64::from(u8::from(!identical(&self.value(at)?, &base))), 0.0);
        derivatives::check(self, "", at, draw, tolerances, report)?;
        let cotangent = draw.like(&base);
        let once = self.gradient(at, &cotangent)?;
        let start = draw.like(at);
        let added = self.vjp(at, &cotangent, &start, 2)?.plus(-1.0, &start);
        report.at_most("gradients accumulate", gap(&added, &once.times(2.0), 1.0), 1e-11);
        if self.input.batch() > 1 {
            self.samples(at, &base, draw, report)?;
        }
        Ok(())
    }

    /// Nothing leaks from sample to sample, and a tile of the batch gives what the whole gives.
    fn samples(&self, at: &Blocks, base: &Blocks, draw: &mut Draw, report: &mut Report) -> Result<()> {
        let (batch, n, m) = (self.input.batch(), self.input.sample_len(), self.output.sample_len());
        let mut leak = 0.0;
        for b in 0..batch {
            let mut direction = at.zeros_like();
            direction.0[0][b * n..(b + 1) * n].copy_from_slice(&draw.normal(n));
            let mut tangent = self.tangent(at, &direction)?;
            tangent.0[0][b * m..(b + 1) * m].fill(0.0);
            leak = worse(leak, tangent.norm());
        }
        report.at_most("samples are independent", leak, 0.0);
        let placed = self.place(at)?;
        let mut out = Tensor::scratch(self.backend, self.output.with_batch(batch - 1))?;
        let x = Tensor::from_f64(self.backend, self.input, &at.0[0])?;
        self.net.forward(&inputs(&placed, 1..batch), x.view().samples(1..batch), &mut out.view_mut())?;
        report.at_most("a tile is a part of the whole", deviation(&out.to_f64()?, &base.0[0][m..], 1.0), 1e-12);
        Ok(())
    }
}

impl<N: Conditioner, B: Backend> Subject for Net<'_, N, B> {
    fn names(&self) -> &[String] {
        &self.names
    }
    fn value(&self, at: &Blocks) -> Result<Blocks> {
        let placed = self.place(at)?;
        let x = Tensor::from_f64(self.backend, self.input, &at.0[0])?;
        let mut out = Tensor::scratch(self.backend, self.output)?;
        self.net.forward(&inputs(&placed, 0..self.input.batch()), x.view(), &mut out.view_mut())?;
        Ok(Blocks(vec![out.to_f64()?]))
    }
    fn gradient(&self, at: &Blocks, cotangent: &Blocks) -> Result<Blocks> {
        self.vjp(at, cotangent, &at.zeros_like(), 1)
    }
    fn tangent(&self, at: &Blocks, direction: &Blocks) -> Result<Blocks> {
        let (placed, along) = (self.place(at)?, self.place(direction)?);
        let call = NetCall::new(self.net, &placed.theta, Given::conditions(&placed.conditions));
        let tensor = |x: &Blocks| Tensor::from_f64(self.backend, self.input, &x.0[0]);
        let along = Along { theta: Some(&along.theta), conditions: &along.conditions };
        Ok(Blocks(vec![call.push(tensor(at)?, tensor(direction)?, &along)?.1.to_f64()?]))
    }
    fn outputs(&self) -> &'static [&'static str] {
        &["output"]
    }
}
