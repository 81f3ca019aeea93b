//! Properties of the convolutions: adjointness, independence of the number of
//! threads, bounded memory, and errors for arguments that do not fit.

mod conv_common;

use conv_common::{Case, Number, Random, Shape, Window};
use inn_ops::conv::{ConvError, Geometry, Op, Planes, PlanesMut, forward, input_gradient, scratch_bytes, weight_gradient};

const SHAPES: [Shape; 18] = [
    (1, 19, 150, [1, 20, 33], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
    (1, 1032, 1040, [1, 1, 129], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
    (8, 6, 40, [1, 32, 32], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
    (8, 64, 48, [1, 32, 32], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
    (3, 40, 12, [1, 33, 31], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
    (1, 16, 24, [1, 100, 101], [1, 3, 3], [1, 2, 2], [0, 1, 1]),
    (128, 2, 32, [1, 8, 8], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
    (1, 8, 9, [24, 24, 24], [3, 3, 3], [1, 1, 1], [1, 1, 1]),
    (2, 3, 8, [20, 21, 22], [4, 3, 2], [2, 1, 2], [1, 1, 0]),
    (4, 5, 16, [1, 1, 5000], [1, 1, 5], [1, 1, 1], [0, 0, 2]),
    (512, 64, 64, [1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
    (1, 256, 200, [1, 4, 4], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
    (400, 300, 310, [1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]),
    (1, 48, 96, [1, 40, 46], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
    (1, 1, 1, [1, 1, 2], [1, 1, 2], [1, 1, 1], [0, 0, 0]),
    (1, 2, 64, [1, 70, 41], [1, 3, 3], [1, 1, 1], [0, 1, 1]),
    (2, 40, 1, [1, 1, 6001], [1, 1, 9], [1, 1, 1], [0, 0, 4]),
    (1, 1, 40, [14, 12, 13], [3, 3, 3], [1, 1, 1], [1, 1, 1]),
];

fn cases<T: Number>(margins: bool) -> impl Iterator<Item = Case<T>> {
    let mut random = Random(11);
    SHAPES.into_iter().map(move |(batch, i, o, input, kernel, stride, padding)| {
        let g = Geometry::new(batch, i, o, input, kernel, stride, padding).unwrap();
        Case::new(&mut random, g, margins)
    })
}

/// All three results of a case.
fn results<T: Number>(case: &Case<T>, accumulate: bool) -> [Window<T>; 3] {
    let mut out = case.clone();
    let (g, x, w, y) = (&case.g, case.x.planes(), case.w.planes(), case.y.planes());
    forward(g, x, w, out.y.planes_mut(), accumulate).unwrap();
    input_gradient(g, y, w, out.x.planes_mut(), accumulate).unwrap();
    weight_gradient(g, x, y, out.w.planes_mut(), accumulate).unwrap();
    [out.y, out.x, out.w]
}

fn dot<T: Number>(a: &Window<T>, b: &Window<T>) -> (f64, f64) {
    let (a, b) = (a.values(), b.values());
    let terms = || a.iter().zip(&b).map(|(a, b)| a * b);
    (terms().sum(), terms().map(|term| term * term).sum::<f64>().sqrt())
}

fn check_adjoint<T: Number>() {
    for case in cases::<T>(true) {
        let [y, gx, gw] = results(&case, false);
        let (a, scale) = dot(&y, &case.y);
        let (b, _) = dot(&gx, &case.x);
        let (c, _) = dot(&gw, &case.w);
        let bound = 10.0 * T::TOLERANCE * scale;
        assert!((a - b).abs() <= bound && (a - c).abs() <= bound, "{a} {b} {c} for {:?}", case.g);
    }
}

#[test]
fn gradients_are_adjoint() {
    check_adjoint::<f32>();
    check_adjoint::<f64>();
}

fn check_threads<T: Number>() {
    for case in cases::<T>(true) {
        for accumulate in [false, true] {
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| results(&case, accumulate)).map(|window| window.bits())
            };
            let one = on(1);
            assert!(one == on(2), "2 threads differ for {:?}", case.g);
            assert!(one == on(7), "7 threads differ for {:?}", case.g);
            // From outside of any pool.
            assert!(one == results(&case, accumulate).map(|window| window.bits()));
        }
    }
}

#[test]
fn threads_do_not_matter() {
    check_threads::<f32>();
    check_threads::<f64>();
}

#[test]
fn scratch_memory_is_bounded() {
    for op in [Op::Forward, Op::InputGradient, Op::WeightGradient] {
        let bytes = |batch: usize, extent: usize, threads: usize| {
            let g = Geometry::new(batch, 64, 64, [1, extent, extent], [1, 3, 3], [1; 3], [0, 1, 1]).unwrap();
            scratch_bytes::<f32>(&g, op, threads)
        };
        // Independent of the batch and the extent, once these are large.
        assert!(bytes(10_000, 4096, 2) <= 2 * bytes(8, 512, 2));
        // No copy of many weights, here 64 MB.
        let many = Geometry::new(1, 4096, 4096, [1, 64, 64], [1; 3], [1; 3], [0; 3]).unwrap();
        assert!(op == Op::WeightGradient || scratch_bytes::<f32>(&many, op, 2) < 16 << 20, "{op:?}");
        let thread = bytes(8, 512, 3) - bytes(8, 512, 2);
        assert!(thread < 2 << 20, "{thread} bytes a thread for {op:?}");
    }
}

#[test]
fn invalid_arguments_are_errors() {
    assert!(Geometry::new(1, 1, 1, [1, 1, 0], [1; 3], [1; 3], [0; 3]).is_err());
    assert!(Geometry::new(1, 1, 1, [1, 1, 4], [1, 1, 5], [1; 3], [0; 3]).is_err());
    assert!(Geometry::new(1, 1, 1, [1, 1, 4], [1, 1, 2], [1, 1, 0], [0; 3]).is_err());
    assert!(Geometry::new(1, 1, 1, [1 << 30, 1 << 30, 4], [1; 3], [1; 3], [0; 3]).is_err());
    // Each of the three arrays by itself.
    for [batch, i, o] in [[1 << 46, 2, 1], [1 << 46, 1, 3], [1, 1 << 23, 1 << 25], [1 << 46, 0, 3]] {
        let error = Geometry::new(batch, i, o, [1; 3], [1; 3], [1; 3], [0; 3]).unwrap_err();
        assert_eq!(error, ConvError::Geometry("an array is too large"), "{batch} samples, {i} -> {o} channels");
    }
    let g = Geometry::new(2, 2, 3, [1, 1, 4], [1, 1, 3], [1; 3], [0, 0, 1]).unwrap();
    let (x, w) = ([0.0f32; 16], [0.0f32; 18]);
    let mut y = [0.0f32; 24];
    let mut run = |g: &Geometry, x_len: usize, w_stride: usize, y_strides: [usize; 2]| {
        forward(
            g,
            Planes { data: &x[..x_len], batch_stride: 8, channel_stride: 4 },
            Planes { data: &w, batch_stride: w_stride, channel_stride: 3 },
            PlanesMut { data: &mut y, batch_stride: y_strides[0], channel_stride: y_strides[1] },
            false,
        )
    };
    assert_eq!(run(&g, 16, 6, [12, 4]), Ok(()));
    assert_eq!(run(&g, 15, 6, [12, 4]), Err(ConvError::Length { array: "x", needed: Some(16), found: 15 }));
    assert_eq!(run(&g, 16, usize::MAX, [12, 4]), Err(ConvError::Length { array: "w", needed: None, found: 18 }));
    assert_eq!(run(&g, 16, 6, [12, 3]), Err(ConvError::Overlap { array: "y" }));
    assert_eq!(run(&g, 16, 6, [11, 4]), Err(ConvError::Overlap { array: "y" }));
    // Channels outside of samples are fine as long as nothing overlaps.
    assert_eq!(run(&g, 16, 6, [4, 8]), Ok(()));
    let wrong = Geometry { output: [1, 1, 5], ..g };
    assert!(matches!(run(&wrong, 16, 6, [12, 4]), Err(ConvError::Geometry(_))));
}

/// The bound on working memory is told in no time for whatever a geometry may be. It grows by weights alone: boxes
/// of a few pixels, whose margins are what the largest kernel here reaches (64 x 64 x 64), take 4 GB at most.
#[test]
fn any_geometry_has_a_bound() {
    let mut random = Random(11);
    // As many numbers of 10 bits as of 40.
    let mut size = |bits| {
        let below = 1 << random.range(0, bits);
        below + random.range(0, below - 1)
    };
    let mut done = 0;
    while done < 20_000 {
        let (batch, i, o) = (size(44), size(36), size(36));
        let input = [(); 3].map(|()| size(24));
        let [kernel, stride, padding] = [(); 3].map(|()| [(); 3].map(|()| size(5)));
        let Ok(g) = Geometry::new(batch, i, o, input, kernel, stride, padding.map(|padding| padding - 1)) else { continue };
        for op in [Op::Forward, Op::InputGradient, Op::WeightGradient] {
            let bytes = scratch_bytes::<f32>(&g, op, 2).max(scratch_bytes::<f64>(&g, op, 2) / 2);
            let weights = 4 * i * o * g.taps();
            assert!(bytes < (1 << 32) + 16 * weights, "{op:?} of {g:?} takes {bytes} bytes, its weights {weights}");
        }
        done += 1;
    }
}
