//! The simplex, and the threshold that projects onto it.

use super::{Set, Solved, size};
use inn_core::{Error, Result, Shape};

/// τ with Σ max(y - τ, 0) = total, for total >= 0 and y not empty, after Condat 2016, "Fast projection onto the simplex and the l1 ball", Fig. 2.
///
/// O(n) expected, O(n²) at worst. One pass keeps a lower bound of τ and the values that may be above it; passes over those that are left raise it
/// until none falls. The sum of the values that stay is then taken anew, so that rounding does not add up.
pub(super) fn threshold(y: impl Iterator<Item = f64>, total: f64) -> f64 {
    let (mut kept, mut set_aside): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut bound = f64::NEG_INFINITY;
    for y in y {
        if y <= bound {
            continue;
        }
        let raised = if kept.is_empty() { y - total } else { bound + (y - bound) / (kept.len() + 1) as f64 };
        if raised > y - total || kept.is_empty() {
            kept.push(y);
            bound = raised;
        } else {
            set_aside.append(&mut kept);
            kept.push(y);
            bound = y - total;
        }
    }
    for y in set_aside {
        if y > bound {
            kept.push(y);
            bound += (y - bound) / kept.len() as f64;
        }
    }
    loop {
        let before = kept.len();
        bound = (kept.iter().sum::<f64>() - total) / before.max(1) as f64;
        // Of equal values, with a total of 0 or one lost to rounding, none is above the mean.
        if !kept.iter().any(|y| *y > bound) {
            return bound;
        }
        kept.retain(|y| *y > bound);
        if kept.len() == before {
            return bound;
        }
    }
}

/// What sums to the total of a [`Simplex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// All values of a sample.
    Sample,
    /// The channels of each pixel: probabilities of classes.
    Channels,
}

/// x >= 0 with Σ x = s. P(x) = max(x - τ, 0) with τ from Condat's algorithm, O(n) expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Simplex {
    total: f64,
    over: Over,
}

impl Simplex {
    /// With the sum s = `total` over what `over` says.
    ///
    /// # Errors
    /// [`Error::Config`]: a total that is negative, where the set is empty, or not finite.
    pub fn new(total: f64, over: Over) -> Result<Self> {
        size("total", total)?;
        Ok(Self { total, over })
    }

    /// Groups of values and the distance of two values in a group.
    fn groups(&self, sample: Shape) -> (usize, usize) {
        match self.over {
            Over::Sample => (1, 1),
            Over::Channels => (sample.pixels(), sample.pixels()),
        }
    }
}

impl Set for Simplex {
    fn check(&self, sample: Shape) -> Result<()> {
        if sample.is_empty() { Err(Error::shape("tensor in a simplex", "at least one value", sample)) } else { Ok(()) }
    }

    fn nearest(&self, sample: Shape, x: &mut [f64]) -> Result<Solved> {
        let (groups, stride) = self.groups(sample);
        for group in 0..groups {
            let tau = threshold(x.iter().copied().skip(group).step_by(stride), self.total);
            x.iter_mut().skip(group).step_by(stride).for_each(|x| *x = (*x - tau).max(0.0));
        }
        Ok(Solved::EXACT)
    }

    /// The larger of |Σ x - s| and -x, over all groups.
    fn excess(&self, sample: Shape, x: &[f64]) -> f64 {
        let (groups, stride) = self.groups(sample);
        if x.iter().any(|v| v.is_nan()) {
            return f64::NAN;
        }
        let sum = |group: usize| x.iter().skip(group).step_by(stride).sum::<f64>();
        let sums = (0..groups).map(|group| (sum(group) - self.total).abs()).fold(0.0, f64::max);
        x.iter().fold(sums, |worst, v| worst.max(-v))
    }
}
