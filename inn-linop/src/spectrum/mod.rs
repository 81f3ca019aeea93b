//! Singular values without a matrix: norms, conditions.

mod small;

use crate::solve::{axpy, dot, norm, times};
use inn_core::{Backend, Error, LinearOperator, Result, Shape, Tensor, Write};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A number with a bound of its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// There is a singular value within this of it. For the largest one the estimate is a lower bound as well; that no larger one
    /// hides is likely, not certain, as with any method that starts at random.
    pub error: f64,
    /// Steps taken: each is a product with A and one with Aᵀ.
    pub steps: usize,
}

/// How a spectrum is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpectrumOptions {
    /// Steps at most; as many pairs of vectors are held.
    pub steps: usize,
    /// Relative error that is good enough for the ends that were asked for.
    pub tolerance: f64,
    /// Seed of the start.
    pub seed: u64,
}

impl Default for SpectrumOptions {
    /// 40 steps, 1e-6.
    fn default() -> Self {
        Self { steps: 40, tolerance: 1e-6, seed: 0 }
    }
}

/// The largest singular value of an operator, by the Lanczos bidiagonalization of Golub & Kahan 1965 with full reorthogonalization.
///
/// With orthonormal U, V and the bidiagonal C of k steps, A V = U C and Aᵀ U = V Cᵀ + β v e_kᵀ. A singular triple (σ, p, q) of C then has
/// |Aᵀ(U p) - σ V q| = β |p_k| and A(V q) = σ U p, which bounds the distance of σ from a singular value of A. The rate is that of
/// Lanczos, the square root of what power iteration needs. An operator that treats each sample alike is taken at one sample.
///
/// ```
/// use inn_linop::{Matrix, SpectrumOptions, spectral_norm};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let a = Matrix::new(&cpu, 2, 2, &[3.0, 0.0, 4.0, 5.0])?;
/// let norm = spectral_norm(&cpu, &a, &SpectrumOptions::default())?;
/// assert!((norm.value - 45f64.sqrt()).abs() < 1e-9 && norm.error < 1e-6);
/// # Ok::<(), inn_core::Error>(())
/// ```
///
/// # Errors
/// No steps; what the operator returns; [`Error::NonFinite`] where its products are not finite.
pub fn spectral_norm<B: Backend, A: LinearOperator<B>>(backend: &B, a: &A, options: &SpectrumOptions) -> Result<Estimate> {
    Ok(ends(backend, a, options, false)?.largest)
}

/// Both ends of the singular values of an operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends {
    /// The largest.
    pub largest: Estimate,
    /// The smallest that was found: never below the true one by more than `error`, but above it while the steps are few.
    pub smallest: Estimate,
}

impl Ends {
    /// σ_max / σ_min; infinite where the smallest is 0.
    pub fn condition(&self) -> f64 {
        if self.smallest.value > 0.0 { self.largest.value / self.smallest.value } else { f64::INFINITY }
    }
}

/// Largest and smallest singular value by one bidiagonalization. The smallest converges slowly where many lie close to it: where the inverse
/// is at hand, use [`condition_with_inverse`]. Of an operator with a null space it is the smallest that is not 0.
///
/// # Errors
/// As [`spectral_norm`].
pub fn extreme_singular_values<B: Backend, A: LinearOperator<B>>(backend: &B, a: &A, options: &SpectrumOptions) -> Result<Ends> {
    ends(backend, a, options, true)
}

/// Both ends from an operator and its inverse: σ_min(A) = 1/σ_max(A⁻¹), as well found as the largest.
///
/// For a layer both are [`Jacobian`](crate::Jacobian)s, of the map and of its inverse at the image.
///
/// # Errors
/// As [`spectral_norm`].
pub fn condition_with_inverse<B: Backend, A: LinearOperator<B>, C: LinearOperator<B>>(
    backend: &B,
    a: &A,
    inverse: &C,
    options: &SpectrumOptions,
) -> Result<Ends> {
    let largest = spectral_norm(backend, a, options)?;
    let of_inverse = spectral_norm(backend, inverse, options)?;
    let value = 1.0 / of_inverse.value;
    // d(1/σ) = dσ/σ².
    let smallest = Estimate { value, error: of_inverse.error * value * value, steps: of_inverse.steps };
    Ok(Ends { largest, smallest })
}

fn ends<B: Backend, A: LinearOperator<B>>(backend: &B, a: &A, options: &SpectrumOptions, both: bool) -> Result<Ends> {
    if options.steps == 0 {
        return Err(Error::config("steps", "expected at least 1, got 0"));
    }
    let (domain, range) = (a.domain(), a.range());
    let mut v = random(backend, domain, options.seed)?;
    let (mut us, mut vs): (Vec<Tensor<B>>, Vec<Tensor<B>>) = (Vec::new(), Vec::new());
    let (mut diagonal, mut above) = (Vec::new(), Vec::new());
    let mut found = Ends { largest: nothing(), smallest: nothing() };
    let most = options.steps.min(domain.len()).min(range.len());
    for step in 1..=most {
        // α u = A v - β u_old.
        let mut u = Tensor::scratch(backend, range)?;
        a.apply(backend, v.view(), &mut u.view_mut(), Write::Set)?;
        vs.push(v);
        orthogonalize(&mut u, &us)?;
        let alpha = finite(step, norm(&u)?)?;
        let largest: f64 = diagonal.iter().chain(&above).copied().fold(alpha, f64::max);
        diagonal.push(alpha);
        // β v_new = Aᵀ u - α v.
        let mut beta = 0.0;
        let mut next = None;
        if alpha > f64::EPSILON * largest {
            times(&mut u, 1.0 / alpha)?;
            let mut w = Tensor::scratch(backend, domain)?;
            a.apply_adjoint(backend, u.view(), &mut w.view_mut(), Write::Set)?;
            orthogonalize(&mut w, &vs)?;
            beta = finite(step, norm(&w)?)?;
            us.push(u);
            if beta > f64::EPSILON * largest {
                times(&mut w, 1.0 / beta)?;
                next = Some(w);
            }
        }
        let triples = small::bidiagonal_svd(&diagonal, &above);
        let estimate = |t: &small::Triple| Estimate { value: t.sigma, error: beta * t.last.abs(), steps: step };
        if let (Some(first), Some(last)) = (triples.first(), triples.last()) {
            found = Ends { largest: estimate(first), smallest: estimate(last) };
        }
        let good = |e: &Estimate| e.error <= options.tolerance * e.value;
        if step > 1 && good(&found.largest) && (!both || good(&found.smallest)) {
            break;
        }
        let Some(w) = next else { break };
        above.push(beta);
        v = w;
    }
    Ok(found)
}

fn nothing() -> Estimate {
    Estimate { value: 0.0, error: f64::INFINITY, steps: 0 }
}

fn finite(step: usize, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::NonFinite { tensor: format!("product in step {step} of the bidiagonalization"), index: 0, value })
}

/// Takes the span of orthonormal vectors away; twice is enough (Parlett 1980, section 6.9).
fn orthogonalize<B: Backend>(x: &mut Tensor<B>, basis: &[Tensor<B>]) -> Result<()> {
    for _ in 0..2 {
        for q in basis.iter().rev() {
            let overlap = dot(q, x)?;
            axpy(x, -overlap, q)?;
        }
    }
    Ok(())
}

/// A random vector of length 1.
fn random<B: Backend>(backend: &B, shape: Shape, seed: u64) -> Result<Tensor<B>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..shape.len()).map(|_| StandardNormal.sample(&mut rng)).collect();
    let size = values.iter().map(|v: &f64| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    Tensor::from_f64(backend, shape, &values.iter().map(|v| v / size).collect::<Vec<_>>())
}
