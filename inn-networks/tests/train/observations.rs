//! A flow that learns from two observations together with their encoders.

use super::uniform;
use inn_core::Architecture;
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::StepConfig;
use inn_networks::encoder::{ConcatenatedGlowConfig, ObservationConfig};
use inn_networks::optim::Schedule;
use inn_networks::summary::Reduce;
use inn_networks::train::{ArrayDataset, Options, Trainer};
use inn_networks::{GlowConfig, SummaryConfig};
use inn_ops::Cpu;
use ndarray::{Array2, Array3};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Points (u, v), uniform in a square of side 2, blurred by 0.1. u is seen as a number, v as the mean of a series; an observation that is
/// `shifted` is that of another point.
fn data(count: usize, seed: u64, shifted: [usize; 2]) -> ArrayDataset<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let clean = Array2::from_shape_fn((count, 2), |_| 2.0 * uniform(&mut rng) as f32 - 1.0);
    let points = clean.mapv(|v| v + 0.2 * uniform(&mut rng) as f32 - 0.1);
    let seen = |i: usize, axis: usize| clean[[(i + shifted[axis]) % count, axis]];
    let number = Array2::from_shape_fn((count, 1), |(i, _)| seen(i, 0));
    let series = Array3::from_shape_fn((count, 1, 6), |(i, _, t)| seen(i, 1) + [0.4, -0.4][t % 2]);
    ArrayDataset::new(points).unwrap().with_condition(number).unwrap().with_condition(series).unwrap()
}

#[test]
fn each_of_two_observations_tells_what_it_knows() {
    let net = NetConfig::Dense(DenseConfig { hidden: vec![16], ..DenseConfig::default() });
    let summary = |rank, reduce| {
        let net = NetConfig::Dense(DenseConfig { hidden: vec![8], last_gain: 1.0, ..DenseConfig::default() });
        ObservationConfig::Summary(SummaryConfig { channels: 1, rank, net, features: 3, reduce, ..SummaryConfig::default() })
    };
    let config = ConcatenatedGlowConfig {
        flow: GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, 4) },
        observations: vec![summary(0, Reduce::Keep), summary(1, Reduce::Mean)],
    };
    let options = Options { epochs: 30, batch: 50, schedule: Schedule::constant(1e-2), ..Options::default() };
    let model = config.model(&Cpu::<f32>::new(), 0).unwrap();
    let before = model.params().to_flat().unwrap();
    let mut trainer = Trainer::new(model, options).unwrap();
    trainer.fit(&data(500, 0, [0, 0]), None, &mut ()).unwrap();

    // The entropy is 2 ln 0.2 = -3.2 nats with both observations, about ln 0.2 + ln 2 = -0.9 with one.
    let [both, first, second] = [[0, 0], [7, 0], [0, 7]].map(|shifted| trainer.evaluate(&data(200, 1, shifted)).unwrap());
    assert!(both < -1.5, "{both} nats");
    assert!(first > both + 2.0 && second > both + 2.0, "{both} nats; {first} and {second} with a wrong observation");
    let model = trainer.into_model().unwrap();
    let after = model.params().to_flat().unwrap();
    for entry in model.layout().entries() {
        assert_ne!(before[entry.range()], after[entry.range()], "{} has not learned", entry.name());
    }
}
