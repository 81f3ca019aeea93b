//! Flows as densities: they integrate to one, their samples follow them, and trained ones come near a density that is known.

use super::{chi_square, middles};
use inn_core::{Architecture, Chain, Given, Init, Invertible, Model, Result, Scope, Shape, Squeeze, Tensor};
use inn_layers::conditioner::{DenseConfig, Net, NetConfig, Ports, SymmetricConfig};
use inn_layers::coupling::{Additive, Affine, Transform};
use inn_layers::glow::{GlowStep, StepConfig, glow_step};
use inn_layers::hint::{HintConfig, hint_coupling};
use inn_layers::hyperbolic::hyperbolic_layer;
use inn_layers::lanes::{LaneConfig, basic_coupling, gin_coupling, irim_coupling};
use inn_layers::permute::Permute;
use inn_layers::{ActNorm, Coupling, Householder};
use inn_networks::distributions::{Arcs, Banana, Target};
use inn_networks::optim::Schedule;
use inn_networks::train::{ArrayDataset, Options, Trainer, Varied};
use inn_networks::{Density, GlowConfig};
use inn_ops::{Activation, Cpu, ScaleMap};
use ndarray::Array2;
use std::ops::Range;

type Wide = Cpu<f64>;

fn net(last_gain: f64) -> NetConfig {
    NetConfig::Dense(DenseConfig { hidden: vec![16, 16], activation: Activation::Tanh, last_gain, ..DenseConfig::default() })
}

/// A coupling on two channels.
fn coupling<F: Transform>(scope: &mut Scope<'_>, transform: F) -> Result<Coupling<Net, F>> {
    let conditioner = net(4.0).build(scope, Ports::new(1, F::OUTPUTS, 0))?;
    Ok(Coupling { conditioner, transform, kept: 1..2, moved: 0..1 })
}

type Steps<F> = (Chain<(Householder, Coupling<Net, F>)>, ActNorm);

/// Two steps of mixing and a coupling, then a scale.
fn steps<F: Transform>(transform: F) -> impl Fn(&mut Scope<'_>) -> Result<Steps<F>> {
    move |scope| {
        let chain = Chain::build(scope, "step", 2, |scope, _| {
            Ok((Householder::new(&mut scope.sub("mix"), 2, 3)?, coupling(&mut scope.sub("coupling"), transform)?))
        })?;
        Ok((chain, ActNorm::new(&mut scope.sub("actnorm"), 2)?))
    }
}

fn glow_steps(scope: &mut Scope<'_>) -> Result<Chain<GlowStep>> {
    let config = StepConfig { net: net(1.0), ..StepConfig::default() };
    Chain::build(scope, "step", 3, |scope, _| glow_step(scope, 2, 0, None, &config))
}

/// A model all of whose parameters are away from where they start.
fn away<L: Invertible>(build: impl FnOnce(&mut Scope<'_>) -> Result<L>) -> Model<L, Wide> {
    let mut model = Model::build(&Wide::new(), 3, build).unwrap();
    let (_, noise) = inn_core::Layout::build(|scope| scope.vector("noise", model.layout().len(), Init::Normal(0.1))).unwrap();
    let noise = inn_core::Params::init(&Wide::new(), &noise, 1).unwrap().to_flat().unwrap();
    let values: Vec<f64> = model.params().to_flat().unwrap().iter().zip(noise).map(|(v, e)| v + e).collect();
    let params = inn_core::Params::from_flat(&Wide::new(), model.layout(), &values).unwrap();
    model.params_mut().assign(&params).unwrap();
    model
}

fn log_prob<L: Invertible>(density: &Density<'_, L, Wide>, shape: Shape, x: &Array2<f64>) -> Vec<f64> {
    density.log_prob(Tensor::from_slice(&Wide::new(), shape.with_batch(x.nrows()), x.as_slice().unwrap()).unwrap()).unwrap()
}

/// Samples, and a box around them with a margin on each side.
fn samples_and_region<L: Invertible>(density: &Density<'_, L, Wide>, shape: Shape, count: usize) -> (Array2<f64>, Vec<Range<f64>>) {
    let x = density.sample(shape.with_batch(count), 5, 0, 1.0).unwrap();
    let x = Array2::from_shape_vec((count, 2), x.to_f64().unwrap()).unwrap();
    let side = |axis: usize| {
        let column = x.column(axis);
        let (low, high) = column.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let margin = 0.25 * (high - low);
        low - margin..high + margin
    };
    let region = vec![side(0), side(1)];
    (x, region)
}

/// The density integrates to one, and samples follow it.
fn is_a_density<L: Invertible>(name: &str, model: &Model<L, Wide>, shape: Shape) {
    let density = Density::new(model.layer(), model.params(), Given::default());
    let (samples, region) = samples_and_region(&density, shape, 40_000);
    let (bins, fine) = (24, 30);
    let (points, cell) = middles(&region, bins * fine);
    let log_prob = log_prob(&density, shape, &points);
    let mass = cell * log_prob.iter().map(|l| l.exp()).sum::<f64>();
    assert!((mass - 1.0).abs() < 2e-3, "{name}: {mass}");
    let (statistic, limit) = chi_square(&region, &log_prob, cell, &samples, bins, fine);
    println!("{name}: mass 1 {:+.1e}, samples {statistic:.0} of {limit:.0}", mass - 1.0);
    assert!(statistic < limit, "{name}: {statistic} above {limit}");
    let off = &samples * 1.15;
    let (statistic, limit) = chi_square(&region, &log_prob, cell, &off, bins, fine);
    assert!(statistic > limit, "{name}, stretched: {statistic} below {limit}");
}

#[test]
fn every_coupling_family_is_a_density() {
    let plane = Shape::rows(1, 2);
    is_a_density("affine", &away(steps(Affine::default())), plane);
    is_a_density("additive", &away(steps(Additive)), plane);
    is_a_density("glow", &away(glow_steps), plane);
    let lanes = |permute| LaneConfig { net: net(4.0), permute, ..LaneConfig::default() };
    is_a_density("basic", &away(|scope| basic_coupling(scope, 1, 0, None, &net(4.0), ScaleMap::default())), plane);
    is_a_density("i-RIM", &away(|scope| irim_coupling(scope, 2, 0, None, &lanes(Permute::Both))), plane);
    is_a_density("GIN", &away(|scope| gin_coupling(scope, 2, 0, None, &lanes(Permute::Full))), plane);
    let hint = HintConfig { net: net(4.0), leaf: 1, ..HintConfig::default() };
    is_a_density("HINT", &away(|scope| hint_coupling(scope, 2, 0, None, &hint)), plane);
    let block = SymmetricConfig { hidden: Some(8), kernel: 1, alpha: 0.5, activation: Activation::Tanh, ..SymmetricConfig::default() };
    let leapfrog = |scope: &mut Scope<'_>| Chain::build(scope, "step", 4, |scope, i| hyperbolic_layer(scope, i % 2, 1, 0, &block));
    is_a_density("hyperbolic", &away(leapfrog), plane);
    // A series of two values is squeezed to one pixel of two channels.
    let step = StepConfig { net: net(1.0), ..StepConfig::default() };
    let series = GlowConfig {
        channels: 1,
        rank: 1,
        levels: 1,
        steps: 3,
        squeeze: Some(Squeeze::Column),
        split: false,
        step,
        ..GlowConfig::default()
    };
    is_a_density("glow of a series", &away(|scope| series.build(scope)), Shape::new(1, 1, &[2]).unwrap());
}

/// In one dimension: along the channel that a coupling moves, p(x1, x2) integrates to the density of the channel that it keeps.
fn is_a_conditional_density<F: Transform>(name: &str, transform: F) {
    let model = away(|scope| coupling(scope, transform));
    let density = Density::new(model.layer(), model.params(), Given::default());
    for kept in [-1.5, 0.0, 0.7] {
        let (line, cell) = middles(&[-40.0..40.0], 8000);
        let points = Array2::from_shape_fn((line.nrows(), 2), |(i, axis)| if axis == 0 { line[[i, 0]] } else { kept });
        let mass = cell * log_prob(&density, Shape::rows(1, 2), &points).iter().map(|l| l.exp()).sum::<f64>();
        let expected = (-0.5 * kept * kept).exp() / (2.0 * std::f64::consts::PI).sqrt();
        println!("{name} at {kept}: mass 1 {:+.1e}", mass / expected - 1.0);
        assert!((mass / expected - 1.0).abs() < 1e-6, "{name} at {kept}: {mass} against {expected}");
    }
}

#[test]
fn every_coupling_is_a_density_along_a_line() {
    is_a_conditional_density("affine", Affine::default());
    is_a_conditional_density("additive", Additive);
    // One value on its own.
    let model = away(|scope| ActNorm::new(scope, 1));
    let density = Density::new(model.layer(), model.params(), Given::default());
    let (line, cell) = middles(&[-40.0..40.0], 8000);
    let mass = cell * log_prob(&density, Shape::rows(1, 1), &line).iter().map(|l| l.exp()).sum::<f64>();
    assert!((mass - 1.0).abs() < 1e-9, "{mass}");
}

/// KL(p | q) of a flow q that has seen `steps` batches of p, over fresh samples, and its standard error.
fn gap(target: &dyn Target, steps: u64, depth: usize) -> (f64, f64) {
    let batch = 256;
    let fresh = Varied::new(ArrayDataset::new(Array2::<f32>::zeros((batch, 2))).unwrap(), |rng, x: &mut [f32], _: &mut [&mut [f32]]| {
        let mut point = [0.0; 2];
        target.draw(rng, &mut point);
        x.iter_mut().zip(point).for_each(|(x, p)| *x = p as f32);
        Ok(())
    });
    let net =
        NetConfig::Dense(DenseConfig { hidden: vec![32, 32], activation: Activation::Tanh, spread: Some(6.0), ..DenseConfig::default() });
    let config = GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, depth) };
    let options =
        Options { epochs: steps, batch, schedule: Schedule::cosine(3e-3, 50), ema: Some(0.99), drift_every: 0, ..Options::default() };
    let mut trainer = Trainer::new(config.model(&Cpu::<f32>::new(), 0).unwrap(), options).unwrap();
    trainer.fit(&fresh, None, &mut ()).unwrap();
    let model = trainer.into_model().unwrap();
    let density = Density::new(model.layer(), model.params(), Given::default());
    let x = target.sample(10_000, 1).unwrap();
    let p = target.log_prob(&x.view()).unwrap();
    let values: Vec<f64> = x.iter().copied().collect();
    let q = density.log_prob(Tensor::from_f64(&Cpu::<f32>::new(), Shape::rows(10_000, 2), &values).unwrap()).unwrap();
    let gaps: Vec<f64> = p.iter().zip(&q).map(|(p, q)| p - q).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    (mean, (variance / gaps.len() as f64).sqrt())
}

#[test]
fn trained_flows_come_near_the_entropy() {
    let ring = Arcs::rings(&[1.0], 0.3).unwrap();
    let targets: [(&str, &dyn Target, f64); 3] =
        [("banana", &Banana::default(), 0.05), ("moons", &Arcs::two_moons(0.15).unwrap(), 0.05), ("ring", &ring, 0.05)];
    for (name, target, limit) in targets {
        let (gap, error) = gap(target, 1500, 8);
        println!("{name}: {gap:.4} +- {error:.4} nats");
        assert!((-4.0 * error..limit).contains(&gap), "{name}: {gap:.4} +- {error:.4} nats");
    }
}
