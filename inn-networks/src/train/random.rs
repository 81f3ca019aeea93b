//! Random numbers as a function of (seed, purpose, epoch, sample).

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What a stream is for, so that two uses never share numbers.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// The order of an epoch.
    Order = 1,
    /// Drawing a sample to train on.
    Sample = 2,
    /// Drawing a sample to evaluate on: the same in every epoch.
    HeldOut = 3,
    /// Dividing a set.
    Split = 4,
}

pub(super) fn stream(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// The numbers below `len` in the order of an epoch.
pub(super) fn order(seed: u64, purpose: Purpose, epoch: u64, len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(&mut stream(seed, purpose, epoch, 0));
    order
}
