//! Wavelet squeezes against fixtures, recorded transforms and the definition; perfect reconstruction, refusals.

use inn_core::wavelet::Filter;
use inn_core::{Backend, Direction, Shape, Squeeze, Tensor, Wavelet};
use inn_ops::Cpu;
use inn_ops::wavelet::transform;

fn wavelet(name: &str) -> Wavelet {
    name.parse().unwrap()
}

fn numbers(n: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f64 / 504.0 - 1.0).collect()
}

fn run(squeeze: Squeeze, dir: Direction, shape: Shape, values: &[f64]) -> (Shape, Vec<f64>) {
    let cpu = Cpu::<f64>::new();
    let mut x = Tensor::from_slice(&cpu, shape, values).unwrap();
    let mut view = x.view_mut();
    cpu.squeeze(squeeze, dir, &mut view).unwrap();
    let shape = view.shape();
    (shape, x.to_vec().unwrap())
}

const SERIES: [f64; 8] = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0];

// Numbers of the original, as it prints them.
#[allow(clippy::approx_constant)]
#[test]
fn worked_fixtures_of_one_level() {
    let fixtures = [
        ("db1", [2.121320, 5.656854, 14.849242, 38.890873, 0.707107, 1.414214, 3.535534, 9.192388]),
        ("db2", [2.181380, 5.742297, 15.045513, 38.549100, 10.467901, 0.482963, 1.095335, 2.803043]),
        ("db4", [2.647685, 6.081188, 23.353386, 29.436031, 19.301538, -6.197500, 1.450151, 0.295053]),
        ("coif2", [4.299718, 11.235430, 34.696182, 11.286961, 19.601646, -2.201216, -0.670249, -1.880938]),
    ];
    for (name, expected) in fixtures {
        let (shape, got) = run(Squeeze::Wavelet(wavelet(name)), Direction::Forward, Shape::new(1, 1, &[8]).unwrap(), &SERIES);
        assert_eq!(shape.dims(), [1, 2, 4]);
        assert!(got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 1e-6), "{name}: {got:?}");
    }
}

/// One level of the same series by every filter of the original, as it computed them in double precision.
#[test]
fn every_filter_agrees_with_the_original() {
    let mut count = 0;
    for line in include_str!("data/dwt8.txt").lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let expected: Vec<f64> = words.map(|w| w.parse().unwrap()).collect();
        let mut got = SERIES;
        transform(&Filter::named(name, 2e-3).unwrap(), Direction::Forward, &[8], &mut got).unwrap();
        let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let error = got.iter().zip(&expected).map(|(g, e)| (g - e).abs()).fold(0.0, f64::max);
        assert!(error < 1e-9 * largest, "{name}: off by {error:e} of {largest}");
        count += 1;
    }
    assert_eq!(count, 27);
}

/// The value of band `q` at `s`: the product over the axes of the sums of the definition.
fn defined(taps: &[f64], large: Shape, plane: &[f64], q: usize, s: [usize; 3]) -> f64 {
    let (rank, n) = (large.rank(), large.extents());
    // (pixel, coefficient) along each axis.
    let axis = |axis: usize| -> Vec<(usize, f64)> {
        if axis + rank < 3 {
            return vec![(0, 1.0)];
        }
        let (k, bit, n) = (s[axis], q >> (2 - axis) & 1, n[axis]);
        let high = |m: usize, h: f64| ((2 * k + 1 + n * taps.len() - m) % n, if m.is_multiple_of(2) { h } else { -h });
        taps.iter().enumerate().map(|(m, &h)| if bit == 0 { ((2 * k + m) % n, h) } else { high(m, h) }).collect()
    };
    let (z, y, x) = (axis(0), axis(1), axis(2));
    let mut sum = 0.0;
    for (pz, hz) in &z {
        for (py, hy) in &y {
            sum += x.iter().map(|(px, hx)| hz * hy * hx * plane[(pz * n[1] + py) * n[2] + px]).sum::<f64>();
        }
    }
    sum
}

#[test]
fn agrees_with_the_definition_in_every_dimension_and_comes_back() {
    for (name, dims) in
        [("db3", &[3, 2, 10][..]), ("sym5", &[2, 3, 4, 6]), ("db2", &[1, 2, 6, 2, 4]), ("coif4", &[2, 1, 2, 8]), ("db1", &[5, 9, 32, 32])]
    {
        let large = Shape::from_dims(dims).unwrap();
        let (wavelet, x) = (wavelet(name), numbers(large.len()));
        let squeeze = Squeeze::Wavelet(wavelet);
        let (small, got) = run(squeeze, Direction::Forward, large, &x);
        assert_eq!(small, squeeze.output(Direction::Forward, large).unwrap());
        let (e, bands) = (small.extents(), 1 << large.rank());
        for (i, g) in got.iter().enumerate() {
            let (p, channel) = (i % small.pixels(), i / small.pixels() % small.channels());
            // Channel major: c' = 2^d c + q.
            let (c, q) = (channel / bands, channel % bands);
            let plane = (i / small.sample_len() * large.channels() + c) * large.pixels();
            let s = [p / (e[1] * e[2]), p / e[2] % e[1], p % e[2]];
            let expected = defined(wavelet.taps(), large, &x[plane..plane + large.pixels()], q, s);
            assert!((g - expected).abs() < 1e-12, "{name} of {large} at {i}: {g} against {expected}");
        }
        let (shape, back) = run(squeeze, Direction::Inverse, small, &got);
        assert_eq!(shape, large);
        assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-10), "{name} of {large}");
    }
}

#[test]
fn perfect_reconstruction_by_every_filter_at_every_length() {
    for wavelet in Wavelet::all() {
        for n in [2, 4, 6, 14, 64] {
            let (filter, x) = (Filter::named(wavelet.name(), 1e-9).unwrap(), numbers(3 * n));
            let mut y = x.clone();
            transform(&filter, Direction::Forward, &[n], &mut y).unwrap();
            let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
            assert!((norm(&y) / norm(&x) - 1.0).abs() < 1e-10, "{wavelet} at {n}");
            transform(&filter, Direction::Inverse, &[n], &mut y).unwrap();
            assert!(y.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-10), "{wavelet} at {n}");
        }
    }
}

#[test]
fn a_range_of_channels_in_single_precision_by_any_number_of_threads() {
    let shape = Shape::new(5, 7, &[16, 24]).unwrap();
    let values: Vec<f32> = numbers(shape.len()).iter().map(|&v| v as f32).collect();
    let squeeze = Squeeze::Wavelet(wavelet("db4"));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let cpu = Cpu::<f32>::new();
            let mut x = Tensor::from_slice(&cpu, shape, &values).unwrap();
            cpu.squeeze(squeeze, Direction::Forward, &mut x.view_mut().channels(2..6)).unwrap();
            x.to_vec().unwrap()
        })
    };
    let (one, three) = (run(1), run(3));
    assert_eq!(one, three);
    for b in 0..5 {
        let part = |c: std::ops::Range<usize>| (b * 7 + c.start) * 384..(b * 7 + c.end) * 384;
        assert_eq!(one[part(0..2)], values[part(0..2)]);
        assert_eq!(one[part(6..7)], values[part(6..7)]);
        let mut alone: Vec<f64> = values[part(2..6)].iter().map(|&v| f64::from(v)).collect();
        transform(&Filter::named("db4", 1e-9).unwrap(), Direction::Forward, &[16, 24], &mut alone).unwrap();
        assert!(one[part(2..6)].iter().zip(&alone).all(|(a, b)| (f64::from(*a) - b).abs() < 2e-6));
    }
}

#[test]
fn squeezes_are_written_by_name() {
    for squeeze in [Squeeze::Haar, Squeeze::Wavelet(wavelet("db4"))] {
        let text = serde_json::to_string(&squeeze).unwrap();
        assert_eq!(serde_json::from_str::<Squeeze>(&text).unwrap(), squeeze);
    }
    assert_eq!(serde_json::to_string(&Squeeze::Wavelet(wavelet("coif2"))).unwrap(), r#"{"wavelet":"coif2"}"#);
    let message = serde_json::from_str::<Squeeze>(r#"{"wavelet":"db12"}"#).unwrap_err().to_string();
    assert!(message.contains("db10"), "{message}");
    assert!(serde_json::from_str::<Squeeze>(r#"{"wavelet":"batt4"}"#).unwrap_err().to_string().contains("orthonormal"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let db2 = Filter::named("db2", 1e-9).unwrap();
    let refuse = |extents: &[usize], n: usize| transform(&db2, Direction::Forward, extents, &mut vec![0.0; n]).unwrap_err().to_string();
    assert!(refuse(&[3], 3).contains("even extents"));
    assert!(refuse(&[], 1).contains("1 to 3"));
    assert!(refuse(&[4, 4], 24).contains("multiple of 16"));
}
