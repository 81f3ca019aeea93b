//! Squeezes against worked fixtures and their definitions: order of channels, orthogonality, windows, refusals.

use inn_core::view::ViewMut;
use inn_core::{Backend, Direction, Shape, Squeeze, Window};
use inn_ops::Cpu;

const ALL: [Squeeze; 4] = [Squeeze::Checkerboard, Squeeze::Patch, Squeeze::Column, Squeeze::Haar];

/// The window after a squeeze and the whole buffer.
fn run(squeeze: Squeeze, dir: Direction, window: Window, values: &[f64]) -> inn_core::Result<(Window, Vec<f64>)> {
    let cpu = Cpu::<f64>::new();
    let mut buffer = cpu.upload(values)?;
    let mut view = ViewMut::<Cpu<f64>>::new(&mut buffer, window)?;
    cpu.squeeze(squeeze, dir, &mut view)?;
    let window = view.window();
    Ok((window, cpu.read(&buffer)?))
}

fn forward(squeeze: Squeeze, dims: &[usize], values: &[f64]) -> (Shape, Vec<f64>) {
    let window = Window::contiguous(Shape::from_dims(dims).unwrap(), 0);
    let (window, values) = run(squeeze, Direction::Forward, window, values).unwrap();
    (window.shape, values)
}

fn count(n: usize) -> Vec<f64> {
    (0..n).map(|i| i as f64).collect()
}

#[test]
fn four_by_four() {
    let fixtures = [
        (Squeeze::Checkerboard, [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]),
        (Squeeze::Patch, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]),
        (Squeeze::Column, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    ];
    for (squeeze, expected) in fixtures {
        let (shape, got) = forward(squeeze, &[1, 1, 4, 4], &count(16));
        assert_eq!(shape.dims(), [1, 4, 2, 2]);
        assert_eq!(got, expected.map(f64::from), "{squeeze:?}");
    }
}

#[test]
fn haar_lifting_in_one_dimension() {
    let (shape, got) = forward(Squeeze::Haar, &[1, 1, 8], &[1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0]);
    assert_eq!(shape.dims(), [1, 2, 4]);
    let expected = [3.0, 8.0, 21.0, 55.0, -1.0, -2.0, -5.0, -13.0].map(|v| v / 2f64.sqrt());
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() < 1e-13, "{g} against {e}");
    }
}

/// The value that belongs at a place of the squeezed side, from the definition.
fn defined(squeeze: Squeeze, large: Shape, x: &[f64], b: usize, channel: usize, s: [usize; 3]) -> f64 {
    let (rank, channels, n) = (large.rank(), large.channels(), large.extents());
    let at = |c: usize, p: [usize; 3]| x[((b * channels + c) * n[0] + p[0]) * n[1] * n[2] + p[1] * n[2] + p[2]];
    let (q, c) = (channel / channels, channel % channels);
    // Bits of the band on the axes z, y, x; axis x is the last.
    let on = |axis: usize, bit: usize| if axis + rank >= 3 { bit } else { 0 };
    match squeeze {
        Squeeze::Checkerboard | Squeeze::Patch => {
            let bits = [q >> 2 & 1, q >> 1 & 1, q & 1];
            at(
                c,
                std::array::from_fn(|axis| match (axis + rank >= 3, squeeze) {
                    (false, _) => 0,
                    (true, Squeeze::Patch) => bits[axis] * n[axis] / 2 + s[axis],
                    _ => 2 * s[axis] + bits[axis],
                }),
            )
        }
        Squeeze::Column => {
            let small: usize = n.iter().product::<usize>() >> rank;
            let small_extents: [usize; 3] = std::array::from_fn(|axis| if axis + rank >= 3 { n[axis] / 2 } else { 1 });
            let r = (s[0] * small_extents[1] + s[1]) * small_extents[2] + s[2];
            x[b * large.sample_len() + channel * small + r]
        }
        Squeeze::Haar => {
            // 1D q' = b_x; 2D q' = b_y + 2 b_x; 3D q' = b_z + 2 b_y + 4 b_x.
            let bits = match rank {
                1 => [0, 0, q & 1],
                2 => [0, q & 1, q >> 1 & 1],
                _ => [q & 1, q >> 1 & 1, q >> 2 & 1],
            };
            let mut sum = 0.0;
            for corner in 0..1 << rank {
                let second = [on(0, corner >> 2 & 1), on(1, corner >> 1 & 1), corner & 1];
                let sign = (0..3).fold(1.0, |sign, axis| if bits[axis] * second[axis] == 1 { -sign } else { sign });
                sum += sign * at(c, std::array::from_fn(|axis| if axis + rank >= 3 { 2 * s[axis] + second[axis] } else { 0 }));
            }
            sum / 2f64.powf(rank as f64 / 2.0)
        }
        Squeeze::Wavelet(_) => unreachable!("tests/wavelets.rs"),
    }
}

#[test]
fn agrees_with_the_definition_in_every_dimension() {
    for dims in [&[3, 2, 6][..], &[1, 3, 4, 6], &[2, 2, 6, 2, 4], &[9, 5, 32, 32]] {
        let large = Shape::from_dims(dims).unwrap();
        let x: Vec<f64> = (0..large.len()).map(|i| ((i * 37 + 11) % 101) as f64).collect();
        for squeeze in ALL {
            let (small, got) = forward(squeeze, dims, &x);
            let e = small.extents();
            for (i, g) in got.iter().enumerate() {
                let (p, channel) = (i % small.pixels(), i / small.pixels() % small.channels());
                let s = [p / (e[1] * e[2]), p / e[2] % e[1], p % e[2]];
                let expected = defined(squeeze, large, &x, i / small.sample_len(), channel, s);
                assert!((g - expected).abs() < 1e-12 * (1.0 + expected.abs()), "{squeeze:?} of {large} at {i}: {g} against {expected}");
            }
            // Orthogonal: the norm stays, and the inverse (which is the adjoint) brings every value back.
            let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
            assert!((norm(&got) / norm(&x) - 1.0).abs() < 1e-13);
            let (window, back) = run(squeeze, Direction::Inverse, Window::contiguous(small, 0), &got).unwrap();
            assert_eq!(window.shape, large);
            assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-12), "{squeeze:?} of {large}");
        }
    }
}

#[test]
fn a_range_of_channels_is_squeezed_where_it_lies() {
    let whole = Window::contiguous(Shape::new(3, 5, &[4, 4]).unwrap(), 7);
    let (part, values) = (whole.channels(1..4), count(whole.end() + 3));
    for squeeze in ALL {
        let (window, got) = run(squeeze, Direction::Forward, part, &values).unwrap();
        for b in 0..3 {
            let start = |w: &Window| w.offset + b * w.batch_stride;
            let alone = forward(squeeze, &[1, 3, 4, 4], &values[start(&part)..start(&part) + 48]).1;
            assert_eq!(&got[start(&window)..start(&window) + 48], &alone[..], "{squeeze:?}");
        }
        let touched = |i: usize| (0..3).any(|b| (part.offset + b * part.batch_stride..).take(48).any(|j| j == i));
        assert!((0..values.len()).filter(|&i| !touched(i)).all(|i| got[i] == values[i]), "{squeeze:?} wrote outside of its window");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for squeeze in ALL {
        let refuse = |dir, dims: &[usize]| {
            let shape = Shape::from_dims(dims).unwrap();
            run(squeeze, dir, Window::contiguous(shape, 0), &count(shape.len())).unwrap_err().to_string()
        };
        assert!(refuse(Direction::Forward, &[1, 2, 4, 3]).contains("even spatial extents"));
        assert!(refuse(Direction::Forward, &[4, 4]).contains("at least one spatial axis"));
        assert!(refuse(Direction::Inverse, &[1, 6, 3, 3]).contains("multiple of 4"));
        // Odd extents may come back.
        let shape = Shape::new(2, 8, &[3, 5]).unwrap();
        assert!(run(squeeze, Direction::Inverse, Window::contiguous(shape, 0), &count(shape.len())).is_ok());
    }
}
