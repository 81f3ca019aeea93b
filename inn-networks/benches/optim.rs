//! What a step costs beside the gradient: norm, update and average, in bytes of memory moved per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use inn_core::{Init, Layout, Params, Shape, Tensor};
use inn_networks::optim::{Average, Kept, Moments, Optimizer, add_squared_norm, clip_scale};
use inn_ops::Cpu;
use std::hint::black_box;

type Vector = Params<Cpu<f32>>;

/// `couplings` dense networks of 4,546 parameters, with a gradient that is nowhere zero.
fn vectors(couplings: usize) -> (Vector, Vector) {
    let ((), layout) = Layout::build(|scope| {
        for i in 0..couplings {
            let mut scope = scope.sub(i);
            for (name, outputs, inputs) in [("a", 64, 2), ("b", 64, 64), ("c", 2, 64)] {
                scope.weight(name, outputs, inputs, &[], Init::Normal(0.1))?;
                scope.vector(&format!("{name}.bias"), outputs, Init::Normal(0.1))?;
            }
        }
        Ok(())
    })
    .unwrap();
    let cpu = Cpu::<f32>::new();
    (Params::init(&cpu, &layout, 0).unwrap(), Params::init(&cpu, &layout, 1).unwrap())
}

fn steps(c: &mut Criterion) {
    for couplings in [16, 1024] {
        let (mut params, gradient) = vectors(couplings);
        let bytes = (params.layout().len() * size_of::<f32>()) as u64;
        let mut group = c.benchmark_group(format!("optimizer of {} parameters", params.layout().count()));
        group.throughput(Throughput::Bytes(bytes));
        let mut square = Tensor::zeros(params.backend(), Shape::per_sample(1)).unwrap();
        group.bench_function("norm", |b| b.iter(|| add_squared_norm(&gradient, square.view_mut().update()).unwrap()));
        for (name, optimizer, reads, writes) in [
            ("adam", Optimizer::adam(), 4, 3),
            ("adam_w", Optimizer::adam_w(0.01), 5, 3),
            ("sgd", Optimizer::sgd(0.0), 2, 1),
            ("momentum", Optimizer::sgd(0.9), 3, 2),
            ("rms_prop", Optimizer::rms_prop(), 3, 2),
        ] {
            let mut moments = Moments::new(optimizer, &params).unwrap();
            group.throughput(Throughput::Bytes((reads + writes) * bytes));
            group.bench_function(name, |b| {
                b.iter(|| moments.step(&mut params, &gradient, black_box(1e-5), clip_scale(2.0, Some(1.0))).unwrap())
            });
        }
        let mut average = Average::new(0.99, &params).unwrap();
        let mut moments = Moments::new(Optimizer::adam(), &params).unwrap();
        group.throughput(Throughput::Bytes(9 * bytes));
        group.bench_function("adam and average, one pass", |b| {
            b.iter(|| moments.step_averaged(&mut params, &gradient, black_box(1e-5), 0.5, &mut average).unwrap())
        });
        let mut kept = Kept::new(&params, &moments, Some(&average)).unwrap();
        group.bench_function("adam and average, one pass, old state kept", |b| {
            b.iter(|| moments.step_keeping(&mut params, &gradient, black_box(1e-5), 0.5, Some(&mut average), &mut kept).unwrap())
        });
        group.throughput(Throughput::Bytes(3 * bytes));
        group.bench_function("average", |b| b.iter(|| average.update(&params).unwrap()));
        let mut copy = params.duplicate().unwrap();
        group.throughput(Throughput::Bytes(2 * bytes));
        group.bench_function("copy", |b| b.iter(|| copy.assign(&params).unwrap()));
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
