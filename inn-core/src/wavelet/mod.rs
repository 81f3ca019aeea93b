//! Orthogonal wavelet filters by name.
//!
//! One level of the periodic orthonormal wavelet transform along an axis of even extent n, with the low-pass filter h of K taps:
//! ```text
//! a_k = Σ_m h_m x_{(2k+m) mod n}              low band
//! e_k = Σ_m (-1)^m h_m x_{(2k+1-m) mod n}     high band
//! ```
//! It is an orthogonal matrix W if Σ_m h_m h_{m+2j} = δ_j. Rows of the low and of the high band are orthogonal for any h: in their product, the terms
//! h_m h_{s-m} with s odd cancel in pairs. Filters longer than n wrap around. As a [`Squeeze`](crate::Squeeze) it takes part in layers and
//! networks; [`Filter`] holds any taps that are orthonormal to a tolerance of the caller's.

mod factor;
mod polish;
mod tables;

use crate::error::{Error, Result};
use factor::Factorization;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// What a squeeze may be off from an orthogonal map, see [`Filter::defect`]: its inverse is its transpose, its log-determinant 0.
pub const ORTHONORMAL: f64 = 1e-9;

/// Names of the filters that a squeeze may use, in the order of `Wavelet`.
const NAMES: [&str; 24] = [
    "haar", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10", "coif2", "coif4", "coif6", "coif8", "sym4", "sym5",
    "sym6", "sym7", "sym8", "sym9", "sym10", "beyl", "vaid",
];

/// An orthogonal wavelet by its name: `haar`, `db1` to `db10`, `coif2` to `coif8` (even), `sym4` to `sym10`, `beyl`, `vaid`.
///
/// All are orthonormal to rounding: db and sym are computed by spectral factorization, the others are published tables, of which the digits
/// beyond the tenth to twelfth are those of the next orthonormal filter. `coif2k` has 6 k taps and is elsewhere called `coif{k}`; `haar` is `db1`. It is written as its name in
/// configurations.
///
/// ```
/// use inn_core::Wavelet;
/// let db2: Wavelet = "db2".parse()?;
/// assert!((db2.taps()[0] - (1.0 + 3f64.sqrt()) / (4.0 * 2f64.sqrt())).abs() < 1e-15);
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wavelet(u8);

impl Wavelet {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len() as u8).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The low-pass filter h, of unit norm. Computed once.
    pub fn taps(self) -> &'static [f64] {
        static TAPS: [OnceLock<Vec<f64>>; NAMES.len()] = [const { OnceLock::new() }; NAMES.len()];
        TAPS[usize::from(self.0)].get_or_init(|| published(self.name()).unwrap_or_default())
    }
}

impl FromStr for Wavelet {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let index = NAMES.iter().position(|n| *n == name);
        // Of a table that is not orthonormal the error says how far it is.
        index.map(|i| Self(i as u8)).ok_or_else(|| Filter::named(name, ORTHONORMAL).err().unwrap_or_else(|| unknown(name)))
    }
}

impl TryFrom<String> for Wavelet {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Wavelet> for String {
    fn from(wavelet: Wavelet) -> Self {
        wavelet.name().into()
    }
}

impl fmt::Display for Wavelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Wavelet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A low-pass filter that is orthonormal to a tolerance.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    taps: Vec<f64>,
}

impl Filter {
    /// From taps, which are scaled to unit norm.
    ///
    /// # Errors
    /// No taps, taps that are not finite or all 0, a [`defect`](Self::defect) above `tolerance`.
    pub fn new(taps: &[f64], tolerance: f64) -> Result<Self> {
        Self::checked("filter", taps, tolerance)
    }

    /// A published filter: those of [`Wavelet`], and those that no squeeze takes, `coif10` with a defect of 3·10⁻⁸ and the truncated
    /// Battle-Lemarié filters `batt2`, `batt4`, `batt6` with one of about 10⁻³.
    ///
    /// # Errors
    /// Another name, a [`defect`](Self::defect) above `tolerance`.
    pub fn named(name: &str, tolerance: f64) -> Result<Self> {
        Self::checked(&format!("wavelet {name}"), &published(name).ok_or_else(|| unknown(name))?, tolerance)
    }

    fn checked(name: &str, taps: &[f64], tolerance: f64) -> Result<Self> {
        let norm = taps.iter().map(|h| h * h).sum::<f64>().sqrt();
        if !(norm > 0.0 && norm.is_finite()) {
            return Err(Error::config(name, format!("expected finite taps, not all of them 0, got {taps:?}")));
        }
        let filter = Self { taps: taps.iter().map(|h| h / norm).collect() };
        let defect = filter.defect();
        // Written so that NaN is refused.
        if defect <= tolerance {
            Ok(filter)
        } else {
            let reason = format!("expected a filter that is orthonormal to {tolerance:e}, got one that is to {defect:.1e}");
            Err(Error::config(name, reason))
        }
    }

    /// The taps h_0, h_1, ..
    pub fn taps(&self) -> &[f64] {
        &self.taps
    }

    /// A bound on |W Wᵀ - I| in the row-sum norm, for the periodic transform W of any period:
    /// |c_0 - 1| + 2 Σ_{j>0} |c_j| with c_j = Σ_m h_m h_{m+2j}, since wrapping around only adds such terms to each other.
    pub fn defect(&self) -> f64 {
        let h = &self.taps;
        let c = |j: usize| h.iter().zip(h.iter().skip(2 * j)).map(|(a, b)| a * b).sum::<f64>();
        (c(0) - 1.0).abs() + 2.0 * (1..h.len().div_ceil(2)).map(|j| c(j).abs()).sum::<f64>()
    }
}

fn unknown(name: &str) -> Error {
    Error::config("wavelet", format!("expected one of {}, got {name:?}", NAMES.join(", ")))
}

/// The filter of a name, of unit norm.
fn published(name: &str) -> Option<Vec<f64>> {
    let moments = |prefix: &str| name.strip_prefix(prefix).and_then(|n| n.parse::<usize>().ok()).filter(|n| (1..=10).contains(n));
    if name == "haar" {
        return Some(Factorization::new(1).filter(0));
    }
    if let Some(n) = moments("db") {
        return Some(Factorization::new(n).filter(0));
    }
    let (_, table) = tables::TABLES.iter().find(|(n, _)| *n == name)?;
    let norm = table.iter().map(|h| h * h).sum::<f64>().sqrt();
    let table: Vec<f64> = table.iter().map(|h| h / norm).collect();
    let Some(n) = moments("sym") else {
        // What is far from orthonormal was cut off, not rounded.
        let rounded = Filter { taps: table };
        return Some(if rounded.defect() <= ORTHONORMAL { polish::polished(&rounded.taps) } else { rounded.taps });
    };
    // A symlet is a factor like db, and its table says which: the digits are ours.
    let factors = Factorization::new(n);
    let distance = |h: &[f64]| h.iter().zip(&table).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    (0..factors.count()).map(|outside| factors.filter(outside)).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_orthonormal_filter() {
        for wavelet in Wavelet::all() {
            let filter = Filter::named(wavelet.name(), ORTHONORMAL).unwrap();
            assert_eq!(filter.taps().len(), wavelet.taps().len());
            assert!(filter.defect() < 2e-14, "{wavelet}: {:e}", filter.defect());
            let sum: f64 = wavelet.taps().iter().sum();
            assert!((sum - 2f64.sqrt()).abs() < 1e-8, "{wavelet} sums to {sum}");
        }
    }

    #[test]
    fn daubechies_filters_have_their_vanishing_moments_and_minimum_phase() {
        for n in 1..=10 {
            let h = Factorization::new(n).filter(0);
            assert_eq!(h.len(), 2 * n);
            for p in 0..n as i32 {
                let moment: f64 = h.iter().enumerate().map(|(m, h)| f64::from(m as u32).powi(p) * if m % 2 == 0 { *h } else { -h }).sum();
                let scale: f64 = h.iter().enumerate().map(|(m, h)| f64::from(m as u32).powi(p) * h.abs()).sum();
                assert!(moment.abs() < 1e-12 * scale, "db{n}, moment {p}: {moment}");
            }
            // Of all factors that with zeros inside has its energy earliest.
            let delay = |h: &[f64]| h.iter().enumerate().map(|(m, h)| m as f64 * h * h).sum::<f64>();
            let factors = Factorization::new(n);
            assert!((0..factors.count()).all(|i| delay(&factors.filter(i)) >= delay(&h) - 1e-12), "db{n}");
        }
    }

    #[test]
    fn published_values() {
        // Daubechies 1992, table 6.1: db3 and db4 to 16 digits.
        let cases: [(&str, &[f64]); 3] = [
            ("db3", &[0.332670552950083, 0.806891509311092, 0.459877502118491, -0.135011020010255, -0.085441273882027, 0.035226291885710]),
            (
                "db4",
                &[
                    0.230377813308897,
                    0.714846570552916,
                    0.630880767929859,
                    -0.027983769416859,
                    -0.187034811719093,
                    0.030841381835561,
                    0.032883011666885,
                    -0.010597401785069,
                ],
            ),
            ("db10", &[0.026670057900555, 0.188176800077691, 0.527201188931726, 0.688459039453604]),
        ];
        for (name, expected) in cases {
            let taps = name.parse::<Wavelet>().unwrap().taps();
            for (i, (t, e)) in taps.iter().zip(expected).enumerate() {
                assert!((t - e).abs() < 1e-13, "{name}[{i}]: {t} against {e}");
            }
        }
        for (name, table) in tables::TABLES.iter().filter(|(name, _)| name.parse::<Wavelet>().is_ok()) {
            let norm = table.iter().map(|h| h * h).sum::<f64>().sqrt();
            let wavelet: Wavelet = name.parse().unwrap();
            let error = wavelet.taps().iter().zip(*table).map(|(h, t)| (h - t / norm).abs()).fold(0.0, f64::max);
            assert!(error < 1e-9, "{name}: {error:e}");
        }
    }

    #[test]
    fn what_is_not_orthonormal_is_refused() {
        for name in ["batt2", "batt4", "batt6", "coif10"] {
            let message = name.parse::<Wavelet>().unwrap_err().to_string();
            assert!(message.contains("orthonormal to 1e-9") && message.contains(name), "{message}");
            assert!(Filter::named(name, 2e-3).unwrap().defect() > 1e-8);
        }
        for name in ["db0", "db11", "sym3", "coif3", "", "Db2"] {
            let error = name.parse::<Wavelet>().unwrap_err();
            assert!(matches!(&error, Error::Config { .. }) && error.to_string().contains("db10"), "{error}");
        }
        for taps in [&[][..], &[0.0, 0.0], &[f64::NAN, 1.0], &[1.0, 1.0, 1.0]] {
            assert!(matches!(Filter::new(taps, 1e-3), Err(Error::Config { .. })), "{taps:?}");
        }
        assert!(Filter::new(&[3.0, 3.0], 1e-15).unwrap().taps().iter().all(|h| (h - 0.5f64.sqrt()).abs() < 1e-15));
    }
}
