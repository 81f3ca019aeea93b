//! Singular values of a small upper bidiagonal matrix, on the host.

/// A singular value with the last entry of its left vector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Triple {
    pub sigma: f64,
    pub last: f64,
}

/// Sweeps at most; a handful is what one-sided Jacobi takes.
const SWEEPS: usize = 60;

/// All singular values, the largest first, by one-sided Jacobi rotations (Hestenes 1958): those of small size come out with the relative accuracy of
/// large ones (Demmel & Veselić 1992), which an eigenvalue method on the product would lose.
///
/// `diagonal` has one entry more than `above`.
pub(super) fn bidiagonal_svd(diagonal: &[f64], above: &[f64]) -> Vec<Triple> {
    let n = diagonal.len();
    // The columns of the matrix; rotations from the right make them orthogonal, columns σ_i p_i.
    let mut columns: Vec<Vec<f64>> = (0..n)
        .map(|j| {
            let mut column = vec![0.0; n];
            column[j] = diagonal[j];
            if let Some(&b) = j.checked_sub(1).and_then(|i| above.get(i)) {
                column[j - 1] = b;
            }
            column
        })
        .collect();
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for i in 0..n {
            for j in i + 1..n {
                rotated |= rotate(&mut columns, i, j);
            }
        }
        if !rotated {
            break;
        }
    }
    let mut triples: Vec<Triple> = columns
        .iter()
        .map(|column| {
            let sigma = dot(column, column).sqrt();
            let last = column.last().copied().unwrap_or(0.0);
            // A zero column has no left vector to speak of: the bound is the whole of what was left over.
            Triple { sigma, last: if sigma > 0.0 { last / sigma } else { 1.0 } }
        })
        .collect();
    triples.sort_by(|a, b| b.sigma.total_cmp(&a.sigma));
    triples
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes two columns orthogonal; whether they were not.
fn rotate(columns: &mut [Vec<f64>], i: usize, j: usize) -> bool {
    let (head, tail) = columns.split_at_mut(j);
    let (a, b) = (&mut head[i], &mut tail[0]);
    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
    if ab.abs() <= f64::EPSILON * (aa * bb).sqrt() {
        return false;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let t = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    let s = c * t;
    for (a, b) in a.iter_mut().zip(b.iter_mut()) {
        (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_values_of_small_matrices() {
        // [3 4; 0 5]: σ² are the roots of t² - 50 t + 225.
        let triples = bidiagonal_svd(&[3.0, 5.0], &[4.0]);
        assert!((triples[0].sigma - 45f64.sqrt()).abs() < 1e-14 && (triples[1].sigma - 5f64.sqrt()).abs() < 1e-14);
        // The determinant of a graded matrix survives.
        let triples = bidiagonal_svd(&[1.0, 1e-6, 1e-13], &[0.5, 1e-7]);
        let product: f64 = triples.iter().map(|t| t.sigma).product();
        assert!((product / 1e-19 - 1.0).abs() < 1e-12);
        assert_eq!(bidiagonal_svd(&[0.0], &[])[0].sigma, 0.0);
    }
}
