//! Solvers and spectra against dense solutions.

use inn_core::{Error, LinearOperator, Result, Shape, Tensor};
use inn_linop::solve::{
    FitOptions, LeastSquares, Limits, LsqrOptions, Stop, cg, gauss_newton_step, levenberg_marquardt, lsqr, minres, newton_step,
};
use inn_linop::{
    Algebra, Blocks, Diagonal, Identity, Kronecker, Matrix, Restriction, SpectrumOptions, condition_with_inverse, dot_test,
    extreme_singular_values, spectral_norm,
};
use inn_ops::Cpu;

type Device = Cpu<f64>;

fn cpu() -> Device {
    Cpu::poisoned()
}

fn number(i: usize) -> f64 {
    ((i * 7919 + 13) % 1009) as f64 / 504.0 - 1.0
}

fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| number(i * 17 + 131 * seed + i * i)).collect()
}

fn vector(values: &[f64]) -> Tensor<Device> {
    Tensor::from_f64(&cpu(), Shape::per_channel(values.len()), values).unwrap()
}

fn matrix(rows: usize, columns: usize, values: &[f64]) -> Matrix<Device> {
    Matrix::new(&cpu(), rows, columns, values).unwrap()
}

/// Row-major.
fn times(a: &[f64], b: &[f64], n: usize, inner: usize, m: usize) -> Vec<f64> {
    (0..n * m).map(|k| (0..inner).map(|j| a[k / m * inner + j] * b[j * m + k % m]).sum()).collect()
}

fn transpose(a: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..rows * columns).map(|k| a[k % rows * columns + k / rows]).collect()
}

/// Gauss elimination with row exchange.
fn solve(a: &[f64], b: &[f64]) -> Vec<f64> {
    let n = b.len();
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    for k in 0..n {
        let pivot = (k..n).max_by(|&i, &j| a[i * n + k].abs().total_cmp(&a[j * n + k].abs())).unwrap();
        (0..n).for_each(|j| a.swap(k * n + j, pivot * n + j));
        b.swap(k, pivot);
        for i in k + 1..n {
            let f = a[i * n + k] / a[k * n + k];
            (k..n).for_each(|j| a[i * n + j] -= f * a[k * n + j]);
            b[i] -= f * b[k];
        }
    }
    for k in (0..n).rev() {
        let rest: f64 = (k + 1..n).map(|j| a[k * n + j] * b[j]).sum();
        b[k] = (b[k] - rest) / a[k * n + k];
    }
    b
}

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * (1.0 + b.abs()))
}

/// A symmetric matrix with these eigenvalues: Q Λ Qᵀ with Q a product of reflections.
fn symmetric(eigenvalues: &[f64]) -> Vec<f64> {
    let n = eigenvalues.len();
    let mut a: Vec<f64> = (0..n * n).map(|k| if k / n == k % n { eigenvalues[k / n] } else { 0.0 }).collect();
    for round in 0..3 {
        let v = numbers(n, 40 + round);
        let size: f64 = v.iter().map(|v| v * v).sum();
        let h: Vec<f64> = (0..n * n).map(|k| f64::from(u8::from(k / n == k % n)) - 2.0 * v[k / n] * v[k % n] / size).collect();
        a = times(&times(&h, &a, n, n, n), &h, n, n, n);
    }
    a
}

#[test]
fn cg_solves_with_and_without_preconditioner() {
    let eigenvalues: Vec<f64> = (0..20).map(|i| 1.5f64.powi(i)).collect();
    let dense = symmetric(&eigenvalues);
    let (a, b) = (matrix(20, 20, &dense), vector(&numbers(20, 1)));
    let expected = solve(&dense, b.slice());
    let limits = Limits { tolerance: 1e-12, iterations: 300 };
    let plain = cg(&a, &b, None, limits).unwrap();
    assert_eq!(plain.stop, Stop::Residual);
    assert!(close(plain.x.slice(), &expected, 1e-8));
    assert_eq!(plain.residuals.len(), plain.iterations() + 1);
    // The inverse itself is the best preconditioner: one iteration.
    let inverse = matrix(20, 20, &symmetric(&eigenvalues.iter().map(|v| 1.0 / v).collect::<Vec<_>>()));
    let helped = cg(&a, &b, Some(&inverse), limits).unwrap();
    assert!(helped.iterations() <= 3 && close(helped.x.slice(), &expected, 1e-8), "{}", helped.iterations());
    assert!(helped.iterations() < plain.iterations());
    // What CG cannot do, it says.
    let indefinite = matrix(20, 20, &symmetric(&numbers(20, 3)));
    assert!(matches!(cg(&indefinite, &b, None, limits), Err(Error::Breakdown { .. })));
    assert!(matches!(cg(&matrix(3, 20, &numbers(60, 1)), &b, None, limits), Err(Error::Shape { .. })));
    assert!(matches!(cg(&a, &vector(&[1.0; 19]), None, limits), Err(Error::Shape { .. })));
    assert!(matches!(cg(&a, &vector(&[f64::NAN; 20]), None, limits), Err(Error::NonFinite { .. })));
    assert!(cg(&a, &b, None, Limits { tolerance: f64::NAN, iterations: 3 }).is_err());
    assert_eq!(cg(&a, &vector(&[0.0; 20]), None, limits).unwrap().stop, Stop::Zero);
    assert_eq!(cg(&a, &b, None, Limits { iterations: 2, ..limits }).unwrap().stop, Stop::Iterations);
}

#[test]
fn minres_solves_indefinite_systems() {
    let eigenvalues: Vec<f64> = (0..15).map(|i| (i as f64 - 6.3) * 0.7).collect();
    let dense = symmetric(&eigenvalues);
    let (a, b) = (matrix(15, 15, &dense), vector(&numbers(15, 2)));
    let limits = Limits { tolerance: 1e-12, iterations: 100 };
    let solution = minres(&a, &b, limits).unwrap();
    assert!(solution.stop.converged() && close(solution.x.slice(), &solve(&dense, b.slice()), 1e-9));
    // The recurrence of the residual is that of the residual.
    let early = minres(&a, &b, Limits { iterations: 6, ..limits }).unwrap();
    let r: Vec<f64> = times(&dense, early.x.slice(), 15, 15, 1).iter().zip(b.slice()).map(|(a, b)| a - b).collect();
    let size = r.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!((size - early.residuals[6]).abs() < 1e-12 * early.residuals[0]);
    // A singular system out of reach: the residual stays, the answer is a least-squares one.
    let singular = symmetric(&[1.0, -2.0, 3.0, 0.0, 0.0]);
    let b = vector(&numbers(5, 7));
    let stuck = minres(&matrix(5, 5, &singular), &b, Limits { tolerance: 1e-10, iterations: 50 }).unwrap();
    assert_eq!(stuck.stop, Stop::LeastSquares);
    let r: Vec<f64> = times(&singular, stuck.x.slice(), 5, 5, 1).iter().zip(b.slice()).map(|(a, b)| a - b).collect();
    assert!(times(&singular, &r, 5, 5, 1).iter().all(|v| v.abs() < 1e-8));
    assert_eq!(minres(&matrix(1, 1, &[0.0]), &vector(&[1.0]), limits).unwrap().stop, Stop::LeastSquares);
}

#[test]
fn lsqr_solves_least_squares() {
    let options = LsqrOptions { atol: 1e-13, btol: 1e-13, iterations: 300, ..LsqrOptions::default() };
    for (rows, columns, damping) in [(12, 7, 0.0), (12, 7, 0.8), (7, 12, 0.5), (7, 7, 0.0)] {
        let dense = numbers(rows * columns, rows + columns);
        let (a, b) = (matrix(rows, columns, &dense), vector(&numbers(rows, 3)));
        let solution = lsqr(&a, &b, &LsqrOptions { damping, ..options }).unwrap();
        // (AᵀA + δ²I) x = Aᵀb.
        let at = transpose(&dense, rows, columns);
        let mut normal = times(&at, &dense, columns, rows, columns);
        (0..columns).for_each(|i| normal[i * columns + i] += damping * damping);
        let expected = solve(&normal, &times(&at, b.slice(), columns, rows, 1));
        assert!(solution.stop.converged(), "{:?}", solution.stop);
        assert!(close(solution.x.slice(), &expected, 1e-8), "{rows}x{columns}");
        // The residual that is reported, damping included.
        let r = times(&dense, solution.x.slice(), rows, columns, 1);
        let misfit: f64 = r.iter().zip(b.slice()).map(|(r, b)| (r - b).powi(2)).sum();
        let size: f64 = solution.x.slice().iter().map(|v| v * v).sum();
        let total = (misfit + damping * damping * size).sqrt();
        assert!((solution.residuals.last().unwrap() - total).abs() < 1e-9 * (1.0 + total));
    }
    // Less equations than unknowns: the solution of least norm, Aᵀ(A Aᵀ)⁻¹ b.
    let dense = numbers(4 * 9, 5);
    let b = vector(&numbers(4, 6));
    let solution = lsqr(&matrix(4, 9, &dense), &b, &options).unwrap();
    let at = transpose(&dense, 4, 9);
    let expected = times(&at, &solve(&times(&dense, &at, 4, 9, 4), b.slice()), 9, 4, 1);
    assert!(solution.stop == Stop::Residual && close(solution.x.slice(), &expected, 1e-9));
    // An ill-conditioned one says so.
    let bad = matrix(6, 6, &symmetric(&[1.0, 0.5, 0.2, 0.1, 1e-3, 1e-7]));
    let b = vector(&numbers(6, 9));
    assert_eq!(lsqr(&bad, &b, &LsqrOptions { condition_limit: 1e5, ..options }).unwrap().stop, Stop::Condition);
    assert!(matches!(lsqr(&bad, &b, &LsqrOptions { damping: -1.0, ..options }), Err(Error::Config { .. })));
    assert!(matches!(lsqr(&bad, &vector(&[f64::INFINITY; 6]), &options), Err(Error::NonFinite { .. })));
    assert!(matches!(lsqr(&bad, &vector(&[1.0; 5]), &options), Err(Error::Shape { .. })));
}

#[test]
fn steps_are_those_of_the_normal_equations() {
    let (dense, r) = (numbers(8 * 5, 1), vector(&numbers(8, 2)));
    let at = transpose(&dense, 8, 5);
    let mut normal = times(&at, &dense, 5, 8, 5);
    (0..5).for_each(|i| normal[i * 6] += 0.3);
    let g = times(&at, r.slice(), 5, 8, 1);
    let expected: Vec<f64> = solve(&normal, &g).iter().map(|v| -v).collect();
    let a = matrix(8, 5, &dense);
    let options = LsqrOptions { atol: 1e-13, btol: 1e-13, ..LsqrOptions::default() };
    assert!(close(gauss_newton_step(&a, &r, 0.3, &options).unwrap().x.slice(), &expected, 1e-9));
    let curvature = (&a).then((&a).adjoint()).unwrap();
    let newton = newton_step(&curvature, &vector(&g), 0.3, None, Limits { tolerance: 1e-12, iterations: 50 }).unwrap();
    assert!(close(newton.x.slice(), &expected, 1e-9));
    assert!(gauss_newton_step(&a, &r, -0.3, &options).is_err());
}

/// Rosenbrock's valley as least squares, r = (10 (y - x²), 1 - x).
struct Rosenbrock;
impl LeastSquares<Device> for Rosenbrock {
    fn residual(&self, x: &Tensor<Device>) -> Result<Tensor<Device>> {
        let (a, b) = (x.slice()[0], x.slice()[1]);
        Ok(vector(&[10.0 * (b - a * a), 1.0 - a]))
    }
    fn linearize(&self, x: &Tensor<Device>, then: &mut dyn FnMut(&dyn LinearOperator<Device>) -> Result<()>) -> Result<()> {
        then(&matrix(2, 2, &[-20.0 * x.slice()[0], 10.0, -1.0, 0.0]))
    }
}

#[test]
fn levenberg_marquardt_walks_the_valley() {
    let fit = levenberg_marquardt(&Rosenbrock, vector(&[-1.2, 1.0]), &FitOptions::default()).unwrap();
    assert!(fit.converged && close(fit.x.slice(), &[1.0, 1.0], 1e-6), "{:?} {:?}", fit.x.slice(), fit.history);
    assert!(fit.history.windows(2).all(|w| w[1].objective <= w[0].objective));
    assert!(fit.history.iter().filter(|i| i.taken).count() > 3);
    assert!(levenberg_marquardt(&Rosenbrock, vector(&[f64::NAN, 1.0]), &FitOptions::default()).is_err());
    assert!(levenberg_marquardt(&Rosenbrock, vector(&[0.0, 1.0]), &FitOptions { damping: 0.0, ..FitOptions::default() }).is_err());
}

#[test]
fn spectra() {
    let eigenvalues: Vec<f64> = (0..30).map(|i| 1.0 + 0.2 * f64::from(i)).chain([40.0, 0.01]).collect();
    let n = eigenvalues.len();
    let a = matrix(n, n, &symmetric(&eigenvalues));
    let inverse = matrix(n, n, &symmetric(&eigenvalues.iter().map(|v| 1.0 / v).collect::<Vec<_>>()));
    let options = SpectrumOptions::default();
    let norm = spectral_norm(&cpu(), &a, &options).unwrap();
    assert!((norm.value - 40.0).abs() <= norm.error + 1e-10 && norm.error < 1e-4, "{norm:?}");
    assert!(norm.steps < 20);
    let ends = extreme_singular_values(&cpu(), &a, &options).unwrap();
    assert!((ends.condition() / 4000.0 - 1.0).abs() < 1e-6, "{ends:?}");
    let ends = condition_with_inverse(&cpu(), &a, &inverse, &options).unwrap();
    assert!((ends.condition() / 4000.0 - 1.0).abs() < 1e-6, "{ends:?}");
    // Few steps: the bound still holds.
    for steps in [1, 2, 4, 8] {
        let e = spectral_norm(&cpu(), &a, &SpectrumOptions { steps, ..options }).unwrap();
        assert!(e.value <= 40.0 + 1e-10 && eigenvalues.iter().any(|v| (v - e.value).abs() <= e.error + 1e-10), "{e:?}");
    }
    let zero = spectral_norm(&cpu(), &matrix(3, 3, &[0.0; 9]), &options).unwrap();
    assert_eq!((zero.value, zero.error), (0.0, 0.0));
    assert!(spectral_norm(&cpu(), &a, &SpectrumOptions { steps: 0, ..options }).is_err());
    // Orthogonal: all singular values are 1, and one step knows.
    let q = matrix(2, 2, &[0.6, -0.8, 0.8, 0.6]);
    let ends = extreme_singular_values(&cpu(), &q, &options).unwrap();
    assert!((ends.condition() - 1.0).abs() < 1e-12);
}

/// Row-major (range, domain).
fn dense<A: LinearOperator<Device>>(a: &A) -> Vec<f64> {
    let (rows, columns) = (a.range().len(), a.domain().len());
    let mut out = vec![0.0; rows * columns];
    for j in 0..columns {
        let mut unit = vec![0.0; columns];
        unit[j] = 1.0;
        let x = Tensor::from_f64(&cpu(), a.domain(), &unit).unwrap();
        let mut y = Tensor::scratch(&cpu(), a.range()).unwrap();
        a.apply(&cpu(), x.view(), &mut y.view_mut(), inn_core::Write::Set).unwrap();
        y.slice().iter().enumerate().for_each(|(i, v)| out[i * columns + j] = *v);
    }
    out
}

#[test]
fn blocks_are_those_of_matrices() {
    let (a, b, c) = (numbers(6, 1), numbers(4, 2), numbers(9, 3));
    let grid = Blocks::grid(vec![vec![Some(matrix(2, 3, &a)), Some(matrix(2, 2, &b))], vec![Some(matrix(3, 3, &c)), None]]).unwrap();
    let mut expected = vec![0.0; 25];
    for i in 0..5 {
        for j in 0..5 {
            expected[i * 5 + j] = match (i < 2, j < 3) {
                (true, true) => a[i * 3 + j],
                (true, false) => b[i * 2 + j - 3],
                (false, true) => c[(i - 2) * 3 + j],
                (false, false) => 0.0,
            };
        }
    }
    assert_eq!(dense(&grid), expected);
    dot_test(&cpu(), &grid, 1, 1e-13).unwrap();
    let row = Blocks::row(vec![matrix(2, 3, &a), matrix(2, 2, &b)]).unwrap();
    assert_eq!(row.range(), Shape::per_channel(2));
    assert_eq!(dense(&row), expected[..10]);
    let column = Blocks::column(vec![matrix(2, 3, &a), matrix(3, 3, &c)]).unwrap();
    assert_eq!(column.domain(), Shape::per_channel(3));
    let diagonal = Blocks::diagonal(vec![matrix(2, 3, &a), matrix(2, 2, &b)]).unwrap();
    for (seed, operator) in [&row, &column, &diagonal].into_iter().enumerate() {
        dot_test(&cpu(), operator, seed as u64, 1e-13).unwrap();
    }
    assert!(dense(&diagonal)[3..5] == [0.0, 0.0] && dense(&diagonal)[13..15] == b[..2]);
    assert!(Blocks::row(vec![matrix(2, 3, &a), matrix(3, 3, &c)]).is_err());
    assert!(Blocks::<Matrix<Device>>::row::<Device>(vec![]).is_err());
    assert!(Blocks::grid(vec![vec![Some(matrix(2, 3, &a)), None]]).is_err());
    // Batches keep their shapes inside a flat vector.
    let mask = |seed| Diagonal::new(Tensor::from_f64(&cpu(), Shape::new(2, 2, &[3]).unwrap(), &numbers(12, seed)).unwrap());
    dot_test(&cpu(), &Blocks::diagonal(vec![mask(1), mask(2)]).unwrap(), 5, 1e-13).unwrap();
}

#[test]
fn differences_restrictions_and_kronecker_products() {
    let (a, c) = (numbers(6, 1), numbers(8, 2));
    let difference = matrix(2, 3, &a).minus(matrix(2, 3, &numbers(6, 5))).unwrap();
    let expected: Vec<f64> = a.iter().zip(numbers(6, 5)).map(|(a, b)| a - b).collect();
    assert!(close(&dense(&difference), &expected, 1e-14));
    let pixels = matrix(2, 4, &c).between(Shape::new(1, 1, &[2, 2]).unwrap(), Shape::new(1, 1, &[2]).unwrap()).unwrap();
    let both = Kronecker::new(matrix(2, 3, &a), pixels).unwrap();
    assert_eq!((both.domain(), both.range()), (Shape::new(1, 3, &[2, 2]).unwrap(), Shape::new(1, 2, &[2]).unwrap()));
    let expected: Vec<f64> = (0..4 * 12).map(|k| a[k / 24 * 3 + k % 12 / 4] * c[k / 12 % 2 * 4 + k % 4]).collect();
    assert!(close(&dense(&both), &expected, 1e-14));
    dot_test(&cpu(), &both, 1, 1e-13).unwrap();
    // Any batch.
    let three = (&both).then(Identity::new(both.range().with_batch(3))).unwrap();
    dot_test(&cpu(), &three, 2, 1e-13).unwrap();
    assert!(Kronecker::new(matrix(2, 3, &a), matrix(2, 3, &a)).is_err());

    let image = Shape::new(2, 3, &[2]).unwrap();
    let part = Restriction::<Device>::channels(image, 1..3).unwrap();
    dot_test(&cpu(), &part, 3, 1e-13).unwrap();
    let projection = (&part).adjoint().then(&part).unwrap();
    let identity: Vec<f64> = (0..64).map(|k| f64::from(u8::from(k / 8 == k % 8))).collect();
    assert_eq!(dense(&projection), identity);
    dot_test(&cpu(), &Restriction::<Device>::entries(9, 4..6).unwrap(), 4, 1e-13).unwrap();
    assert!(Restriction::<Device>::entries(9, 4..10).is_err() && Restriction::<Device>::channels(image, 1..1).is_err());
}
