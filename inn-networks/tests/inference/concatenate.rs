//! Several observations, concatenated, in front of Glow at pyramid scales, of conditional Glow at one scale, and of conditional HINT.

use crate::{check, plain, residual, summary::dense};
use inn_core::{Architecture, Backend, Call, Error, Given, Invertible, Layout, Model, Odd, Result, Scope, Shape, Squeeze, Tensor};
use inn_layers::conditioner::NetConfig;
use inn_layers::glow::StepConfig;
use inn_layers::hint::HintConfig;
use inn_layers::permute::Permute;
use inn_networks::encoder::{Concatenate, ConcatenatedGlowConfig, Encoded, ObservationConfig};
use inn_networks::posterior::SummarizedHintConfig;
use inn_networks::summary::{Reduce, Summary};
use inn_networks::{
    ConditionalGlow, ConditionalGlowConfig, GlowConfig, MultiscaleConditionalHintConfig, PyramidConfig, Sampling, SummaryConfig,
};
use inn_ops::Cpu;

fn shape(dims: &[usize]) -> Shape {
    Shape::from_dims(dims).unwrap()
}

/// A series of two channels as a vector.
fn series(features: usize) -> SummaryConfig {
    SummaryConfig { channels: 2, rank: 1, net: residual(), features, reduce: Reduce::Mean, ..SummaryConfig::default() }
}

/// Six numbers of an image as a vector.
fn thumbnail(features: usize) -> SummaryConfig {
    let net = NetConfig::Dense(dense());
    SummaryConfig { channels: 6, rank: 0, net, features, reduce: Reduce::Flatten, ..SummaryConfig::default() }
}

fn field(channels: usize, net: Option<NetConfig>) -> ObservationConfig {
    ObservationConfig::Pyramid(PyramidConfig { channels, net, features: 2 })
}

/// Fields of the extents of the state, a series, and a small image, for Glow at two levels.
fn pyramids() -> ConcatenatedGlowConfig {
    let step = StepConfig { net: residual(), ..StepConfig::default() };
    let flow = GlowConfig { channels: 1, levels: 2, steps: 1, squeeze: Some(Squeeze::Haar), step, ..GlowConfig::default() };
    let summaries = [series(2), thumbnail(1)].map(ObservationConfig::Summary);
    let observations = [field(1, None), summaries[0].clone(), field(2, Some(residual())), summaries[1].clone()];
    ConcatenatedGlowConfig { flow, observations: observations.into() }
}

const OBSERVED: [&[usize]; 4] = [&[2, 1, 4, 8], &[2, 2, 5], &[2, 2, 4, 8], &[2, 2, 3, 1]];

#[test]
fn at_every_level_of_glow() {
    check(&pyramids(), &plain().conditions(&OBSERVED.map(shape)), shape(&[2, 1, 4, 8]));
    // Vectors alone, for a dense flow of two levels.
    let step = StepConfig { net: NetConfig::Dense(dense()), ..StepConfig::default() };
    let flow = GlowConfig { levels: 2, split: true, step, ..GlowConfig::dense(4, 1) };
    let config = ConcatenatedGlowConfig { flow, observations: [series(1), thumbnail(2)].map(ObservationConfig::Summary).into() };
    check(&config, &plain().conditions(&[shape(&[2, 2, 3]), shape(&[2, 3, 2])]), shape(&[2, 4]));
}

/// Odd extents, which each pyramid carries as the flow does.
#[test]
fn with_odd_extents() {
    let mut config = pyramids();
    (config.flow.odd, config.flow.levels) = (Odd::Carry, 1);
    config.observations.truncate(2);
    check(&config, &plain().conditions(&[shape(&[1, 1, 5, 4]), shape(&[1, 2, 5])]), shape(&[1, 1, 5, 4]));
}

/// Summaries beside each other, and beside those a pair of them, at the one scale that conditional Glow reads.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct OneScale {
    first: Vec<SummaryConfig>,
    pair: Vec<SummaryConfig>,
    glow: ConditionalGlowConfig,
}

impl Architecture for OneScale {
    const KIND: &'static str = "one_scale";
    type Network = Encoded<ConditionalGlow, Concatenate<Concatenate<Summary>>>;

    fn build(&self, scope: &mut Scope<'_>) -> Result<Self::Network> {
        let mut build = |name: &str, configs: &[SummaryConfig]| {
            let one = |(i, config): (usize, &SummaryConfig)| Summary::new(&mut scope.sub(format!("{name}{i}")), config);
            Concatenate::new(configs.iter().enumerate().map(one).collect::<Result<_>>()?, 1)
        };
        let parts = vec![build("first", &self.first)?, build("pair", &self.pair)?];
        Ok(Encoded::new(Concatenate::new(parts, 1)?, self.glow.build(scope)?))
    }
}

#[test]
fn in_front_of_conditional_glow() {
    // At half the resolution of the state.
    let keep = SummaryConfig { channels: 2, rank: 2, net: residual(), features: 1, refine: 1, ..SummaryConfig::default() };
    let repeated = SummaryConfig { extents: vec![4, 2], ..thumbnail(1) };
    let flow = GlowConfig { levels: 1, ..pyramids().flow };
    let condition = PyramidConfig { channels: 3, ..PyramidConfig::default() };
    let config = OneScale { first: vec![keep], pair: vec![series(1), repeated], glow: ConditionalGlowConfig { flow, condition } };
    let observed = [shape(&[2, 2, 2, 1]), shape(&[2, 2, 3]), shape(&[2, 3, 2])];
    check(&config, &plain().conditions(&observed), shape(&[2, 1, 4, 2]));
    let model = config.model(&Cpu::<f64>::new(), 0).unwrap();
    let message = refusal(&model, &[2, 1, 4, 2], &[&[2, 2, 4, 2], &[2, 2, 3], &[2, 3, 2]]).to_string();
    assert!(message.contains("condition 0") && message.contains("2^1 multiples"), "{message}");
    for wrong in [SummaryConfig { refine: 1, ..series(1) }, SummaryConfig { refine: usize::MAX, ..config.first[0].clone() }] {
        let error = Layout::build(|scope| Summary::new(scope, &wrong)).err().unwrap();
        assert!(matches!(error, Error::Config { .. }) && error.to_string().contains("refine"), "{error}");
    }
}

/// A field and a series as the second lane, two steps at one scale or one at each of two.
fn hint(levels: usize, squeeze: Option<Squeeze>) -> SummarizedHintConfig {
    let hint = HintConfig { net: residual(), permute: Permute::Full, ..HintConfig::default() };
    let hint = MultiscaleConditionalHintConfig { channels: 2, rank: 2, levels, steps: 3 - levels, squeeze, split: levels > 1, hint };
    let keep = SummaryConfig { channels: 3, rank: 2, net: residual(), features: 1, ..SummaryConfig::default() };
    SummarizedHintConfig { observations: vec![keep, series(1)], hint }
}

#[test]
fn in_front_of_conditional_hint() {
    for (levels, squeeze) in [(1, None), (2, Some(Squeeze::Checkerboard))] {
        let observed = [shape(&[2, 3, 4, 4]), shape(&[2, 2, 3])];
        check(&hint(levels, squeeze), &plain().conditions(&observed), shape(&[2, 2, 4, 4]));
    }
}

fn ramps(shapes: &[Shape]) -> Vec<Tensor<Cpu<f64>>> {
    let value = |i: usize| ((i * 37 % 101) as f64) / 50.0 - 1.0;
    shapes.iter().map(|&s| Tensor::from_f64(&Cpu::new(), s, &(0..s.len()).map(value).collect::<Vec<_>>()).unwrap()).collect()
}

/// p(x | y) is the one of the network on both lanes: ln p(x, y) = ln p(x | y) + ln p(y), and the latents are its latents.
#[test]
fn the_conditional_density_of_hint_is_the_joint_one_over_that_of_the_lane() {
    let (cpu, image) = (Cpu::<f64>::new(), shape(&[3, 2, 4, 4]));
    let mut model = hint(2, Some(Squeeze::Haar)).model(&cpu, 1).unwrap();
    let observed = ramps(&[shape(&[3, 3, 4, 4]), shape(&[3, 2, 3])]);
    let x = || ramps(&[image]).remove(0);
    model.initialize(x(), Given::conditions(&observed)).unwrap();
    let z = model.with(Given::conditions(&observed)).forward(x()).unwrap();
    let (network, theta) = (model.layer(), model.params());
    let y = network.encode(theta, &observed).unwrap();
    let mut both = Tensor::zeros(&cpu, image.with_channels(4)).unwrap();
    both.view_mut().channels(0..2).assign(&cpu, x().view()).unwrap();
    both.view_mut().channels(2..4).assign(&cpu, y[0].view()).unwrap();
    let joint = Call::new(network.inner().network(), theta, Given::default()).forward(both).unwrap();
    let lane = Call::new(network.inner().lane(), theta, Given::default()).forward(y[0].duplicate().unwrap()).unwrap();
    let logdets = [&z.logdet, &lane.logdet, &joint.logdet].map(|l| l.to_f64().unwrap());
    for sample in 0..3 {
        let [given, alone, joint] = [0, 1, 2].map(|i| logdets[i][sample]);
        assert!(alone.abs() > 0.1 && (given + alone - joint).abs() < 1e-12 * joint.abs().max(1.0), "{given} + {alone} = {joint}");
    }
    let mut first = Tensor::zeros(&cpu, image).unwrap();
    first.view_mut().assign(&cpu, joint.state.view().channels(0..2)).unwrap();
    assert_eq!(first.to_f64().unwrap(), z.state.to_f64().unwrap());
}

#[test]
fn samples_are_drawn_for_several_observations() {
    let (cpu, image) = (Cpu::<f64>::new(), shape(&[1, 1, 4, 8]));
    let model = pyramids().model(&cpu, 1).unwrap();
    let observed = ramps(&OBSERVED.map(shape));
    let sampling = Sampling { count: 3, ..Sampling::default() };
    let all = model.layer().draw_all(model.params(), &observed, image, &sampling).unwrap();
    assert_eq!(all.shape().batch(), 6);
    let z = model.layer().draw_all(model.params(), &observed, image, &Sampling { budget: 1 << 17, ..sampling }).unwrap();
    assert_eq!(all.to_f64().unwrap(), z.to_f64().unwrap());
}

fn refusal<L: Invertible, B: Backend>(model: &Model<L, B>, state: &[usize], observed: &[&[usize]]) -> Error {
    let full = |dims: &[usize]| Tensor::full(model.backend(), shape(dims), 0.5).unwrap();
    let observed: Vec<_> = observed.iter().map(|dims| full(dims)).collect();
    model.with(Given::conditions(&observed)).forward(full(state)).err().unwrap()
}

#[test]
fn observations_that_do_not_fit_are_named() {
    let cpu = Cpu::<f64>::new();
    let model = pyramids().model(&cpu, 0).unwrap();
    let state = &[2, 1, 4, 8];
    let with = |i: usize, dims: &'static [usize]| {
        let mut observed = OBSERVED;
        observed[i] = dims;
        refusal(&model, state, &observed)
    };
    for (i, dims, parts) in [
        (0, &[3, 1, 4, 8][..], ["condition 0", "a batch of 2", "3"]),
        (1, &[1, 2, 5], ["condition 1", "a batch of 2", "1"]),
        (2, &[2, 2, 8, 4], ["condition 2", "extents [4, 8]", "8, 4"]),
        (2, &[2, 3, 4, 8], ["condition 2", "channels", "3"]),
        (3, &[2, 7], ["condition 3", "6", "7"]),
    ] {
        let error = with(i, dims);
        let message = error.to_string();
        assert!(matches!(error, Error::Shape { .. }) && parts.iter().all(|part| message.contains(part)), "{dims:?}: {message}");
    }
    assert!(matches!(refusal(&model, state, &OBSERVED[..3]), Error::Missing { .. }));
    // Encodings of other extents than each other, and other than a state of two levels needs.
    let odd = SummaryConfig { extents: vec![4, 4], ..series(2) };
    let mut config = pyramids();
    config.flow.levels = 1;
    config.observations[1] = ObservationConfig::Summary(odd.clone());
    let message = refusal(&config.model(&cpu, 0).unwrap(), state, &OBSERVED).to_string();
    assert!(message.contains("encoder 1") && message.contains("[2, 4]"), "{message}");
    config.flow.levels = 2;
    let message = refusal(&config.model(&cpu, 0).unwrap(), state, &OBSERVED).to_string();
    assert!(message.contains("encoder 1") && message.contains("2 conditions"), "{message}");
    // Vectors alone have no extents for an image; no observations at all; features that do not add up.
    config.observations = vec![ObservationConfig::Summary(series(2))];
    assert!(matches!(refusal(&config.model(&cpu, 0).unwrap(), state, &OBSERVED[1..2]), Error::Shape { .. }));
    config.observations.clear();
    assert!(matches!(config.model(&cpu, 0).err().unwrap(), Error::Config { .. }));
    let mut config = hint(1, None);
    config.observations.pop();
    assert!(config.model(&cpu, 0).err().unwrap().to_string().contains("features"));
}
