//! ln|det| of small dense matrices.

/// ln|det| of an n x n matrix given by its columns, by LU with partial pivoting; minus infinity if it is singular.
pub(super) fn ln_abs_det(mut columns: Vec<Vec<f64>>) -> f64 {
    let n = columns.len();
    let mut sum = 0.0;
    for k in 0..n {
        // The transpose has the same determinant, so columns take the part of rows.
        let pivot = (k..n).max_by(|&a, &b| columns[a][k].abs().total_cmp(&columns[b][k].abs())).unwrap_or(k);
        columns.swap(k, pivot);
        let (done, rest) = columns.split_at_mut(k + 1);
        let head = &done[k];
        sum += head[k].abs().ln();
        for column in rest {
            let factor = column[k] / head[k];
            for i in k + 1..n {
                column[i] -= factor * head[i];
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::ln_abs_det;

    #[test]
    fn determinants_by_hand() {
        assert_eq!(ln_abs_det(vec![]), 0.0);
        assert!((ln_abs_det(vec![vec![0.0, 2.0], vec![3.0, 1.0]]) - 6f64.ln()).abs() < 1e-15);
        let m = vec![vec![2.0, 1.0, 0.0], vec![1.0, 3.0, 1.0], vec![0.0, 1.0, 4.0]];
        assert!((ln_abs_det(m) - 18f64.ln()).abs() < 1e-14);
        assert_eq!(ln_abs_det(vec![vec![1.0, 2.0], vec![2.0, 4.0]]), f64::NEG_INFINITY);
    }
}
