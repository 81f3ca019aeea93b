//! Squeezes as layers: wavelets, learned ones, and odd extents that are carried, in multiscale networks.

use inn_core::verify::Verify;
use inn_core::{
    Backend, Chain, Direction, Facts, Invertible, Layout, Model, Multiscale, Odd, Params, Result, Reversed, Scale, Scope, Shape, Squeeze,
    Tensor, gradient_memory,
};
use inn_layers::LearnableSqueeze;
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::{GlowStep, StepConfig, glow_step};
use inn_ops::{Activation, Cpu};

/// Checks a layer and its reversal at one shape, and f32 against f64.
fn check<L: Invertible>(shape: Shape, build: impl Fn(&mut Scope<'_>) -> Result<L>) {
    let (layer, layout) = Layout::build(&build).unwrap();
    let verify = Verify::new(Cpu::<f64>::poisoned());
    verify.layer(&layer, &layout, shape).unwrap().check().unwrap();
    let output = layer.check(Direction::Forward, Facts { layout: &layout, conditions: &[], operator: None }, shape).unwrap();
    verify.layer(&Reversed(&layer), &layout, output).unwrap().check().unwrap();
    verify.agrees_with(&Cpu::<f32>::new(), &layer, &layout, shape, 2e-4).unwrap().check().unwrap();
}

fn wavelet(name: &str) -> Squeeze {
    Squeeze::Wavelet(name.parse().unwrap())
}

#[test]
fn wavelet_squeezes_are_layers() {
    for (name, dims) in [("db3", &[2, 3, 6][..]), ("coif2", &[3, 1, 4, 6]), ("sym4", &[1, 2, 2, 4, 2])] {
        check(Shape::from_dims(dims).unwrap(), |_| Ok(wavelet(name)));
    }
}

#[test]
fn learnable_squeezes_in_one_to_three_dimensions() {
    for (dims, stride) in [(&[2, 3, 6][..], 3), (&[3, 1, 4, 6], 2), (&[1, 5, 2, 2], 2), (&[2, 2, 2, 4, 2], 2)] {
        let shape = Shape::from_dims(dims).unwrap();
        check(shape, |scope| LearnableSqueeze::new(scope, shape.rank(), stride));
    }
}

#[test]
fn a_learnable_squeeze_is_a_rearrangement_at_zero_and_a_rotation_anywhere() {
    let cpu = Cpu::<f64>::new();
    let shape = Shape::new(1, 2, &[2, 2]).unwrap();
    let mut model = Model::build(&cpu, 1, |scope| LearnableSqueeze::new(scope, 2, 2)).unwrap();
    let images: Vec<f64> = (0..8).map(f64::from).collect();
    let map = |model: &Model<_, _>| model.forward(Tensor::from_slice(&cpu, shape, &images).unwrap()).unwrap();
    model.params_mut().fill(0.0).unwrap();
    let mapped = map(&model);
    assert_eq!((mapped.state.shape().dims(), mapped.state.to_vec().unwrap()), (vec![1, 8, 1, 1], images.clone()));
    // A plane rotation by a, in the plane of the first two taps: exp [[0, a], [-a, 0]].
    let a = 0.7f64;
    let mut angles = vec![0.0; model.layout().len()];
    angles[0] = a;
    let rotation = Params::from_flat(&cpu, model.layout(), &angles).unwrap();
    model.params_mut().assign(&rotation).unwrap();
    let rotated = map(&model).state.to_vec().unwrap();
    let expected = [a.sin(), a.cos(), 2.0, 3.0, 4.0 * a.cos() + 5.0 * a.sin(), 5.0 * a.cos() - 4.0 * a.sin(), 6.0, 7.0];
    for (r, e) in rotated.iter().zip(expected) {
        assert!((r - e).abs() < 1e-15 * 16.0, "{rotated:?}");
    }
    // Large angles: still orthogonal to rounding.
    model.params_mut().fill(9.0).unwrap();
    let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
    assert!((norm(&map(&model).state.to_vec().unwrap()) / norm(&images) - 1.0).abs() < 1e-14);
}

#[test]
fn a_learnable_squeeze_refuses_what_does_not_fit() {
    let (layer, layout) = Layout::build(|scope| LearnableSqueeze::new(scope, 2, 3)).unwrap();
    let refuse = |dir, dims: &[usize]| {
        let facts = Facts { layout: &layout, conditions: &[], operator: None };
        layer.check(dir, facts, Shape::from_dims(dims).unwrap()).unwrap_err().to_string()
    };
    assert!(refuse(Direction::Forward, &[1, 2, 6]).contains("2 spatial axes"));
    assert!(refuse(Direction::Forward, &[1, 2, 6, 7]).contains("multiples of 3"));
    assert!(refuse(Direction::Inverse, &[1, 2, 6, 7]).contains("multiple of 9"));
    for (rank, stride) in [(0, 2), (4, 2), (2, 1), (3, 9)] {
        assert!(Layout::build(|scope| LearnableSqueeze::new(scope, rank, stride)).is_err());
    }
}

/// A network of `levels` scales with one flow step each, that carries odd extents.
fn network(
    scope: &mut Scope<'_>,
    channels: usize,
    rank: usize,
    levels: usize,
    squeeze: Squeeze,
    odd: Odd,
) -> Result<Multiscale<Chain<GlowStep>>> {
    let activation = Activation::Sigmoid { low: -1.0, high: 1.0 };
    let net = NetConfig::Dense(DenseConfig { hidden: vec![3], activation, last_gain: 1.0, ..DenseConfig::default() });
    let config = StepConfig { net, ..StepConfig::default() };
    let (mut channels, mut scales) = (channels, Vec::new());
    for level in 0..levels {
        channels <<= rank;
        let mut scope = scope.sub(format!("level{level}"));
        let layer = Chain::build(&mut scope, "step", 1, |scope, _| glow_step(scope, channels, rank, None, &config))?;
        let keep = channels / 2;
        scales.push(Scale { squeeze: Some(squeeze), layer, keep });
        channels = keep;
    }
    Ok(Multiscale { rank, odd, scales })
}

#[test]
fn odd_extents_are_carried_in_every_dimension() {
    for (dims, levels, squeeze) in [
        (&[3, 2, 13][..], 2, Squeeze::Checkerboard),
        (&[2, 1, 5, 7], 2, wavelet("db2")),
        (&[2, 1, 6, 5], 1, Squeeze::Patch),
        (&[1, 2, 3, 5, 3], 1, Squeeze::Haar),
    ] {
        let shape = Shape::from_dims(dims).unwrap();
        check(shape, |scope| network(scope, shape.channels(), shape.rank(), levels, squeeze, Odd::Carry));
    }
}

#[test]
fn even_extents_are_not_touched_by_carrying() {
    let (cpu, shape) = (Cpu::<f64>::new(), Shape::new(2, 1, &[4, 8]).unwrap());
    let forward = |odd| {
        let model = Model::build(&cpu, 3, |scope| network(scope, 1, 2, 2, Squeeze::Checkerboard, odd)).unwrap();
        let x = Tensor::from_f64(&cpu, shape, &(0..shape.len()).map(|i| (i as f64).sin()).collect::<Vec<_>>()).unwrap();
        let mapped = model.forward(x).unwrap();
        (mapped.state.to_vec().unwrap(), mapped.logdet.to_vec().unwrap())
    };
    assert_eq!(forward(Odd::Refuse), forward(Odd::Carry));
}

#[test]
fn what_is_carried_is_latent_as_it_is() {
    let cpu = Cpu::<f64>::new();
    let shape = Shape::new(2, 1, &[3, 5]).unwrap();
    let model = Model::build(&cpu, 5, |scope| network(scope, 1, 2, 1, Squeeze::Column, Odd::Carry)).unwrap();
    let image: Vec<f64> = (0..30).map(|i| (f64::from(i) * 1.7).sin()).collect();
    let mapped = model.forward(Tensor::from_slice(&cpu, shape, &image).unwrap()).unwrap();
    assert_eq!(mapped.state.shape(), shape);
    // The same network on the even part alone, with the same parameters.
    let even: Vec<usize> = (0..30).filter(|i| i % 5 < 4 && i / 5 % 3 < 2).collect();
    let part: Vec<f64> = even.iter().map(|&i| image[i]).collect();
    let alone = model.forward(Tensor::from_slice(&cpu, Shape::new(2, 1, &[2, 4]).unwrap(), &part).unwrap()).unwrap();
    let mut expected = image.clone();
    even.iter().zip(alone.state.to_vec().unwrap()).for_each(|(&i, z)| expected[i] = z);
    assert_eq!(mapped.state.to_vec().unwrap(), expected);
    assert_eq!(mapped.logdet.to_vec().unwrap(), alone.logdet.to_vec().unwrap());
    let back = model.inverse(mapped.state).unwrap().state.to_vec().unwrap();
    assert!(back.iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-13));
}

#[test]
fn volumes_and_series_of_awkward_extents() {
    for (dims, levels) in [(&[1, 1, 27, 45, 33][..], 3), (&[3, 1, 129], 5), (&[1, 3, 7, 9], 2)] {
        let cpu = Cpu::<f32>::new();
        let shape = Shape::from_dims(dims).unwrap();
        let model =
            Model::build(&cpu, 2, |scope| network(scope, shape.channels(), shape.rank(), levels, Squeeze::Checkerboard, Odd::Carry))
                .unwrap();
        let x: Vec<f64> = (0..shape.len()).map(|i| (i as f64 * 0.37).sin()).collect();
        let mapped = model.forward(Tensor::from_f64(&cpu, shape, &x).unwrap()).unwrap();
        let logdet = mapped.logdet.to_f64().unwrap();
        let back = model.inverse(mapped.state).unwrap();
        let error = back.state.to_f64().unwrap().iter().zip(&x).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(error < 1e-4, "{shape}: {error}");
        let sum = back.logdet.to_f64().unwrap().iter().zip(&logdet).map(|(a, b)| (a + b).abs()).fold(0.0, f64::max);
        assert!(sum < 1e-2 + 1e-5 * logdet[0].abs(), "{shape}: {sum} of {}", logdet[0]);
        let (layer, layout) =
            Layout::build(|scope| network(scope, shape.channels(), shape.rank(), levels, Squeeze::Checkerboard, Odd::Refuse)).unwrap();
        let facts = Facts { layout: &layout, conditions: &[], operator: None };
        let message = layer.check(Direction::Forward, facts, shape).unwrap_err().to_string();
        assert!(message.contains(&format!("multiples of {}", 1 << levels)), "{message}");
    }
    // Too deep for the shortest axis, even with carrying.
    let (layer, layout) = Layout::build(|scope| network(scope, 1, 2, 3, Squeeze::Haar, Odd::Carry)).unwrap();
    let facts = Facts { layout: &layout, conditions: &[], operator: None };
    let message = layer.check(Direction::Forward, facts, Shape::new(1, 1, &[7, 9]).unwrap()).unwrap_err().to_string();
    assert!(message.contains("at least 8"), "{message}");
}

#[test]
fn memory_of_carrying_and_of_wavelets_is_planned() {
    let cpu = Cpu::<f32>::new();
    let shape = Shape::new(2, 1, &[17, 19]).unwrap();
    let model = Model::build(&cpu, 2, |scope| network(scope, 1, 2, 2, wavelet("db4"), Odd::Carry)).unwrap();
    let plan = gradient_memory(&cpu, model.layer(), model.layout(), shape, &[]).unwrap();
    let state = shape.len() * size_of::<f32>();
    assert!(plan.workspace >= state && plan.threads > 0, "{plan:?}");
    assert!(cpu.name().contains("f32"));
}
