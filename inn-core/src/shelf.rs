//! Which freed storage a backend keeps for reuse, and for how long.

use std::collections::VecDeque;

/// Bytes of a piece from which it is worth reuse for less: one that has pages of its own, which cost a fault each when they are made.
pub const LARGE: usize = 1 << 17;

/// How many times as large as a request a piece may be that serves it, before others are freed for a new one. Pages that a few bytes keep
/// from others for a moment cost less than pages that are given back and made again in every step.
const TIMES: usize = 8;

/// Storage on a [`Shelf`].
pub trait Stored {
    /// Its size in bytes.
    fn bytes(&self) -> usize;
}

/// Storage of which only the size matters, for plans.
impl Stored for usize {
    fn bytes(&self) -> usize {
        *self
    }
}

/// Free storage, oldest first, and what is in use.
///
/// The shelf never holds more than the most that was ever in use, and half of the largest piece that ever came back: before new storage is
/// made, free pieces make room, unless one of them will do: a [`LARGE`] piece also serves requests for less, from an eighth of its size on.
/// That half is the slack which lets layers take turns with buffers of different sizes; it does not grow with depth.
/// What is kept follows from the order of sizes alone, so that [`gradient_memory`](crate::gradient_memory) predicts it.
#[derive(Debug)]
pub struct Shelf<S> {
    free: VecDeque<S>,
    used: usize,
    kept: usize,
    peak: usize,
    largest: usize,
    most: usize,
}

impl<S> Default for Shelf<S> {
    fn default() -> Self {
        Self { free: VecDeque::new(), used: 0, kept: 0, peak: 0, largest: 0, most: 0 }
    }
}

impl<S: Stored> Shelf<S> {
    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes of free storage.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The most bytes that were in use at one time.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Bytes in use and free.
    pub fn held(&self) -> usize {
        self.used + self.kept
    }

    /// The most bytes that were in use and free at one time.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Puts `bytes` into use: a free piece of just this size, or a larger one rather than to free others; it counts with its own size.
    /// Otherwise the caller makes one, after free pieces that are too much have passed through `gone`.
    pub fn take(&mut self, bytes: usize, gone: impl FnMut(S)) -> Option<S> {
        // The youngest first: it is the likeliest to be in the cache.
        let same = self.free.iter().rposition(|piece| piece.bytes() == bytes);
        let reused = same.or_else(|| self.larger(bytes)).and_then(|at| self.free.remove(at));
        let size = reused.as_ref().map_or(bytes, S::bytes);
        if reused.is_some() {
            self.kept -= size;
        }
        self.enter(size, gone);
        reused
    }

    /// The smallest free piece that takes the place of a new one of `bytes`, for which others would have to go.
    fn larger(&self, bytes: usize) -> Option<usize> {
        if bytes < LARGE || self.held() + bytes <= self.peak.max(self.used + bytes) + self.largest / 2 {
            return None;
        }
        let fits = |piece: &S| piece.bytes() > bytes && piece.bytes() / TIMES <= bytes;
        let fitting = self.free.iter().enumerate().filter(|(_, piece)| fits(piece));
        fitting.min_by_key(|(_, piece)| piece.bytes()).map(|(at, _)| at)
    }

    /// Counts storage that comes into use and was made elsewhere, and makes room for it.
    pub fn enter(&mut self, bytes: usize, mut gone: impl FnMut(S)) {
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        // The smallest free piece that is enough goes, or all from the oldest on.
        while let Some(short) = self.held().checked_sub(self.peak + self.largest / 2).filter(|&short| short > 0) {
            let enough = self.free.iter().enumerate().filter(|(_, piece)| piece.bytes() >= short);
            let at = enough.min_by_key(|(_, piece)| piece.bytes()).map_or(0, |(at, _)| at);
            let Some(piece) = self.free.remove(at) else { break };
            self.kept -= piece.bytes();
            gone(piece);
        }
        self.most = self.most.max(self.held());
    }

    /// Takes a piece back.
    pub fn give(&mut self, piece: S) {
        let bytes = piece.bytes();
        self.used -= bytes;
        self.kept += bytes;
        self.largest = self.largest.max(bytes);
        self.free.push_back(piece);
    }

    /// Bytes that were in use and do not come back.
    pub fn forget(&mut self, bytes: usize) {
        self.used -= bytes;
    }

    /// All free pieces.
    pub fn clear(&mut self) -> impl Iterator<Item = S> + '_ {
        self.kept = 0;
        self.free.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(shelf: &Shelf<usize>) -> [usize; 3] {
        [shelf.used(), shelf.kept(), shelf.peak()]
    }

    #[test]
    fn large_pieces_serve_requests_for_less_where_others_would_have_to_go() {
        let mut shelf = Shelf::default();
        let mut never = |_| panic!("a piece went");
        assert!(shelf.take(4 * LARGE, &mut never).is_none() && shelf.take(3 * LARGE, &mut never).is_none());
        shelf.give(4 * LARGE);
        shelf.give(3 * LARGE);
        // 9 may be held: a new one of 2 fits, with a second one it would be 11.
        assert_eq!(shelf.take(2 * LARGE, &mut never), None);
        assert_eq!(shelf.take(2 * LARGE, &mut never), Some(3 * LARGE));
        assert_eq!(shelf.take(2 * LARGE, &mut never), Some(4 * LARGE));
        assert_eq!(state(&shelf), [9 * LARGE, 0, 9 * LARGE]);
        shelf.give(4 * LARGE);
        shelf.give(3 * LARGE);
        assert_eq!(shelf.take(LARGE + LARGE / 4, &mut never), None);
        assert_eq!(shelf.take(LARGE + LARGE / 4, &mut never), Some(3 * LARGE));
        // Less than an eighth is a waste.
        let mut shelf = Shelf::default();
        let mut gone = Vec::new();
        assert_eq!(shelf.take(9 * LARGE, &mut never), None);
        shelf.give(9 * LARGE);
        assert_eq!(shelf.take(4 * LARGE, &mut never), None);
        assert_eq!(shelf.take(LARGE, |piece| gone.push(piece)), None);
        assert_eq!(gone, [9 * LARGE]);
    }

    #[test]
    fn keeps_the_peak_and_half_of_the_largest_piece() {
        let mut shelf = Shelf::default();
        let mut gone = Vec::new();
        assert!(shelf.take(80, |_| ()).is_none() && shelf.take(160, |_| ()).is_none());
        shelf.give(80);
        assert_eq!(state(&shelf), [160, 80, 240]);
        assert_eq!(shelf.take(80, |_| ()), Some(80));
        shelf.give(80);
        shelf.give(160);
        assert_eq!(state(&shelf), [0, 240, 240]);
        // 320 bytes may be held. The first piece of 100 is 20 too much, for which that of 80 is enough; with the third the peak is 300.
        for _ in 0..3 {
            assert!(shelf.take(100, |piece| gone.push(piece)).is_none());
        }
        assert_eq!((gone, state(&shelf)), (vec![80, 160], [300, 0, 300]));
        assert_eq!(shelf.most(), 300);
        shelf.give(100);
        shelf.forget(100);
        assert_eq!(shelf.clear().collect::<Vec<_>>(), [100]);
        assert_eq!(state(&shelf), [100, 0, 300]);
    }
}
