//! What the original library computes wrongly (SPEC, section 10), one test for each defect that concerns a layer: each would fail on an
//! implementation with that defect.

mod common;

use common::{net, shape};
use inn_core::{Along, Call, Direction, Given, Invertible, Layout, Params, Result, Reversed, Scope, Shape, Tensor, Traced};
use inn_layers::conditioner::{DenseConfig, NetConfig, ResNetConfig, SymmetricConfig};
use inn_layers::coupling::{Affine, Coupling};
use inn_layers::hint::{ConditionalHint, HintConfig, hint, hint_coupling};
use inn_layers::hyperbolic::hyperbolic_layer;
use inn_layers::lanes::{BasicCoupling, basic_coupling};
use inn_layers::permute::Permute;
use inn_layers::{ActNorm, AffineLayer, Householder};
use inn_ops::{Cpu, ScaleMap};
use std::sync::Arc;

type B = Cpu<f64>;

fn cpu() -> B {
    Cpu::poisoned()
}

/// Numbers without a pattern, in ±1.
fn numbers(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 37 + seed * 11 + 5) * 7919 % 1009) as f64 / 504.5 - 1.0).collect()
}

fn tensor(shape: Shape, seed: usize) -> Tensor<B> {
    Tensor::from_f64(&cpu(), shape, &numbers(shape.len(), seed)).unwrap()
}

fn params(layout: &Arc<Layout>, seed: usize) -> Params<B> {
    let values: Vec<f64> = numbers(layout.len(), seed).iter().map(|v| 0.4 * v).collect();
    Params::from_flat(&cpu(), layout, &values).unwrap()
}

fn build<L>(f: impl FnOnce(&mut Scope<'_>) -> Result<L>) -> (L, Arc<Layout>) {
    Layout::build(f).unwrap()
}

fn call<'a, L: Invertible>(layer: &'a L, theta: &'a Params<B>) -> Call<'a, L, B> {
    Call::new(layer, theta, Given::default())
}

fn full(batch: usize, value: f64) -> Tensor<B> {
    Tensor::full(&cpu(), Shape::per_sample(batch), value).unwrap()
}

/// The gradient of the parameters at y.
fn gradient<L: Invertible>(layer: &L, theta: &Params<B>, y: Tensor<B>, gy: Tensor<B>, gl: &Tensor<B>) -> Params<B> {
    let mut grads = Params::zeros(&cpu(), theta.layout()).unwrap();
    call(layer, theta).backward(y, gy, gl, &mut grads).unwrap();
    grads
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "[{i}]: {a} against {b}");
    }
}

/// A conditioner u = W x + b.
fn linear() -> NetConfig {
    NetConfig::Dense(DenseConfig { hidden: vec![], last_gain: 1.0, ..DenseConfig::default() })
}

fn basic(scale: ScaleMap) -> (BasicCoupling, Arc<Layout>) {
    build(|scope| basic_coupling(scope, 2, 0, None, &linear(), scale))
}

#[test]
fn s1_hint_gradients_of_shared_couplings_sum() {
    let config = |shared| HintConfig { net: net(), shared, permute: Permute::None, ..HintConfig::default() };
    let (one, few) = build(|scope| hint(scope, 0..16, 1, None, &config(true)));
    let (each, many) = build(|scope| hint(scope, 0..16, 1, None, &config(false)));
    let theta = params(&few, 1);
    let (flat, mut copied) = (theta.to_flat().unwrap(), vec![0.0; many.len()]);
    // coupling1_8_at8.conv1.weight has the values of coupling1_8.conv1.weight.
    let source = |name: &str| {
        let (coupling, rest) = name.split_once('.').unwrap();
        few.find(&format!("{}.{rest}", coupling.split_once("_at").unwrap().0)).unwrap().range()
    };
    for entry in many.entries() {
        copied[entry.range()].copy_from_slice(&flat[source(entry.name())]);
    }
    let separate = Params::from_flat(&cpu(), &many, &copied).unwrap();
    let (y, gy, gl) = (|| tensor(shape(2, 16, &[3]), 2), || tensor(shape(2, 16, &[3]), 3), full(2, -0.5));
    let parts = gradient(&each, &separate, y(), gy(), &gl).to_flat().unwrap();
    let mut sum = vec![0.0; few.len()];
    for entry in many.entries() {
        sum[source(entry.name())].iter_mut().zip(&parts[entry.range()]).for_each(|(s, p)| *s += p);
    }
    close(&gradient(&one, &theta, y(), gy(), &gl).to_flat().unwrap(), &sum, 1e-12);
}

#[test]
fn s3_second_derivative_of_the_log_determinant_has_one_over_batch_and_the_second_derivative_of_ln_s() {
    for scale in [ScaleMap::Sigmoid { low: 0.5, high: 1.0 }, ScaleMap::ExpClamp { clamp: 2.0 }, ScaleMap::Sigmoid { low: 0.0, high: 1.0 }] {
        let (layer, layout) = basic(scale);
        let theta = params(&layout, 1);
        let bias = layout.find("layer0.bias").unwrap().range();
        let mut direction = vec![0.0; layout.len()];
        direction[bias.start] = 1.0;
        let along = Params::from_flat(&cpu(), &layout, &direction).unwrap();
        let along = Along { theta: Some(&along), conditions: &[] };
        let (x, batch) = (tensor(shape(3, 4, &[]), 2), 3);
        let u: Vec<f64> = {
            let (w, x) = (&theta.to_flat().unwrap(), x.to_f64().unwrap());
            let rows = layout.find("layer0.weight").unwrap().range();
            x.chunks(4).map(|x| w[rows.start] * x[0] + w[rows.start + 1] * x[1] + w[bias.start]).collect()
        };
        let zero = || Tensor::zeros(&cpu(), shape(3, 4, &[])).unwrap();
        let y = call(&layer, &theta).jvp(x, zero(), &along).unwrap();
        let gl = full(batch, 1.0 / batch as f64);
        let h = call(&layer, &theta).hessian(Direction::Forward, y.state, y.tangent, zero(), &gl, &along).unwrap();
        let expected = u.iter().map(|&u| scale.log_scale_second(u)).sum::<f64>() / batch as f64;
        close(&h.theta_tangent.to_flat().unwrap()[bias.start..=bias.start], &[expected], 1e-12);
    }
}

#[test]
fn s4_gradient_of_the_log_determinant_does_not_depend_on_the_cotangent_of_the_output() {
    let scale = ScaleMap::Sigmoid { low: 0.0, high: 1.0 };
    let (layer, layout) = basic(scale);
    let theta = params(&layout, 1);
    let (x, gl) = (tensor(shape(2, 4, &[]), 2), full(2, 0.5));
    let y = call(&layer, &theta).forward(x.duplicate().unwrap()).unwrap().state;
    let zero = Tensor::zeros(&cpu(), y.shape()).unwrap();
    let got = gradient(&layer, &theta, y, zero, &gl).to_flat().unwrap();
    let flat = theta.to_flat().unwrap();
    let mean = |flat: &[f64]| {
        let theta = Params::from_flat(&cpu(), &layout, flat).unwrap();
        let logdet = call(&layer, &theta).forward(x.duplicate().unwrap()).unwrap().logdet;
        logdet.to_f64().unwrap().iter().sum::<f64>() / 2.0
    };
    for i in layout.entries().iter().flat_map(|e| e.range()) {
        let step = |h: f64| mean(&flat.iter().enumerate().map(|(j, v)| if i == j { v + h } else { *v }).collect::<Vec<_>>());
        close(&got[i..=i], &[(step(1e-5) - step(-1e-5)) / 2e-5], 1e-9);
    }
}

#[test]
fn s5_exp_clamp_has_no_stray_factors() {
    for clamp in [1.0, 2.0, 3.0] {
        let scale = ScaleMap::ExpClamp { clamp };
        for u in [-3.0f64, -0.4, 0.0, 0.7, 5.0] {
            close(&[scale.scale(u), scale.inverse(scale.scale(u))], &[(clamp * 0.636 * u.atan()).exp(), u], 1e-12);
            let difference = (scale.log_scale(u + 1e-6) - scale.log_scale(u - 1e-6)) / 2e-6;
            close(&[scale.log_scale_derivative(u)], &[difference], 1e-8);
        }
    }
}

#[test]
fn s6_a_reversed_layer_is_reversed_in_every_mode() {
    let (layer, layout) = basic(ScaleMap::default());
    let (theta, dtheta) = (params(&layout, 1), params(&layout, 4));
    let state = |seed| tensor(shape(2, 4, &[]), seed);
    let reversed = Reversed(&layer);
    let along = Along { theta: Some(&dtheta), conditions: &[] };
    let a = call(&reversed, &theta).jvp(state(2), state(3), &along).unwrap();
    let b = call(&layer, &theta).jvp_inverse(state(2), state(3), &along).unwrap();
    close(&a.tangent.to_f64().unwrap(), &b.tangent.to_f64().unwrap(), 0.0);
    close(&a.logdet_tangent.to_f64().unwrap(), &b.logdet_tangent.to_f64().unwrap(), 0.0);
    let plain = call(&layer, &theta).jvp(state(2), state(3), &along).unwrap();
    assert_ne!(a.tangent.to_f64().unwrap(), plain.tangent.to_f64().unwrap());
    let mut grads = [Params::zeros(&cpu(), &layout).unwrap(), Params::zeros(&cpu(), &layout).unwrap()];
    call(&reversed, &theta).backward_inverse(state(2), state(3), &full(2, -0.5), &mut grads[0]).unwrap();
    call(&layer, &theta).backward(state(2), state(3), &full(2, -0.5), &mut grads[1]).unwrap();
    assert_eq!(grads[0].to_flat().unwrap(), grads[1].to_flat().unwrap());
}

/// Also N1.
#[test]
fn s8_every_layer_adds_to_gradients() {
    let (layer, layout) = build(|scope| {
        let mix = Householder::new(&mut scope.sub("mix"), 4, 3)?;
        let coupling = basic_coupling(&mut scope.sub("coupling"), 2, 0, None, &linear(), ScaleMap::default())?;
        Ok((AffineLayer::new(&mut scope.sub("affine"), 4, &[])?, mix, ActNorm::new(&mut scope.sub("norm"), 4)?, coupling))
    });
    let mut theta = params(&layout, 1);
    theta
        .axpy(1.0, &{
            let mut ones = Params::zeros(&cpu(), &layout).unwrap();
            ones.fill(1.0).unwrap();
            ones
        })
        .unwrap();
    let mut grads = Params::zeros(&cpu(), &layout).unwrap();
    let mut once = vec![];
    for _ in 0..2 {
        let state = |seed| tensor(shape(2, 4, &[]), seed);
        call(&layer, &theta).backward(state(2), state(3), &full(2, -0.5), &mut grads).unwrap();
        if once.is_empty() {
            once = grads.to_flat().unwrap();
        }
    }
    let twice: Vec<f64> = once.iter().map(|v| 2.0 * v).collect();
    assert!(layout.entries().iter().all(|e| once[e.range()].iter().any(|v| *v != 0.0)), "a layer without a gradient");
    close(&grads.to_flat().unwrap(), &twice, 1e-12);
}

/// Also S9: no weight, no gradient of the log-determinant.
#[test]
fn n9_the_log_determinant_has_the_weight_that_the_caller_gives_it_for_each_sample() {
    let (layer, layout) = build(|scope| ActNorm::new(scope, 2));
    let theta = Params::from_flat(&cpu(), &layout, &{
        let mut flat = vec![0.0; layout.len()];
        flat[layout.find("scale").unwrap().range()].copy_from_slice(&[2.0, -0.5]);
        flat
    })
    .unwrap();
    for weights in [[0.0, 0.0], [0.5, -2.0], [1.0, 1.0]] {
        let y = tensor(shape(2, 2, &[3]), 1);
        let zero = Tensor::zeros(&cpu(), y.shape()).unwrap();
        let gl = Tensor::from_f64(&cpu(), Shape::per_sample(2), &weights).unwrap();
        let got = gradient(&layer, &theta, y, zero, &gl).to_flat().unwrap();
        let sum = 3.0 * (weights[0] + weights[1]);
        close(&got[layout.find("scale").unwrap().range()], &[sum / 2.0, sum / -0.5], 1e-14);
    }
}

#[test]
fn s10_the_lane_of_a_conditional_layer_is_the_whole_lane() {
    let config = HintConfig { net: net(), ..HintConfig::default() };
    let (layer, layout) = build(|scope| ConditionalHint::new(scope, 6, 1, &config));
    let theta = params(&layout, 1);
    let both = call(&layer, &theta).forward(tensor(shape(1, 12, &[2]), 2)).unwrap().state.to_f64().unwrap();
    let y = Tensor::from_f64(&cpu(), shape(1, 6, &[2]), &numbers(24, 2)[12..]).unwrap();
    let alone = call(layer.lane(), &theta).forward(y).unwrap();
    close(&alone.state.to_f64().unwrap(), &both[12..], 1e-14);
    assert!(alone.logdet.to_f64().unwrap()[0].abs() > 1e-6, "the lane has couplings");
}

#[test]
fn s12_a_conditioner_is_the_same_function_forward_and_backward() {
    let config = NetConfig::ResNet(ResNetConfig { hidden: 3, last_gain: 1.0, ..ResNetConfig::default() });
    let (layer, layout) = build(|scope| basic_coupling(scope, 2, 1, None, &config, ScaleMap::default()));
    let theta = params(&layout, 1);
    let x = || tensor(shape(3, 4, &[5]), 2);
    let y = call(&layer, &theta).forward(x()).unwrap().state.to_f64().unwrap();
    let mut grads = Params::zeros(&cpu(), &layout).unwrap();
    let at = Tensor::from_f64(&cpu(), shape(3, 4, &[5]), &y).unwrap();
    let pulled = call(&layer, &theta).backward(at, tensor(shape(3, 4, &[5]), 3), &full(3, -1.0), &mut grads).unwrap();
    close(&pulled.state.to_f64().unwrap(), &numbers(60, 2), 1e-12);
    assert_eq!(call(&layer, &theta).forward(x()).unwrap().state.to_f64().unwrap(), y);
}

#[test]
fn s14_hint_in_one_dimension_with_more_than_four_channels_is_inverted() {
    let config = HintConfig { net: net(), shared: true, ..HintConfig::default() };
    let (layer, layout) = build(|scope| hint_coupling(scope, 8, 1, None, &config));
    let theta = params(&layout, 1);
    let y = call(&layer, &theta).forward(tensor(shape(2, 8, &[5]), 2)).unwrap().state;
    let x = call(&layer, &theta).inverse(y).unwrap().state;
    close(&x.to_f64().unwrap(), &numbers(80, 2), 1e-12);
}

#[test]
fn s15_a_hyperbolic_layer_preserves_volume() {
    let (layer, layout) = build(|scope| hyperbolic_layer(scope, 0, 3, 2, &SymmetricConfig::default()));
    let theta = params(&layout, 1);
    for dir in [Direction::Forward, Direction::Inverse] {
        let out = call(&layer, &theta).map(dir, tensor(shape(2, 6, &[4, 3]), 2)).unwrap();
        assert_eq!(out.logdet.to_f64().unwrap(), [0.0, 0.0]);
    }
}

#[test]
fn s16_frozen_mixing_has_no_tangent() {
    let (layer, layout) = build(|scope| Householder::new(scope, 4, 3));
    let frozen = layout.with_frozen(|_| true);
    let (theta, dtheta) = (params(&frozen, 1), params(&frozen, 4));
    let state = |seed| tensor(shape(2, 4, &[3]), seed);
    let along = Along { theta: Some(&dtheta), conditions: &[] };
    let a = call(&layer, &theta).jvp(state(2), state(3), &along).unwrap();
    let b = call(&layer, &theta).jvp(state(2), state(3), &Along::default()).unwrap();
    assert_eq!(a.tangent.to_f64().unwrap(), b.tangent.to_f64().unwrap());
    let grads = gradient(&layer, &theta, state(2), state(3), &full(2, 1.0));
    assert!(grads.to_flat().unwrap().iter().all(|v| *v == 0.0));
}

#[test]
fn s20_every_coupling_of_the_recursion_counts_in_the_log_determinant() {
    let scale = ScaleMap::default();
    let config = HintConfig { net: linear(), scale, permute: Permute::None, shared: true, ..HintConfig::default() };
    let (layer, layout) = build(|scope| hint_coupling(scope, 16, 0, None, &config));
    // Weights 0, biases 0.3: ln S is ψ(0.3) wherever a coupling scales, on 8 + 2 x 4 + 4 x 2 values.
    let mut flat = vec![0.0; layout.len()];
    for entry in layout.entries().iter().filter(|e| e.name().ends_with("bias")) {
        flat[entry.range()].fill(0.3);
    }
    let theta = Params::from_flat(&cpu(), &layout, &flat).unwrap();
    let expected = 24.0 * scale.log_scale(0.3);
    for (dir, sign) in [(Direction::Forward, 1.0), (Direction::Inverse, -1.0)] {
        let logdet = call(&layer, &theta).map(dir, tensor(shape(2, 16, &[]), 2)).unwrap().logdet;
        close(&logdet.to_f64().unwrap(), &[sign * expected; 2], 1e-13);
    }
}

#[test]
fn n2_the_gradient_of_a_sigmoid_scale_is_exact_where_it_saturates() {
    let scale = ScaleMap::Sigmoid { low: 0.0, high: 1.0 };
    for u in [-100.0f32, -88.5, -20.0, 0.0, 15.0, 18.0, 60.0] {
        let (got, exact) = (scale.log_scale_derivative(u), 1.0 / (1.0 + f64::from(u).exp()));
        assert!((f64::from(got) - exact).abs() <= 1e-5 * exact, "{u}: {got} against {exact}");
    }
}

#[test]
fn n3_halves_are_given_by_ranges_and_round_up() {
    let config = HintConfig { net: linear(), permute: Permute::Lower, ..HintConfig::default() };
    let (layer, _) = build(|scope| hint_coupling(scope, 7, 0, None, &config));
    let (mix, couplings, _) = &layer;
    assert_eq!(mix[0].channels, 4..7);
    let ranges: Vec<_> = couplings.iter().map(|c| (c.kept.clone(), c.moved.clone())).collect();
    assert_eq!(ranges, [(4..6, 6..7), (0..4, 4..7), (0..2, 2..4)]);
    // 2.5 goes to 3; rounded to even it would be 2.
    let (layer, _) = build(|scope| hint_coupling(scope, 5, 0, None, &config));
    assert_eq!(layer.1[1].kept, 0..3);
}

#[test]
fn n4_an_affine_layer_starts_as_the_identity() {
    let (layer, layout) = build(|scope| AffineLayer::new(scope, 2, &[3, 4]));
    let theta = Params::init(&cpu(), &layout, 7).unwrap();
    let y = call(&layer, &theta).forward(tensor(shape(2, 2, &[3, 4]), 1)).unwrap();
    assert_eq!(y.state.to_f64().unwrap(), numbers(48, 1));
    assert_eq!(y.logdet.to_f64().unwrap(), [0.0, 0.0]);
}

#[test]
fn n5_the_inverse_of_a_small_scale_is_not_biased() {
    let (layer, layout) = basic(ScaleMap::Sigmoid { low: 0.0, high: 1.0 });
    let mut flat = vec![0.0; layout.len()];
    let bias = layout.find("layer0.bias").unwrap().range();
    flat[bias.start..bias.start + 2].fill(-12.0);
    let single = Cpu::<f32>::new();
    let theta = Params::from_flat(&single, &layout, &flat).unwrap();
    let values = numbers(8, 2);
    let x = Tensor::from_f64(&single, shape(2, 4, &[]), &values).unwrap();
    let call = Call::new(&layer, &theta, Given::default());
    let back = call.inverse(call.forward(x).unwrap().state).unwrap().state;
    close(&back.to_f64().unwrap(), &values, 1e-6);
}

#[test]
fn n6_a_layer_keeps_nothing_between_calls() {
    let config = HintConfig { net: net(), ..HintConfig::default() };
    let (layer, layout) = build(|scope| hint_coupling(scope, 5, 1, None, &config));
    let theta = params(&layout, 1);
    // The inverse first, then other sizes.
    for (batch, pixels) in [(2, 3), (1, 5), (4, 1)] {
        let s = shape(batch, 5, &[pixels]);
        let x = call(&layer, &theta).inverse(tensor(s, 2)).unwrap().state;
        let y = call(&layer, &theta).forward(x).unwrap().state;
        close(&y.to_f64().unwrap(), &numbers(s.len(), 2), 1e-12);
    }
}

#[test]
fn n8_mixing_costs_a_few_products_with_vectors_a_pixel() {
    let flops = |channels: usize| {
        let traced = Traced::new(cpu());
        let (layer, layout) = build(|scope| Householder::new(scope, channels, 3));
        let theta = Params::init(&traced, &layout, 0).unwrap();
        let x = Tensor::full(&traced, shape(1, channels, &[64]), 0.5).unwrap();
        traced.clear();
        Call::new(&layer, &theta, Given::default()).forward(x).unwrap();
        traced.records().iter().map(|r| r.primitive.flops()).sum::<usize>() as f64
    };
    let (few, many) = (flops(8), flops(32));
    assert!(many < 5.0 * few, "{few} operations for 8 channels, {many} for 32");
}

#[test]
fn disjoint_ranges_are_demanded() {
    let (layer, layout) = basic(ScaleMap::default());
    let overlapping = Coupling { moved: 1..3, transform: Affine::default(), ..layer };
    let theta = params(&layout, 1);
    assert!(call(&overlapping, &theta).forward(tensor(shape(1, 4, &[]), 1)).is_err());
}
