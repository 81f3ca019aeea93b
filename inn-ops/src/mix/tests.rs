use super::*;
use inn_core::{Access, Backend, Tensor};

/// Numbers in -1..1 without a pattern.
fn number(i: usize) -> f64 {
    ((i * 7919 % 1009) as f64) / 504.0 - 1.0
}

/// A mix of `count` reflections, the first vector zero where there are three, and what it is applied to.
struct Case {
    count: usize,
    channels: usize,
    affine: bool,
    /// The v_i, s and b.
    numbers: Vec<f64>,
}

impl Case {
    fn new(count: usize, channels: usize, affine: bool) -> Self {
        let mut numbers: Vec<f64> = (0..(count + 2) * channels).map(|i| number(i + 3)).collect();
        if count == 3 {
            numbers[..channels].fill(0.0);
        }
        numbers[count * channels..].iter_mut().take(channels).for_each(|s| *s += s.signum() * 0.5);
        Self { count, channels, affine, numbers }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.numbers[i * self.channels..][..self.channels]
    }

    /// The definition at one pixel.
    fn pixel(&self, dir: Direction, x: &mut [f64]) {
        let (s, b) = (self.row(self.count), self.row(self.count + 1));
        if self.affine && dir == Direction::Forward {
            x.iter_mut().enumerate().for_each(|(c, x)| *x = *x * s[c] + b[c]);
        }
        for i in 0..self.count {
            let v = self.row(if dir == Direction::Forward { i } else { self.count - 1 - i });
            let norm: f64 = v.iter().map(|v| v * v).sum();
            let dot: f64 = v.iter().zip(&*x).map(|(v, x)| v * x).sum();
            x.iter_mut().zip(v).for_each(|(x, v)| *x -= 2.0 * dot / norm.max(1e-300) * v);
        }
        if self.affine && dir == Direction::Inverse {
            x.iter_mut().enumerate().for_each(|(c, x)| *x = (*x - b[c]) / s[c]);
        }
    }

    fn log_scale(&self) -> f64 {
        if self.affine { self.row(self.count).iter().map(|s| s.abs().ln()).sum() } else { 0.0 }
    }

    fn with<T: CpuElement, R>(&self, cpu: &Cpu<T>, run: impl FnOnce(&Mix<'_, Cpu<T>>) -> R) -> R {
        let all = Tensor::from_f64(cpu, Shape::rows(self.count + 2, self.channels), &self.numbers).unwrap();
        let row = |i| View::new(all.buffer(), Window::contiguous(Shape::per_channel(self.channels), i * self.channels)).unwrap();
        let affine = self.affine.then(|| [row(self.count), row(self.count + 1)]);
        run(&Mix { affine, vectors: all.view().samples(0..self.count) })
    }
}

fn close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len());
    let size = expected.iter().fold(1.0, |m: f64, e| m.max(e.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * size, "{what}: {i} is {g}, expected {e}");
    }
}

/// A state within a larger one, whose other channels stay as they are.
fn state<T: CpuElement>(cpu: &Cpu<T>, outer: Shape, shift: usize) -> Tensor<Cpu<T>> {
    let values: Vec<f64> = (0..outer.len()).map(|i| number(i + shift)).collect();
    Tensor::from_f64(cpu, outer, &values).unwrap()
}

/// Map, way back and gradients against the definition and its central differences.
fn agrees<T: CpuElement>(case: &Case, inner: Shape, dir: Direction, tolerance: f64) {
    let cpu = Cpu::<T>::poisoned();
    let what = format!("{} reflections, affine {}, {inner}, {dir:?}, {}", case.count, case.affine, T::NAME);
    let (channels, batch, pixels) = (case.channels, inner.batch(), inner.pixels());
    let outer = inner.with_channels(channels + 3);
    let place = |b: usize, c: usize, p: usize| (b * (channels + 3) + 2 + c) * pixels + p;
    let all = || (0..batch).flat_map(move |b| (0..pixels).map(move |p| (b, p)));

    let mut x = state(&cpu, outer, 0);
    let before = x.to_f64().unwrap();
    let mut expected = before.clone();
    for (b, p) in all() {
        let mut pixel: Vec<f64> = (0..channels).map(|c| before[place(b, c, p)]).collect();
        case.pixel(dir, &mut pixel);
        pixel.iter().enumerate().for_each(|(c, v)| expected[place(b, c, p)] = *v);
    }
    let mut logdet = Tensor::full(&cpu, Shape::per_sample(batch), 0.25).unwrap();
    let taken = case.with(&cpu, |mix| cpu.mix(dir, mix, &mut x.view_mut().channels(2..2 + channels), &mut logdet.view_mut()).unwrap());
    assert!(taken);
    close(&x.to_f64().unwrap(), &expected, tolerance, &what);
    let log_scale = 0.25 + dir.sign() * pixels as f64 * case.log_scale();
    close(&logdet.to_f64().unwrap(), &vec![log_scale; batch], tolerance * pixels as f64, &what);

    // The way back from there.
    let mut g = state(&cpu, outer, 5);
    let (gy, gl) = (g.to_f64().unwrap(), Tensor::full(&cpu, Shape::per_sample(batch), 0.5).unwrap());
    let rows = Shape::rows(case.count + 2, channels);
    let mut gradients = Tensor::full(&cpu, rows, 0.125).unwrap();
    let window = |first: usize, count: usize| Window::contiguous(Shape::rows(count, channels), first * channels);
    let mut windows = vec![window(0, case.count)];
    if case.affine {
        windows.extend([window(case.count, 1), window(case.count + 1, 1)]);
    }
    case.with(&cpu, |mix| {
        let mut to = Update::new(gradients.buffer_mut(), Access::ReadWrite, &windows);
        let (mut x, mut g) = (x.view_mut(), g.view_mut());
        let (mut x, mut g) = (x.channels(2..2 + channels), g.channels(2..2 + channels));
        assert!(cpu.mix_pull(dir, mix, &mut x, &mut g, gl.view(), &mut to).unwrap());
    });
    close(&x.to_f64().unwrap(), &before, tolerance * 10.0, &what);
    // The map is affine, so differences are exact: φ = Σ gyᵀ y + Σ gl ℓ.
    let value = |case: &Case, x: &[f64]| -> f64 {
        let mut sum = 0.5 * batch as f64 * dir.sign() * pixels as f64 * case.log_scale();
        for (b, p) in all() {
            let mut pixel: Vec<f64> = (0..channels).map(|c| x[place(b, c, p)]).collect();
            case.pixel(dir, &mut pixel);
            sum += pixel.iter().enumerate().map(|(c, y)| y * gy[place(b, c, p)]).sum::<f64>();
        }
        sum
    };
    let mut gx = gy.clone();
    let linear = Case { numbers: case.numbers.clone(), ..*case };
    for (b, p) in all() {
        for c in 0..channels {
            let mut unit = vec![0.0; channels];
            let mut zero = unit.clone();
            unit[c] = 1.0;
            linear.pixel(dir, &mut unit);
            linear.pixel(dir, &mut zero);
            gx[place(b, c, p)] = (0..channels).map(|o| (unit[o] - zero[o]) * gy[place(b, o, p)]).sum();
        }
    }
    close(&g.to_f64().unwrap(), &gx, tolerance * 10.0, &format!("cotangent, {what}"));
    let count = if case.affine { case.count + 2 } else { case.count } * channels;
    let got = gradients.to_f64().unwrap();
    close(&got[count..], &vec![0.125; got.len() - count], 0.0, "what is no gradient");
    let h = 1e-5;
    let expected: Vec<f64> = (0..count)
        .map(|i| {
            if case.count == 3 && i < channels {
                return 0.125; // the zero vector
            }
            let at = |d: f64| {
                let mut moved = Case { numbers: case.numbers.clone(), ..*case };
                moved.numbers[i] += d;
                value(&moved, &before)
            };
            0.125 + (at(h) - at(-h)) / (2.0 * h)
        })
        .collect();
    close(&got[..count], &expected, (tolerance * 10.0).max(1e-8), &format!("gradients, {what}"));
}

#[test]
fn agrees_with_the_definition_at_any_shape() {
    for (batch, channels, spatial) in [
        (1, 2, &[][..]),
        (70, 5, &[]),
        (133, 2, &[]),
        (5, 20, &[]),
        (3, 4, &[7]),
        (2, 1, &[3]),
        (2, 3, &[9, 13]),
        (1, 12, &[24, 33]),
        (40, 12, &[3, 3]),
        (2, 6, &[3, 4, 5]),
    ] {
        let inner = Shape::new(batch, channels, spatial).unwrap();
        for (count, affine) in [(1, false), (2, true), (3, false), (3, true)] {
            for dir in [Direction::Forward, Direction::Inverse] {
                let case = Case::new(count, channels, affine);
                agrees::<f64>(&case, inner, dir, 1e-12);
                agrees::<f32>(&case, inner, dir, 1e-5);
            }
        }
    }
}

/// Several tasks, and more of them than there are sums side by side.
#[test]
fn threads_do_not_change_a_bit() {
    let case = Case::new(2, 12, true);
    for shape in [Shape::new(3, 12, &[200, 80]).unwrap(), Shape::new(9000, 12, &[]).unwrap()] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let cpu = Cpu::<f32>::new();
                let (mut x, mut g) = (state(&cpu, shape, 0), state(&cpu, shape, 5));
                let gl = Tensor::full(&cpu, Shape::per_sample(shape.batch()), 0.5).unwrap();
                let mut gradients = Tensor::zeros(&cpu, Shape::rows(4, 12)).unwrap();
                let windows = [(0, 2), (2, 1), (3, 1)].map(|(i, n)| Window::contiguous(Shape::rows(n, 12), i * 12));
                let mut to = Update::new(gradients.buffer_mut(), Access::ReadWrite, &windows);
                case.with(&cpu, |mix| {
                    cpu.mix_pull(Direction::Forward, mix, &mut x.view_mut(), &mut g.view_mut(), gl.view(), &mut to).unwrap()
                });
                [x, g, gradients].map(|t| t.to_vec().unwrap())
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(7));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let cpu = Cpu::<f32>::new();
    let case = Case::new(2, 3, true);
    let tensor = |shape| Tensor::full(&cpu, shape, 0.5).unwrap();
    let rows = |n| Window::contiguous(Shape::rows(n, 3), 0);
    let windows = [rows(2), Window::contiguous(Shape::rows(1, 3), 6), Window::contiguous(Shape::rows(1, 3), 9)];
    let run = |x: Shape, g: Shape, samples: usize, windows: &[Window]| {
        case.with(&cpu, |mix| {
            let (mut x, mut g, mut gradients) = (tensor(x), tensor(g), tensor(Shape::rows(4, 3)));
            let (mut ld, gl) = (tensor(Shape::per_sample(samples)), tensor(Shape::per_sample(samples)));
            let mut to = Update::new(gradients.buffer_mut(), Access::ReadWrite, windows);
            let map = cpu.mix(Direction::Forward, mix, &mut x.view_mut(), &mut ld.view_mut()).map_err(|e| e.to_string());
            let before = x.to_vec().unwrap();
            let pull = cpu.mix_pull(Direction::Forward, mix, &mut x.view_mut(), &mut g.view_mut(), gl.view(), &mut to);
            // What is refused leaves the state as it was.
            assert!(pull.is_ok() || x.to_vec().unwrap() == before);
            (map, pull)
        })
    };
    let shape = |channels| Shape::new(4, channels, &[5]).unwrap();
    let (map, pull) = run(shape(3), shape(3), 4, &windows);
    assert!(map.is_ok() && pull.is_ok());
    let (map, pull) = run(shape(4), shape(4), 4, &windows);
    assert!(map.unwrap_err().contains("state to mix") && pull.is_err());
    assert!(run(shape(3), shape(4), 4, &windows).1.unwrap_err().to_string().contains("cotangent"));
    let (map, pull) = run(shape(3), shape(3), 3, &windows);
    assert!(map.unwrap_err().contains("log-determinants") && pull.is_err());
    assert!(run(shape(3), shape(3), 4, &windows[..2]).1.unwrap_err().to_string().contains("gradients"));
    assert!(run(shape(3), shape(3), 4, &[rows(2), rows(2), windows[2]]).1.is_err());
}
