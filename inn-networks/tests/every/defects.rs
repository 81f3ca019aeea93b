//! The defects of the original (SPEC, section 10) that concern networks, one test for each: what it computes wrongly (S), where it is
//! inconsistent (N), and what fails there (C). Those of layers are tested in `inn-layers`, those of operators in `inn-linop`.

use crate::any::Any;
use inn_core::verify::Verify;
use inn_core::{Along, Architecture, Chain, Error, Given, Layout, Model, Params, Result, Reversed, Scope};
use inn_core::{Shape, Squeeze, Tensor};
use inn_layers::conditioner::{DenseConfig, Head, NetConfig, ResNetConfig, ResidualConfig, SymmetricConfig};
use inn_layers::conv1x1::Form;
use inn_layers::glow::{StepConfig, glow_coupling};
use inn_layers::hint::{ConditionalHint, HintConfig, hint_coupling};
use inn_layers::lanes::{LaneConfig, irim_coupling};
use inn_layers::permute::Permute;
use inn_layers::{ActNorm, AffineLayer, Conv1x1, Householder};
use inn_networks::files::{self, Metadata};
use inn_networks::hyperbolic::{HyperbolicLayerConfig, Resize};
use inn_networks::{
    ConditionalGlowConfig, Density, GlowConfig, HyperbolicConfig, MultiscaleConditionalHintConfig, MultiscaleHintConfig, PyramidConfig,
};
use inn_ops::loss::{Gaussian, SquaredError};
use inn_ops::{Activation, Cpu, ScaleMap};

type B = Cpu<f64>;
const SMOOTH: Activation = Activation::Sigmoid { low: -1.0, high: 1.0 };

pub fn shape(batch: usize, channels: usize, spatial: &[usize]) -> Shape {
    Shape::new(batch, channels, spatial).unwrap()
}

fn tensor(shape: Shape, seed: usize) -> Tensor<B> {
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i + 7 * seed) as f64 * 1.3 + 0.2).sin()).collect();
    Tensor::from_f64(&Cpu::new(), shape, &values).unwrap()
}

fn residual() -> ResidualConfig {
    ResidualConfig { hidden: 3, activation: SMOOTH, last_gain: 1.0, ..ResidualConfig::default() }
}

pub fn net() -> NetConfig {
    NetConfig::Residual(residual())
}

pub fn glow(channels: usize, rank: usize, levels: usize) -> GlowConfig {
    let step = StepConfig { net: net(), ..StepConfig::default() };
    GlowConfig { channels, rank, levels, steps: 1, step, ..GlowConfig::default() }
}

pub fn conditional(flow: GlowConfig, channels: usize) -> ConditionalGlowConfig {
    ConditionalGlowConfig { flow, condition: PyramidConfig { channels, ..PyramidConfig::default() } }
}

/// All modes: both directions, JVP, adjoint, log-determinants, plain and reversed.
#[track_caller]
fn works(input: Shape, conditions: &[Shape], build: impl Fn(&mut Scope<'_>) -> Result<Any>) {
    for reversed in [false, true] {
        let (layer, layout) = Layout::build(|scope| {
            let layer = build(scope)?;
            Ok(if reversed { Any::Reversed(Box::new(Reversed(layer))) } else { layer })
        })
        .unwrap();
        if reversed && !matches!(&layer, Any::Reversed(r) if keeps(&r.0, &layout, input, conditions)) {
            continue;
        }
        Verify::new(Cpu::<f64>::poisoned()).conditions(conditions).layer(&layer, &layout, input).unwrap().check().unwrap();
    }
}

fn keeps(layer: &Any, layout: &Layout, input: Shape, conditions: &[Shape]) -> bool {
    use inn_core::{Direction, Facts, Invertible};
    layer.check(Direction::Forward, Facts { layout, conditions, operator: None }, input).unwrap() == input
}

pub fn flat(t: &Tensor<B>) -> Vec<f64> {
    t.to_f64().unwrap()
}

#[test]
fn s7_the_latent_of_a_sample_is_its_own() {
    let config = conditional(glow(1, 2, 2), 2);
    let model = config.model(&Cpu::new(), 3).unwrap();
    let (x, c) = (shape(3, 1, &[4, 8]), shape(3, 2, &[4, 8]));
    let conditions = [tensor(c, 2)];
    let given = Given::conditions(&conditions);
    let all = model.with(given).forward(tensor(x, 1)).unwrap();
    let density = Density::new(model.layer(), model.params(), given).log_prob(tensor(x, 1)).unwrap();
    assert_eq!(all.state.shape(), x);
    for i in 0..3 {
        let sample = |t: &Tensor<B>, s: Shape| {
            Tensor::from_f64(&Cpu::new(), s.with_batch(1), &flat(t)[i * s.sample_len()..(i + 1) * s.sample_len()]).unwrap()
        };
        let condition = [sample(&conditions[0], c)];
        let one = model.with(Given::conditions(&condition)).forward(sample(&tensor(x, 1), x)).unwrap();
        assert_eq!(flat(&one.state), flat(&sample(&all.state, x)));
        let z: f64 = flat(&one.state).iter().map(|z| 0.5 * (z * z + (2.0 * std::f64::consts::PI).ln())).sum();
        assert!((density[i] - (flat(&one.logdet)[0] - z)).abs() < 1e-10, "a density of each sample, divided by nothing");
    }
}

#[test]
fn s11_parameters_that_are_set_are_those_that_compute() {
    for net in [net(), NetConfig::ResNet(ResNetConfig { hidden: 3, last_gain: 1.0, ..ResNetConfig::default() })] {
        let config = GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..glow(1, 2, 1) };
        let (mut a, b) = (config.model(&Cpu::new(), 1).unwrap(), config.model(&Cpu::new(), 2).unwrap());
        let map = |m: &Model<_, B>| flat(&m.forward(tensor(shape(1, 1, &[4, 4]), 1)).unwrap().state);
        assert_ne!(map(&a), map(&b));
        a.params_mut().assign(b.params()).unwrap();
        assert_eq!(map(&a), map(&b));
    }
}

#[test]
fn s13_one_level_with_splitting_has_one_order() {
    let model = glow(1, 2, 1).model(&Cpu::new(), 1).unwrap();
    let x = shape(2, 1, &[4, 6]);
    let pushed = model.call().jvp(tensor(x, 1), tensor(x, 2), &Along::default()).unwrap();
    let state = flat(&model.forward(tensor(x, 1)).unwrap().state);
    assert!(flat(&pushed.state).iter().zip(&state).all(|(a, b)| (a - b).abs() < 1e-14));
    let h = 1e-5;
    let at = |h: f64| {
        let mut moved = tensor(x, 1);
        moved.view_mut().axpy(&Cpu::new(), h, tensor(x, 2).view()).unwrap();
        flat(&model.forward(moved).unwrap().state)
    };
    let (up, down) = (at(h), at(-h));
    for (i, t) in flat(&pushed.tangent).into_iter().enumerate() {
        assert!((t - (up[i] - down[i]) / (2.0 * h)).abs() < 1e-8, "tangent {i}");
    }
}

#[test]
fn s18_a_gradient_step_leaves_conditions_and_parameters_alone() {
    let model = conditional(glow(1, 1, 1), 1).model(&Cpu::new(), 1).unwrap();
    let x = shape(2, 1, &[6]);
    let conditions = [tensor(x, 2)];
    let before = (flat(&conditions[0]), model.params().to_flat().unwrap());
    let call = model.with(Given::conditions(&conditions));
    let out = call.forward(tensor(x, 1)).unwrap();
    let mut grads = model.zeros().unwrap();
    call.backward(out.state, tensor(x, 3), &Tensor::zeros(&Cpu::new(), Shape::per_sample(2)).unwrap(), &mut grads).unwrap();
    assert_eq!(before, (flat(&conditions[0]), model.params().to_flat().unwrap()));
    assert!(grads.norm().unwrap() > 0.0);
}

#[test]
fn s19_networks_share_no_memory() {
    let config = glow(1, 1, 1);
    let (mut a, b) = (config.model(&B::new(), 1).unwrap(), config.model(&B::new(), 2).unwrap());
    let theirs = b.params().to_flat().unwrap();
    a.params_mut().assign(b.params()).unwrap();
    let copy = a.params().duplicate().unwrap();
    a.params_mut().fill(3.0).unwrap();
    assert_eq!((b.params().to_flat().unwrap(), copy.to_flat().unwrap()), (theirs.clone(), theirs));
}

#[test]
fn n7_number_types_change_where_somebody_asks() {
    let path = tempfile::tempdir().unwrap();
    let file = path.path().join("network.safetensors");
    let config = glow(1, 1, 1);
    let mut wide = config.model(&B::new(), 1).unwrap();
    files::save(&file, &config, &wide, &Metadata::default()).unwrap();
    // The file says what it holds; the caller names what it becomes.
    assert_eq!(files::load::<GlowConfig, _>(&file, &Cpu::<f32>::new()).unwrap().dtype, "f64");
    wide.params_mut().fill(1e200).unwrap();
    files::save(&file, &config, &wide, &Metadata::default()).unwrap();
    assert!(matches!(files::load::<GlowConfig, _>(&file, &Cpu::<f32>::new()), Err(Error::Format { .. })));
}

#[test]
fn c3_hint_with_the_upper_half_mixed() {
    let config = HintConfig { net: net(), permute: Permute::Lower, ..HintConfig::default() };
    works(shape(2, 8, &[3]), &[], |scope| Ok(Any::Hint(hint_coupling(scope, 8, 1, None, &config)?)));
}

#[test]
fn c4_flows_over_residual_networks_and_dense_ones() {
    let nets = [
        NetConfig::ResNet(ResNetConfig { hidden: 2, blocks: 1, activation: SMOOTH, last_gain: 1.0, ..ResNetConfig::default() }),
        NetConfig::Dense(DenseConfig { hidden: vec![3], activation: SMOOTH, last_gain: 1.0, ..DenseConfig::default() }),
    ];
    for net in nets {
        let config = GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..glow(1, 1, 2) };
        works(shape(2, 1, &[8]), &[], |scope| Ok(Any::Glow(config.build(scope)?)));
    }
}

/// Two levels of HINT, all of whose squeezes and couplings are the network's own.
pub fn hints(channels: usize, rank: usize) -> MultiscaleHintConfig {
    let hint = HintConfig { net: net(), ..HintConfig::default() };
    MultiscaleHintConfig { channels, rank, levels: 2, steps: 1, hint, ..MultiscaleHintConfig::default() }
}

/// The same on two lanes.
pub fn pairs(channels: usize, rank: usize) -> MultiscaleConditionalHintConfig {
    let hint = HintConfig { net: net(), ..HintConfig::default() };
    MultiscaleConditionalHintConfig { channels, rank, levels: 2, steps: 1, split: true, hint, ..MultiscaleConditionalHintConfig::default() }
}

#[test]
fn c5_hint_on_scales_that_split() {
    works(shape(2, 2, &[8]), &[], |scope| Ok(Any::Hints(hints(2, 1).build(scope)?)));
    works(shape(1, 1, &[4, 4]), &[], |scope| Ok(Any::Hints(hints(1, 2).build(scope)?)));
}

#[test]
fn c6_hint_on_scales_in_three_dimensions() {
    works(shape(1, 1, &[4, 4, 4]), &[], |scope| Ok(Any::Hints(hints(1, 3).build(scope)?)));
    // One coupling a lane: of 16 channels and more than a thousand checks otherwise.
    let mut pairs = pairs(1, 3);
    pairs.hint.leaf = 16;
    works(shape(1, 2, &[4, 4, 4]), &[], |scope| Ok(Any::Pairs(pairs.build(scope)?)));
}

#[test]
fn c7_conditional_hint_on_scales_that_split() {
    works(shape(2, 2, &[8]), &[], |scope| Ok(Any::Pairs(pairs(1, 1).build(scope)?)));
    works(shape(1, 2, &[4, 4]), &[], |scope| Ok(Any::Pairs(pairs(1, 2).build(scope)?)));
}

#[test]
fn c8_tangents_need_no_log_determinant() {
    let model = glow(1, 1, 1).model(&B::new(), 1).unwrap();
    let x = shape(1, 1, &[4]);
    let t = model.call().jvp(tensor(x, 1), tensor(x, 2), &Along::default()).unwrap();
    assert_eq!(t.tangent.shape(), x);
    // Nor does the adjoint: its cotangent is 0.
    let mut grads = model.zeros().unwrap();
    let gl = Tensor::zeros(&B::new(), Shape::per_sample(1)).unwrap();
    let pulled = model.backward(t.state, tensor(x, 3), &gl, &mut grads).unwrap();
    let dot = |a: &Tensor<B>, b: &Tensor<B>| -> f64 { flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum() };
    assert!((dot(&pulled.cotangent, &tensor(x, 2)) - dot(&t.tangent, &tensor(x, 3))).abs() < 1e-12);
}

#[test]
fn c9_actnorm_in_one_dimension() {
    works(shape(2, 3, &[5]), &[], |scope| Ok(Any::ActNorm(ActNorm::new(scope, 3)?)));
}

#[test]
fn c10_hyperbolic_networks_with_their_defaults_and_in_every_dimension() {
    let default = HyperbolicConfig::default();
    let model = default.model(&B::new(), 1).unwrap();
    model.forward(tensor(shape(1, 16, &[4, 4]), 1)).unwrap();
    for rank in 1..=3 {
        let block = SymmetricConfig { hidden: Some(2), activation: SMOOTH, ..SymmetricConfig::default() };
        let layers = [Resize::Coarsen, Resize::Keep].map(|resize| HyperbolicLayerConfig { resize, hidden: None }).to_vec();
        let config = HyperbolicConfig { channels: 1, rank, layers, block };
        works(shape(2, 2, &[4, 2, 2][..rank]), &[], |scope| Ok(Any::HyperbolicNet(config.build(scope)?)));
        // From given weights.
        let (network, layout) = Layout::build(|scope| config.build(scope)).unwrap();
        let mut weights = vec![0.0; layout.len()];
        layout.entries().iter().for_each(|e| e.range().for_each(|i| weights[i] = (i as f64).sin()));
        let model = Model::from_parts(network, Params::from_flat(&B::new(), &layout, &weights).unwrap(), true);
        assert_eq!(model.params().to_flat().unwrap(), weights);
    }
}

#[test]
fn c11_flows_in_three_dimensions() {
    let config = glow(1, 3, 1);
    works(shape(1, 1, &[2, 4, 2]), &[], |scope| Ok(Any::Glow(config.build(scope)?)));
    let config = conditional(config, 1);
    works(shape(2, 1, &[2, 2, 2]), &[shape(2, 1, &[2, 2, 2])], |scope| Ok(Any::ConditionalGlow(config.build(scope)?)));
}

#[test]
fn c12_conditional_flows_with_their_defaults() {
    let flow = GlowConfig { channels: 1, levels: 1, steps: 1, ..GlowConfig::default() };
    let model = conditional(flow, 1).model(&B::new(), 1).unwrap();
    let x = shape(1, 1, &[4, 4]);
    let conditions = [tensor(x, 1)];
    assert!(model.with(Given::conditions(&conditions)).forward(tensor(x, 2)).is_ok());
    assert!(matches!(model.forward(tensor(x, 2)), Err(Error::Missing { .. })), "without its condition");
}

#[test]
fn c13_residual_blocks_with_any_number_of_outputs() {
    for head in [Head::Linear, Head::Activated, Head::Gated] {
        let config = LaneConfig { net: NetConfig::Residual(ResidualConfig { head, ..residual() }), ..LaneConfig::default() };
        // Three channels in, two out.
        works(shape(2, 5, &[3]), &[], |scope| Ok(Any::Irim(irim_coupling(scope, 5, 1, None, &config)?)));
    }
}

#[test]
fn c14_couplings_of_odd_channels_and_any_scale() {
    for scale in [ScaleMap::default(), ScaleMap::ExpClamp { clamp: 2.0 }, ScaleMap::Sigmoid { low: 0.5, high: 1.0 }] {
        let step = StepConfig { net: net(), scale, ..StepConfig::default() };
        works(shape(2, 5, &[3]), &[], |scope| Ok(Any::GlowCoupling(glow_coupling(scope, 5, 1, None, &step)?)));
    }
}

#[test]
fn c15_hessians_of_objectives() {
    let s = shape(2, 3, &[]);
    let mut h = tensor(s, 1);
    SquaredError.hessian(&B::new(), 0.5, tensor(s, 2).view(), &mut h.view_mut()).unwrap();
    assert_eq!(flat(&h), flat(&tensor(s, 2)).iter().map(|v| 0.5 * v).collect::<Vec<_>>());
    Gaussian::STANDARD.hessian(&B::new(), 1.0, tensor(s, 2).view(), &mut h.view_mut()).unwrap();
    assert_eq!(flat(&h), flat(&tensor(s, 2)).iter().map(|v| -v).collect::<Vec<_>>());
}

#[test]
fn c16_parameters_are_a_vector() {
    let model = glow(1, 1, 1).model(&B::new(), 1).unwrap();
    let theta = model.params().to_flat().unwrap();
    let mut sum = Params::from_flat(&B::new(), model.layout(), &theta).unwrap();
    sum.axpy(2.0, model.params()).unwrap();
    sum.scale(0.5).unwrap();
    assert_eq!(sum.to_flat().unwrap(), theta.iter().map(|v| (v + 2.0 * v) * 0.5).collect::<Vec<_>>());
    assert!(matches!(Params::from_flat(&B::new(), model.layout(), &theta[1..]), Err(Error::Shape { .. })));
}

#[test]
fn c17_squeezes_of_series() {
    for squeeze in [Squeeze::Patch, Squeeze::Haar, Squeeze::Wavelet("db3".parse().unwrap())] {
        works(shape(2, 2, &[6]), &[], |_| Ok(Any::Squeeze(squeeze)));
    }
}

#[test]
fn c18_members_of_a_composition_in_every_mode() {
    works(shape(2, 4, &[3]), &[], |scope| {
        let mut parts = vec![
            Any::Conv1x1(Conv1x1::new(&mut scope.sub("mix"), 4, Form::Cayley, 0.2)?),
            Any::Reversed(Box::new(Reversed(Any::Householder(Householder::new(&mut scope.sub("reflections"), 4, 2)?)))),
            Any::Affine(AffineLayer::new(&mut scope.sub("affine"), 4, &[3])?),
            Any::ConditionalHint(ConditionalHint::new(&mut scope.sub("lanes"), 2, 1, &HintConfig { net: net(), ..HintConfig::default() })?),
        ]
        .into_iter();
        Ok(Any::Chain(Chain::build(scope, "part", 4, |_, _| Ok(parts.next().unwrap()))?))
    });
}

#[test]
fn c19_hint_of_any_number_of_channels() {
    let config = HintConfig { net: net(), ..HintConfig::default() };
    for channels in [3, 7] {
        works(shape(1, channels, &[2]), &[], |scope| Ok(Any::Hint(hint_coupling(scope, channels, 1, None, &config)?)));
    }
    assert!(matches!(Layout::build(|scope| hint_coupling(scope, 1, 1, None, &config)), Err(Error::Config { .. })));
}

#[test]
fn c20_conditional_flow_of_one_level_that_splits() {
    let config = conditional(glow(1, 1, 1), 1);
    works(shape(2, 1, &[4]), &[shape(2, 1, &[4])], |scope| Ok(Any::ConditionalGlow(config.build(scope)?)));
}

#[test]
fn c22_wavelets_have_tangents_on_the_device() {
    let squeeze = Squeeze::Wavelet("coif2".parse().unwrap());
    let model = Model::build(&B::new(), 1, |_| Ok(Any::Squeeze(squeeze))).unwrap();
    let x = shape(1, 1, &[4, 6]);
    let t = model.call().jvp(tensor(x, 1), tensor(x, 2), &Along::default()).unwrap();
    let linear = flat(&model.forward(tensor(x, 2)).unwrap().state);
    assert!(flat(&t.tangent).iter().zip(linear).all(|(a, b)| (a - b).abs() < 1e-14));
}

#[test]
fn c23_every_network_is_reset_by_its_seed() {
    let build = |scope: &mut Scope<'_>| hints(2, 1).build(scope);
    let mut model = Model::build(&B::new(), 5, build).unwrap();
    let start = model.params().to_flat().unwrap();
    model.params_mut().fill(0.3).unwrap();
    let fresh = Params::init(&B::new(), model.layout(), 5).unwrap();
    model.params_mut().assign(&fresh).unwrap();
    model.set_initialized(false);
    assert_eq!(model.params().to_flat().unwrap(), start);
}
