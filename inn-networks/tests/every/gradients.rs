//! Defects of the original's gradients (SPEC, section 10): what a gradient holds, and the solver of i-RIM.

use crate::any::Any;
use crate::defects::{self, flat, shape};
use crate::draw::Draw;
use inn_core::verify::Verify;
use inn_core::{Along, Architecture, Given, Layout, Model, Params, Result, Reversed, Scope, Shape, Tensor};
use inn_layers::conditioner::{NetConfig, Ports, ResidualConfig};
use inn_layers::lanes::{LaneConfig, irim_coupling};
use inn_networks::{GlowConfig, HyperbolicConfig, IrimLoopConfig};
use inn_ops::{Activation, Cpu};

type B = Cpu<f64>;

fn tensor(shape: Shape, seed: usize) -> Tensor<B> {
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i + 5 * seed) as f64 * 1.1 + 0.3).sin()).collect();
    Tensor::from_f64(&B::new(), shape, &values).unwrap()
}

fn glow() -> GlowConfig {
    GlowConfig { channels: 1, rank: 1, levels: 1, steps: 1, ..GlowConfig::default() }
}

/// Additive couplings, the default; Ψ is no identity, so that its derivative shows; both directions, tangents and adjoints.
#[test]
fn s2_c1_c2_the_loop_is_differentiated_through_its_link() {
    let mut draw = Draw::new(3, false);
    let (config, shape) = draw.solver();
    for link in [Activation::Tanh, Activation::Softplus] {
        let config = IrimLoopConfig { link, layer: Default::default(), ..config.clone() };
        let (network, layout) = Layout::build(|scope| config.build(scope)).unwrap();
        let verify = Verify::new(B::poisoned()).conditions(&draw.conditions).with_operator(draw.operator.as_ref().unwrap());
        let network = Any::Reversed(Box::new(Reversed(Any::Loop(network))));
        verify.layer(&network, &layout, shape).unwrap().check().unwrap();
    }
}

#[test]
fn s9_a_loss_without_log_determinant_has_no_gradient_of_it() {
    let model = glow().model(&B::new(), 1).unwrap();
    let shape = Shape::new(2, 1, &[6]).unwrap();
    let gradient = |gl: f64| {
        let y = model.forward(tensor(shape, 1)).unwrap().state;
        let gl = Tensor::full(&B::new(), Shape::per_sample(2), gl).unwrap();
        let mut grads = model.zeros().unwrap();
        model.backward(y, tensor(shape, 2), &gl, &mut grads).unwrap();
        grads
    };
    let along = model.params();
    let t = model
        .call()
        .jvp(tensor(shape, 1), Tensor::zeros(&B::new(), shape).unwrap(), &Along { theta: Some(along), conditions: &[] })
        .unwrap();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let [without, with] = [0.0, -1.0].map(|gl| dot(&gradient(gl).to_flat().unwrap(), &along.to_flat().unwrap()));
    let [state, logdet] =
        [(&t.tangent, tensor(shape, 2).to_f64().unwrap()), (&t.logdet_tangent, vec![-1.0; 2])].map(|(t, g)| dot(&t.to_f64().unwrap(), &g));
    assert!((without - state).abs() < 1e-12, "{without} against {state}");
    assert!((with - state - logdet).abs() < 1e-12 && logdet.abs() > 1e-3, "{with} against {state} + {logdet}");
}

#[test]
fn s17_adjoints_of_networks_that_are_not_invertible_see_their_input() {
    let config = ResidualConfig { hidden: 3, activation: Activation::Tanh, last_gain: 1.0, ..ResidualConfig::default() };
    let ports = Ports::new(2, 3, 1);
    let (net, layout) = Layout::build(|scope| NetConfig::Residual(config.clone()).build(scope, ports)).unwrap();
    Verify::new(B::poisoned()).conditioner(&net, &layout, Shape::new(2, 2, &[5]).unwrap()).unwrap().check().unwrap();
}

/// Of every parameter, whatever layer it belongs to.
#[test]
fn n1_gradients_are_added_to_what_is_there() {
    let model = glow().model(&B::new(), 1).unwrap();
    let shape = Shape::new(2, 1, &[6]).unwrap();
    let mut grads = model.zeros().unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let y = model.forward(tensor(shape, 1)).unwrap().state;
        model.backward(y, tensor(shape, 2), &tensor(Shape::per_sample(2), 3), &mut grads).unwrap();
        seen.push(grads.to_flat().unwrap());
    }
    let once = &seen[0];
    assert!(once.iter().zip(&seen[1]).all(|(a, b)| (b - 2.0 * a).abs() < 1e-12 * (1.0 + a.abs())));
    let zero = |range: std::ops::Range<usize>| once[range].iter().all(|v| *v == 0.0);
    assert!(model.layout().entries().iter().filter(|e| !zero(e.range())).count() > 3);
}

/// Gradients of the state, the condition and the parameters come from one call, with or without a log-determinant.
#[test]
fn c21_what_has_no_log_determinant_or_two_inputs_is_differentiated_alike() {
    type Build = fn(&mut Scope<'_>) -> Result<Any>;
    let builders: [(Shape, Option<Shape>, Build); 5] = [
        (shape(2, 4, &[3]), None, |scope| {
            Ok(Any::Irim(irim_coupling(scope, 4, 1, None, &LaneConfig { net: defects::net(), ..LaneConfig::default() })?))
        }),
        (shape(2, 2, &[8]), None, |scope| Ok(Any::Hints(defects::hints(2, 1).build(scope)?))),
        (shape(2, 2, &[8]), None, |scope| Ok(Any::Pairs(defects::pairs(1, 1).build(scope)?))),
        (shape(2, 1, &[4]), Some(shape(2, 1, &[4])), |scope| {
            Ok(Any::ConditionalGlow(defects::conditional(defects::glow(1, 1, 1), 1).build(scope)?))
        }),
        (shape(2, 4, &[3]), None, |scope| {
            Ok(Any::HyperbolicNet(HyperbolicConfig { channels: 2, rank: 1, ..HyperbolicConfig::default() }.build(scope)?))
        }),
    ];
    for (input, condition, build) in builders {
        let model = Model::build(&B::new(), 1, build).unwrap();
        let conditions: Vec<_> = condition.into_iter().map(|c| tensor(c, 4)).collect();
        let call = model.with(Given::conditions(&conditions));
        let out = call.forward(tensor(input, 1)).unwrap();
        let mut grads = model.zeros().unwrap();
        let gl = tensor(Shape::per_sample(2), 3);
        let pulled = call.backward(out.state, tensor(input, 2), &gl, &mut grads).unwrap();
        assert_eq!((pulled.cotangent.shape(), pulled.conditions.len()), (input, conditions.len()));
        // <J d, r> = <d, Jᵀ r> with r of the state and of the log-determinants, d in the state, the parameters and the condition.
        let (dx, dtheta) = (tensor(input, 5), Params::init(&B::new(), model.layout(), 6).unwrap());
        let dc: Vec<_> = conditions.iter().map(|c| tensor(c.shape(), 7)).collect();
        let t = call.jvp(tensor(input, 1), dx.duplicate().unwrap(), &Along { theta: Some(&dtheta), conditions: &dc }).unwrap();
        let dot = |a: &Tensor<B>, b: &Tensor<B>| -> f64 { flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum() };
        let forward = dot(&t.tangent, &tensor(input, 2)) + dot(&t.logdet_tangent, &gl);
        let of_conditions: f64 = pulled.conditions.iter().zip(&dc).map(|(g, d)| dot(g, d)).sum();
        let (of_theta, of_x) = (grads.dot(&dtheta).unwrap(), dot(&pulled.cotangent, &dx));
        assert!(
            (forward - of_x - of_theta - of_conditions).abs() < 1e-11 * (1.0 + forward.abs()),
            "{forward}: {of_x}, {of_theta}, {of_conditions}"
        );
        assert!(of_theta != 0.0 && conditions.is_empty() == (of_conditions == 0.0));
    }
}
