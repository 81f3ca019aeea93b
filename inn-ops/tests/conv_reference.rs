//! The convolutions against six nested loops, for many shapes, all levels of
//! vector instructions, and windows into larger arrays.

mod conv_common;

use conv_common::{Case, Number, Random, Shape, Window, check};
use inn_ops::conv::{Geometry, Planes, PlanesMut, forward_at, input_gradient_at, weight_gradient_at};
use inn_ops::simd::{Level, level};

/// The levels to try: the one that `INN_SIMD` names, or all that this machine has.
fn levels() -> Vec<Level> {
    if std::env::var_os("INN_SIMD").is_some() { vec![level()] } else { Level::available().collect() }
}

fn check_case<T: Number>(level: Level, case: &Case<T>) {
    let g = &case.g;
    let what = |op: &str| format!("{op} at {level:?} of {g:?}");
    let (y, gx, gw) = (case.reference_y(), case.reference_gx(), case.reference_gw());
    for accumulate in [false, true] {
        let mut found = case.clone();
        if !accumulate {
            // What is overwritten must not be read.
            [&mut found.x, &mut found.w, &mut found.y].into_iter().for_each(Window::poison);
        }
        forward_at(level, g, case.x.planes(), case.w.planes(), found.y.planes_mut(), accumulate).unwrap();
        check(&what("forward"), &found.y, &y, accumulate.then_some(&case.y));
        input_gradient_at(level, g, case.y.planes(), case.w.planes(), found.x.planes_mut(), accumulate).unwrap();
        check(&what("input gradient"), &found.x, &gx, accumulate.then_some(&case.x));
        weight_gradient_at(level, g, case.x.planes(), case.y.planes(), found.w.planes_mut(), accumulate).unwrap();
        check(&what("weight gradient"), &found.w, &gw, accumulate.then_some(&case.w));
    }
}

/// A random shape of up to `dims` spatial axes.
/// Every shape at every level in both precisions.
fn check_shapes(seed: u64, shapes: &[Shape]) {
    let mut random = Random(seed);
    for &(batch, i, o, input, kernel, stride, padding) in shapes {
        let g = Geometry::new(batch, i, o, input, kernel, stride, padding).unwrap();
        for level in levels() {
            check_case(level, &Case::<f32>::new(&mut random, g, true));
            check_case(level, &Case::<f64>::new(&mut random, g, true));
        }
    }
}

fn random_geometry(random: &mut Random, dims: usize) -> Geometry {
    loop {
        let (mut input, mut kernel, mut stride, mut padding) = ([1; 3], [1; 3], [1; 3], [0; 3]);
        for axis in 3 - dims..3 {
            input[axis] = random.range(1, [60, 16, 7][dims - 1]);
            kernel[axis] = random.range(1, if dims == 3 { 4 } else { 5 });
            stride[axis] = if random.range(0, 1) == 0 { 1 } else { random.range(1, 4) };
            padding[axis] = random.range(0, 3);
        }
        let (batch, i, o) = (random.range(1, 5), random.range(1, 40), random.range(1, 40));
        let shrink = if dims == 3 { 3 } else { 1 };
        let (i, o) = (i.div_ceil(shrink), o.div_ceil(shrink));
        match Geometry::new(batch, i, o, input, kernel, stride, padding) {
            Ok(g) if g.flops() < 4e6 => return g,
            _ => {}
        }
    }
}

fn sweep<T: Number>(dims: usize, count: usize) {
    let mut random = Random(dims as u64);
    for _ in 0..count {
        let g = random_geometry(&mut random, dims);
        let case = Case::<T>::new(&mut random, g, true);
        for level in levels() {
            check_case(level, &case);
        }
    }
}

#[test]
fn random_signals() {
    sweep::<f32>(1, 150);
    sweep::<f64>(1, 100);
}

#[test]
fn random_images() {
    sweep::<f32>(2, 150);
    sweep::<f64>(2, 100);
}

#[test]
fn random_volumes() {
    sweep::<f32>(3, 120);
    sweep::<f64>(3, 80);
}

/// Shapes that take several boxes, chunks of channels, or parts of rows.
#[test]
fn large_shapes() {
    let shapes: [Shape; 20] = [
        (2, 3, 5, [1, 1, 9001], [1, 1, 7], [1, 1, 1], [1, 1, 3]),
        (1, 2, 3, [1, 1, 20000], [1, 1, 5], [1, 1, 3], [1, 1, 2]),
        (3, 6, 20, [1, 33, 47], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
        (1, 4, 7, [1, 130, 131], [1, 3, 3], [1, 2, 2], [0, 1, 1]),
        (1, 3, 2, [1, 5, 4001], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
        (1, 700, 11, [1, 9, 30], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
        (1, 5, 600, [1, 6, 7], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
        (1, 4, 3, [25, 26, 27], [3, 3, 3], [1, 1, 1], [1, 1, 1]),
        (2, 2, 3, [17, 18, 40], [4, 2, 3], [2, 2, 1], [1, 0, 2]),
        (70, 5, 9, [1, 4, 4], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
        (300, 13, 17, [1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
        (150, 300, 270, [1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
        (90, 40, 50, [1, 1, 1], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
        (3, 33, 65, [1, 40, 40], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
        (2, 300, 33, [1, 17, 23], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
        (3, 20, 64, [5, 9, 11], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
        // Weights that units pack for themselves.
        (1, 91, 83, [1, 9, 8], [1, 6, 7], [1, 1, 1], [0, 3, 3]),
        (2, 40, 37, [6, 7, 8], [6, 5, 7], [1, 2, 3], [2, 2, 3]),
        // More phases of the input than lists are kept for.
        (1, 12, 20, [9, 10, 8], [6, 6, 6], [4, 4, 4], [2, 2, 2]),
        (1, 60, 70, [8, 8, 9], [5, 5, 5], [4, 4, 4], [1, 1, 1]),
    ];
    let mut random = Random(7);
    for (batch, i, o, input, kernel, stride, padding) in shapes {
        let g = Geometry::new(batch, i, o, input, kernel, stride, padding).unwrap();
        let case = Case::<f32>::new(&mut random, g, true);
        for level in levels() {
            check_case(level, &case);
        }
        let case = Case::<f64>::new(&mut random, g, false);
        check_case(level(), &case);
    }
}

/// Few channels on one side: rows of all taps, added to their neighbours. One sample in a strip, several, strips of samples, parts of signals, vectors
/// that end after the sample.
#[test]
fn few_targets() {
    const SHAPES: [Shape; 15] = [
        (3, 5, 70, [1, 9, 11], [1; 3], [1; 3], [0; 3]),
        (1, 3, 40, [3, 25, 31], [1; 3], [1; 3], [0; 3]),
        (20, 2, 33, [1, 8, 8], [1; 3], [1; 3], [0; 3]),
        (17, 2, 40, [1, 11, 13], [1, 3, 3], [1; 3], [0, 1, 1]),
        (160, 1, 19, [1, 8, 6], [1, 3, 3], [1; 3], [0, 1, 1]),
        (5, 3, 70, [1, 29, 31], [1, 3, 3], [1; 3], [0, 1, 1]),
        (7, 2, 40, [1, 9, 11], [1, 3, 3], [1; 3], [0, 1, 1]),
        (2, 1, 33, [1, 70, 37], [1, 5, 5], [1; 3], [0, 2, 2]),
        (1, 2, 64, [1, 33, 64], [1, 1, 7], [1; 3], [0, 0, 3]),
        (1, 1, 30, [1, 60, 90], [1, 7, 1], [1; 3], [0, 3, 0]),
        (2, 1, 33, [1, 1, 3001], [1, 1, 9], [1; 3], [0, 0, 4]),
        (1, 2, 40, [1, 1, 40000], [1, 1, 5], [1; 3], [0, 0, 2]),
        (1, 1, 40, [10, 12, 13], [3, 3, 3], [1; 3], [1; 3]),
        (2, 1, 32, [9, 30, 20], [5, 3, 3], [1; 3], [2, 1, 1]),
        (3, 1, 20, [5, 6, 7], [3, 3, 3], [1; 3], [1; 3]),
    ];
    let mut random = Random(23);
    for (batch, few, many, input, kernel, stride, padding) in SHAPES {
        for (i, o) in [(few, many), (many, few)] {
            let g = Geometry::new(batch, i, o, input, kernel, stride, padding).unwrap();
            for level in levels() {
                check_case(level, &Case::<f32>::new(&mut random, g, true));
                check_case(level, &Case::<f64>::new(&mut random, g, true));
            }
        }
    }
}

/// Shapes that are folded to fewer multiplications: signals, images and volumes, lines that fill their tiles and lines that do not, several strips, parts of lines, chunks of
/// channels, parts of outputs.
#[test]
fn folded_shapes() {
    const SHAPES: [Shape; 28] = [
        (2, 48, 50, [1, 1, 700], [1, 1, 3], [1; 3], [0, 0, 1]),
        (1, 60, 130, [1, 1, 301], [1, 1, 3], [1; 3], [0, 0, 1]),
        (2, 33, 20, [1, 32, 32], [1, 3, 3], [1; 3], [0, 1, 1]),
        (1, 70, 49, [1, 21, 19], [1, 3, 3], [1; 3], [0, 1, 1]),
        (3, 17, 34, [1, 15, 30], [1, 3, 3], [1; 3], [0, 1, 1]),
        (1, 16, 66, [1, 13, 53], [1, 5, 3], [1; 3], [0, 2, 1]),
        (1, 64, 64, [1, 9, 50], [1, 1, 3], [1; 3], [0, 0, 1]),
        (2, 20, 16, [5, 9, 18], [3, 3, 3], [1; 3], [1, 1, 1]),
        (1, 7, 40, [4, 11, 37], [3, 3, 3], [1; 3], [1, 1, 1]),
        (1, 12, 13, [7, 5, 24], [5, 1, 3], [1; 3], [2, 0, 1]),
        (1, 24, 25, [1, 40, 130], [1, 3, 3], [1; 3], [0, 1, 1]),
        (1, 200, 18, [1, 14, 14], [1, 3, 3], [1; 3], [0, 1, 1]),
        (1, 9, 130, [1, 3, 699], [1, 3, 3], [1; 3], [0, 1, 1]),
        (1, 25, 30, [1, 1, 5001], [1, 1, 3], [1; 3], [0, 0, 1]),
        (1, 33, 30, [1, 1, 1500], [1, 1, 3], [1; 3], [0, 0, 0]),
        (1, 33, 30, [1, 1, 1501], [1, 1, 3], [1; 3], [0, 0, 2]),
        (2, 20, 33, [1, 30, 35], [1, 3, 3], [1; 3], [0, 0, 0]),
        (2, 20, 33, [1, 30, 34], [1, 2, 3], [1; 3], [0, 1, 2]),
        (1, 30, 20, [1, 30, 40], [1, 4, 3], [1; 3], [0, 0, 1]),
        (1, 16, 20, [7, 9, 21], [2, 3, 3], [1; 3], [1, 2, 0]),
        (1, 30, 33, [1, 1, 1201], [1, 1, 5], [1; 3], [0, 0, 2]),
        (1, 20, 33, [1, 24, 33], [1, 5, 5], [1; 3], [0, 2, 2]),
        (1, 20, 16, [1, 16, 34], [1, 3, 9], [1; 3], [0, 0, 8]),
        (1, 20, 16, [1, 24, 33], [1, 6, 6], [1; 3], [0, 3, 3]),
        (2, 16, 20, [1, 16, 35], [1, 7, 7], [1; 3], [0, 3, 3]),
        (2, 26, 40, [1, 40, 32], [1, 2, 2], [1; 3], [0, 1, 1]),
        (1, 16, 17, [6, 12, 32], [4, 4, 4], [1; 3], [2, 2, 1]),
        (1, 16, 17, [5, 11, 33], [1, 1, 8], [1; 3], [0, 0, 3]),
    ];
    check_shapes(19, &SHAPES);
}

/// Kernels of one tap whose channels fill some vectors, and a few are left, beside many on the other side, in both roles.
#[test]
fn few_channels_are_left() {
    const SHAPES: [Shape; 5] = [
        (2, 130, 19, [1, 13, 17], [1; 3], [1; 3], [0; 3]),
        (1, 19, 133, [1, 15, 12], [1; 3], [1; 3], [0; 3]),
        (3, 128, 38, [1, 1, 1040], [1; 3], [1; 3], [0; 3]),
        (2, 129, 129, [1, 12, 12], [1; 3], [1; 3], [0; 3]),
        (1, 17, 200, [3, 7, 9], [1; 3], [1; 3], [0; 3]),
    ];
    check_shapes(31, &SHAPES);
}

/// Strides, whose inputs are copied as they are: signals, images and volumes, kernels as long as the stride and longer, strides of their own along each
/// axis, boxes of several samples, of slices, of lines and of parts of them, chunks of inputs, padding longer than the kernel needs.
#[test]
fn strided_shapes() {
    const SHAPES: [Shape; 13] = [
        (1, 51, 56, [14, 21, 19], [4; 3], [3; 3], [2; 3]),
        (2, 22, 27, [8, 8, 12], [3; 3], [3; 3], [1; 3]),
        (1, 32, 32, [13, 24, 25], [3; 3], [2; 3], [1; 3]),
        (2, 60, 21, [12, 16, 12], [5; 3], [3; 3], [2; 3]),
        (3, 33, 48, [1, 33, 37], [1, 4, 4], [1, 4, 4], [0; 3]),
        (2, 100, 37, [1, 25, 24], [1, 3, 3], [1, 2, 2], [0, 1, 1]),
        (30, 19, 64, [1, 8, 8], [1, 2, 2], [1, 2, 2], [0; 3]),
        (1, 40, 96, [1, 1, 9001], [1, 1, 5], [1, 1, 3], [0, 0, 2]),
        (1, 20, 32, [1, 3, 5001], [1, 2, 3], [1, 1, 2], [0, 1, 1]),
        (2, 48, 16, [5, 30, 31], [2, 3, 3], [2, 1, 3], [0, 1, 3]),
        (1, 17, 15, [9, 9, 9], [7; 3], [2; 3], [3; 3]),
        (1, 130, 30, [1, 14, 15], [1, 7, 7], [1, 3, 2], [0, 6, 7]),
        (2, 30, 16, [1, 40, 40], [1, 3, 3], [1, 5, 4], [0, 1, 1]),
    ];
    check_shapes(29, &SHAPES);
}

/// Channel counts around whole vectors and blocks of rows, in both roles, with
/// few and many samples of few pixels, down to a single one (dense data).
#[test]
fn channels_and_batches() {
    let mut random = Random(9);
    for (n, k, p) in [(1, 1, 0), (1, 3, 1), (7, 1, 0), (7, 3, 1), (4, 2, 0)] {
        for batch in [1, 2, 9] {
            for (i, o) in [(1, 1), (1, 33), (33, 1), (15, 17), (16, 48), (17, 31), (8, 9), (5, 70), (49, 10), (64, 2)] {
                let g = Geometry::new(batch, i, o, [1, n, n], [1, k, k], [1; 3], [0, p, p]).unwrap();
                let (single, double) = (Case::<f32>::new(&mut random, g, true), Case::<f64>::new(&mut random, g, true));
                for level in levels() {
                    check_case(level, &single);
                    check_case(level, &double);
                }
            }
        }
    }
}

/// Empty batches, no channels, and padding that leaves output pixels without
/// any input pixel or a tap without a use.
#[test]
fn degenerate_shapes() {
    let mut random = Random(8);
    for (batch, i, o) in [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0), (200, 0, 300), (1, 1, 1)] {
        for (input, kernel, stride, padding) in [
            ([1, 4, 5], [1, 3, 3], [1, 2, 1], [0, 1, 1]),
            ([1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
            ([1, 1, 1], [1, 1, 1], [1, 1, 3], [0, 0, 1]),
            ([1, 1, 2], [1, 1, 1], [1, 1, 1], [0, 0, 3]),
            ([1, 3, 3], [1, 1, 1], [1, 5, 5], [0, 0, 0]),
            ([2, 1, 7], [2, 4, 2], [3, 4, 7], [1, 3, 0]),
        ] {
            let g = Geometry::new(batch, i, o, input, kernel, stride, padding).unwrap();
            let case = Case::<f64>::new(&mut random, g, true);
            for level in levels() {
                check_case(level, &case);
            }
        }
    }
}

/// Gradients of 64 MB and more with gaps, whose zeros pass by the caches: all of them before (strides of 4), and lines between others (2).
#[test]
fn large_gradients_with_gaps() {
    let (extent, inputs) = (2049, 4);
    for level in levels() {
        for stride in [2, 4] {
            let g = Geometry::new(1, inputs, 1, [1, extent, extent], [1; 3], [1, stride, stride], [0; 3]).unwrap();
            let (pixels, outputs) = (g.input_pixels(), g.output_pixels());
            assert!(inputs * pixels * size_of::<f32>() >= 64 << 20);
            let gy: Vec<f32> = (0..outputs).map(|q| (q % 97 + 1) as f32).collect();
            let w: Vec<f32> = (0..inputs).map(|i| (i + 1) as f32).collect();
            let mut gx = vec![f32::NAN; inputs * pixels];
            let to = PlanesMut { data: &mut gx, batch_stride: inputs * pixels, channel_stride: pixels };
            let from = Planes { data: &gy, batch_stride: outputs, channel_stride: outputs };
            input_gradient_at(level, &g, from, Planes { data: &w, batch_stride: inputs, channel_stride: 1 }, to, false).unwrap();
            for (i, plane) in gx.chunks_exact(pixels).enumerate() {
                let expected = |y: usize, x: usize| {
                    let reached = y.is_multiple_of(stride) && x.is_multiple_of(stride);
                    if reached { w[i] * gy[y / stride * g.output[2] + x / stride] } else { 0.0 }
                };
                let wrong = (0..pixels).find(|p| plane[*p] != expected(p / extent, p % extent));
                assert_eq!(wrong, None, "stride {stride}, channel {i} at {level:?}");
            }
        }
    }
}
