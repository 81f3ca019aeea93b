//! Jacobians in every variable.

use crate::flow::*;
use inn_core::{
    Call, Chain, Direction, Error, Given, Invertible, LinearOperator, Model, Multiscale, NetCall, Odd, Params, Scale, Scope, Shape,
    Squeeze, Tensor,
};
use inn_layers::conditioner::{NetConfig, Ports, ResNetConfig, ResidualConfig};
use inn_layers::glow;
use inn_linop::{Algebra, By, Jacobian, Map, NetJacobian, dot_test};

#[test]
fn jacobians_in_every_variable() {
    let model = model(SCALES[0]);
    let at = Point::of(&model);
    for dir in [Direction::Forward, Direction::Inverse] {
        let value = |p: &Point| {
            let (x, theta, c) = p.placed(&model);
            let conditions = [c];
            let out = Call::new(model.layer(), &theta, Given::conditions(&conditions)).map(dir, x).unwrap();
            [out.state.to_f64().unwrap(), out.logdet.to_f64().unwrap()].concat()
        };
        let expected = differences(&model, &at, value);
        let (x, _, c) = at.placed(&model);
        let conditions = [c];
        let map = Map::of(&model).given(Given::conditions(&conditions)).direction(dir).with_logdet();
        let all = Jacobian::by(map, By::All, x.duplicate().unwrap()).unwrap();
        assert!(gap(&dense(&all), &expected) < 1e-8);
        dot_test(model.backend(), &all, 1, 1e-12).unwrap();
        let start = at.x.len() + at.theta.len();
        let condition = Jacobian::condition(map, 0, x.duplicate().unwrap()).unwrap();
        assert_eq!(condition.domain(), Shape::rows(BATCH, 1));
        assert!(gap(&dense(&condition), &expected[start..]) < 1e-8);
        dot_test(model.backend(), &condition, 2, 1e-12).unwrap();
        let same = Jacobian::by(map, By::Conditions, x.duplicate().unwrap()).unwrap();
        assert_eq!(same.domain(), Shape::flat(BATCH));
        assert!(gap(&dense(&same), &expected[start..]) < 1e-8);
        // What is not there, or is shared, is refused.
        assert!(matches!(Jacobian::condition(map, 1, x.duplicate().unwrap()).err(), Some(Error::Missing { .. })));
        let shared = [tensor(Shape::rows(1, 1), 2)];
        let map = map.given(Given::conditions(&shared));
        assert!(matches!(Jacobian::condition(map, 0, x.duplicate().unwrap()).err(), Some(Error::Shape { .. })));
        assert!(Jacobian::state(map, x).is_ok());
    }
}

/// S13: one level with splitting; rows of the Jacobian in the order of the output.
#[test]
fn one_level_that_splits() {
    let net = NetConfig::Residual(ResidualConfig { hidden: 3, last_gain: 1.0, ..ResidualConfig::default() });
    let step = glow::StepConfig { net, ..glow::StepConfig::default() };
    let model = Model::build(&Device::poisoned(), 5, |scope| {
        let layer = Chain::build(scope, "step", 2, |scope, _| glow::glow_step(scope, 4, 2, None, &step))?;
        Ok(Multiscale { rank: 2, scales: vec![Scale { squeeze: Some(Squeeze::Checkerboard), layer, keep: 2 }], odd: Odd::Refuse })
    })
    .unwrap();
    let shape = Shape::new(1, 1, &[2, 4]).unwrap();
    let x = tensor(shape, 1);
    let j = dense(&Jacobian::state(Map::of(&model), x.duplicate().unwrap()).unwrap());
    let value = |i: usize, h: f64| {
        let mut x = x.to_f64().unwrap();
        x[i] += h;
        model.forward(Tensor::from_f64(model.backend(), shape, &x).unwrap()).unwrap().state.to_f64().unwrap()
    };
    let h = 1e-5;
    let column = |i: usize| value(i, h).iter().zip(value(i, -h)).map(|(a, b)| (a - b) / (2.0 * h)).collect::<Vec<_>>();
    assert!(gap(&j, &(0..shape.len()).map(column).collect::<Vec<_>>()) < 1e-8);
    assert!(model.layer().name().contains("Multiscale"));
}

/// S17: what is not invertible is differentiated at its input.
#[test]
fn jacobians_of_conditioners() {
    let configs = [
        NetConfig::Residual(ResidualConfig { hidden: 3, last_gain: 1.0, ..ResidualConfig::default() }),
        NetConfig::ResNet(ResNetConfig { hidden: 3, blocks: 1, last_gain: 1.0, ..ResNetConfig::default() }),
    ];
    for config in configs {
        let build = |scope: &mut Scope<'_>| config.build(scope, Ports { inputs: 2, outputs: 3, rank: 1, condition: Some((0, 1)) });
        let (net, layout) = inn_core::Layout::build(build).unwrap();
        let cpu = Device::poisoned();
        let theta = Params::init(&cpu, &layout, 4).unwrap();
        let shape = Shape::new(2, 2, &[5]).unwrap();
        let conditions = [tensor(Shape::new(2, 1, &[5]).unwrap(), 3)];
        let call = NetCall::new(&net, &theta, Given::conditions(&conditions));
        dot_test(&cpu, &NetJacobian::new(call, By::All, tensor(shape, 1)).unwrap(), 1, 1e-12).unwrap();
        dot_test(&cpu, &NetJacobian::new(call, By::Condition(0), tensor(shape, 1)).unwrap(), 2, 1e-12).unwrap();
        for seed in [1, 2] {
            let x = tensor(shape, seed);
            let h = 1e-5;
            let value = |i: usize, h: f64| {
                let mut x = x.to_f64().unwrap();
                x[i] += h;
                call.value(&Tensor::from_f64(&cpu, shape, &x).unwrap()).unwrap().to_f64().unwrap()
            };
            let column = |i: usize| value(i, h).iter().zip(value(i, -h)).map(|(a, b)| (a - b) / (2.0 * h)).collect::<Vec<_>>();
            let expected: Vec<Vec<f64>> = (0..shape.len()).map(column).collect();
            let j = NetJacobian::new(call, By::State, x.duplicate().unwrap()).unwrap();
            assert!(gap(&dense(&j), &expected) < 1e-8);
            // The adjoint is that of the same matrix: column by column of its transpose.
            let rows = dense(&(&j).adjoint());
            let transposed: Vec<Vec<f64>> = (0..rows.len()).map(|r| expected.iter().map(|c| c[r]).collect()).collect();
            assert!(gap(&rows, &transposed) < 1e-8);
        }
    }
}
