//! Networks of HINT: multiscale, on two lanes, and on two lanes at several scales, with the lane that stands by itself.

use crate::{check, plain, residual};
use inn_core::{Architecture, Call, Given, Invertible, Model, Shape, Squeeze, Tensor};
use inn_layers::hint::HintConfig;
use inn_layers::permute::Permute;
use inn_networks::conditional_hint::{lane, multiscale_lane};
use inn_networks::{ConditionalHintConfig, MultiscaleConditionalHintConfig, MultiscaleHintConfig};
use inn_ops::Cpu;

fn hint() -> HintConfig {
    HintConfig { net: residual(), permute: Permute::Full, ..HintConfig::default() }
}

fn multiscale(channels: usize, rank: usize, squeeze: Option<Squeeze>, split: bool) -> MultiscaleHintConfig {
    MultiscaleHintConfig { channels, rank, levels: 2, steps: 1, squeeze, split, hint: hint(), ..MultiscaleHintConfig::default() }
}

#[test]
fn multiscale_hint_in_every_dimension() {
    for (batch, channels, spatial) in [(2, 3, &[8][..]), (3, 1, &[4, 8]), (1, 1, &[4, 4, 4])] {
        let shape = Shape::new(batch, channels, spatial).unwrap();
        for (squeeze, split) in [(Squeeze::Haar, true), (Squeeze::Checkerboard, false)] {
            check(&multiscale(channels, spatial.len(), Some(squeeze), split), &plain(), shape);
        }
    }
    check(&multiscale(5, 2, None, true), &plain(), Shape::new(2, 5, &[3, 2]).unwrap());
}

fn ramp(shape: Shape, step: usize) -> Tensor<Cpu<f64>> {
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * step % 101) as f64) / 50.0 - 1.0).collect();
    Tensor::from_f64(&Cpu::new(), shape, &values).unwrap()
}

/// A model whose activation normalizations differ from lane to lane.
fn initialized<A: Architecture>(config: &A, shape: Shape) -> Model<A::Network, Cpu<f64>> {
    let mut model = config.model(&Cpu::new(), 2).unwrap();
    model.initialize(ramp(shape, 17), Given::default()).unwrap();
    model
}

/// The second lane of the network at [x; y] is its lane at y, whatever x is.
fn lane_agrees<L: Invertible, M: Invertible>(model: &Model<L, Cpu<f64>>, lane: &M, shape: Shape) {
    let cpu = Cpu::<f64>::new();
    let channels = shape.channels();
    let y = ramp(shape, 37);
    let alone = Call::new(lane, model.params(), Given::default()).forward(y.duplicate().unwrap()).unwrap().state.to_f64().unwrap();
    for step in [11, 23] {
        let mut state = ramp(shape.with_channels(2 * channels), step);
        state.view_mut().channels(channels..2 * channels).assign(&cpu, y.view()).unwrap();
        let z = model.forward(state).unwrap().state;
        let mut of_y = Tensor::zeros(&cpu, shape).unwrap();
        of_y.view_mut().assign(&cpu, z.view().channels(channels..2 * channels)).unwrap();
        assert_eq!(of_y.to_f64().unwrap(), alone);
    }
}

#[test]
fn conditional_hint_and_its_lane() {
    for (channels, spatial) in [(3, &[][..]), (2, &[4, 3])] {
        let config = ConditionalHintConfig { channels, rank: spatial.len(), depth: 2, hint: hint() };
        let shape = Shape::new(2, channels, spatial).unwrap();
        check(&config, &plain(), shape.with_channels(2 * channels));
        let model = initialized(&config, shape.with_channels(2 * channels));
        lane_agrees(&model, &lane(model.layer()), shape);
    }
}

#[test]
fn multiscale_conditional_hint_and_its_lane() {
    for (channels, spatial, squeeze, split) in [
        (1, &[4, 8][..], Some(Squeeze::Checkerboard), true),
        (3, &[8], Some(Squeeze::Haar), true),
        (1, &[4, 4], Some(Squeeze::Patch), false),
        (5, &[3], None, true),
    ] {
        let (rank, hint) = (spatial.len(), hint());
        let config = MultiscaleConditionalHintConfig { channels, rank, levels: 2, steps: 1, squeeze, split, hint };
        let shape = Shape::new(2, channels, spatial).unwrap();
        check(&config, &plain(), shape.with_channels(2 * channels));
        let model = initialized(&config, shape.with_channels(2 * channels));
        lane_agrees(&model, &multiscale_lane(model.layer()), shape);
    }
}
