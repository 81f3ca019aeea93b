//! Splitting channels in two.

use std::ops::Range;

/// Half of the channels, odd counts rounded to the even half (banker's rounding, as the original): `half(3) = 2`, `half(5) = 2`.
pub fn half(channels: usize) -> usize {
    let low = channels / 2;
    if channels.is_multiple_of(2) || low.is_multiple_of(2) { low } else { low + 1 }
}

/// The two ranges that a split after `first` channels makes.
pub fn split(channels: usize, first: usize) -> (Range<usize>, Range<usize>) {
    let first = first.min(channels);
    (0..first, first..channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_to_even() {
        assert_eq!((1..=9).map(half).collect::<Vec<_>>(), [0, 1, 2, 2, 2, 3, 4, 4, 4]);
        assert_eq!(split(5, half(5)), (0..2, 2..5));
    }
}
