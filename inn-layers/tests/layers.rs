//! Every layer through the public harness: f64, both directions, plain and reversed, dense and in one to three dimensions, odd and even
//! channel counts, batch 1 and 3; then f32 against f64.

use inn_core::verify::Verify;
use inn_core::{Chain, Direction, Facts, Invertible, Layout, Result, Reversed, Scope, Shape, Squeeze};
use inn_layers::conditioner::{
    DenseConfig, DenseNet, Head, NetConfig, Ports, ResNet, ResNetConfig, ResNetEnds, ResidualBlock, ResidualConfig, SymmetricBlock,
    SymmetricConfig,
};
use inn_layers::coupling::{Additive, Affine, Coupling};
use inn_layers::glow::{StepConfig, glow_coupling, glow_step};
use inn_layers::hyperbolic::{SqueezeLanes, hyperbolic_layer};
use inn_layers::{ActNorm, Householder, Mixing};
use inn_ops::{Activation, Cpu, ScaleMap};

fn harness() -> Verify<'static, Cpu<f64>> {
    Verify::new(Cpu::poisoned())
}

/// Checks a layer and its reversal at one shape, and f32 against f64.
fn check<L: Invertible>(label: &str, shape: Shape, conditions: &[Shape], build: impl Fn(&mut Scope<'_>) -> Result<L>) {
    let (layer, layout) = Layout::build(&build).unwrap();
    let verify = harness().conditions(conditions);
    let report = verify.layer(&layer, &layout, shape).unwrap();
    report.check().unwrap_or_else(|e| panic!("{label} at {shape}:\n{e}"));
    let facts = Facts { layout: &layout, conditions, operator: None };
    let output = layer.check(Direction::Forward, facts, shape).unwrap();
    let report = verify.layer(&Reversed(&layer), &layout, output).unwrap();
    report.check().unwrap_or_else(|e| panic!("reversed {label} at {shape}:\n{e}"));
    let report = verify.agrees_with(&Cpu::<f32>::new(), &layer, &layout, shape, 2e-4).unwrap();
    report.check().unwrap_or_else(|e| panic!("{label} at {shape}, f32 against f64:\n{e}"));
}

/// (batch, channels) with 0 to 3 spatial axes of awkward extents.
fn shapes(channels: usize) -> Vec<Shape> {
    let spatial: [&[usize]; 4] = [&[], &[5], &[3, 4], &[2, 3, 2]];
    let mut shapes: Vec<Shape> = spatial.iter().map(|s| Shape::new(3, channels, s).unwrap()).collect();
    shapes.push(Shape::new(1, channels, &[3, 4]).unwrap());
    shapes
}

/// A smooth activation, so that the Taylor test has no kinks to meet.
const SMOOTH: Activation = Activation::Sigmoid { low: -1.0, high: 1.0 };

fn residual() -> ResidualConfig {
    ResidualConfig { hidden: 5, activation: SMOOTH, last_gain: 1.0, ..ResidualConfig::default() }
}

fn step() -> StepConfig {
    StepConfig { net: NetConfig::Residual(residual()), ..StepConfig::default() }
}

#[test]
fn actnorm() {
    for shape in [2, 3].into_iter().flat_map(shapes) {
        check("ActNorm", shape, &[], |scope| ActNorm::new(scope, shape.channels()));
    }
}

#[test]
fn householder_with_any_number_of_reflections() {
    for shape in [2, 5].into_iter().flat_map(shapes) {
        for count in [1, 2, 3, 4] {
            check("Householder", shape, &[], |scope| Householder::new(scope, shape.channels(), count));
        }
    }
}

#[test]
fn normalization_and_mixing_in_one() {
    for shape in [2, 5].into_iter().flat_map(shapes) {
        check("Mixing", shape, &[], |scope| Mixing::new(scope, shape.channels(), 3));
    }
}

#[test]
fn affine_coupling_with_every_scale() {
    let scales = [
        ScaleMap::default(),
        ScaleMap::Sigmoid { low: 0.0, high: 1.0 },
        ScaleMap::Sigmoid { low: 0.5, high: 1.0 },
        ScaleMap::ExpClamp { clamp: 2.0 },
    ];
    for scale in scales {
        for shape in shapes(5) {
            check("affine coupling", shape, &[], |scope| {
                let ports = Ports::new(2, 6, shape.rank());
                let conditioner = ResidualBlock::new(scope, ports, &residual())?;
                Ok(Coupling { conditioner, transform: Affine { scale }, kept: 0..2, moved: 2..5 })
            });
        }
    }
}

#[test]
fn additive_coupling_over_every_conditioner_and_split() {
    let nets = [
        NetConfig::Residual(ResidualConfig { head: Head::Gated, inner_kernel: 3, ..residual() }),
        NetConfig::Residual(ResidualConfig {
            head: Head::Activated,
            outer_kernel: 4,
            outer_padding: Some(2),
            outer_stride: 2,
            ..residual()
        }),
        NetConfig::Dense(DenseConfig { hidden: vec![4, 3], activation: SMOOTH, last_gain: 1.0, ..DenseConfig::default() }),
        NetConfig::Dense(DenseConfig {
            hidden: vec![4],
            activation: SMOOTH,
            last_gain: 1.0,
            activated_head: true,
            ..DenseConfig::default()
        }),
        NetConfig::ResNet(ResNetConfig { hidden: 3, activation: SMOOTH, last_gain: 1.0, ..ResNetConfig::default() }),
    ];
    for net in nets {
        for (shape, kept, moved) in [
            (Shape::new(3, 4, &[4, 5]).unwrap(), 0..1, 1..4),
            (Shape::new(2, 5, &[6]).unwrap(), 2..5, 0..2),
            (Shape::new(1, 3, &[3, 2, 4]).unwrap(), 2..3, 0..1),
        ] {
            check("additive coupling", shape, &[], |scope| {
                let conditioner = net.build(scope, Ports::new(kept.len(), moved.len(), shape.rank()))?;
                Ok(Coupling { conditioner, transform: Additive, kept: kept.clone(), moved: moved.clone() })
            });
        }
    }
}

#[test]
fn flattened_dense_coupling() {
    for shape in [Shape::new(3, 2, &[5]).unwrap(), Shape::new(1, 3, &[2, 3]).unwrap()] {
        let config =
            DenseConfig { hidden: vec![6], activation: SMOOTH, last_gain: 1.0, pixels: Some(shape.pixels()), ..DenseConfig::default() };
        check("flattened dense coupling", shape, &[], |scope| {
            let moved = shape.channels() - 1;
            let conditioner = DenseNet::new(scope, Ports::new(1, 2 * moved, shape.rank()), &config)?;
            Ok(Coupling { conditioner, transform: Affine::default(), kept: 0..1, moved: 1..shape.channels() })
        });
    }
}

#[test]
fn glow_coupling_and_step() {
    for shape in [2, 3, 4].into_iter().flat_map(shapes) {
        check("Glow coupling", shape, &[], |scope| glow_coupling(scope, shape.channels(), shape.rank(), None, &step()));
        check("Glow step", shape, &[], |scope| glow_step(scope, shape.channels(), shape.rank(), None, &step()));
    }
}

#[test]
fn conditional_glow_step() {
    let nets = [
        NetConfig::Residual(residual()),
        NetConfig::Dense(DenseConfig { hidden: vec![4], activation: SMOOTH, last_gain: 1.0, ..DenseConfig::default() }),
        NetConfig::ResNet(ResNetConfig { hidden: 3, blocks: 1, activation: SMOOTH, last_gain: 1.0, ..ResNetConfig::default() }),
    ];
    for net in nets {
        for shape in shapes(3) {
            let step = StepConfig { net: net.clone(), ..StepConfig::default() };
            let condition = shape.with_channels(2);
            check("conditional Glow step", shape, &[condition], |scope| {
                glow_step(scope, shape.channels(), shape.rank(), Some((0, 2)), &step)
            });
        }
    }
}

#[test]
fn hyperbolic_layers_on_two_states() {
    let config = SymmetricConfig { hidden: Some(3), alpha: 0.7, activation: SMOOTH, ..SymmetricConfig::default() };
    for shape in [2, 6].into_iter().flat_map(shapes) {
        for lane in [0, 1] {
            check("hyperbolic layer", shape, &[], |scope| hyperbolic_layer(scope, lane, shape.channels() / 2, shape.rank(), &config));
        }
    }
    for (shape, forward) in [
        (Shape::new(3, 2, &[4, 6]).unwrap(), Direction::Forward),
        (Shape::new(1, 8, &[3, 2]).unwrap(), Direction::Inverse),
        (Shape::new(2, 2, &[2, 4, 2]).unwrap(), Direction::Forward),
    ] {
        check("squeezed lanes", shape, &[], |_| Ok(SqueezeLanes { forward, lanes: 2, squeeze: Squeeze::Haar }));
    }
}

#[test]
fn squeezes_chains_and_lanes() {
    for squeeze in [Squeeze::Checkerboard, Squeeze::Patch, Squeeze::Column, Squeeze::Haar] {
        for spatial in [&[4][..], &[2, 6], &[2, 4, 2]] {
            let shape = Shape::new(2, 3, spatial).unwrap();
            check("squeeze", shape, &[], |_| Ok(squeeze));
            check("squeeze, ActNorm, unsqueeze", shape, &[], |scope| {
                Ok((squeeze, ActNorm::new(scope, 3 << shape.rank())?, Reversed(squeeze)))
            });
        }
    }
    let shape = Shape::new(3, 3, &[4, 3]).unwrap();
    check("chain of steps", shape, &[], |scope| Chain::build(scope, "step", 3, |scope, _| glow_step(scope, 3, 2, None, &step())));
}

#[test]
fn conditioners_by_themselves() {
    for rank in 0..=3 {
        let spatial = &[4, 3, 5][..rank];
        let shape = Shape::new(2, 3, spatial).unwrap();
        let ports = Ports::new(3, 4, rank);
        for head in [Head::Linear, Head::Activated, Head::Gated] {
            let config = ResidualConfig { head, ..residual() };
            let (net, layout) = Layout::build(|scope| ResidualBlock::new(scope, ports, &config)).unwrap();
            harness().conditioner(&net, &layout, shape).unwrap().check().unwrap();
        }
        for (ends, outputs) in [(ResNetEnds::Both, 4), (ResNetEnds::Last, 4), (ResNetEnds::Neither, 3)] {
            let config = ResNetConfig { hidden: 4, ends, activation: SMOOTH, last_gain: 1.0, ..ResNetConfig::default() };
            let (net, layout) = Layout::build(|scope| ResNet::new(scope, Ports { outputs, ..ports }, &config)).unwrap();
            harness().conditioner(&net, &layout, shape).unwrap().check().unwrap();
        }
        let config = DenseConfig { hidden: vec![5, 4], activation: SMOOTH, last_gain: 1.0, ..DenseConfig::default() };
        let (net, layout) = Layout::build(|scope| DenseNet::new(scope, ports, &config)).unwrap();
        harness().conditioner(&net, &layout, shape).unwrap().check().unwrap();
        let config = SymmetricConfig { alpha: 0.3, activation: SMOOTH, ..SymmetricConfig::default() };
        let (net, layout) = Layout::build(|scope| SymmetricBlock::new(scope, 3, rank, &config)).unwrap();
        harness().conditioner(&net, &layout, shape).unwrap().check().unwrap();
    }
}
