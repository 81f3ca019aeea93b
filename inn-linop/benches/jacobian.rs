//! Products with the Jacobian of a flow step and with its adjoint, against the forward map that they differentiate.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use inn_core::{LinearOperator, Model, Shape, Tensor, Write};
use inn_layers::glow::{StepConfig, glow_step};
use inn_linop::{Jacobian, Map};
use inn_ops::Cpu;

fn tensor(cpu: &Cpu<f32>, shape: Shape) -> Tensor<Cpu<f32>> {
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64 / 50.0) - 1.0).collect();
    Tensor::from_f64(cpu, shape, &values).unwrap()
}

fn products(c: &mut Criterion) {
    let cpu = Cpu::<f32>::new();
    let shape = Shape::new(4, 12, &[32, 32]).unwrap();
    let model = Model::build(&cpu, 0, |scope| glow_step(scope, 12, 2, None, &StepConfig::default())).unwrap();
    let x = tensor(&cpu, shape);
    let j = Jacobian::full(Map::of(&model), x.duplicate().unwrap()).unwrap();
    let (mut from, mut to) = (tensor(&cpu, j.domain()), tensor(&cpu, j.range()));
    let mut group = c.benchmark_group(format!("flow step {shape}"));
    group.sample_size(20).throughput(Throughput::Elements(shape.len() as u64));
    group.bench_function("map", |b| {
        b.iter_batched(|| x.duplicate().unwrap(), |x| model.forward(x).unwrap(), BatchSize::LargeInput);
    });
    group.bench_function("Jacobian product", |b| b.iter(|| j.apply(&cpu, from.view(), &mut to.view_mut(), Write::Set).unwrap()));
    group.bench_function("adjoint product", |b| b.iter(|| j.apply_adjoint(&cpu, to.view(), &mut from.view_mut(), Write::Set).unwrap()));
    group.finish();
}

criterion_group!(benches, products);
criterion_main!(benches);
