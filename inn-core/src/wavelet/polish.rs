//! The digits that a published table leaves out.

/// Newton steps; each doubles the digits.
const STEPS: usize = 3;

/// The orthonormal filter next to a table of rounded taps.
///
/// With c_j(h) = Σ_m h_m h_{m+2j}, a filter of K taps is orthonormal if c_j = δ_j for j < K/2. A step is the shortest that meets the linear
/// equations:
/// ```text
/// h ← h - Jᵀ (J Jᵀ)⁻¹ (c - δ),    J_{jm} = ∂c_j/∂h_m = h_{m+2j} + h_{m-2j}
/// ```
pub(super) fn polished(table: &[f64]) -> Vec<f64> {
    let count = table.len() / 2;
    let mut h = table.to_vec();
    for _ in 0..STEPS {
        let at = |h: &[f64], m: Option<usize>| m.and_then(|m| h.get(m)).copied().unwrap_or(0.0);
        let rows: Vec<Vec<f64>> =
            (0..count).map(|j| (0..h.len()).map(|m| at(&h, Some(m + 2 * j)) + at(&h, m.checked_sub(2 * j))).collect()).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // Half of J h is c.
        let gap: Vec<f64> = rows.iter().enumerate().map(|(j, row)| 0.5 * dot(row, &h) - if j == 0 { 1.0 } else { 0.0 }).collect();
        let normal = rows.iter().map(|a| rows.iter().map(|b| dot(a, b)).collect()).collect();
        let weights = solve(normal, gap);
        for (weight, row) in weights.iter().zip(&rows) {
            h.iter_mut().zip(row).for_each(|(h, j)| *h -= weight * j);
        }
    }
    h
}

/// The solution of a symmetric positive definite system, by elimination.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for k in 0..n {
        let (done, rest) = a.split_at_mut(k + 1);
        let head = &done[k];
        for (i, row) in rest.iter_mut().enumerate() {
            let factor = row[k] / head[k];
            row.iter_mut().zip(head).for_each(|(x, h)| *x -= factor * h);
            b[k + 1 + i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| a[k][j] * b[j]).sum();
        b[k] = (b[k] - known) / a[k][k];
    }
    b
}
