//! Throughput of what is not a convolution: pointwise kernels, objectives, squeezes, mixing of channels.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use inn_core::{Access, Backend, Direction, Mix, Shape, Squeeze, Tensor, Update, View, Window};
use inn_ops::loss::Gaussian;
use inn_ops::pointwise::{activate, activate_derivative, galu};
use inn_ops::{Activation, Cpu};

fn tensor(cpu: &Cpu<f32>, shape: Shape) -> Tensor<Cpu<f32>> {
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64 / 50.0) - 1.0).collect();
    Tensor::from_f64(cpu, shape, &values).unwrap()
}

fn pointwise(c: &mut Criterion) {
    let cpu = Cpu::<f32>::new();
    let shape = Shape::new(8, 64, &[64, 64]).unwrap();
    let (x, mut y) = (tensor(&cpu, shape), tensor(&cpu, shape));
    let mut half = tensor(&cpu, shape.with_channels(32));
    let mut sums = Tensor::zeros(&cpu, Shape::per_sample(8)).unwrap();
    let mut group = c.benchmark_group(format!("pointwise {shape}"));
    group.sample_size(20).throughput(Throughput::Elements(shape.len() as u64));
    for (name, activation) in
        [("relu", Activation::Relu), ("sigmoid", Activation::Sigmoid { low: 0.0, high: 1.0 }), ("tanh", Activation::Tanh)]
    {
        group.bench_function(name, |b| b.iter(|| activate(&cpu, activation, x.view(), &mut y.view_mut()).unwrap()));
        // A fresh cotangent each time: one that shrinks at every pass ends in subnormal numbers, which are slow.
        group.bench_function(format!("{name}, adjoint"), |b| {
            b.iter_batched_ref(
                || x.duplicate().unwrap(),
                |d| activate_derivative(&cpu, activation, x.view(), &mut d.view_mut()).unwrap(),
                BatchSize::LargeInput,
            );
        });
    }
    group.bench_function("galu", |b| b.iter(|| galu(&cpu, x.view(), &mut half.view_mut()).unwrap()));
    group.bench_function("gaussian with gradient", |b| {
        b.iter(|| Gaussian::STANDARD.add_with_gradient(&cpu, 1.0, x.view(), &mut y.view_mut(), &mut sums.view_mut()).unwrap());
    });
    group.finish();
}

fn permutations(c: &mut Criterion) {
    let cpu = Cpu::<f32>::new();
    let shape = Shape::new(8, 16, &[64, 64]).unwrap();
    let mut x = tensor(&cpu, shape);
    let mut group = c.benchmark_group(format!("in place {shape}"));
    group.sample_size(20).throughput(Throughput::Elements(shape.len() as u64));
    for squeeze in [Squeeze::Checkerboard, Squeeze::Patch, Squeeze::Haar] {
        // There and back, so that the shape stays.
        group.bench_function(format!("{squeeze:?}, there and back"), |b| {
            b.iter(|| {
                let mut view = x.view_mut();
                cpu.squeeze(squeeze, Direction::Forward, &mut view).unwrap();
                cpu.squeeze(squeeze, Direction::Inverse, &mut view).unwrap();
            });
        });
    }
    let (vectors, rows) = (tensor(&cpu, Shape::rows(3, 16)), tensor(&cpu, Shape::rows(5, 16)));
    let row = |i: usize| View::new(rows.buffer(), Window::contiguous(Shape::per_channel(16), i * 16)).unwrap();
    let mut logdet = Tensor::zeros(&cpu, Shape::per_sample(shape.batch())).unwrap();
    for (name, affine) in [("3 reflections", None), ("scale, bias, 3 reflections", Some([row(0), row(1)]))] {
        let mix = Mix { affine, vectors: vectors.view() };
        group.bench_function(name, |b| {
            b.iter(|| {
                cpu.mix(Direction::Forward, &mix, &mut x.view_mut(), &mut logdet.view_mut()).unwrap();
                cpu.mix(Direction::Inverse, &mix, &mut x.view_mut(), &mut logdet.view_mut()).unwrap();
            });
        });
        let (mut gx, gl) = (tensor(&cpu, shape), tensor(&cpu, Shape::per_sample(shape.batch())));
        let mut gradients = Tensor::zeros(&cpu, Shape::rows(5, 16)).unwrap();
        let window = |i: usize, rows: usize| Window::contiguous(Shape::rows(rows, 16), i * 16);
        let windows = [window(0, 3), window(3, 1), window(4, 1)];
        group.bench_function(format!("{name}: way back, both ways"), |b| {
            b.iter(|| {
                for dir in [Direction::Forward, Direction::Inverse] {
                    let windows = if mix.affine.is_some() { &windows[..] } else { &windows[..1] };
                    let mut to = Update::new(gradients.buffer_mut(), Access::ReadWrite, windows);
                    cpu.mix_pull(dir, &mix, &mut x.view_mut(), &mut gx.view_mut(), gl.view(), &mut to).unwrap();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pointwise, permutations);
criterion_main!(benches);
