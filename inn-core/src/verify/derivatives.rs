//! The checks of first derivatives, the same for layers and conditioners.

use super::Tolerances;
use super::report::Report;
use super::space::{Blocks, Draw, dot, norm, relative, worse};
use crate::error::Result;

/// A differentiable map of blocks to blocks, with the derivatives that are to be checked.
pub(super) trait Subject {
    /// Names of the blocks of a point.
    fn names(&self) -> &[String];
    /// The outputs.
    fn value(&self, at: &Blocks) -> Result<Blocks>;
    /// The transposed Jacobian applied to `cotangent`, by the code under test.
    fn gradient(&self, at: &Blocks, cotangent: &Blocks) -> Result<Blocks>;
    /// The Jacobian applied to `direction`, derived from the code under test.
    fn tangent(&self, at: &Blocks, direction: &Blocks) -> Result<Blocks>;
    /// Names of the outputs.
    fn outputs(&self) -> &'static [&'static str];
}

/// Step sizes that the Taylor test starts at. Large ones suit smooth maps, small ones step over the kinks of others.
const STARTS: [f64; 4] = [1.0 / 256.0, 1.0 / 1024.0, 1.0 / 4096.0, 1.0 / 32768.0];
/// Where it starts when the others leave nothing but rounding. Not before: at large steps the second order hides a small error of the first.
const LARGEST: f64 = 1.0 / 16.0;
/// Directions that the Taylor test may take: some meet kinks at every step. A wrong derivative is of order 1 along all.
const DIRECTIONS: usize = 3;
/// Halvings of the Taylor test.
const HALVINGS: usize = 4;
/// Points in the neighbourhood that tell rounding from a wrong derivative.
const SHAKES: usize = 8;
/// How many times as large as the largest difference between two of them rounding may be. Of the gap that a wrong derivative leaves, this many
/// times 16 ε is still next to nothing.
const ROOM: f64 = 16.0;
/// Steps of central differences.
const STEPS: [f64; 3] = [1.0 / 512.0, 1.0 / 8192.0, 1.0 / 131_072.0];

/// Runs all checks of first derivatives of `subject` at the point `at` and adds them to the report.
pub(super) fn check<S: Subject>(
    subject: &S,
    prefix: &str,
    at: &Blocks,
    draw: &mut Draw,
    tolerances: &Tolerances,
    report: &mut Report,
) -> Result<()> {
    let base = subject.value(at)?;
    let residual = draw.like(&base);
    let direction = draw.like(at);
    let gradient = subject.gradient(at, &residual)?;
    for (block, name) in subject.names().iter().enumerate() {
        let d = direction.only(block);
        let tangent = subject.tangent(at, &d)?;
        let probe = Probe { subject, at, base: &base, residual: &residual, direction: &d, reach: reach(&base, &tangent) };
        let slope = gradient.dot(&d);
        let mut order = probe.order(slope, tolerances.order)?;
        for _ in 1..DIRECTIONS {
            if order >= tolerances.order {
                break;
            }
            let d = draw.like(at).only(block);
            let again = Probe { direction: &d, ..probe }.order(gradient.dot(&d), tolerances.order)?;
            order = order.max(again);
        }
        report.at_least(format!("{prefix}taylor in {name}"), order, tolerances.order);
        report.at_most(format!("{prefix}slope in {name}"), probe.slope_error(slope)?, tolerances.differences);
        let scale = tangent.scale(&residual) + norm(&d.0[block]) * norm(&gradient.0[block]);
        let mut gap = tangent.dot(&residual) - slope;
        // A derivative that is zero by construction leaves rounding against rounding.
        let rounding = probe.rounding(1.0) * relative_size(&d.0[block], &at.0[block]);
        if ratio(gap, scale) > tolerances.dot && gap.abs() <= rounding && gap.abs() <= probe.noise(gap, draw)? {
            gap = 0.0;
        }
        report.at_most(format!("{prefix}jvp against vjp in {name}"), ratio(gap, scale), tolerances.dot);
    }
    let tangent = subject.tangent(at, &direction)?;
    let scale = tangent.scale(&residual) + gradient.scale(&direction);
    let gap = tangent.dot(&residual) - gradient.dot(&direction);
    report.at_most(format!("{prefix}jvp against vjp, jointly"), ratio(gap, scale), tolerances.dot);
    let rounding = 1e-9 * (1.0 + base.norm());
    let errors = best(subject.outputs().len(), reach(&base, &tangent), |h| {
        let difference = central(h, |t| subject.value(&at.plus(t, &direction)))?;
        Ok(difference.0.iter().zip(&tangent.0).map(|(a, b)| relative(a, b, rounding)).collect())
    })?;
    for (output, error) in subject.outputs().iter().zip(errors) {
        report.at_most(format!("{prefix}jvp of the {output} against differences"), error, tolerances.differences);
    }
    Ok(())
}

/// |d|, or larger where d is large beside the point p that it starts at: what a derivative along d is made of, if nothing cancels.
fn relative_size(d: &[f64], p: &[f64]) -> f64 {
    d.iter().zip(p).map(|(d, p)| (d / p.abs().clamp(1e-3, 1.0)).powi(2)).sum::<f64>().sqrt()
}

/// A gap, or 0 where it is nothing but rounding: of a derivative that is zero by its construction nothing else is there to compare.
fn significant(gap: f64, rounding: f64) -> f64 {
    if gap.abs() <= rounding { 0.0 } else { gap }
}

/// a / b with 0 / 0 = 0.
fn ratio(a: f64, b: f64) -> f64 {
    if a == 0.0 { 0.0 } else { (a / b).abs() }
}

/// (f(h) - f(-h)) / 2h, extrapolated to O(h⁴) with h/2 (Richardson).
pub(super) fn central(h: f64, f: impl Fn(f64) -> Result<Blocks>) -> Result<Blocks> {
    let once = |h: f64| Ok(f(h)?.plus(-1.0, &f(-h)?).times(0.5 / h));
    let (wide, narrow): (Blocks, Blocks) = (once(h)?, once(0.5 * h)?);
    Ok(narrow.plus(1.0 / 3.0, &narrow.plus(-1.0, &wide)))
}

/// The part of a step that is small for the map F along a direction d: 1, or less where F moves by more than its own size, as a map does that is
/// near to being singular. |F| / |J d| is then the step that the second order has to be seen from.
pub(super) fn reach(base: &Blocks, tangent: &Blocks) -> f64 {
    ((1.0 + base.norm()) / tangent.norm()).min(1.0)
}

/// Steps as they are, and within the reach of the map.
fn within(steps: &[f64], reach: f64) -> impl Iterator<Item = f64> {
    let near = steps.iter().map(move |h| h * reach).filter(move |_| reach < 1.0);
    steps.iter().copied().chain(near)
}

/// The least error of each of `count` quantities over the steps. A wrong derivative is wrong at every step; truncation, kinks and
/// cancellation spoil some steps only.
pub(super) fn best(count: usize, reach: f64, mut errors: impl FnMut(f64) -> Result<Vec<f64>>) -> Result<Vec<f64>> {
    let mut least = vec![f64::NAN; count];
    for h in within(&STEPS, reach) {
        for (least, error) in least.iter_mut().zip(errors(h)?) {
            // The minimum of a number and NaN is the number.
            *least = least.min(error);
        }
        if least.iter().all(|e| *e < 1e-8) {
            break;
        }
    }
    Ok(least)
}

/// The objective φ = ½ |F - a|² along a direction, with a chosen so that the residual at the base point is a multiple of `residual`.
struct Probe<'a, S> {
    subject: &'a S,
    at: &'a Blocks,
    base: &'a Blocks,
    residual: &'a Blocks,
    direction: &'a Blocks,
    /// See [`reach`].
    reach: f64,
}

impl<S: Subject> Probe<'_, S> {
    /// The change of F.
    fn moved(&self, h: f64) -> Result<Blocks> {
        Ok(self.subject.value(&self.at.plus(h, self.direction))?.plus(-1.0, self.base))
    }

    /// φ(h) - φ(0) with a residual of `weight` times r, from the change of F: weight <r, ΔF> + ½ |ΔF|². The constant ½ |weight r|² never
    /// enters, so nothing large cancels.
    fn change(&self, h: f64, weight: f64) -> Result<f64> {
        let change = self.moved(h)?;
        Ok(weight * change.dot(self.residual) + 0.5 * change.dot(&change))
    }

    /// What rounding makes of <J d, r> - <d, Jᵀ r>: how far this gap moves where every number of the point moves in its last places. Where the
    /// derivative is zero by construction, both products are rounding, and a different one at each of these points; the gap that
    /// a wrong derivative leaves stays.
    fn noise(&self, gap: f64, draw: &mut Draw) -> Result<f64> {
        let mut most = 0.0;
        for _ in 0..SHAKES {
            let at = draw.shaken(self.at, 16.0 * f64::EPSILON);
            let product = self.subject.tangent(&at, self.direction)?.dot(self.residual);
            let moved = product - self.subject.gradient(&at, self.residual)?.dot(self.direction);
            most = worse(most, (moved - gap).abs());
        }
        Ok(ROOM * most)
    }

    /// What rounding alone can make of a change.
    fn rounding(&self, weight: f64) -> f64 {
        16.0 * f64::EPSILON * weight.abs() * (self.residual.scale(self.base) + self.residual.norm())
    }

    /// The weight of the residual in the Taylor test, of size |J d| / |r| and with the sign that makes <weight r, F''(d, d)> positive. With
    /// any other sign the second derivative of φ, |J d|² + <weight r, F''(d, d)>, may vanish, and what is left to see is of third order or
    /// rounding; with a larger size rounding, ε |weight r| |F|, covers it where |J d| is small.
    fn weight(&self, h: f64) -> Result<f64> {
        let (up, down) = (self.moved(h)?, self.moved(-h)?);
        let bend = up.plus(1.0, &down).dot(self.residual);
        let size = up.norm() / (h * self.residual.norm());
        let size = if size.is_finite() && size > 0.0 { size } else { 1.0 };
        Ok(if bend < 0.0 { -size } else { size })
    }

    /// The least observed order of |φ(h) - φ(0) - h slope| over [`HALVINGS`] halvings, at the start that suits the map best; infinite where
    /// the remainder is nothing but rounding at all of them. `slope` is that of a residual of weight 1.
    fn order(&self, slope: f64, enough: f64) -> Result<f64> {
        let weight = self.weight(STARTS[0])?;
        let near = if self.reach < 1.0 { self.weight(STARTS[0] * self.reach)? } else { weight };
        let mut best = f64::NAN;
        for (i, start) in within(&STARTS, self.reach).enumerate() {
            let order = self.order_from(start, slope, if i < STARTS.len() { weight } else { near })?;
            if order.is_finite() {
                best = best.max(order);
            }
            if best >= enough {
                return Ok(best);
            }
        }
        if best.is_nan() { self.order_from(LARGEST, slope, weight) } else { Ok(best) }
    }

    fn order_from(&self, start: f64, slope: f64, weight: f64) -> Result<f64> {
        let mut remainders = Vec::with_capacity(HALVINGS + 1);
        for k in 0..=HALVINGS {
            let h = start * 0.5f64.powi(k as i32);
            remainders.push((self.change(h, weight)? - h * weight * slope).abs());
        }
        if remainders.iter().any(|r| !r.is_finite()) {
            return Ok(f64::NAN);
        }
        if remainders.iter().all(|r| *r <= self.rounding(weight)) {
            return Ok(f64::INFINITY);
        }
        Ok(remainders.windows(2).map(|r| (r[0] / r[1]).log2()).fold(f64::INFINITY, f64::min))
    }

    /// |central difference of φ - slope|, relative to the size of the inner product that the slope is.
    fn slope_error(&self, slope: f64) -> Result<f64> {
        let errors = best(1, self.reach, |h| {
            let once = |h: f64| -> Result<(f64, f64)> {
                let (plus, minus) = (self.change(h, 1.0)?, self.change(-h, 1.0)?);
                Ok(((plus - minus) / (2.0 * h), (plus.abs() + minus.abs()) / (2.0 * h)))
            };
            let ((wide, _), (narrow, size)) = (once(h)?, once(0.5 * h)?);
            let estimate = narrow + (narrow - wide) / 3.0;
            let gap = (estimate - slope).abs();
            let floor = self.rounding(1.0) / h;
            Ok(vec![ratio(significant(gap, floor), size + slope.abs())])
        })?;
        Ok(errors[0])
    }
}

/// The largest of the gaps between outputs, for checks with one row.
pub(super) fn gap(a: &Blocks, b: &Blocks, floor: f64) -> f64 {
    a.0.iter().zip(&b.0).fold(0.0, |worst, (a, b)| worse(worst, super::space::deviation(a, b, floor)))
}

/// Whether two vectors agree to the last bit.
pub(super) fn identical(a: &Blocks, b: &Blocks) -> bool {
    a.is_finite() && a == b
}

/// <a, b> of single blocks, relative to |a| |b|.
pub(super) fn adjoint_gap(ax: &[f64], y: &[f64], x: &[f64], aty: &[f64]) -> f64 {
    ratio(dot(ax, y) - dot(x, aty), norm(ax) * norm(y) + norm(x) * norm(aty))
}
