//! Second derivatives, solvers and estimates of singular values on a flow step.

use criterion::{Criterion, criterion_group, criterion_main};
use inn_core::{LinearOperator, Model, Shape, Tensor, Write};
use inn_layers::glow::{StepConfig, glow_step};
use inn_linop::solve::{Limits, LsqrOptions, lsqr, newton_step};
use inn_linop::{By, GaussNewton, Hessian, Jacobian, Map, Objective, SpectrumOptions, spectral_norm};
use inn_ops::Cpu;

fn tensor(cpu: &Cpu<f32>, shape: Shape) -> Tensor<Cpu<f32>> {
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64 / 50.0) - 1.0).collect();
    Tensor::from_f64(cpu, shape, &values).unwrap()
}

fn operators(c: &mut Criterion) {
    let cpu = Cpu::<f32>::new();
    let shape = Shape::new(2, 8, &[16, 16]).unwrap();
    let model = Model::build(&cpu, 0, |scope| glow_step(scope, 8, 2, None, &StepConfig::default())).unwrap();
    let map = Map::of(&model);
    let point = || tensor(&cpu, shape);
    let hessian = Hessian::new(map, By::Both, point(), Objective::likelihood).unwrap();
    let gauss_newton = GaussNewton::new(map, By::Both, point(), Objective::likelihood).unwrap();
    let state = Jacobian::state(map, point()).unwrap();
    let (v, mut out) = (tensor(&cpu, hessian.domain()), tensor(&cpu, hessian.domain()));
    let mut group = c.benchmark_group(format!("flow step {shape}"));
    group.sample_size(10);
    group.bench_function("Hessian product", |b| b.iter(|| hessian.apply(&cpu, v.view(), &mut out.view_mut(), Write::Set).unwrap()));
    group.bench_function("Gauss-Newton product", |b| {
        b.iter(|| gauss_newton.apply(&cpu, v.view(), &mut out.view_mut(), Write::Set).unwrap());
    });
    let few = Limits { iterations: 5, ..Limits::default() };
    let gradient = gauss_newton.gradient().unwrap();
    group.bench_function("damped Newton step, 5 iterations", |b| {
        b.iter(|| newton_step(&gauss_newton, &gradient, 10.0, None, few).unwrap());
    });
    let options = LsqrOptions { iterations: 5, ..LsqrOptions::default() };
    group.bench_function("least squares in the state, 5 iterations", |b| b.iter(|| lsqr(&state, &point(), &options).unwrap()));
    let steps = SpectrumOptions { steps: 8, ..SpectrumOptions::default() };
    group.bench_function("spectral norm, 8 steps", |b| b.iter(|| spectral_norm(&cpu, &state, &steps).unwrap()));
    group.finish();
}

criterion_group!(benches, operators);
criterion_main!(benches);
