//! Throughput of the convolutions. Elements per second are floating-point
//! operations per second: criterion's `Gelem/s` are GFLOP/s. `peak` is what
//! the multiply-add units of one core reach, for shares of it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inn_ops::conv::{ConvElement, Geometry, Planes, PlanesMut, forward, input_gradient, weight_gradient};

/// Batch, input and output channels, pixels, kernel (padded by half of it).
type Shape = (usize, usize, usize, [usize; 3], [usize; 3]);

const SHAPES: [Shape; 18] = [
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
    (64, 64, 64, [1, 14, 14], [1, 1, 1]),
    (64, 2, 64, [1, 14, 14], [1, 3, 3]),
    (64, 64, 4, [1, 14, 14], [1, 3, 3]),
    (64, 64, 64, [1, 7, 7], [1, 3, 3]),
    (8, 17, 17, [1, 32, 32], [1, 3, 3]),
    (512, 64, 64, [1, 1, 1], [1, 1, 1]),
    (512, 64, 4, [1, 1, 1], [1, 1, 1]),
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

/// Multiply-adds of one register of 16 `f32`, 16 at a time so that no one waits
/// for the last. In assembly, as compilers see through such loops.
#[cfg(target_arch = "x86_64")]
fn multiply_adds(count: usize) {
    // SAFETY: only registers change, all of them named, and the caller has
    // checked that the CPU has AVX-512.
    unsafe {
        std::arch::asm!(
            "vpxord zmm0, zmm0, zmm0", "vpxord zmm1, zmm1, zmm1", "vpxord zmm2, zmm2, zmm2", "vpxord zmm3, zmm3, zmm3",
            "vpxord zmm4, zmm4, zmm4", "vpxord zmm5, zmm5, zmm5", "vpxord zmm6, zmm6, zmm6", "vpxord zmm7, zmm7, zmm7",
            "vpxord zmm8, zmm8, zmm8", "vpxord zmm9, zmm9, zmm9", "vpxord zmm10, zmm10, zmm10", "vpxord zmm11, zmm11, zmm11",
            "vpxord zmm12, zmm12, zmm12", "vpxord zmm13, zmm13, zmm13", "vpxord zmm14, zmm14, zmm14", "vpxord zmm15, zmm15, zmm15",
            "vpxord zmm16, zmm16, zmm16", "vpxord zmm17, zmm17, zmm17",
            ".p2align 6",
            "2:",
            "vfmadd231ps zmm0, zmm16, zmm17", "vfmadd231ps zmm1, zmm16, zmm17", "vfmadd231ps zmm2, zmm16, zmm17",
            "vfmadd231ps zmm3, zmm16, zmm17", "vfmadd231ps zmm4, zmm16, zmm17", "vfmadd231ps zmm5, zmm16, zmm17",
            "vfmadd231ps zmm6, zmm16, zmm17", "vfmadd231ps zmm7, zmm16, zmm17", "vfmadd231ps zmm8, zmm16, zmm17",
            "vfmadd231ps zmm9, zmm16, zmm17", "vfmadd231ps zmm10, zmm16, zmm17", "vfmadd231ps zmm11, zmm16, zmm17",
            "vfmadd231ps zmm12, zmm16, zmm17", "vfmadd231ps zmm13, zmm16, zmm17", "vfmadd231ps zmm14, zmm16, zmm17",
            "vfmadd231ps zmm15, zmm16, zmm17",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) count => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, out("zmm16") _, out("zmm17") _,
            options(nomem, nostack)
        );
    }
}

fn bench_peak(_c: &mut Criterion) {
    #[cfg(target_arch = "x86_64")]
    if inn_ops::simd::Level::Avx512.is_available() {
        const COUNT: usize = 10_000;
        let mut group = _c.benchmark_group("conv f32");
        group.throughput(Throughput::Elements((COUNT * 16 * 16 * 2) as u64));
        group.bench_function("peak", |b| b.iter(|| multiply_adds(COUNT)));
        group.finish();
    }
}

fn bench(c: &mut Criterion) {
    bench_peak(c);
    bench_type::<f32>(c, "f32", &SHAPES, |value| value as f32);
    bench_type::<f64>(c, "f64", &SHAPES[..4], |value| value);
}

criterion_group!(benches, bench);
criterion_main!(benches);
