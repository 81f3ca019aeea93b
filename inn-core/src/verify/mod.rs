//! The test harness for layers, networks, conditioners and operators: yours and ours.
//!
//! ```
//! # use inn_core::{Layout, Shape, verify::Verify};
//! # use inn_layers::ActNorm;
//! # use inn_ops::Cpu;
//! let (layer, layout) = Layout::build(|scope| ActNorm::new(scope, 3))?;
//! let report = Verify::new(Cpu::<f64>::poisoned()).layer(&layer, &layout, Shape::new(2, 3, &[4, 5])?)?;
//! println!("{report}");
//! report.check()?;
//! # Ok::<(), inn_core::Error>(())
//! ```
//!
//! Points, directions and cotangents are random, from a seed. All parameters are moved away from where they start, so that a head that starts
//! at zero hides nothing. On a backend that poisons its storage ([`Cpu::poisoned`](https://docs.rs/inn-ops)) a read of unspecified
//! contents shows as NaN, which fails every check.
//!
//! # A layer, in each direction
//! Let F(p) = (f(x; θ, c), ℓ(x; θ, c)) be the map taken with its log-determinants, p = (x, c, θ) the point, J its Jacobian, r = (g, λ) a random
//! cotangent that differs from sample to sample, and d a random direction.
//!
//! | check | what holds | limit |
//! |---|---|---|
//! | same bits twice | F(p) is a function of p, and finite | equal |
//! | log-determinant is added | `map` on a log-determinant of s leaves s + ℓ | 10⁻¹² |
//! | round trip | f⁻¹(f(x)) = x | 10⁻¹⁰ |
//! | log-determinants cancel | ℓ of f⁻¹ at f(x) is -ℓ(x) | 10⁻¹⁰ |
//! | pull recovers the state | x from `pull` is that which was mapped | 10⁻¹⁰ |
//! | the opposite pull ... | see below | 10⁻¹⁰ |
//! | gradients accumulate | two calls into one storage give 2 Jᵀr for θ and c | 10⁻¹² |
//! | frozen parameters | no gradient, and that of x and c unchanged | 10⁻¹² |
//! | taylor in x, in each condition, in each parameter | order of the second remainder | 1.98 |
//! | slope in ... | ⟨Jᵀr, d⟩ is the central difference of φ | 10⁻⁶ |
//! | jvp against vjp in ..., and jointly | ⟨J d, r⟩ = ⟨d, Jᵀr⟩ | 10⁻¹² |
//! | jvp of the state, of the log-determinant | J d is the central difference of F | 10⁻⁶ |
//! | samples are independent | J d of a direction in one sample is zero in all others | equal |
//! | log-determinant against the dense Jacobian | ℓ_b = ln\|det ∂f_b/∂x_b\| by LU, up to 256 values a sample | 10⁻⁹ |
//! | pull recovers the tangent | `pull` on pairs takes J d back to d | 10⁻¹⁰ |
//! | Hessian product | ∂(Jᵀr)/∂p d is the central difference of gradients | 10⁻⁶ |
//!
//! **Taylor test.** φ(p) = ½ |F(p) - a|² with a = F(p₀) - w r, so that the gradient at p₀ is w Jᵀr with a residual that is not zero. If and
//! only if the gradient is right, the second remainder
//! ```text
//! R(h) = |φ(p₀ + h d) - φ(p₀) - h w ⟨Jᵀr, d⟩| = O(h²),
//! ```
//! with order log₂ R(h)/R(h/2) = 2; a wrong one leaves order 1. It is measured over four halvings, and the least of the four counts. The
//! change of φ is computed as ⟨w r, ΔF⟩ + ½ |ΔF|², in which nothing large cancels.
//!
//! The weight w keeps R apart from rounding and from the third order. R = ½ h² (|J d|² + w ⟨r, F″(d, d)⟩) + O(h³): with the sign that makes
//! the second term positive the two cannot cancel, and with |w r| = |J d| the two, and the slope that R would show if it were wrong, are of
//! one size, whatever the size of the derivative. (With w = 1 the rounding of ⟨r, ΔF⟩, ε |r| |F|, covers R from h = 2⁻¹¹ on where a
//! parameter deep inside moves F by |J d| = 10⁻³ only; and with the wrong sign R is of third order along some directions.)
//!
//! Steps start at 2⁻⁸, and where that does not suit the map at 2⁻¹⁰, 2⁻¹² and 2⁻¹⁵ (a kink, as of ReLU, is stepped over rarely by a small
//! step), then along two directions more. The best of these counts, since a wrong gradient is wrong along all. Remainders that are
//! nothing but rounding, for steps from 2⁻⁴ as well, count as of infinite order: F does not change along d.
//!
//! **The opposite pull.** Let (x, b) = `pull` of (y, g) with b = (∂f/∂x)ᵀ g + Σ λ ∂ℓ/∂x. The inverse map has the log-determinant -ℓ, so that
//! pulling it from (x, b) with the same λ gives (∂f/∂x)⁻ᵀ (b - Σ λ ∂ℓ/∂x) = g back, and for θ and c
//! ```text
//! -(∂f/∂θ)ᵀ (∂f/∂x)⁻ᵀ (b - Σ λ ∂ℓ/∂x) - Σ λ ∂ℓ/∂θ = -[(∂f/∂θ)ᵀ g + Σ λ ∂ℓ/∂θ],
//! ```
//! minus the gradient of the first pull.
//!
//! **Differences** are central, extrapolated once (Richardson), and the best of three steps counts: truncation, kinks and cancellation
//! spoil some steps, a wrong derivative is wrong at all.
//!
//! **Steps within reach.** A map near to being singular, such as the inverse of a flow that contracts, moves by more than its own size along d. Where
//! the steps above do not suit it, those of the Taylor test and of the differences are taken once more times (1 + |F|)/|J d| < 1.
//!
//! The tangents are derived from `map` itself ([`Dual`](crate::dual::Dual)), gradients are what the author wrote: the dot test compares the two to
//! rounding, and the differences say which of them is wrong. A value that passes through the host loses its tangent, which the dot test
//! and the differences of the JVP report.
//!
//! Where a derivative is zero by construction (of a reflection of one channel), both products of its dot test are rounding and nothing else. Their
//! gap is then another one at every point; it counts as nothing up to sixteen times what it changes by at eight points a few units in the last
//! place away, and never beyond 16 ε |r| (|F| + 1), times |d| beside the parameter. The gap that a wrong derivative leaves stays where it is, however small that derivative is.
//!
//! # A conditioner
//! The same derivatives of N(x; θ, c), accumulation onto storage that is not zero, independent samples, and tiles: N on a part of the batch gives
//! that part of the output.
//!
//! # An operator
//! ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ relative to |A x| |y| + |x| |Aᵀ y|, linearity of both products, `Write::Set` over storage that holds NaN, and
//! `Write::Add`.
//!
//! # Sources
//! Griewank & Walther, *Evaluating Derivatives* (2008), sections 3.1 and 3.2 for forward and adjoint products; Claerbout, *Earth Soundings
//! Analysis* (1992), chapter 5 for the dot test.

mod agreement;
mod conditioner;
mod derivatives;
mod determinant;
mod layer;
mod operator;
mod report;
mod space;

pub use report::{Report, Row, Rule};

use crate::backend::{Backend, Direction};
use crate::conditioner::Conditioner;
use crate::error::{Error, Result};
use crate::layer::{Facts, Invertible};
use crate::model::{Layer, Maps};
use crate::operator::LinearOperator;
use crate::params::{Layout, Params};
use crate::scalar::Element;
use crate::shape::Shape;
use layer::{Bench, Directed};
use space::{Blocks, Draw};
use std::sync::Arc;

/// What a check may be off by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Of recovered states, cotangents and log-determinants, relative to the largest value or 1.
    pub round_trip: f64,
    /// The least order of a second remainder.
    pub order: f64,
    /// Of the dot tests, relative to the norms in the inner products.
    pub dot: f64,
    /// Of derivatives against differences, relative.
    pub differences: f64,
    /// Of log-determinants against dense ones, relative to the largest or 1.
    pub determinant: f64,
}

impl Default for Tolerances {
    fn default() -> Self {
        Self { round_trip: 1e-10, order: 1.98, dot: 1e-12, differences: 1e-6, determinant: 1e-9 }
    }
}

/// Runs the checks. See the [module](self) for what they are.
#[derive(Clone)]
pub struct Verify<'a, B: Backend> {
    backend: B,
    conditions: Vec<Shape>,
    operator: Option<&'a dyn LinearOperator<B>>,
    seed: u64,
    inputs: Option<(f64, f64)>,
    tolerances: Tolerances,
}

impl<'a, B: Backend> Verify<'a, B> {
    /// On `backend`, whose numbers have to be of double precision (but for operators, with [`tolerances`](Self::tolerances) to match). Another
    /// type or device is compared with it by [`agrees_with`](Self::agrees_with).
    pub fn new(backend: B) -> Self {
        Self { backend, conditions: Vec::new(), operator: None, seed: 0, inputs: None, tolerances: Tolerances::default() }
    }

    /// Shapes of the conditions that a call brings; none by default.
    #[must_use]
    pub fn conditions(self, shapes: &[Shape]) -> Self {
        Self { conditions: shapes.to_vec(), ..self }
    }

    /// The external operator that a call brings.
    #[must_use]
    pub fn with_operator(self, operator: &'a dyn LinearOperator<B>) -> Self {
        Self { operator: Some(operator), ..self }
    }

    /// Another seed than 0 for all random numbers.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Inputs uniform in [low, high), for a layer that is not defined everywhere. The default is a standard normal distribution. The inverse
    /// is tested at images of such inputs.
    #[must_use]
    pub fn inputs_between(self, low: f64, high: f64) -> Self {
        Self { inputs: Some((low, high)), ..self }
    }

    /// Other limits.
    #[must_use]
    pub fn tolerances(self, tolerances: Tolerances) -> Self {
        Self { tolerances, ..self }
    }

    /// Checks a layer or network, built together with `layout`, on a state of shape `input`.
    ///
    /// # Errors
    /// What the layer's gate refuses, and a backend that is not of double precision. A check that fails is no error of this call.
    pub fn layer<L: Invertible>(&self, layer: &L, layout: &Arc<Layout>, input: Shape) -> Result<Report> {
        self.erased(layer, layout, input)
    }

    fn erased(&self, layer: &dyn Layer<B>, layout: &Arc<Layout>, input: Shape) -> Result<Report> {
        self.expect_double()?;
        let layout = layout.with_frozen(|_| false);
        let bench = self.bench(&self.backend, layer, &layout);
        let mut report = Report::new(format!("{} at {input}", layer.name()));
        let mut draw = Draw::new(self.seed);
        for (directed, at) in self.both(&bench, input, &mut draw)? {
            directed.check(&at, &mut draw, &self.tolerances, &mut report)?;
        }
        Ok(report)
    }

    /// Compares a layer on the harness's backend with the same on another (`f32` with `f64`, a device with the CPU), at identical inputs and
    /// parameters: maps, recovered states, gradients, tangents. Values may differ by `tolerance` times the largest of their tensor or 0.1.
    ///
    /// # Errors
    /// What the layer's gate refuses, and an external operator, which belongs to one backend.
    pub fn agrees_with<L: Invertible, C: Backend>(
        &self,
        other: &C,
        layer: &L,
        layout: &Arc<Layout>,
        input: Shape,
        tolerance: f64,
    ) -> Result<Report> {
        self.erased_agrees_with(other, layer, layer, layout, input, tolerance)
    }

    fn erased_agrees_with<C: Backend>(
        &self,
        other: &C,
        layer: &dyn Layer<B>,
        there: &dyn Layer<C>,
        layout: &Arc<Layout>,
        input: Shape,
        tolerance: f64,
    ) -> Result<Report> {
        if self.operator.is_some() {
            return Err(Error::config("operator", "expected none, since it belongs to one backend, got one"));
        }
        let layout = layout.with_frozen(|_| false);
        let bench = self.bench(&self.backend, layer, &layout);
        let names = bench.names.clone();
        let there = Bench { backend: other, layer: there, layout: &layout, operator: None, conditions: &self.conditions, names };
        let mut report = Report::new(format!("{} at {input}: {} against {}", layer.name(), other.name(), self.backend.name()));
        let mut draw = Draw::new(self.seed);
        for (directed, at) in self.both(&bench, input, &mut draw)? {
            agreement::check(&directed, &there, &at, &mut draw, tolerance, &mut report)?;
        }
        Ok(report)
    }

    /// Checks a conditioner, built together with `layout`, on an input of shape `input`.
    ///
    /// # Errors
    /// What the conditioner's gate refuses, and a backend that is not of double precision.
    pub fn conditioner<N: Conditioner>(&self, net: &N, layout: &Arc<Layout>, input: Shape) -> Result<Report> {
        self.expect_double()?;
        let layout = &layout.with_frozen(|_| false);
        let output = net.check(Facts { layout, conditions: &self.conditions, operator: None }, input)?;
        let names = layer::names(self.conditions.len(), layout);
        let subject = conditioner::Net { backend: &self.backend, net, layout, conditions: &self.conditions, names, input, output };
        let mut report = Report::new(format!("conditioner at {input}"));
        let mut draw = Draw::new(self.seed);
        let at = self.point(layout, input, &mut draw)?;
        subject.check(&at, &mut draw, &self.tolerances, &mut report)?;
        Ok(report)
    }

    /// Checks a linear operator at the shapes that it states.
    ///
    /// # Errors
    /// What the operator returns.
    pub fn operator<A: LinearOperator<B>>(&self, a: &A) -> Result<Report> {
        let mut report = Report::new(format!("operator from {} to {}", a.domain(), a.range()));
        operator::check(&self.backend, a, &mut Draw::new(self.seed), &self.tolerances, &mut report)?;
        Ok(report)
    }

    fn expect_double(&self) -> Result<()> {
        if B::Elem::EPSILON <= f64::EPSILON {
            return Ok(());
        }
        let got = B::Elem::NAME;
        Err(Error::config("backend", format!("expected numbers of double precision, got {got}; `agrees_with` compares others with them")))
    }

    fn bench<'b>(&'b self, backend: &'b B, layer: &'b dyn Layer<B>, layout: &'b Arc<Layout>) -> Bench<'b, B> {
        let names = layer::names(self.conditions.len(), layout);
        Bench { backend, layer, layout, operator: self.operator, conditions: &self.conditions, names }
    }

    /// Both directions of a layer, each with a point to check it at.
    fn both<'b, 'c>(&self, bench: &'c Bench<'b, B>, input: Shape, draw: &mut Draw) -> Result<[(Directed<'b, 'c, B>, Blocks); 2]> {
        let operator = self.operator.map(|a| (a.domain(), a.range()));
        let facts = Facts { layout: bench.layout, conditions: &self.conditions, operator };
        let output = Maps::<B>::check(bench.layer, Direction::Forward, facts, input)?;
        crate::error::expect_shape(
            "input of the layer, as its inverse states it",
            input,
            Maps::<B>::check(bench.layer, Direction::Inverse, facts, output)?,
        )?;
        let at = self.point(bench.layout, input, draw)?;
        // Another input for the inverse, so that the two directions do not meet at one point.
        let mut back = at.clone();
        back.0[0] = self.state(input, draw);
        back.0[0] = bench.map(Direction::Forward, input, &back)?.0.swap_remove(0);
        Ok([
            (Directed { bench, dir: Direction::Forward, input, output }, at),
            (Directed { bench, dir: Direction::Inverse, input: output, output: input }, back),
        ])
    }

    fn state(&self, input: Shape, draw: &mut Draw) -> Vec<f64> {
        match self.inputs {
            Some((low, high)) => draw.uniform(low, high, input.len()),
            None => draw.normal(input.len()),
        }
    }

    /// A random state, random conditions, and parameters away from where they start.
    fn point(&self, layout: &Arc<Layout>, input: Shape, draw: &mut Draw) -> Result<Blocks> {
        let mut blocks = vec![self.state(input, draw)];
        blocks.extend(self.conditions.iter().map(|shape| draw.normal(shape.len())));
        let start = if layout.is_empty() { Vec::new() } else { Params::init(&self.backend, layout, self.seed)?.to_flat()? };
        for entry in layout.entries() {
            // Bounded by the inputs of an output, so that sums of many do not saturate what follows.
            let inputs: usize = entry.dims().iter().skip(1).product();
            let reach = 0.4 / (inputs as f64).sqrt().max(1.0);
            let moved = draw.uniform(-reach, reach, entry.range().len());
            blocks.push(start[entry.range()].iter().zip(moved).map(|(a, b)| a + b).collect());
        }
        Ok(Blocks(blocks))
    }
}
