//! The best linear estimate of hidden pixels.

use inn_core::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// The posterior mean of the linear Gaussian model: images x with the mean μ and covariance C of a training set, observed as
/// o = x_o + ε with ε ~ N(0, σ² I).
///
/// ```text
/// E[h | o] = μ_h + C_ho (C_oo + σ² I)⁻¹ (o - μ_o)
/// ```
/// h are the hidden pixels (Wiener 1949; Kay 1993, eq. 10.32). No linear estimate has a smaller mean squared error, and for Gaussian images no
/// estimate has.
#[derive(Clone, Debug)]
pub struct Wiener {
    observed: Vec<usize>,
    hidden: Vec<usize>,
    mean_observed: Array1<f64>,
    mean_hidden: Array1<f64>,
    /// (C_oo + σ² I)⁻¹ C_oh, (observed, hidden).
    gain: Array2<f64>,
}

impl Wiener {
    /// From training images (image, pixel); pixels where `hidden` holds are estimated from all others.
    ///
    /// # Errors
    /// Fewer than two images, no noise, a mask of another length, or one that hides nothing or everything.
    pub fn fit(images: ArrayView2<'_, f32>, hidden: &[bool], noise: f64) -> Result<Self> {
        let (count, pixels) = images.dim();
        if count < 2 {
            return Err(Error::shape("training images", "at least two", count));
        }
        if hidden.len() != pixels {
            return Err(Error::shape("mask", format!("{pixels} pixels"), hidden.len()));
        }
        if !(noise > 0.0 && noise.is_finite()) {
            return Err(Error::config("noise", format!("expected a finite standard deviation above 0, got {noise}")));
        }
        let (h, o): (Vec<usize>, Vec<usize>) = (0..pixels).partition(|&i| hidden[i]);
        if h.is_empty() || o.is_empty() {
            return Err(Error::config("mask", format!("expected hidden and observed pixels, got {} and {}", h.len(), o.len())));
        }
        let images = images.mapv(f64::from);
        let sum = images.sum_axis(Axis(0));
        let mean = sum / count as f64;
        let centred = images - &mean;
        let (x_h, x_o) = (centred.select(Axis(1), &h), centred.select(Axis(1), &o));
        let scale = 1.0 / (count - 1) as f64;
        let mut c_oo = x_o.t().dot(&x_o) * scale;
        c_oo.diag_mut().mapv_inplace(|v| v + noise * noise);
        let c_oh = x_o.t().dot(&x_h) * scale;
        let gain = solve_positive_definite(c_oo, c_oh)?;
        let (mean_observed, mean_hidden) = (mean.select(Axis(0), &o), mean.select(Axis(0), &h));
        Ok(Self { observed: o, hidden: h, mean_observed, mean_hidden, gain })
    }

    /// A copy of `image` whose hidden pixels are E[h | o], from its other pixels.
    ///
    /// # Errors
    /// An image of another size.
    pub fn estimate(&self, image: ArrayView1<'_, f32>) -> Result<Vec<f32>> {
        let pixels = self.observed.len() + self.hidden.len();
        if image.len() != pixels {
            return Err(Error::shape("image", format!("{pixels} pixels"), image.len()));
        }
        let observed = image.select(Axis(0), &self.observed).mapv(f64::from);
        let estimate = &self.mean_hidden + &(observed - &self.mean_observed).dot(&self.gain);
        let mut out = image.to_vec();
        self.hidden.iter().zip(&estimate).for_each(|(&i, &v)| out[i] = v as f32);
        Ok(out)
    }
}

/// X with A X = B by the Cholesky decomposition A = L Lᵀ.
fn solve_positive_definite(mut a: Array2<f64>, mut b: Array2<f64>) -> Result<Array2<f64>> {
    let n = a.nrows();
    for j in 0..n {
        let (above, mut below) = a.view_mut().split_at(Axis(0), j);
        let mut row = below.row_mut(0);
        for k in 0..j {
            let l = above.row(k);
            row[k] = (row[k] - l.slice(ndarray::s![..k]).dot(&row.slice(ndarray::s![..k]))) / l[k];
        }
        let pivot = row[j] - row.slice(ndarray::s![..j]).dot(&row.slice(ndarray::s![..j]));
        if pivot <= 0.0 || pivot.is_nan() {
            return Err(Error::config("covariance", format!("expected a positive definite matrix, got pivot {pivot} in row {j}")));
        }
        row[j] = pivot.sqrt();
    }
    // L Y = B, then Lᵀ X = Y, all columns at once.
    for i in 0..n {
        let (done, mut rest) = b.view_mut().split_at(Axis(0), i);
        let mut row = rest.row_mut(0);
        let l = a.row(i);
        row -= &l.slice(ndarray::s![..i]).dot(&done);
        row /= l[i];
    }
    for i in (0..n).rev() {
        let (mut rest, done) = b.view_mut().split_at(Axis(0), i + 1);
        let mut row = rest.row_mut(i);
        row -= &a.slice(ndarray::s![i + 1.., i]).dot(&done);
        row /= a[[i, i]];
    }
    Ok(b)
}
