//! Every network through the public harness: f64, both directions, plain and reversed, dense and in one to three dimensions, with and without
//! splitting, odd and even channel counts, batch 1 and 3; then f32 against f64.

use inn_core::verify::Verify;
use inn_core::{Architecture, Call, Direction, Error, Given, Layout, Model, Reversed, Shape, Squeeze, Tensor, Traced};
use inn_layers::conditioner::{DenseConfig, NetConfig, ResNetConfig, ResidualConfig, SymmetricConfig};
use inn_layers::glow::StepConfig;
use inn_networks::density::Density;
use inn_networks::hyperbolic::{HyperbolicLayerConfig, Resize};
use inn_networks::{ConditionalGlowConfig, GlowConfig, HyperbolicConfig, PyramidConfig};
use inn_ops::{Activation, Cpu};

/// Smooth, so that the Taylor test has no kinks to meet.
const SMOOTH: Activation = Activation::Sigmoid { low: -1.0, high: 1.0 };

fn residual() -> NetConfig {
    NetConfig::Residual(ResidualConfig { hidden: 4, activation: SMOOTH, last_gain: 1.0, ..ResidualConfig::default() })
}

fn step() -> StepConfig {
    StepConfig { net: residual(), ..StepConfig::default() }
}

fn check<A: Architecture>(config: &A, shape: Shape, conditions: &[Shape]) {
    let (network, layout) = Layout::build(|scope| config.build(scope)).unwrap();
    let verify = Verify::new(Cpu::<f64>::poisoned()).conditions(conditions);
    let kind = A::KIND;
    verify.layer(&network, &layout, shape).unwrap().check().unwrap_or_else(|e| panic!("{kind} at {shape}:\n{e}"));
    verify.layer(&Reversed(&network), &layout, shape).unwrap().check().unwrap_or_else(|e| panic!("reversed {kind} at {shape}:\n{e}"));
    let single = verify.agrees_with(&Cpu::<f32>::new(), &network, &layout, shape, 1e-3).unwrap();
    single.check().unwrap_or_else(|e| panic!("{kind} at {shape}, f32 against f64:\n{e}"));
}

fn glow(channels: usize, spatial: &[usize], squeeze: Option<Squeeze>, split: bool) -> GlowConfig {
    GlowConfig { channels, rank: spatial.len(), levels: 2, steps: 2, squeeze, split, step: step(), ..GlowConfig::default() }
}

#[test]
fn glow_in_every_dimension_and_squeeze() {
    for (batch, channels, spatial) in [(3, 1, &[8][..]), (1, 3, &[4, 8]), (3, 1, &[8, 4]), (1, 1, &[4, 4, 8])] {
        let shape = Shape::new(batch, channels, spatial).unwrap();
        for squeeze in [Squeeze::Checkerboard, Squeeze::Patch, Squeeze::Column, Squeeze::Haar] {
            for split in [true, false] {
                check(&glow(channels, spatial, Some(squeeze), split), shape, &[]);
            }
        }
    }
}

#[test]
fn glow_at_one_resolution_and_dense() {
    check(&glow(5, &[3, 5], None, true), Shape::new(3, 5, &[3, 5]).unwrap(), &[]);
    check(&glow(4, &[7], None, false), Shape::new(1, 4, &[7]).unwrap(), &[]);
    let net = NetConfig::Dense(DenseConfig { hidden: vec![5, 4], activation: SMOOTH, last_gain: 1.0, ..DenseConfig::default() });
    for channels in [2, 3, 6] {
        let step = StepConfig { net: net.clone(), ..StepConfig::default() };
        check(&GlowConfig { step, ..GlowConfig::dense(channels, 3) }, Shape::new(3, channels, &[]).unwrap(), &[]);
    }
}

#[test]
fn conditional_glow_with_and_without_an_encoder() {
    let resnet = NetConfig::ResNet(ResNetConfig { hidden: 3, blocks: 1, activation: SMOOTH, last_gain: 1.0, ..ResNetConfig::default() });
    for net in [None, Some(residual()), Some(resnet)] {
        for (batch, channels, spatial) in [(3, 1, &[4, 8][..]), (1, 3, &[8]), (2, 1, &[4, 4, 4])] {
            let condition = PyramidConfig { channels: 2, net: net.clone(), features: 3 };
            let config = ConditionalGlowConfig { flow: glow(channels, spatial, Some(Squeeze::Checkerboard), true), condition };
            check(&config, Shape::new(batch, channels, spatial).unwrap(), &[Shape::new(batch, 2, spatial).unwrap()]);
        }
    }
    let dense = NetConfig::Dense(DenseConfig { hidden: vec![5], activation: SMOOTH, last_gain: 1.0, ..DenseConfig::default() });
    let flow = GlowConfig { step: StepConfig { net: dense.clone(), ..StepConfig::default() }, ..GlowConfig::dense(3, 2) };
    let config = ConditionalGlowConfig { flow, condition: PyramidConfig { channels: 2, net: Some(dense), features: 4 } };
    check(&config, Shape::new(3, 3, &[]).unwrap(), &[Shape::new(3, 2, &[]).unwrap()]);
}

#[test]
fn hyperbolic_networks_that_change_resolution() {
    let block = SymmetricConfig { hidden: Some(3), alpha: 0.6, activation: SMOOTH, ..SymmetricConfig::default() };
    let layer = |resize| HyperbolicLayerConfig { resize, hidden: None };
    for (batch, channels, spatial) in [(3, 2, &[4, 8][..]), (1, 1, &[8]), (2, 3, &[4, 2, 4])] {
        for resizes in [vec![Resize::Keep; 3], vec![Resize::Keep, Resize::Coarsen, Resize::Keep, Resize::Refine]] {
            let layers = resizes.into_iter().map(layer).collect();
            let config = HyperbolicConfig { channels, rank: spatial.len(), layers, block: block.clone() };
            check(&config, Shape::new(batch, 2 * channels, spatial).unwrap(), &[]);
        }
    }
}

#[test]
fn encoding_once_is_the_same_as_encoding_in_every_call() {
    let cpu = Cpu::<f64>::new();
    let condition = PyramidConfig { channels: 2, net: Some(residual()), features: 3 };
    let config = ConditionalGlowConfig { flow: glow(1, &[8, 8], Some(Squeeze::Haar), true), condition };
    let model = config.model(&cpu, 3).unwrap();
    let x = ramp(&cpu, Shape::new(4, 1, &[8, 8]).unwrap());
    let conditions = [ramp(&cpu, Shape::new(4, 2, &[8, 8]).unwrap())];
    let whole = model.with(Given::conditions(&conditions)).forward(x.duplicate().unwrap()).unwrap();
    let encoded = model.layer().encode(model.params(), &conditions).unwrap();
    let inner = Call::new(model.layer().inner(), model.params(), Given::conditions(&encoded)).forward(x).unwrap();
    assert_eq!(whole.state.to_f64().unwrap(), inner.state.to_f64().unwrap());
    assert_eq!(whole.logdet.to_f64().unwrap(), inner.logdet.to_f64().unwrap());
    // One condition for many samples.
    let one = [ramp(&cpu, Shape::new(1, 2, &[8, 8]).unwrap())];
    let encoded = model.layer().encode(model.params(), &one).unwrap();
    let density = Density::new(model.layer().inner(), model.params(), Given::conditions(&encoded));
    let samples = density.sample_with_log_prob(Shape::new(6, 1, &[8, 8]).unwrap(), 1, 0).unwrap();
    let repeated: Vec<f64> = (0..6).flat_map(|_| one[0].to_f64().unwrap()).collect();
    let repeated = [Tensor::from_f64(&cpu, Shape::new(6, 2, &[8, 8]).unwrap(), &repeated).unwrap()];
    let log_prob = Density::new(model.layer(), model.params(), Given::conditions(&repeated)).log_prob(samples.x).unwrap();
    for (a, b) in log_prob.iter().zip(&samples.log_prob) {
        assert!((a - b).abs() < 1e-9 * b.abs(), "{a} against {b}");
    }
}

fn ramp(cpu: &Cpu<f64>, shape: Shape) -> Tensor<Cpu<f64>> {
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64) / 50.0 - 1.0).collect();
    Tensor::from_f64(cpu, shape, &values).unwrap()
}

/// Primitives that a device is given for one flow step at one level: no read-back, and few of them.
#[test]
fn a_flow_step_never_reads_back_and_issues_few_primitives() {
    let traced = Traced::new(Cpu::<f32>::new());
    let dispatches = |steps: usize| {
        let config = GlowConfig { levels: 1, steps, ..GlowConfig::default() };
        let model = config.model(&traced, 0).unwrap();
        let x = Tensor::full(&traced, Shape::new(2, 3, &[8, 8]).unwrap(), 0.5).unwrap();
        let (gl, mut grads) = (Tensor::full(&traced, Shape::per_sample(2), -0.5).unwrap(), model.zeros().unwrap());
        let mut counts = Vec::new();
        let counted = |count: &mut Vec<usize>| {
            assert_eq!(traced.reads(), 0, "{}", traced.profile());
            count.push(traced.dispatches());
            traced.clear();
        };
        traced.clear();
        let y = model.forward(x).unwrap().state;
        counted(&mut counts);
        let x = model.inverse(y).unwrap().state;
        counted(&mut counts);
        let y = model.forward(x).unwrap().state;
        traced.clear();
        let gy = y.duplicate().unwrap();
        traced.clear();
        model.backward(y, gy, &gl, &mut grads).unwrap();
        counted(&mut counts);
        println!("{counts:?}");
        counts
    };
    let (one, two) = (dispatches(1), dispatches(2));
    let step: Vec<usize> = one.iter().zip(&two).map(|(a, b)| b - a).collect();
    assert_eq!(step, inn_networks::glow::DISPATCHES_OF_A_STEP, "forward, inverse, backward");
}

#[test]
fn bad_input_is_refused_by_name() {
    let cpu = Cpu::<f32>::new();
    let config = GlowConfig { levels: 2, steps: 1, ..GlowConfig::default() };
    let model: Model<_, _> = config.model(&cpu, 0).unwrap();
    let message = |dims: &[usize]| match Shape::from_dims(dims) {
        Ok(shape) => model.call().check(Direction::Forward, shape).unwrap_err().to_string(),
        Err(e) => e.to_string(),
    };
    for (dims, part) in [
        (&[2, 3, 8][..], "spatial"),
        (&[2, 4, 8, 8], "channels"),
        (&[2, 3, 7, 8], "multiples of 4"),
        (&[2, 3, 6, 8], "multiples of 4"),
        (&[0, 3, 8, 8], "positive"),
        (&[2, 3, 8, 8, 8, 8], "axes"),
    ] {
        let message = message(dims);
        assert!(message.contains(part), "{dims:?}: {message}");
    }
    let condition = ConditionalGlowConfig { flow: config, condition: PyramidConfig::default() };
    let model = condition.model(&cpu, 0).unwrap();
    let x = || Tensor::full(&cpu, Shape::new(2, 3, &[8, 8]).unwrap(), 0.1).unwrap();
    assert!(matches!(model.forward(x()), Err(Error::Missing { .. })));
    for (dims, part) in [(&[3, 1, 8, 8], "batch"), (&[2, 1, 4, 8], "extents"), (&[2, 2, 8, 8], "channels")] {
        let conditions = [Tensor::full(&cpu, Shape::from_dims(dims).unwrap(), 0.1).unwrap()];
        let message = model.with(Given::conditions(&conditions)).forward(x()).err().unwrap().to_string();
        assert!(message.contains(part), "{dims:?}: {message}");
    }
    for bad in [GlowConfig { levels: 0, ..GlowConfig::default() }, GlowConfig { channels: 0, ..GlowConfig::default() }] {
        assert!(bad.model(&cpu, 0).is_err());
    }
    assert!(GlowConfig { channels: 1, squeeze: None, ..GlowConfig::default() }.model(&cpu, 0).is_err());
    assert!(GlowConfig { levels: 90, split: false, ..GlowConfig::default() }.model(&cpu, 0).is_err());
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let cpu = Cpu::<f32>::new();
            let net = NetConfig::Residual(ResidualConfig { hidden: 24, last_gain: 0.5, ..ResidualConfig::default() });
            let config = GlowConfig { step: StepConfig { net, ..StepConfig::default() }, steps: 2, ..GlowConfig::default() };
            let model = config.model(&cpu, 1).unwrap();
            let shape = Shape::new(5, 3, &[32, 40]).unwrap();
            let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 31 % 97) as f64) / 48.0 - 1.0).collect();
            let y = model.forward(Tensor::from_f64(&cpu, shape, &values).unwrap()).unwrap();
            let (gy, gl) = (y.state.duplicate().unwrap(), Tensor::full(&cpu, Shape::per_sample(5), -0.2).unwrap());
            let mut bits: Vec<u32> = y.logdet.to_vec().unwrap().into_iter().map(f32::to_bits).collect();
            let mut grads = model.zeros().unwrap();
            let pulled = model.backward(y.state, gy, &gl, &mut grads).unwrap();
            for values in [pulled.state.to_vec().unwrap(), pulled.cotangent.to_vec().unwrap(), grads.read().unwrap()] {
                bits.extend(values.into_iter().map(f32::to_bits));
            }
            bits
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(7));
}
