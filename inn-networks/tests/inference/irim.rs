//! The i-RIM loop, with additive couplings and with HINT, on a linear operator of `inn-linop`.

use crate::{check, plain, residual};
use inn_core::{Architecture, Call, Given, Shape, Tensor};
use inn_layers::hint::HintConfig;
use inn_layers::lanes::LaneConfig;
use inn_layers::permute::Permute;
use inn_linop::Matrix;
use inn_networks::IrimLoopConfig;
use inn_networks::irim::LoopLayerConfig;
use inn_ops::{Activation, Cpu};

/// A dense matrix from images of one channel to five numbers.
fn physics(image: Shape) -> Matrix<Cpu<f64>> {
    let n = image.sample_len();
    let values: Vec<f64> = (0..5 * n).map(|i| ((i * 29 % 31) as f64) / 31.0 - 0.5).collect();
    Matrix::new(&Cpu::poisoned(), 5, n, &values).unwrap().between(image, Shape::per_channel(5)).unwrap()
}

fn configs(channels: usize, rank: usize) -> [IrimLoopConfig; 2] {
    let additive = LoopLayerConfig::Additive(LaneConfig { net: residual(), ..LaneConfig::default() });
    let hint = LoopLayerConfig::Hint(HintConfig { net: residual(), permute: Permute::Both, ..HintConfig::default() });
    [(additive, Activation::Tanh), (hint, Activation::Identity)].map(|(layer, link)| IrimLoopConfig {
        channels,
        rank,
        iterations: 2,
        link,
        layer,
    })
}

#[test]
fn the_loop_with_both_layers() {
    for (batch, channels, spatial) in [(2, 3, &[3, 2][..]), (1, 2, &[5]), (2, 5, &[2, 1, 2]), (3, 4, &[])] {
        let shape = Shape::new(batch, channels, spatial).unwrap();
        let operator = physics(shape.with_batch(1).with_channels(1));
        for config in configs(channels, spatial.len()) {
            check(&config, &plain().conditions(&[Shape::rows(batch, 5)]).with_operator(&operator), shape);
        }
    }
}

#[test]
fn without_operator_or_data_it_says_so() {
    let cpu = Cpu::<f64>::new();
    let [config, _] = configs(3, 2);
    let model = config.model(&cpu, 0).unwrap();
    let shape = Shape::new(1, 3, &[3, 2]).unwrap();
    let operator = physics(shape.with_channels(1));
    let x = || Tensor::full(&cpu, shape, 0.5).unwrap();
    let message = Call::new(model.layer(), model.params(), Given::default()).forward(x()).err().unwrap().to_string();
    assert!(message.contains("operator"), "{message}");
    let given = Given::default().with_operator(&operator);
    let message = Call::new(model.layer(), model.params(), given).forward(x()).err().unwrap().to_string();
    assert!(message.contains("condition 0"), "{message}");
}
