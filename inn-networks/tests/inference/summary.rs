//! Summary networks in front of conditional Glow, f64: gradients to the state, the parameters of both and the raw observation.

use crate::{SMOOTH, plain, residual};
use inn_core::{Shape, Squeeze};
use inn_layers::conditioner::{DenseConfig, NetConfig, ResNetConfig};
use inn_layers::glow::StepConfig;
use inn_networks::summary::Reduce;
use inn_networks::{ConditionalGlowConfig, GlowConfig, PyramidConfig, SummarizedGlowConfig, SummaryConfig};

pub(crate) fn dense() -> DenseConfig {
    DenseConfig { hidden: vec![4], activation: SMOOTH, last_gain: 1.0, ..DenseConfig::default() }
}

fn glow(rank: usize) -> ConditionalGlowConfig {
    let condition = PyramidConfig { channels: 3, ..PyramidConfig::default() };
    let flow = match rank {
        0 => GlowConfig { step: StepConfig { net: NetConfig::Dense(dense()), ..StepConfig::default() }, ..GlowConfig::dense(3, 1) },
        _ => GlowConfig {
            channels: 1,
            rank,
            levels: 1,
            steps: 1,
            squeeze: Some(Squeeze::Haar),
            step: StepConfig { net: residual(), ..StepConfig::default() },
            ..GlowConfig::default()
        },
    };
    ConditionalGlowConfig { flow, condition }
}

fn check(summary: SummaryConfig, state: Shape, observation: Shape) {
    let config = SummarizedGlowConfig { summary: SummaryConfig { features: 3, ..summary }, glow: glow(state.rank()) };
    crate::check(&config, &plain().conditions(&[observation]), state);
}

#[test]
fn observations_of_another_shape_and_rank() {
    let vector = Shape::new(2, 3, &[]).unwrap();
    let image = Shape::new(2, 1, &[4, 2]).unwrap();
    // The same resolution.
    check(SummaryConfig { channels: 2, rank: 2, net: residual(), ..SummaryConfig::default() }, image, Shape::new(2, 2, &[4, 2]).unwrap());
    // A series as a set of values, with a head behind the mean, for an image.
    let resnet = NetConfig::ResNet(ResNetConfig { hidden: 3, blocks: 1, activation: SMOOTH, last_gain: 1.0, ..ResNetConfig::default() });
    let mean = SummaryConfig {
        channels: 2,
        rank: 1,
        net: resnet,
        reduce: Reduce::Mean,
        head: Some(dense()),
        extents: vec![4, 2],
        ..SummaryConfig::default()
    };
    check(mean, image, Shape::new(2, 2, &[5]).unwrap());
    // An image as one vector, for a vector.
    let flat = SummaryConfig { channels: 12, rank: 0, net: NetConfig::Dense(dense()), reduce: Reduce::Flatten, ..SummaryConfig::default() };
    check(flat, vector, Shape::new(2, 2, &[3, 2]).unwrap());
}
