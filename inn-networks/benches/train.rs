//! What a training costs beside its gradients, on the shapes of posterior inpainting: the gradient of a batch, a whole step, and the drawing of
//! a batch by itself.

use criterion::{Criterion, criterion_group, criterion_main};
use inn_core::{Architecture, Given, Invertible, Shape, Tensor};
use inn_layers::conditioner::{DenseConfig, NetConfig, ResNetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::train::{ArrayDataset, ChaCha8Rng, Dataset, MaximumLikelihood, Objective, Options, Progress, Record, Trainer, Varied};
use inn_networks::{ConditionalGlowConfig, GlowConfig, PyramidConfig};
use inn_ops::Cpu;
use ndarray::{Array2, Array4};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const BATCH: usize = 32;

fn config() -> ConditionalGlowConfig {
    let net = NetConfig::Residual(ResidualConfig { hidden: 32, ..ResidualConfig::default() });
    let encoder = NetConfig::ResNet(ResNetConfig { hidden: 32, blocks: 2, last_gain: 1.0, ..ResNetConfig::default() });
    let step = StepConfig { net, ..StepConfig::default() };
    ConditionalGlowConfig {
        flow: GlowConfig { channels: 1, levels: 2, steps: 8, step, ..GlowConfig::default() },
        condition: PyramidConfig { channels: 2, net: Some(encoder), features: 16 },
    }
}

/// Images with noise, observed through noise and a mask.
fn data() -> impl Dataset<f32> {
    let images = Array4::from_shape_fn((1024, 1, 28, 28), |(i, _, y, x)| ((i + y * x) as f32 * 0.1).sin());
    let observed = Array4::zeros((1024, 2, 28, 28));
    let data = ArrayDataset::new(images).unwrap().with_condition(observed).unwrap();
    Varied::new(data, |rng: &mut ChaCha8Rng, x: &mut [f32], c: &mut [&mut [f32]]| {
        let (seen, mask) = c[0].split_at_mut(x.len());
        for (i, x) in x.iter_mut().enumerate() {
            let [a, b]: [f32; 2] = std::array::from_fn(|_| StandardNormal.sample(rng));
            mask[i] = f32::from(u8::from(i % 28 > 7));
            seen[i] = mask[i] * (*x + 0.1 * a);
            *x += 0.05 * b;
        }
        Ok(())
    })
}

fn training(c: &mut Criterion) {
    let (cpu, data) = (Cpu::<f32>::new(), data());
    let model = config().model(&cpu, 0).unwrap();
    let options = Options { epochs: 1_000_000, batch: BATCH, ema: Some(0.99), drift_every: 0, ..Options::default() };
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(model, options).unwrap().with_log(folder.path().join("log.csv"));
    // Initialized before anything is timed.
    trainer.fit(&data, None, &mut |_: &Record, _: Progress| ControlFlow::Break(())).unwrap();

    c.bench_function("step of the trainer", |b| b.iter_custom(|steps| fit(&mut trainer, &data, steps)));
    let model = trainer.into_model().unwrap();
    let (mut x, mut condition) = (vec![0.0; BATCH * 784], vec![0.0; BATCH * 1568]);
    c.bench_function("drawing a batch, one thread", |b| {
        b.iter(|| {
            for (i, (x, c)) in x.chunks_exact_mut(784).zip(condition.chunks_exact_mut(1568)).enumerate() {
                data.draw(i, &mut ChaCha8Rng::seed_from_u64(i as u64), x, &mut [c]).unwrap();
            }
        });
    });
    let mut grads = model.zeros().unwrap();
    let conditions = [Tensor::from_slice(&cpu, Shape::new(BATCH, 2, &[28, 28]).unwrap(), &condition).unwrap()];
    let x = Tensor::from_slice(&cpu, Shape::new(BATCH, 1, &[28, 28]).unwrap(), &x).unwrap();
    c.bench_function("gradient of a batch", |b| {
        b.iter(|| {
            let call = model.with(Given::conditions(&conditions));
            MaximumLikelihood.gradient(call, x.duplicate().unwrap(), &conditions, 1.0 / BATCH as f64, &mut grads).unwrap()
        });
    });
}

/// The dense flow of TARGETS: 16 couplings on the plane.
fn plane(c: &mut Criterion) {
    let net = NetConfig::Dense(DenseConfig { hidden: vec![64, 64], ..DenseConfig::default() });
    let config = GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, 16) };
    let data = ArrayDataset::new(Array2::from_shape_fn((16384, 2), |(i, j)| ((i * (j + 3)) as f32 * 0.1).sin())).unwrap();
    let options = Options { epochs: 1_000_000, batch: 512, ema: Some(0.99), drift_every: 0, ..Options::default() };
    let mut trainer = Trainer::new(config.model(&Cpu::<f32>::new(), 0).unwrap(), options).unwrap();
    trainer.fit(&data, None, &mut |_: &Record, _: Progress| ControlFlow::Break(())).unwrap();
    c.bench_function("step of the trainer, dense", |b| b.iter_custom(|steps| fit(&mut trainer, &data, steps)));
    let model = trainer.into_model().unwrap();
    let mut grads = model.zeros().unwrap();
    let x = Tensor::full(model.backend(), Shape::new(512, 2, &[]).unwrap(), 0.3).unwrap();
    let mut gradient = || MaximumLikelihood.gradient(model.call(), x.duplicate().unwrap(), &[], 1.0 / 512.0, &mut grads).unwrap();
    c.bench_function("gradient of a batch, dense", |b| b.iter(&mut gradient));
    c.bench_function("gradient of a batch, dense, within the pool", |b| b.iter(|| rayon::scope(|_| gradient())));
}

/// The time of some steps.
fn fit<L: Invertible>(trainer: &mut Trainer<L, Cpu<f32>>, data: &dyn Dataset<f32>, steps: u64) -> Duration {
    let start = Instant::now();
    let mut left = steps;
    let mut count = |_: &Record, _: Progress| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    trainer.fit(data, None, &mut count).unwrap();
    start.elapsed()
}

criterion_group! { name = benches; config = Criterion::default().sample_size(10); targets = training, plane }
criterion_main!(benches);
