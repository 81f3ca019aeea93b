//! How multiscale networks count their channels.

use inn_core::{Error, Multiscale, Odd, Result, Scale, Scope, Squeeze};

/// The levels of a multiscale network on data of one lane.
pub(crate) struct Levels {
    /// The kind of network, for messages.
    pub kind: &'static str,
    pub channels: usize,
    pub rank: usize,
    pub levels: usize,
    pub squeeze: Option<Squeeze>,
    pub odd: Odd,
    pub split: bool,
}

impl Levels {
    /// The channels of each level, and how many of them go on to the next.
    pub fn widths(&self) -> Result<Vec<(usize, usize)>> {
        if self.levels == 0 || self.rank > 3 {
            let got = format!("{} levels in {} dimensions", self.levels, self.rank);
            return Err(Error::config(self.kind, format!("expected at least one level and 0 to 3 dimensions, got {got}")));
        }
        if self.rank == 0 && self.squeeze.is_some() {
            return Err(Error::config("squeeze", "dense data have no extents to squeeze; expected none"));
        }
        let mut channels = self.channels;
        let mut widths = Vec::new();
        for _ in 0..self.levels {
            if self.squeeze.is_some() {
                let factor = 1 << self.rank;
                channels = channels.checked_mul(factor).ok_or_else(|| Error::config("levels", "too many: the channels overflow"))?;
            }
            let keep = if self.split { inn_ops::split::half(channels).max(1) } else { channels };
            widths.push((channels, keep));
            channels = keep;
        }
        Ok(widths)
    }

    /// Scales named `level{i}`, each with what `build` makes of its index and its channels.
    pub fn build<L>(
        &self,
        scope: &mut Scope<'_>,
        mut build: impl FnMut(&mut Scope<'_>, usize, usize) -> Result<L>,
    ) -> Result<Multiscale<L>> {
        let mut scales = Vec::new();
        for (level, (channels, keep)) in self.widths()?.into_iter().enumerate() {
            let layer = build(&mut scope.sub(format!("level{level}")), level, channels)?;
            scales.push(Scale { squeeze: self.squeeze, layer, keep });
        }
        Ok(Multiscale { rank: self.rank, odd: self.odd, scales })
    }
}
