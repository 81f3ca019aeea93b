//! Awkward sizes: volumes of 27 x 45 x 33, series of 129, 5, 7 and 9 channels, batch 1. A layer or network maps them there and back, or says
//! which sizes it takes.

use crate::any::Any;
use inn_core::{Architecture, Chain, Error, Given, Model, Odd, Result, Scope, Shape, Squeeze, Tensor};
use inn_layers::conditioner::{ConditionalResidualBlock, DenseConfig, NetConfig, ResNetConfig, ResidualConfig, SymmetricConfig};
use inn_layers::conv1x1::Form;
use inn_layers::coupling::{Additive, Coupling};
use inn_layers::glow::{StepConfig, glow_coupling, glow_step};
use inn_layers::hint::{ConditionalHint, HintConfig, hint_coupling};
use inn_layers::hyperbolic::{Resize, SqueezeLanes, hyperbolic_step};
use inn_layers::lanes::{LaneConfig, basic_coupling, gin_coupling, irim_coupling};
use inn_layers::{ActNorm, AffineLayer, Conv1x1, Householder, LearnableSqueeze};
use inn_networks::{ConditionalGlowConfig, GlowConfig, HyperbolicConfig, PyramidConfig};
use inn_ops::Cpu;

type B = Cpu<f64>;

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for channels in [5, 7, 9] {
        shapes.extend([&[][..], &[129], &[15, 27]].map(|spatial| Shape::new(1, channels, spatial).unwrap()));
    }
    shapes.push(Shape::new(1, 5, &[27, 45, 33]).unwrap());
    shapes
}

fn nets() -> [NetConfig; 3] {
    let last_gain = 0.5;
    [
        NetConfig::Residual(ResidualConfig { hidden: 3, last_gain, ..ResidualConfig::default() }),
        NetConfig::ResNet(ResNetConfig { hidden: 3, blocks: 1, last_gain, ..ResNetConfig::default() }),
        NetConfig::Dense(DenseConfig { hidden: vec![3], last_gain, ..DenseConfig::default() }),
    ]
}

fn numbers(shape: Shape) -> Vec<f64> {
    (0..shape.len()).map(|i| (i as f64 * 0.37 + 0.1).sin()).collect()
}

/// There and back, and the same log-determinant both ways; or the layer's refusal.
fn there_and_back(shape: Shape, conditions: &[Shape], build: impl FnOnce(&mut Scope<'_>) -> Result<Any>) -> Result<()> {
    let cpu = B::new();
    let model = Model::build(&cpu, 3, build)?;
    let tensor = |shape: Shape| Tensor::from_f64(&cpu, shape, &numbers(shape)).unwrap();
    let conditions: Vec<_> = conditions.iter().map(|&c| tensor(c)).collect();
    let call = model.with(Given::conditions(&conditions));
    let there = call.forward(tensor(shape))?;
    let logdet = there.logdet.to_f64()?;
    let back = call.inverse(there.state)?;
    assert_eq!(back.state.shape(), shape);
    let error = back.state.to_f64()?.iter().zip(numbers(shape)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error < 1e-9, "{shape}: {error:e}");
    for (a, b) in back.logdet.to_f64()?.iter().zip(&logdet) {
        assert!(b.is_finite() && (a + b).abs() < 1e-9 * (1.0 + b.abs()), "{shape}: {a} and {b}");
    }
    Ok(())
}

/// A refusal by shape or setting, which has the words.
#[track_caller]
fn refuses(outcome: Result<()>, words: &str) {
    match outcome {
        Err(e @ (Error::Shape { .. } | Error::Config { .. })) => assert!(e.to_string().contains(words), "{e}"),
        other => panic!("expected a refusal with {words:?}, got {other:?}"),
    }
}

#[test]
fn layers_that_keep_the_shape_take_every_size() {
    for shape in shapes() {
        let (c, rank) = (shape.channels(), shape.rank());
        let run = |name: &str, build: &dyn Fn(&mut Scope<'_>) -> Result<Any>| {
            there_and_back(shape, &[], build).unwrap_or_else(|e| panic!("{name} at {shape}: {e}"));
        };
        run("ActNorm", &|s| Ok(Any::ActNorm(ActNorm::new(s, c)?)));
        run("AffineLayer", &|s| Ok(Any::Affine(AffineLayer::new(s, c, shape.spatial())?)));
        run("Householder", &|s| Ok(Any::Householder(Householder::new(s, c, 3)?)));
        for form in [Form::Lu { order: None }, Form::Cayley, Form::Exponential, Form::Free] {
            run("Conv1x1", &|s| Ok(Any::Conv1x1(Conv1x1::new(s, c, form.clone(), 0.1)?)));
        }
        // The volume is slow enough with one network.
        for net in nets().into_iter().take(if rank == 3 { 1 } else { 3 }) {
            let step = StepConfig { net: net.clone(), ..StepConfig::default() };
            let lanes = LaneConfig { net: net.clone(), ..LaneConfig::default() };
            let hint = HintConfig { net: net.clone(), ..HintConfig::default() };
            run("Glow step", &|s| Ok(Any::GlowStep(glow_step(s, c, rank, None, &step)?)));
            run("Glow coupling", &|s| Ok(Any::GlowCoupling(glow_coupling(s, c, rank, None, &step)?)));
            run("GIN", &|s| Ok(Any::Gin(gin_coupling(s, c, rank, None, &lanes)?)));
            run("i-RIM", &|s| Ok(Any::Irim(irim_coupling(s, c, rank, None, &lanes)?)));
            run("HINT", &|s| Ok(Any::Hint(hint_coupling(s, c, rank, None, &hint)?)));
        }
    }
}

#[test]
fn layers_of_two_lanes_take_twice_the_channels() {
    let net = &nets()[0];
    for one in shapes().into_iter().filter(|s| s.rank() < 3) {
        let (c, rank, both) = (one.channels(), one.rank(), one.with_channels(2 * one.channels()));
        let hint = HintConfig { net: net.clone(), ..HintConfig::default() };
        let block = SymmetricConfig { hidden: Some(3), ..SymmetricConfig::default() };
        let basic = |s: &mut Scope<'_>| Ok(Any::Basic(basic_coupling(s, c, rank, None, net, Default::default())?));
        let lanes = |s: &mut Scope<'_>| Ok(Any::ConditionalHint(ConditionalHint::new(s, c, rank, &hint)?));
        let keep = |s: &mut Scope<'_>| Ok(Any::Hyperbolic(hyperbolic_step(s, Resize::Keep, 0, c, rank, &block)?));
        there_and_back(both, &[], basic).unwrap();
        there_and_back(both, &[], lanes).unwrap();
        there_and_back(both, &[], keep).unwrap();
        // A state with an odd number of channels has no two lanes.
        refuses(there_and_back(one, &[], basic), &format!("{}", 2 * c));
        refuses(there_and_back(one, &[], lanes), &format!("{}", 2 * c));
        let data = Shape::new(1, 3, &[7]).unwrap();
        there_and_back(one, &[data], |s| {
            let config = ResidualConfig { hidden: 3, ..ResidualConfig::default() };
            let conditioner = ConditionalResidualBlock::new(s, one.with_channels(2), (0, data), c - 2, &config)?;
            Ok(Any::OtherShape(Coupling { conditioner, transform: Additive, kept: 0..2, moved: 2..c }))
        })
        .unwrap();
    }
}

#[test]
fn squeezes_say_which_sizes_they_take() {
    let wavelet = Squeeze::Wavelet("db4".parse().unwrap());
    for shape in shapes() {
        let rank = shape.rank();
        let words = if rank == 0 { "spatial axis" } else { "even spatial extents" };
        for squeeze in [Squeeze::Checkerboard, Squeeze::Patch, Squeeze::Column, Squeeze::Haar, wavelet] {
            refuses(there_and_back(shape, &[], |_| Ok(Any::Squeeze(squeeze))), words);
            let lanes = SqueezeLanes { forward: inn_core::Direction::Forward, lanes: 1, squeeze };
            refuses(there_and_back(shape, &[], |_| Ok(Any::Lanes(lanes))), words);
        }
        match rank {
            0 => refuses(there_and_back(shape, &[], |s| Ok(Any::Learnable(LearnableSqueeze::new(s, rank, 2)?))), "1 to 3 axes"),
            // 3 divides 129, 15, 27, 45 and 33; its cube has more taps than the layer takes.
            3 => refuses(there_and_back(shape, &[], |s| Ok(Any::Learnable(LearnableSqueeze::new(s, rank, 2)?))), "multiples of 2"),
            _ => there_and_back(shape, &[], |s| Ok(Any::Learnable(LearnableSqueeze::new(s, rank, 3)?))).unwrap(),
        }
    }
}

#[test]
fn networks_take_every_size_or_say_which() {
    let step = StepConfig { net: nets()[0].clone(), ..StepConfig::default() };
    for shape in shapes() {
        let (channels, rank) = (shape.channels(), shape.rank());
        let flow = |odd, levels| GlowConfig { channels, rank, levels, steps: 1, odd, step: step.clone(), ..GlowConfig::default() };
        let condition = shape.with_channels(2);
        let conditional = |flow| ConditionalGlowConfig { flow, condition: PyramidConfig { channels: 2, ..PyramidConfig::default() } };
        let run = |config: GlowConfig| {
            let (plain, with) = (config.clone(), conditional(config));
            let first = there_and_back(shape, &[], |s| Ok(Any::Glow(plain.build(s)?)));
            let second = there_and_back(shape, &[condition], |s| Ok(Any::ConditionalGlow(with.build(s)?)));
            [first, second]
        };
        // At one resolution.
        run(GlowConfig { squeeze: None, split: false, ..flow(Odd::Refuse, 1) }).into_iter().for_each(|r| r.unwrap());
        if rank == 0 {
            run(flow(Odd::Carry, 2)).into_iter().for_each(|r| refuses(r, "dense data"));
        } else {
            run(flow(Odd::Carry, 2)).into_iter().for_each(|r| r.unwrap());
            let [plain, with] = run(flow(Odd::Refuse, 2));
            refuses(plain, "multiples of 4");
            refuses(with, "");
        }
    }
    let hyperbolic = HyperbolicConfig { channels: 5, rank: 3, ..HyperbolicConfig::default() };
    let volume = Shape::new(1, 10, &[9, 7, 5]).unwrap();
    there_and_back(volume, &[], |s| Ok(Any::HyperbolicNet(hyperbolic.build(s)?))).unwrap();
    let chain = |s: &mut Scope<'_>| {
        let layer = |s: &mut Scope<'_>, _| Ok(Any::GlowStep(glow_step(s, 7, 1, None, &step)?));
        Ok(Any::Chain(Chain::build(s, "step", 4, layer)?))
    };
    there_and_back(Shape::new(1, 7, &[129]).unwrap(), &[], chain).unwrap();
    refuses(there_and_back(Shape::new(1, 5, &[129]).unwrap(), &[], chain), "7 channels");
}
