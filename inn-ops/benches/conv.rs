//! Throughput of the convolutions. Elements per second are floating-point
//! operations per second: criterion's `Gelem/s` are GFLOP/s.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inn_ops::conv::{ConvElement, Geometry, Planes, PlanesMut, forward, input_gradient, weight_gradient};

/// Batch, input and output channels, pixels, kernel (padded by half of it).
type Shape = (usize, usize, usize, [usize; 3], [usize; 3]);

const SHAPES: [Shape; 12] = [
    (8, 6, 128, [1, 32, 32], [1, 3, 3]),
    (8, 128, 128, [1, 32, 32], [1, 1, 1]),
    (8, 128, 12, [1, 32, 32], [1, 3, 3]),
    (8, 128, 128, [1, 32, 32], [1, 3, 3]),
    (8, 6, 128, [1, 128, 128], [1, 3, 3]),
    (8, 128, 12, [1, 128, 128], [1, 3, 3]),
    (1, 64, 64, [1, 256, 256], [1, 3, 3]),
    (128, 2, 32, [1, 8, 8], [1, 3, 3]),
    (1, 32, 32, [48, 48, 48], [3, 3, 3]),
    (1, 16, 16, [64, 64, 64], [3, 3, 3]),
    (512, 64, 64, [1, 1, 1], [1, 1, 1]),
    (8, 32, 32, [1, 1, 4096], [1, 1, 5]),
];

struct Arrays<T> {
    x: Vec<T>,
    w: Vec<T>,
    y: Vec<T>,
}

fn planes<T>(data: &[T], channels: usize, plane: usize) -> Planes<'_, T> {
    Planes { data, batch_stride: channels * plane, channel_stride: plane }
}

fn planes_mut<T>(data: &mut [T], channels: usize, plane: usize) -> PlanesMut<'_, T> {
    PlanesMut { data, batch_stride: channels * plane, channel_stride: plane }
}

fn bench_type<T: ConvElement>(c: &mut Criterion, name: &str, shapes: &[Shape], from: fn(f64) -> T) {
    let mut group = c.benchmark_group(format!("conv {name}"));
    group.sample_size(20);
    for &(batch, i, o, input, kernel) in shapes {
        let g = Geometry::new(batch, i, o, input, kernel, [1; 3], kernel.map(|k| k / 2)).expect("a valid shape");
        let (n, q, t) = (g.input_pixels(), g.output_pixels(), g.taps());
        let array = |len| (0..len).map(|j| from((j * 7919 % 1013) as f64 / 1013.0 - 0.5)).collect();
        let inputs = Arrays::<T> { x: array(batch * i * n), w: array(o * i * t), y: array(batch * o * q) };
        let mut outputs = Arrays::<T> { x: array(batch * i * n), w: array(o * i * t), y: array(batch * o * q) };
        let (x, w, y) = (planes(&inputs.x, i, n), planes(&inputs.w, i, t), planes(&inputs.y, o, q));
        let extent: Vec<String> = input.iter().filter(|&&n| n > 1).map(usize::to_string).collect();
        let label = format!("{batch}, {i}->{o}, k{}, {}", kernel[2], extent.join("x"));
        group.throughput(Throughput::Elements(g.flops() as u64));
        group.bench_function(BenchmarkId::new("forward", &label), |b| {
            b.iter(|| forward(&g, x, w, planes_mut(&mut outputs.y, o, q), false).expect("valid"));
        });
        group.bench_function(BenchmarkId::new("input gradient", &label), |b| {
            b.iter(|| {
                input_gradient(&g, y, w, planes_mut(&mut outputs.x, i, n), false).expect("valid");
            });
        });
        group.bench_function(BenchmarkId::new("weight gradient", &label), |b| {
            b.iter(|| {
                weight_gradient(&g, x, y, planes_mut(&mut outputs.w, i, t), false).expect("valid");
            });
        });
    }
    group.finish();
}

fn bench(c: &mut Criterion) {
    bench_type::<f32>(c, "f32", &SHAPES, |value| value as f32);
    bench_type::<f64>(c, "f64", &SHAPES[..4], |value| value);
}

criterion_group!(benches, bench);
criterion_main!(benches);
