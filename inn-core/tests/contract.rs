//! What the contract of a layer has to carry, each kind through the harness, and what it refuses.

mod toys;

use inn_core::verify::Verify;
use inn_core::{
    Along, Call, Chain, Direction, Error, Given, Invertible, Layout, Multiscale, Odd, On, Params, Result, Reversed, Scale, Scope, Shape,
    Squeeze, Tensor,
};
use inn_layers::conditioner::SymmetricConfig;
use inn_layers::hyperbolic::hyperbolic_layer;
use inn_layers::{ActNorm, Householder};
use inn_ops::{Activation, Cpu};
use std::sync::Arc;
use toys::{Blur, ConditionalScale, Defect, Mixer};

type Cpu64 = Cpu<f64>;

fn shape(batch: usize, channels: usize, spatial: &[usize]) -> Shape {
    Shape::new(batch, channels, spatial).unwrap()
}

fn build<L>(f: impl FnOnce(&mut Scope<'_>) -> Result<L>) -> (L, Arc<Layout>) {
    Layout::build(f).unwrap()
}

fn random(cpu: &Cpu64, shape: Shape, seed: u64) -> Tensor<Cpu64> {
    let wave = |i: usize| ((i as f64 + 1.0) * (0.7 + 0.1 * seed as f64)).sin();
    Tensor::from_f64(cpu, shape, &(0..shape.len()).map(wave).collect::<Vec<_>>()).unwrap()
}

/// A layer and its reversal, which starts where the layer ends.
fn holds<L: Invertible>(verify: &Verify<'_, Cpu64>, layer: &L, layout: &Arc<Layout>, input: Shape, output: Shape) {
    verify.layer(layer, layout, input).unwrap().check().unwrap();
    verify.layer(&Reversed(layer), layout, output).unwrap().check().unwrap();
}

#[test]
fn a_layer_on_one_state() {
    let input = shape(3, 2, &[3, 2]);
    let (layer, layout) = build(|scope| Ok((ActNorm::new(scope, 2)?, Householder::new(&mut scope.sub("mix"), 2, 2)?)));
    holds(&Verify::new(Cpu::poisoned()), &layer, &layout, input, input);
}

#[test]
fn leapfrog_steps_that_take_turns_on_two_lanes() {
    let input = shape(2, 4, &[5]);
    let config =
        SymmetricConfig { hidden: Some(3), activation: Activation::Sigmoid { low: -1.0, high: 1.0 }, ..SymmetricConfig::default() };
    let (chain, layout) = build(|scope| Chain::build(scope, "step", 3, |scope, i| hyperbolic_layer(scope, i % 2, 2, 1, &config)));
    holds(&Verify::new(Cpu::poisoned()), &chain, &layout, input, input);
}

#[test]
fn a_conditional_layer_with_a_gradient_to_its_condition() {
    let input = shape(3, 2, &[4]);
    let (layer, layout) = build(|scope| ConditionalScale::new(scope, 2, Defect::None));
    holds(&Verify::new(Cpu::poisoned()).conditions(&[input]), &layer, &layout, input, input);
}

#[test]
fn a_layer_that_carries_an_operator_from_outside() {
    let cpu = Cpu64::poisoned();
    let blur = Blur::new(&cpu, 6, Defect::None);
    let (layer, layout) = build(|scope| Mixer::new(scope, 1));
    let input = shape(3, 2, &[6]);
    let verify = Verify::new(cpu.clone()).with_operator(&blur);
    holds(&verify, &layer, &layout, input, input);
    // The gate asks for it, and for its shapes.
    assert!(matches!(Verify::new(cpu.clone()).layer(&layer, &layout, input), Err(Error::Missing { .. })));
    assert!(matches!(verify.layer(&layer, &layout, shape(3, 2, &[7])), Err(Error::Shape { .. })));
    assert!(matches!(verify.agrees_with(&Cpu::<f32>::new(), &layer, &layout, input, 1.0), Err(Error::Config { .. })));
    // An adjoint that is off shows in the layer that carries it.
    let off = Blur::new(&cpu, 6, Defect::Pixel);
    let report = Verify::new(cpu).with_operator(&off).layer(&layer, &layout, input).unwrap();
    assert!(report.failed().any(|row| row.name == "forward: jvp against vjp in x"), "{report}");
}

fn multiscale(scope: &mut Scope<'_>, channels: usize, levels: usize) -> Result<Multiscale<ActNorm>> {
    let mut channels = channels;
    let mut scales = Vec::new();
    for i in 0..levels {
        channels *= 4;
        scales.push(Scale {
            squeeze: Some(Squeeze::Haar),
            layer: ActNorm::new(&mut scope.sub(format!("scale{i}")), channels)?,
            keep: channels / 2,
        });
        channels /= 2;
    }
    Ok(Multiscale { rank: 2, odd: Odd::Refuse, scales })
}

#[test]
fn a_multiscale_network_with_a_latent_per_sample() {
    let input = shape(2, 1, &[4, 8]);
    let (network, layout) = build(|scope| multiscale(scope, 1, 2));
    holds(&Verify::new(Cpu::poisoned()), &network, &layout, input, input);
}

#[test]
fn tuples_chains_lists_and_lanes_compose() {
    let input = shape(2, 3, &[2, 4]);
    let (layer, layout) = build(|scope| {
        let list = vec![ActNorm::new(&mut scope.sub("list0"), 12)?, ActNorm::new(&mut scope.sub("list1"), 12)?];
        let lane = On { channels: 3..8, layer: Householder::new(&mut scope.sub("lane"), 5, 2)? };
        let chain = Chain::build(scope, "chain", 2, |scope, _| ActNorm::new(scope, 12))?;
        Ok((Squeeze::Checkerboard, list, lane, Box::new(chain)))
    });
    let output = shape(2, 12, &[1, 2]);
    holds(&Verify::new(Cpu::poisoned()), &layer, &layout, input, output);
    assert_eq!(layout.entries()[0].name(), "list0.scale");
    assert!(layout.find("chain1.bias").is_some());
}

/// Everything that comes out of a pull: state, cotangent, gradients of condition and parameters.
fn pulled<L: Invertible>(call: Call<'_, L, Cpu64>, dir: Direction, shape: Shape) -> [Vec<f64>; 4] {
    let cpu = Cpu64::new();
    let (_, layout) = build(|scope| ConditionalScale::new(scope, 2, Defect::None));
    let mut grads = Params::zeros(&cpu, &layout).unwrap();
    let gl = random(&cpu, Shape::per_sample(shape.batch()), 2);
    let pulled = call.pull(dir, random(&cpu, shape, 1), random(&cpu, shape, 3), &gl, &mut grads).unwrap();
    let host = |t: &Tensor<Cpu64>| t.to_f64().unwrap();
    [host(&pulled.state), host(&pulled.cotangent), host(&pulled.conditions[0]), grads.to_flat().unwrap()]
}

#[test]
fn reversed_is_complete_in_every_mode() {
    let cpu = Cpu64::new();
    let input = shape(2, 2, &[3]);
    let (layer, layout) = build(|scope| ConditionalScale::new(scope, 2, Defect::None));
    let mut theta = Params::init(&cpu, &layout, 1).unwrap();
    theta.fill(0.3).unwrap();
    let conditions = [random(&cpu, input, 5)];
    let given = Given::conditions(&conditions);
    let (reversed, twice) = (Reversed(&layer), Reversed(Reversed(&layer)));
    let (plain, back, same) = (Call::new(&layer, &theta, given), Call::new(&reversed, &theta, given), Call::new(&twice, &theta, given));
    let x = || random(&cpu, input, 1);
    for dir in [Direction::Forward, Direction::Inverse] {
        let runs = [plain.map(dir.flip(), x()), back.map(dir, x()), same.map(dir.flip(), x())].map(Result::unwrap);
        let pulls = [pulled(plain, dir.flip(), input), pulled(back, dir, input), pulled(same, dir.flip(), input)];
        assert!(pulls.iter().all(|pull| *pull == pulls[0]));
        for run in &runs {
            assert_eq!(run.state.slice(), runs[0].state.slice());
            assert_eq!(run.logdet.slice(), runs[0].logdet.slice());
        }
        let along = Along { theta: Some(&theta), conditions: &[] };
        let tangents = [plain.push(dir.flip(), x(), x(), &along), back.push(dir, x(), x(), &along)].map(Result::unwrap);
        assert_eq!(tangents[0].tangent.slice(), tangents[1].tangent.slice());
        assert_eq!(tangents[0].logdet_tangent.slice(), tangents[1].logdet_tangent.slice());
    }
}

/// The gradient of each parameter at the value 0.8.
fn gradients<L: Invertible>(layer: &L, layout: &Arc<Layout>, input: Shape) -> Vec<Vec<f64>> {
    let cpu = Cpu64::new();
    let mut theta = Params::zeros(&cpu, layout).unwrap();
    theta.fill(0.8).unwrap();
    let mut grads = Params::zeros(&cpu, layout).unwrap();
    let gl = random(&cpu, Shape::per_sample(input.batch()), 3);
    Call::new(layer, &theta, Given::default()).backward(random(&cpu, input, 1), random(&cpu, input, 2), &gl, &mut grads).unwrap();
    let flat = grads.to_flat().unwrap();
    layout.entries().iter().map(|e| flat[e.range()].to_vec()).collect()
}

#[test]
fn shared_parameters_sum_their_gradients() {
    let input = shape(2, 2, &[4]);
    let (layer, layout) = build(|scope| ActNorm::new(scope, 2));
    let shared = (&layer, Squeeze::Column, Reversed(Squeeze::Column), &layer);
    holds(&Verify::new(Cpu::poisoned()), &shared, &layout, input, input);
    // The same with two sets of parameters of equal value, whose gradients are added by hand.
    let (apart, pair) = build(|scope| Ok((ActNorm::new(&mut scope.sub("a"), 2)?, ActNorm::new(&mut scope.sub("b"), 2)?)));
    let (once, twice) = (gradients(&(&layer, &layer), &layout, input), gradients(&apart, &pair, input));
    for (i, sum) in once.iter().enumerate() {
        for (j, value) in sum.iter().enumerate() {
            assert!((value - twice[i][j] - twice[i + 2][j]).abs() < 1e-13);
        }
    }
}

#[test]
fn handles_of_another_network_are_refused() {
    let cpu = Cpu64::new();
    let (layer, _) = build(|scope| ActNorm::new(scope, 2));
    let (_, other) = build(|scope| ActNorm::new(scope, 3));
    let (_, named) = build(|scope| ActNorm::new(&mut scope.sub("other"), 2));
    for layout in [other, named, Arc::new(Layout::default())] {
        let theta = Params::zeros(&cpu, &layout).unwrap();
        let mapped = Call::new(&layer, &theta, Given::default()).forward(random(&cpu, shape(1, 2, &[2]), 0));
        assert!(matches!(mapped, Err(Error::Parameter { .. })));
    }
    let twice = Layout::build(|scope| Ok((ActNorm::new(scope, 2)?, ActNorm::new(scope, 2)?)));
    assert!(matches!(twice, Err(Error::Parameter { name, .. }) if name == "bias"));
}

/// The message of the refusal says what was expected and what came.
fn refused<L: Invertible>(layer: &L, layout: &Arc<Layout>, conditions: &[Shape], input: Shape, parts: &[&str]) {
    let facts = inn_core::Facts { layout, conditions, operator: None };
    let error = layer.check(Direction::Forward, facts, input).unwrap_err();
    assert!(matches!(error, Error::Shape { .. } | Error::Missing { .. }), "{error:?}");
    let message = error.to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn shapes_that_do_not_fit_are_typed_errors() {
    let (norm, norm_layout) = build(|scope| ActNorm::new(scope, 3));
    refused(&norm, &norm_layout, &[], shape(2, 4, &[2]), &["expected 3 channels", "(2, 4, 2)"]);
    refused(&On { channels: 2..5, layer: &norm }, &norm_layout, &[], shape(2, 4, &[2]), &["channels", "(2, 4, 2)"]);
    refused(&Squeeze::Haar, &norm_layout, &[], shape(2, 3, &[4, 5]), &["even spatial extents", "(2, 3, 4, 5)"]);
    refused(&Reversed(Squeeze::Haar), &norm_layout, &[], shape(2, 3, &[4, 5]), &["multiple of 4 channels", "(2, 3, 4, 5)"]);
    refused(&Squeeze::Patch, &norm_layout, &[], shape(2, 3, &[]), &["at least one spatial axis", "(2, 3)"]);
    let (deep, deep_layout) = build(|scope| multiscale(scope, 1, 3));
    refused(&deep, &deep_layout, &[], shape(2, 1, &[4, 8]), &["scale 2 of 3", "multiples of 8", "(2, 1, 4, 8)"]);
    let (scale, scale_layout) = build(|scope| ConditionalScale::new(scope, 2, Defect::None));
    let input = shape(3, 2, &[4]);
    refused(&scale, &scale_layout, &[], input, &["condition 0"]);
    refused(&scale, &scale_layout, &[shape(2, 2, &[4])], input, &["a batch of 3 or 1", "(2, 2, 4)"]);
    refused(&scale, &scale_layout, &[shape(3, 2, &[5])], input, &["condition 0", "(3, 2, 4)", "(3, 2, 5)"]);
    for (batch, spatial) in [(0, &[4][..]), (1, &[0]), (1, &[2, 2, 2, 2])] {
        assert!(matches!(Shape::new(batch, 2, spatial), Err(Error::Shape { .. })));
    }
}

/// A refused call changes nothing.
#[test]
fn a_refused_pull_leaves_the_gradients_alone() {
    let cpu = Cpu64::new();
    let (layer, layout) = build(|scope| ActNorm::new(scope, 3));
    let theta = Params::init(&cpu, &layout, 0).unwrap();
    let mut grads = Params::zeros(&cpu, &layout).unwrap();
    grads.fill(2.0).unwrap();
    let before = grads.to_flat().unwrap();
    let call = Call::new(&layer, &theta, Given::default());
    let (good, bad) = (shape(2, 3, &[2]), shape(2, 3, &[3]));
    let gl = |batch| Tensor::zeros(&cpu, Shape::per_sample(batch)).unwrap();
    let tensor = |shape| random(&cpu, shape, 0);
    assert!(matches!(call.backward(tensor(good), tensor(bad), &gl(2), &mut grads), Err(Error::Shape { .. })));
    assert!(matches!(call.backward(tensor(good), tensor(good), &gl(3), &mut grads), Err(Error::Shape { .. })));
    let four = shape(2, 4, &[2]);
    assert!(matches!(call.backward(tensor(four), tensor(four), &gl(2), &mut grads), Err(Error::Shape { .. })));
    assert!(matches!(call.jvp(tensor(good), tensor(bad), &Along::default()), Err(Error::Shape { .. })));
    assert_eq!(grads.to_flat().unwrap(), before);
    let (_, other) = build(|scope| ActNorm::new(scope, 4));
    let mut foreign = Params::zeros(&cpu, &other).unwrap();
    assert!(matches!(call.backward(tensor(good), tensor(good), &gl(2), &mut foreign), Err(Error::Shape { .. })));
}
