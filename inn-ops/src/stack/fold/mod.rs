//! Kernels of three taps along the last axis with fewer multiplications (Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308, F(m, 3) in one
//! dimension).
//!
//! m neighbouring outputs y_0 .. y_{m-1}, a tile, take m + 2 neighbouring inputs d_0 .. d_{m+1}. With matrices B, G and A of the scheme
//!
//! ```text
//! V_e = Σ_j B_ej d_j,    U_e = Σ_t G_et w_t,    M_e = U_e V_e,    y_i = Σ_e A_ie M_e
//! ```
//! for m + 2 values of e, which is m + 2 multiplications instead of 3 m. The adjoint in d and in w follows line by line: with a_e = Σ_i A_ie y_i for
//! cotangents or inputs of a transposed convolution, Z_e = U_eᵀ a_e goes to d by Bᵀ, and gU_e = V_e a_eᵀ to w by Gᵀ.
//!
//! Hidden arrays of a strip hold the pixels of each place in a tile together: for m = 2, even pixels first and odd pixels from the middle on;
//! nothing between the two kernels minds.

mod jobs;
mod lines;
mod pixels;
mod planes;
mod short;

pub(super) use jobs::{ActivateFold, Fold, Unfold, UnfoldActivate, UnfoldPull};
pub(crate) use lines::{Turn, gather, scatter, turn};
pub(crate) use pixels::{Pixels, turn as turn_pixels};
pub(crate) use planes::{Deal, Fold as FoldPlanes, Shift, Unfold as UnfoldPlanes, Weights, deal, fold, fold_weights, masks, shift, unfold};
pub(crate) use short::{is_short, masks as short_masks};

use crate::zip::Vectors;

/// The most arrays that take the place of one, and the most pixels of a tile.
pub(crate) const MOST_PARTS: usize = 6;
const MOST_TILE: usize = 4;

/// The three matrices of F(m, 3).
pub(crate) trait Scheme {
    /// m.
    const TILE: usize;
    /// m + 2.
    const PARTS: usize = Self::TILE + 2;
    /// B.
    const INPUT: [[f64; MOST_PARTS]; MOST_PARTS];
    /// G.
    const WEIGHT: [[f64; 3]; MOST_PARTS];
    /// A.
    const OUTPUT: [[f64; MOST_PARTS]; MOST_TILE];
}

/// F(2, 3), from the values of a polynomial at 0, 1, -1 and its highest coefficient.
pub(crate) struct Two;

impl Scheme for Two {
    const TILE: usize = 2;
    const INPUT: [[f64; 6]; 6] = [
        [1.0, 0.0, -1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, -1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, -1.0, 0.0, 0.0],
        [0.0; 6],
        [0.0; 6],
    ];
    const WEIGHT: [[f64; 3]; 6] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, -1.0], [0.0; 3], [0.0; 3]];
    const OUTPUT: [[f64; 6]; 4] = [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -1.0, 1.0, 0.0, 0.0], [0.0; 6], [0.0; 6]];
}

/// F(4, 3), from the values at 0, ±p, ±q and the highest coefficient. Of the points that f32 holds and whose products it holds, p = 3/4 and q = 3/2
/// lose least: with 128 channels, 1.4 times the rounding of three taps as they are, where the customary 1 and 2 lose 2.0 times.
pub(crate) struct Four;

impl Four {
    const P: f64 = 0.75;
    const Q: f64 = 1.5;
    const P2: f64 = Self::P * Self::P;
    const Q2: f64 = Self::Q * Self::Q;
}

impl Scheme for Four {
    const TILE: usize = 4;
    const INPUT: [[f64; 6]; 6] = {
        let (p, q, p2, q2) = (Self::P, Self::Q, Self::P2, Self::Q2);
        [
            [p2 * q2, 0.0, -(p2 + q2), 0.0, 1.0, 0.0],
            [0.0, -p * q2, -q2, p, 1.0, 0.0],
            [0.0, p * q2, -q2, -p, 1.0, 0.0],
            [0.0, -q * p2, -p2, q, 1.0, 0.0],
            [0.0, q * p2, -p2, -q, 1.0, 0.0],
            [0.0, p2 * q2, 0.0, -(p2 + q2), 0.0, 1.0],
        ]
    };
    const WEIGHT: [[f64; 3]; 6] = {
        let (p, q, p2, q2) = (Self::P, Self::Q, Self::P2, Self::Q2);
        let (sp, sq) = (1.0 / (2.0 * p2 * (p2 - q2)), 1.0 / (2.0 * q2 * (q2 - p2)));
        [
            [1.0 / (p2 * q2), 0.0, 0.0],
            [sp, p * sp, p2 * sp],
            [sp, -p * sp, p2 * sp],
            [sq, q * sq, q2 * sq],
            [sq, -q * sq, q2 * sq],
            [0.0, 0.0, 1.0],
        ]
    };
    const OUTPUT: [[f64; 6]; 4] = {
        let (p, q, p2, q2) = (Self::P, Self::Q, Self::P2, Self::Q2);
        [[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], [0.0, p, -p, q, -q, 0.0], [0.0, p2, p2, q2, q2, 0.0], [0.0, p * p2, -p * p2, q * q2, -q * q2, 1.0]]
    };
}

/// The scheme of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folding {
    /// [`struct@Two`].
    Two,
    /// [`struct@Four`].
    Four,
}

/// Evaluates an expression with the scheme as a type.
macro_rules! with_scheme {
    ($folding:expr, $scheme:ident => $body:expr) => {
        match $folding {
            $crate::stack::fold::Folding::Two => {
                type $scheme = $crate::stack::fold::Two;
                $body
            }
            $crate::stack::fold::Folding::Four => {
                type $scheme = $crate::stack::fold::Four;
                $body
            }
        }
    };
}
pub(crate) use with_scheme;

impl Folding {
    /// Pixels of a tile.
    pub(crate) fn tile(self) -> usize {
        with_scheme!(self, S => S::TILE)
    }

    /// Arrays that take the place of one.
    pub(crate) fn parts(self) -> usize {
        with_scheme!(self, S => S::PARTS)
    }
}

/// From gradients of U, rows `(r, e)` of `wide` elements, to those of w, rows `(r, tap)`.
pub(crate) fn weight_gradients<T: Vectors, S: Scheme>(gu: &[T], wide: usize, gw: &mut [T]) {
    for (u, w) in gu.chunks_exact(S::PARTS * wide).zip(gw.chunks_exact_mut(3 * wide)) {
        for (t, w) in w.chunks_exact_mut(wide).enumerate() {
            w.fill(T::default());
            for (u, row) in u.chunks_exact(wide).zip(S::WEIGHT) {
                if row[t] != 0.0 {
                    let factor = T::constant(row[t]);
                    w.iter_mut().zip(u).for_each(|(w, &u)| *w = *w + factor * u);
                }
            }
        }
    }
}

/// The parts of hidden arrays, one for each pixel of a tile, rows `pitch` apart, and the arrays M_e or their like, rows `piece` apart.
#[derive(Clone, Copy)]
pub(super) struct Tiles<T> {
    pub(super) rows: usize,
    /// Elements of a part.
    pub(super) len: usize,
    pub(super) x: *mut T,
    pub(super) pitch: usize,
    /// M_0; the others follow after `rows * piece` elements each.
    pub(super) m: *mut T,
    pub(super) piece: usize,
}

impl<T> Tiles<T> {
    /// M_e, and the distance of its rows.
    pub(super) fn part(&self, e: usize) -> (*mut T, usize) {
        (self.m.wrapping_add(e * self.rows * self.piece), self.piece)
    }

    /// a_e of what [`struct@Fold`] has folded into M_1 .., and the distance of its rows: the first and the last are pixels as they are.
    pub(super) fn folded(&self, folding: Folding, e: usize) -> (*mut T, usize) {
        let last = folding.parts() - 1;
        if e == 0 {
            (self.x, self.pitch)
        } else if e == last {
            (self.x.wrapping_add((folding.tile() - 1) * self.len), self.pitch)
        } else {
            self.part(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outputs of a tile of a kernel of three taps, by the scheme and as they are defined.
    fn outputs<S: Scheme>() {
        let d: Vec<f64> = (0..S::PARTS).map(|j| (j as f64 * 1.7).sin()).collect();
        let w = [0.3, -1.2, 0.7];
        for i in 0..S::TILE {
            let direct: f64 = (0..3).map(|t| w[t] * d[i + t]).sum();
            let folded: f64 = (0..S::PARTS)
                .map(|e| {
                    let v: f64 = (0..S::PARTS).map(|j| S::INPUT[e][j] * d[j]).sum();
                    let u: f64 = (0..3).map(|t| S::WEIGHT[e][t] * w[t]).sum();
                    S::OUTPUT[i][e] * u * v
                })
                .sum();
            assert!((folded - direct).abs() < 1e-14, "output {i} of {}: {folded} and {direct}", S::TILE);
        }
        // What `folded` and the scatter of lines rely on.
        let (first, last) = (0, S::PARTS - 1);
        for i in 0..S::TILE {
            assert_eq!(S::OUTPUT[i][first], f64::from(i == 0));
            assert_eq!(S::OUTPUT[i][last], f64::from(i == S::TILE - 1));
        }
    }

    #[test]
    fn schemes_compute_what_the_taps_do() {
        outputs::<Two>();
        outputs::<Four>();
    }
}
