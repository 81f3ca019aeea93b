//! The vectorized pointwise map against a plain loop: every arrangement of operands, sums, tails, threads.

use inn_core::kernel::{Kernel, UNIFORMS};
use inn_core::view::{Access, Update, View};
use inn_core::{Backend, Element, Scalar, Shape, Tensor, Window};
use inn_ops::{Cpu, CpuElement};

/// Uses everything at once: reads, updates old and new, both kinds of sums, uniforms and all functions.
#[derive(Clone, Copy)]
struct Everything;
impl Kernel for Everything {
    const READ: usize = 3;
    const UPDATE: usize = 3;
    const CHANNEL_SUMS: usize = 2;
    const SAMPLE_SUMS: usize = 2;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [0.7, -0.3, 0.0, 1.5]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], r: &[T], w: &mut [T], c: &mut [T], s: &mut [T]) {
        let old = w[0];
        w[0] = u[0] * r[0] + r[1].tanh() * old - r[2];
        w[1] = r[0].sigmoid() + (r[1].abs() + u[3]).ln() / (T::one() + r[2].square());
        w[2] = (w[2] * u[1]).exp() - r[0].atan() + r[1].abs().sqrt() + r[2].abs().ln_1p();
        c[0] = w[0] * r[0];
        c[1] = old + r[1];
        s[0] = w[1];
        s[1] = r[2].max(r[0]) - w[2];
    }
}

/// No sums: the axes are merged where strides allow.
#[derive(Clone, Copy)]
struct Plain;
impl Kernel for Plain {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], r: &[T], w: &mut [T], _: &mut [T], _: &mut [T]) {
        w[0] = w[0] * r[0] - r[1];
    }
}

/// `num_traits` has a method of this name as well.
fn wide<T: Element>(x: T) -> f64 {
    Element::to_f64(x)
}

fn values<T: Element>(n: usize, seed: usize) -> Vec<T> {
    (0..n).map(|i| T::from_f64((((i * 7919 + seed * 104_729) % 10_007) as f64 / 5003.5 - 1.0) * 2.0)).collect()
}

/// The operands of a call: a window and the values of its buffer.
#[derive(Clone)]
struct Operand<T> {
    window: Window,
    access: Access,
    values: Vec<T>,
}

fn at(w: &Window, b: usize, c: usize, p: usize) -> usize {
    w.offset + b * w.batch_stride + c * w.channel_stride + p * w.pixel_stride
}

/// The definition, element by element, sums in `f64`.
fn twin<T: CpuElement, K: Kernel>(kernel: &K, d: Shape, read: &[Operand<T>], update: &mut [Operand<T>]) -> (Vec<f64>, Vec<f64>) {
    let u = kernel.uniforms().map(<T as Scalar>::constant);
    let zero = <T as Scalar>::zero();
    let mut channel = vec![0.0; K::CHANNEL_SUMS * d.channels()];
    let mut sample = vec![0.0; K::SAMPLE_SUMS * d.batch()];
    for b in 0..d.batch() {
        for c in 0..d.channels() {
            for p in 0..d.pixels() {
                let r: Vec<T> = read.iter().map(|o| o.values[at(&o.window, b, c, p)]).collect();
                let old = |o: &Operand<T>| if o.access == Access::ReadWrite { o.values[at(&o.window, b, c, p)] } else { zero };
                let mut w: Vec<T> = update.iter().map(old).collect();
                let (mut cs, mut ss) = (vec![zero; K::CHANNEL_SUMS], vec![zero; K::SAMPLE_SUMS]);
                kernel.eval(&u, &r, &mut w, &mut cs, &mut ss);
                for (o, v) in update.iter_mut().zip(w) {
                    o.values[at(&o.window, b, c, p)] = v;
                }
                (0..cs.len()).for_each(|k| channel[k * d.channels() + c] += wide(cs[k]));
                (0..ss.len()).for_each(|k| sample[k * d.batch() + b] += wide(ss[k]));
            }
        }
    }
    (channel, sample)
}

type Outcome<T> = (Vec<Vec<T>>, Vec<T>, Vec<T>);

fn run<T: CpuElement, K: Kernel>(kernel: &K, d: Shape, read: &[Operand<T>], update: &[Operand<T>]) -> Outcome<T> {
    let cpu = Cpu::<T>::new();
    let upload = |values: &[T]| cpu.upload(values).unwrap();
    let reads: Vec<_> = read.iter().map(|o| upload(&o.values)).collect();
    let mut updates: Vec<_> = update.iter().map(|o| upload(&o.values)).collect();
    let (mut channel, mut sample) =
        (upload(&vec![T::from_f64(0.5); K::CHANNEL_SUMS * d.channels()]), upload(&vec![T::from_f64(-0.5); K::SAMPLE_SUMS * d.batch()]));
    {
        let views: Vec<_> = read.iter().zip(&reads).map(|(o, b)| View::<Cpu<T>>::new(b, o.window).unwrap()).collect();
        let mut ups: Vec<_> = updates.iter_mut().zip(update).map(|(b, o)| Update::<Cpu<T>>::new(b, o.access, &[o.window])).collect();
        let rows = |n: usize, shape: Shape| -> Vec<Window> { (0..n).map(|k| Window::contiguous(shape, k * shape.len())).collect() };
        let mut cs = [Update::<Cpu<T>>::new(&mut channel, Access::ReadWrite, &rows(K::CHANNEL_SUMS, Shape::rows(1, d.channels())))];
        let mut ss = [Update::<Cpu<T>>::new(&mut sample, Access::ReadWrite, &rows(K::SAMPLE_SUMS, Shape::rows(d.batch(), 1)))];
        cpu.zip(kernel, d, &views, &mut ups, &mut cs, &mut ss).unwrap();
    }
    let back = |b: &_| cpu.read(b).unwrap();
    (updates.iter().map(back).collect(), back(&channel), back(&sample))
}

/// Operand `i` of a domain, in one of the arrangements that layers use.
fn arrange<T: Element>(d: Shape, i: usize, arrangement: usize) -> Operand<T> {
    let contiguous = |shape: Shape| Window::contiguous(shape, 3);
    let window = match (i + arrangement) % 4 {
        // Channels out of a larger tensor.
        0 => contiguous(d.with_channels(d.channels() + 2)).channels(1..d.channels() + 1),
        1 => contiguous(d),
        // One value a channel, one value a sample: only to read.
        2 => contiguous(Shape::rows(1, d.channels())).over_pixels(d),
        _ => contiguous(Shape::rows(d.batch(), 1)).over_channels(d),
    };
    Operand { window, access: Access::ReadWrite, values: values(window.end() + 5, i) }
}

fn operands<T: Element, K: Kernel>(d: Shape, arrangement: usize) -> (Vec<Operand<T>>, Vec<Operand<T>>) {
    let read = (0..K::READ).map(|i| arrange(d, i, arrangement)).collect();
    let update =
        (0..K::UPDATE).map(|i| Operand { values: values(4096.max(2 * d.len() + 64) * 2, 9 + i), ..arrange(d, 2 * i, arrangement % 2) });
    let mut update: Vec<Operand<T>> = update.collect();
    for (i, o) in update.iter_mut().enumerate() {
        // Written windows repeat nothing.
        if !o.window.is_injective() || o.window.shape.len() != d.len() || o.window.batch_stride == 0 && d.batch() > 1 {
            o.window = Window::contiguous(d, i);
        }
        if i == 1 {
            o.access = Access::Write;
        }
    }
    (read, update)
}

fn shapes() -> Vec<Shape> {
    let dims: [&[usize]; 12] = [
        &[1, 1],
        &[3, 5],
        &[70, 33],
        &[2, 300],
        &[1, 1, 7],
        &[2, 3, 16],
        &[3, 2, 17],
        &[2, 5, 7, 7],
        &[1, 3, 65, 70],
        &[2, 2, 3, 4, 5],
        &[5, 1, 1, 1],
        &[40, 9, 8, 8],
    ];
    dims.iter().map(|d| Shape::from_dims(d).unwrap()).collect()
}

fn compare<T: CpuElement, K: Kernel>(kernel: &K, tolerance: f64) {
    for d in shapes() {
        for arrangement in 0..4 {
            let (read, update) = operands::<T, K>(d, arrangement);
            let mut expected = update.clone();
            let (channel, sample) = twin(kernel, d, &read, &mut expected);
            let mut poisoned = update.clone();
            for o in poisoned.iter_mut().filter(|o| o.access == Access::Write) {
                for (b, c, p) in positions(d) {
                    o.values[at(&o.window, b, c, p)] = T::from_f64(f64::NAN);
                }
            }
            let (got, got_channel, got_sample) = run(kernel, d, &read, &poisoned);
            for (k, (got, expected)) in got.iter().zip(&expected).enumerate() {
                for (i, (g, e)) in got.iter().zip(&expected.values).enumerate() {
                    let (g, e) = (wide(*g), wide(*e));
                    assert!(
                        (g - e).abs() <= tolerance * (1.0 + e.abs()),
                        "{d} arrangement {arrangement} update {k} at {i}: {g} against {e}"
                    );
                }
            }
            let scale = (d.len() as f64).sqrt() * 4.0 + 10.0;
            for (what, got, expected, start) in [("channel", got_channel, channel, 0.5), ("sample", got_sample, sample, -0.5)] {
                for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
                    let (g, e) = (wide(*g), e + start);
                    assert!(
                        (g - e).abs() <= tolerance * (scale + e.abs()),
                        "{d} arrangement {arrangement} {what} sum {i}: {g} against {e}"
                    );
                }
            }
        }
    }
}

fn positions(d: Shape) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..d.len()).map(move |i| (i / d.sample_len(), i % d.sample_len() / d.pixels(), i % d.pixels()))
}

#[test]
fn agrees_with_the_definition() {
    compare::<f64, _>(&Everything, 1e-14);
    compare::<f32, _>(&Everything, 2e-6);
    compare::<f64, _>(&Plain, 1e-15);
    compare::<f32, _>(&Plain, 1e-6);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let d = Shape::new(7, 6, &[61, 67]).unwrap();
    let dense = Shape::new(300, 257, &[]).unwrap();
    for d in [d, dense] {
        let (read, update) = operands::<f32, Everything>(d, 1);
        let outcome = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (w, c, s) = pool.install(|| run(&Everything, d, &read, &update));
            w.into_iter().chain([c, s]).flatten().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = outcome(1);
        assert!(one == outcome(2) && one == outcome(7));
    }
}

#[derive(Clone, Copy)]
struct Functions;
impl Kernel for Functions {
    const READ: usize = 1;
    const UPDATE: usize = 6;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], r: &[T], w: &mut [T], _: &mut [T], _: &mut [T]) {
        w[0] = r[0].exp();
        w[1] = r[0].ln();
        w[2] = r[0].ln_1p();
        w[3] = r[0].tanh();
        w[4] = r[0].atan();
        w[5] = r[0].sqrt();
    }
}

#[test]
fn functions_are_accurate_and_right_at_the_ends() {
    let ends = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-39, -1e-39, 88.7, 88.8, -87.4, -100.0, -103.9, -104.1, 3e38, -3e38, 0.625, 1e-10, -1e-10];
    let mut x: Vec<f32> = ends.to_vec();
    x.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    x.extend((-8000..8000).map(|i| i as f32 * 0.0131));
    x.extend((-3000..3000).map(|i| (i as f32 * 0.0137).exp2()));
    x.extend((-1000..1000).map(|i| -1.0 + (i as f32 * 0.02 - 20.0).exp2()));
    let d = Shape::new(1, 1, &[x.len()]).unwrap();
    let window = Window::contiguous(d, 0);
    let read = [Operand { window, access: Access::ReadWrite, values: x.clone() }];
    let update = vec![Operand { window, access: Access::Write, values: vec![0.0; x.len()] }; 6];
    let (got, ..) = run(&Functions, d, &read, &update);
    type Function = fn(f64) -> f64;
    let exact: [(&str, Function); 6] =
        [("exp", f64::exp), ("ln", f64::ln), ("ln_1p", f64::ln_1p), ("tanh", f64::tanh), ("atan", f64::atan), ("sqrt", f64::sqrt)];
    for ((name, f), got) in exact.iter().zip(&got) {
        let mut worst = 0f64;
        for (&x, &g) in x.iter().zip(got) {
            let e = f(f64::from(x));
            let rounded = e as f32;
            if rounded.is_finite() && g.is_finite() {
                let unit = f64::from(rounded.abs().max(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
                let off = (f64::from(g) - e).abs() / unit;
                worst = worst.max(off);
                assert!(off < 3.0, "{name}({x}) = {g}, expected {e}: {off} units");
            } else {
                assert!(g == rounded || g.is_nan() && rounded.is_nan(), "{name}({x}) = {g}, expected {rounded}");
            }
        }
        println!("{name}: {worst:.2} units in the last place");
    }
}

#[test]
fn operands_that_reach_out_of_their_buffers_are_refused() {
    let cpu = Cpu::<f32>::new();
    let (few, many) = (Shape::new(1, 2, &[]).unwrap(), Shape::new(1, 5, &[3]).unwrap());
    let small = Tensor::full(&cpu, few, 1.0).unwrap();
    let mut large = Tensor::full(&cpu, many, 1.0).unwrap();
    // Two values repeated over five channels.
    let error = large.view_mut().axpy(&cpu, 1.0, small.view().over_pixels(many)).unwrap_err().to_string();
    assert!(error.contains("within 2 elements"), "{error}");
    // A range past the end is a smaller shape, and that does not fit.
    let error = large.view_mut().axpy(&cpu, 1.0, small.view().channels(1..6)).unwrap_err().to_string();
    assert!(error.contains("expected operands"), "{error}");
    // Nothing is done over no elements.
    large.view_mut().channels(7..9).fill(&cpu, 0.0).unwrap();
    assert_eq!(large.to_vec().unwrap(), [1.0; 15]);
}
