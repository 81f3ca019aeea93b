//! One layer on two backends.

use super::layer::{Bench, Directed};
use super::report::Report;
use super::space::{Blocks, Draw, deviation};
use crate::backend::{Backend, Direction};
use crate::error::Result;
use crate::scalar::Element;

/// Rounds numbers to those that both types have.
fn round<B: Backend, C: Backend>(x: &Blocks) -> Blocks {
    let round = |v: &f64| C::Elem::from_f64(B::Elem::from_f64(*v).to_f64()).to_f64();
    Blocks(x.0.iter().map(|block| block.iter().map(round).collect()).collect())
}

/// Compares maps, pulls and tangents at identical points, parameters and cotangents. Small values count as if they were `FLOOR`.
const FLOOR: f64 = 0.1;

pub(super) fn check<B: Backend, C: Backend>(
    own: &Directed<'_, '_, B>,
    other: &Bench<'_, C>,
    at: &Blocks,
    draw: &mut Draw,
    tolerance: f64,
    report: &mut Report,
) -> Result<()> {
    let (dir, input, output) = (own.dir, own.input, own.output);
    let prefix = match dir {
        Direction::Forward => "forward",
        Direction::Inverse => "inverse",
    };
    let mut compare = |what: &str, own: &[f64], other: &[f64]| {
        report.at_most(format!("{prefix}: {what}"), deviation(other, own, FLOOR), tolerance);
    };
    let at = round::<B, C>(at);
    let direction = round::<B, C>(&draw.like(&at));
    let ((value, tangent), (other_value, other_tangent)) =
        (own.bench.push(dir, input, &at, &direction)?, other.push(dir, input, &at, &direction)?);
    compare("tangent of the state", &tangent.0[0], &other_tangent.0[0]);
    compare("tangent of the log-determinant", &tangent.0[1], &other_tangent.0[1]);
    let mapped = other.map(dir, input, &at)?;
    compare("state", &value.0[0], &mapped.0[0]);
    compare("log-determinant", &value.0[1], &mapped.0[1]);
    compare("state beside its tangent", &value.0[0], &other_value.0[0]);
    let image = round::<B, C>(&value);
    let cotangent = round::<B, C>(&draw.like(&value));
    let (state, gradient) = own.bench.pull(dir, output, &image.0[0], &at, &cotangent)?;
    let (other_state, other_gradient) = other.pull(dir, output, &image.0[0], &at, &cotangent)?;
    compare("recovered state", &state, &other_state);
    for (i, name) in own.bench.names.iter().enumerate() {
        compare(&format!("gradient of {name}"), &gradient.0[i], &other_gradient.0[i]);
    }
    Ok(())
}
