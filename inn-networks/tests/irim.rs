//! The i-RIM loop with a linear operator, f64, both directions.

use inn_core::verify::Verify;
use inn_core::{Architecture, Backend, Call, Given, Layout, LinearOperator, Result, Reversed, Shape, Tensor, View, ViewMut, Write};
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_layers::hint::HintConfig;
use inn_layers::lanes::LaneConfig;
use inn_layers::permute::Permute;
use inn_networks::IrimLoopConfig;
use inn_networks::irim::LoopLayerConfig;
use inn_ops::{Activation, Cpu};

/// A 5 x n matrix on flat samples.
struct Dense {
    matrix: Vec<f64>,
    domain: Shape,
}

impl Dense {
    fn new(domain: Shape) -> Self {
        let matrix = (0..5 * domain.sample_len()).map(|i| ((i * 29 % 31) as f64) / 31.0 - 0.5).collect();
        Self { matrix, domain }
    }

    fn product<B: Backend>(&self, backend: &B, (rows, columns): (usize, usize), transposed: bool, x: View<'_, B>) -> Result<Tensor<B>> {
        let (batch, n) = (x.shape().batch(), self.domain.sample_len());
        let mut flat = Tensor::scratch(backend, x.shape())?;
        flat.view_mut().assign(backend, x)?;
        let x = flat.to_f64()?;
        let entry = |i: usize, j: usize| if transposed { self.matrix[j * n + i] } else { self.matrix[i * n + j] };
        let values: Vec<f64> =
            (0..batch * rows).map(|k| (0..columns).map(|j| entry(k % rows, j) * x[k / rows * columns + j]).sum()).collect();
        Tensor::from_f64(backend, Shape::rows(batch, rows), &values)
    }
}

fn write<B: Backend>(backend: &B, value: Tensor<B>, to: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
    let value = value.reshape(to.shape())?;
    match write {
        Write::Set => to.assign(backend, value.view()),
        Write::Add => to.axpy(backend, 1.0, value.view()),
    }
}

impl<B: Backend> LinearOperator<B> for Dense {
    fn domain(&self) -> Shape {
        self.domain
    }
    fn range(&self) -> Shape {
        Shape::rows(1, 5)
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, mode: Write) -> Result<()> {
        write(backend, self.product(backend, (5, self.domain.sample_len()), false, x)?, y, mode)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, mode: Write) -> Result<()> {
        write(backend, self.product(backend, (self.domain.sample_len(), 5), true, y)?, x, mode)
    }
}

const SMOOTH: Activation = Activation::Sigmoid { low: -1.0, high: 1.0 };

fn net() -> NetConfig {
    NetConfig::Residual(ResidualConfig { hidden: 3, activation: SMOOTH, last_gain: 1.0, ..ResidualConfig::default() })
}

fn configs(channels: usize, rank: usize) -> [IrimLoopConfig; 2] {
    let additive = LoopLayerConfig::Additive(LaneConfig { net: net(), ..LaneConfig::default() });
    let hint = LoopLayerConfig::Hint(HintConfig { net: net(), permute: Permute::Both, ..HintConfig::default() });
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
    for (batch, channels, spatial) in [(2, 3, &[3, 2][..]), (1, 2, &[5])] {
        let shape = Shape::new(batch, channels, spatial).unwrap();
        let operator = Dense::new(shape.with_batch(1).with_channels(1));
        for config in configs(channels, spatial.len()) {
            let (network, layout) = Layout::build(|scope| config.build(scope)).unwrap();
            let verify = Verify::new(Cpu::<f64>::poisoned()).conditions(&[Shape::rows(batch, 5)]).with_operator(&operator);
            verify.layer(&network, &layout, shape).unwrap().check().unwrap_or_else(|e| panic!("{e}"));
            verify.layer(&Reversed(&network), &layout, shape).unwrap().check().unwrap_or_else(|e| panic!("reversed {e}"));
        }
    }
}

#[test]
fn without_operator_or_data_it_says_so() {
    let cpu = Cpu::<f64>::new();
    let [config, _] = configs(3, 2);
    let model = config.model(&cpu, 0).unwrap();
    let shape = Shape::new(1, 3, &[3, 2]).unwrap();
    let operator = Dense::new(shape.with_channels(1));
    let x = || Tensor::full(&cpu, shape, 0.5).unwrap();
    let message = Call::new(model.layer(), model.params(), Given::default()).forward(x()).err().unwrap().to_string();
    assert!(message.contains("operator"), "{message}");
    let given = Given::default().with_operator(&operator);
    let message = Call::new(model.layer(), model.params(), given).forward(x()).err().unwrap().to_string();
    assert!(message.contains("condition 0"), "{message}");
}
