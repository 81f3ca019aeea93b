//! Training: what it learns, what it keeps, how it stops and goes on.

mod guard;
mod learn;
mod observations;
mod refuse;
mod resume;
mod reverse;

use inn_core::{Architecture, Element, Model};
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::StepConfig;
use inn_networks::optim::{Decay, Optimizer, Schedule};
use inn_networks::train::{ArrayDataset, Options};
use inn_networks::{Glow, GlowConfig};
use inn_ops::{Cpu, CpuElement};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Uniform in [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Two interleaved half circles of radius 1, uniform along the arc, uniform within +-0.1 across.
fn two_moons<T: Element>(count: usize, seed: u64) -> Array2<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut points = Array2::from_elem((count, 2), T::default());
    for (i, mut row) in points.rows_mut().into_iter().enumerate() {
        let (angle, radius) = (std::f64::consts::PI * uniform(&mut rng), 0.9 + 0.2 * uniform(&mut rng));
        let (x, y) = (radius * angle.cos(), radius * angle.sin());
        let (x, y) = if i % 2 == 0 { (x, y) } else { (1.0 - x, 0.5 - y) };
        (row[0], row[1]) = (T::from_f64(x), T::from_f64(y));
    }
    points
}

fn moons<T: Element>(count: usize, seed: u64) -> ArrayDataset<T> {
    ArrayDataset::new(two_moons::<T>(count, seed)).unwrap()
}

/// A flow on the plane.
fn plane(steps: usize, hidden: &[usize]) -> GlowConfig {
    let net = NetConfig::Dense(DenseConfig { hidden: hidden.to_vec(), ..DenseConfig::default() });
    GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, steps) }
}

fn model<T: CpuElement>(config: &GlowConfig) -> Model<Glow, Cpu<T>> {
    config.model(&Cpu::<T>::new(), 0).unwrap()
}

/// Everything switched on.
fn rich() -> Options {
    Options {
        epochs: 4,
        batch: 16,
        micro_batch: Some(5),
        optimizer: Optimizer::adam_w(0.01),
        schedule: Schedule { learning_rate: 0.01, warm_up: 3, decay: Decay::Cosine { steps: None, floor: 1e-4 } },
        clip: Some(1.0),
        ema: Some(0.9),
        patience: Some(3),
        drift_every: 3,
        keep_state_every: 2,
        ..Options::default()
    }
}
