//! Forward and backward passes of single layers on images.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use inn_core::{Invertible, Model, Result, Scope, Shape, Tensor};
use inn_layers::glow::{StepConfig, glow_coupling, glow_step};
use inn_layers::{ActNorm, Householder};
use inn_ops::Cpu;

fn bench<L: Invertible>(c: &mut Criterion, name: &str, shape: Shape, build: impl FnOnce(&mut Scope<'_>) -> Result<L>) {
    let cpu = Cpu::<f32>::new();
    let model = Model::build(&cpu, 0, build).unwrap();
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64 / 50.0) - 1.0).collect();
    let x = Tensor::from_f64(&cpu, shape, &values).unwrap();
    let gl = Tensor::full(&cpu, Shape::per_sample(shape.batch()), -1.0).unwrap();
    let mut grads = model.zeros().unwrap();
    let mut group = c.benchmark_group(format!("{name} {shape}"));
    group.sample_size(20).throughput(Throughput::Elements(shape.len() as u64));
    group.bench_function("forward", |b| {
        b.iter_batched(|| x.duplicate().unwrap(), |x| model.forward(x).unwrap(), BatchSize::LargeInput);
    });
    group.bench_function("backward", |b| {
        let inputs = || (x.duplicate().unwrap(), x.duplicate().unwrap());
        b.iter_batched(inputs, |(y, gy)| model.backward(y, gy, &gl, &mut grads).unwrap(), BatchSize::LargeInput);
    });
    group.finish();
}

fn layers(c: &mut Criterion) {
    let images = |channels, side| Shape::new(8, channels, &[side, side]).unwrap();
    bench(c, "actnorm", images(12, 64), |scope| ActNorm::new(scope, 12));
    bench(c, "householder", images(12, 64), |scope| Householder::new(scope, 12, 3));
    bench(c, "householder", images(48, 16), |scope| Householder::new(scope, 48, 3));
    bench(c, "glow coupling", images(12, 32), |scope| glow_coupling(scope, 12, 2, None, &StepConfig::default()));
    bench(c, "glow step", images(12, 32), |scope| glow_step(scope, 12, 2, None, &StepConfig::default()));
}

criterion_group!(benches, layers);
criterion_main!(benches);
