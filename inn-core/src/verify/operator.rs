//! The checks of a linear operator.

use super::Tolerances;
use super::derivatives::adjoint_gap;
use super::report::Report;
use super::space::{Draw, deviation};
use crate::backend::{Backend, Write};
use crate::error::Result;
use crate::operator::LinearOperator;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// One of the two products of an operator, on host numbers.
struct Product<'a, A, B: Backend> {
    backend: &'a B,
    a: &'a A,
    adjoint: bool,
    input: Shape,
    output: Shape,
}

impl<A: LinearOperator<B>, B: Backend> Product<'_, A, B> {
    /// The product, written over or added to `start`.
    fn of(&self, x: &[f64], start: &[f64], write: Write) -> Result<Vec<f64>> {
        let x = Tensor::from_f64(self.backend, self.input, x)?;
        let mut y = Tensor::from_f64(self.backend, self.output, start)?;
        if self.adjoint {
            self.a.apply_adjoint(self.backend, x.view(), &mut y.view_mut(), write)?;
        } else {
            self.a.apply(self.backend, x.view(), &mut y.view_mut(), write)?;
        }
        y.to_f64()
    }

    /// The product over storage that holds no numbers.
    fn set(&self, x: &[f64]) -> Result<Vec<f64>> {
        self.of(x, &vec![f64::NAN; self.output.len()], Write::Set)
    }

    fn check(&self, prefix: &str, draw: &mut Draw, report: &mut Report, limit: f64) -> Result<()> {
        let (x, z) = (draw.normal(self.input.len()), draw.normal(self.input.len()));
        let (ax, az) = (self.set(&x)?, self.set(&z)?);
        let combined: Vec<f64> = x.iter().zip(&z).map(|(x, z)| 2.0 * x - 0.5 * z).collect();
        let expected: Vec<f64> = ax.iter().zip(&az).map(|(x, z)| 2.0 * x - 0.5 * z).collect();
        report.at_most(format!("{prefix}linear"), deviation(&self.set(&combined)?, &expected, 1e-3), limit);
        let start = draw.normal(self.output.len());
        let expected: Vec<f64> = start.iter().zip(&ax).map(|(s, y)| s + y).collect();
        report.at_most(format!("{prefix}adds where asked to"), deviation(&self.of(&x, &start, Write::Add)?, &expected, 1.0), limit);
        Ok(())
    }
}

/// Dot test, linearity and both ways of writing, at the shapes that the operator states.
pub(super) fn check<A: LinearOperator<B>, B: Backend>(
    backend: &B,
    a: &A,
    draw: &mut Draw,
    tolerances: &Tolerances,
    report: &mut Report,
) -> Result<()> {
    let (domain, range) = (a.domain(), a.range());
    let forward = Product { backend, a, adjoint: false, input: domain, output: range };
    let adjoint = Product { backend, a, adjoint: true, input: range, output: domain };
    let (x, y) = (draw.normal(domain.len()), draw.normal(range.len()));
    let (ax, aty) = (forward.set(&x)?, adjoint.set(&y)?);
    report.at_most("adjoint", adjoint_gap(&ax, &y, &x, &aty), tolerances.dot);
    forward.check("product: ", draw, report, tolerances.dot)?;
    adjoint.check("adjoint product: ", draw, report, tolerances.dot)
}
