//! Fused stacks of convolutions against the same thing composed of convolutions, in all shapes that are cut differently.

use inn_core::stack::{Affine, Last, Stack, StackPass};
use inn_core::view::{Access, Update};
use inn_core::{Backend, Conv, Shape, Tensor, View, Write};
use inn_ops::{Activation, Cpu, CpuElement};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

struct Case {
    batch: usize,
    spatial: &'static [usize],
    kernel: usize,
    /// Channels of the two inputs; 0 for none.
    inputs: [usize; 2],
    hidden: usize,
    middle: usize,
    outputs: usize,
    skip: bool,
    transposed: bool,
}

/// Few pixels and many, lines longer than a strip, samples cut into pieces that run in two phases, dense data; channels of any count.
const CASES: [Case; 23] = [
    Case { batch: 3, spatial: &[8, 8], kernel: 3, inputs: [2, 0], hidden: 32, middle: 1, outputs: 4, skip: true, transposed: true },
    Case { batch: 2, spatial: &[32, 33], kernel: 3, inputs: [5, 3], hidden: 19, middle: 1, outputs: 7, skip: true, transposed: true },
    Case { batch: 1, spatial: &[64, 70], kernel: 3, inputs: [3, 0], hidden: 24, middle: 1, outputs: 6, skip: true, transposed: true },
    Case { batch: 1, spatial: &[9, 400], kernel: 5, inputs: [2, 1], hidden: 9, middle: 2, outputs: 3, skip: false, transposed: true },
    Case { batch: 2, spatial: &[3000], kernel: 7, inputs: [1, 0], hidden: 17, middle: 1, outputs: 2, skip: true, transposed: true },
    Case { batch: 4, spatial: &[5], kernel: 3, inputs: [3, 2], hidden: 40, middle: 0, outputs: 5, skip: false, transposed: true },
    Case { batch: 1, spatial: &[12, 14, 13], kernel: 3, inputs: [3, 0], hidden: 11, middle: 0, outputs: 3, skip: false, transposed: true },
    Case { batch: 2, spatial: &[6, 5, 7], kernel: 3, inputs: [12, 2], hidden: 21, middle: 1, outputs: 11, skip: true, transposed: true },
    Case { batch: 70, spatial: &[], kernel: 1, inputs: [2, 1], hidden: 37, middle: 1, outputs: 3, skip: false, transposed: false },
    Case { batch: 1, spatial: &[], kernel: 1, inputs: [1, 0], hidden: 5, middle: 2, outputs: 2, skip: true, transposed: false },
    Case { batch: 600, spatial: &[], kernel: 1, inputs: [1, 0], hidden: 64, middle: 1, outputs: 2, skip: false, transposed: false },
    Case { batch: 2, spatial: &[11, 13], kernel: 1, inputs: [4, 0], hidden: 130, middle: 1, outputs: 9, skip: true, transposed: true },
    Case { batch: 2, spatial: &[10, 9], kernel: 3, inputs: [40, 0], hidden: 16, middle: 1, outputs: 35, skip: true, transposed: true },
    Case { batch: 2, spatial: &[10, 40], kernel: 3, inputs: [20, 3], hidden: 40, middle: 1, outputs: 12, skip: true, transposed: true },
    Case { batch: 1, spatial: &[6, 8, 66], kernel: 3, inputs: [11, 0], hidden: 9, middle: 0, outputs: 11, skip: false, transposed: true },
    Case { batch: 2, spatial: &[41, 34], kernel: 3, inputs: [3, 2], hidden: 24, middle: 1, outputs: 5, skip: true, transposed: true },
    Case { batch: 1, spatial: &[3, 29, 34], kernel: 3, inputs: [11, 0], hidden: 8, middle: 0, outputs: 10, skip: false, transposed: true },
    Case { batch: 5, spatial: &[6], kernel: 3, inputs: [3, 0], hidden: 20, middle: 1, outputs: 4, skip: true, transposed: true },
    Case { batch: 1, spatial: &[9, 32], kernel: 3, inputs: [3, 1], hidden: 21, middle: 1, outputs: 5, skip: true, transposed: true },
    Case { batch: 2, spatial: &[5, 6, 20], kernel: 3, inputs: [5, 0], hidden: 13, middle: 0, outputs: 4, skip: false, transposed: true },
    Case { batch: 1, spatial: &[2, 2, 2], kernel: 3, inputs: [9, 3], hidden: 9, middle: 1, outputs: 11, skip: true, transposed: true },
    Case { batch: 2, spatial: &[3, 4], kernel: 3, inputs: [30, 0], hidden: 7, middle: 0, outputs: 3, skip: false, transposed: true },
    Case { batch: 33, spatial: &[2, 3], kernel: 3, inputs: [3, 0], hidden: 16, middle: 1, outputs: 3, skip: true, transposed: true },
];

/// Everything of a case, as tensors on a backend.
struct Subject<T: CpuElement> {
    cpu: Cpu<T>,
    inputs: Vec<Tensor<Cpu<T>>>,
    /// W_1, b_1, W_2, b_2, .., W (, b).
    weights: Vec<Tensor<Cpu<T>>>,
    gout: Tensor<Cpu<T>>,
    out: Tensor<Cpu<T>>,
}

fn random<T: CpuElement>(cpu: &Cpu<T>, shape: Shape, rng: &mut ChaCha8Rng) -> Tensor<Cpu<T>> {
    // Numbers that f32 has, so that both types start from the same.
    let values: Vec<f64> = (0..shape.len()).map(|_| f64::from(rng.random_range(-1.0f32..1.0))).collect();
    Tensor::from_f64(cpu, shape, &values).unwrap()
}

impl<T: CpuElement> Subject<T> {
    fn new(c: &Case) -> Self {
        let (cpu, mut rng) = (Cpu::poisoned(), ChaCha8Rng::seed_from_u64(7));
        let kernel = &[c.kernel; 3][..c.spatial.len()];
        let one = &[1; 3][..c.spatial.len()];
        let image = |channels| Shape::new(c.batch, channels, c.spatial).unwrap();
        let inputs: Vec<_> = c.inputs.iter().filter(|&&n| n > 0).map(|&n| random(&cpu, image(n), &mut rng)).collect();
        let mut shapes = vec![Shape::new(c.hidden, c.inputs.iter().sum(), kernel).unwrap(), Shape::rows(1, c.hidden)];
        (0..c.middle).for_each(|_| shapes.extend([Shape::new(c.hidden, c.hidden, one).unwrap(), Shape::rows(1, c.hidden)]));
        if c.transposed {
            shapes.push(Shape::new(c.hidden, c.outputs, kernel).unwrap());
        } else {
            shapes.extend([Shape::new(c.outputs, c.hidden, one).unwrap(), Shape::rows(1, c.outputs)]);
        }
        let weights = shapes.into_iter().map(|shape| random(&cpu, shape, &mut rng)).collect();
        let (gout, out) = (random(&cpu, image(c.outputs), &mut rng), random(&cpu, image(c.outputs), &mut rng));
        Self { cpu, inputs, weights, gout, out }
    }

    fn run<R>(
        &self,
        c: &Case,
        activation: Activation,
        inputs: &[View<'_, Cpu<T>>],
        work: impl FnOnce(&Stack<'_, Cpu<T>, Activation>) -> R,
    ) -> R {
        let w: Vec<_> = self.weights.iter().map(Tensor::view).collect();
        let affine = |i: usize| Affine { weight: w[2 * i], bias: w[2 * i + 1] };
        let middle: Vec<_> = (1..=c.middle).map(affine).collect();
        let last = if c.transposed { Last::Transposed(w[2 * c.middle + 2]) } else { Last::Affine(affine(c.middle + 1)) };
        work(&Stack { activation, inputs, padding: c.kernel / 2, first: affine(0), middle: &middle, skip: c.skip, last })
    }
}

fn values<T: CpuElement>(t: &Tensor<Cpu<T>>) -> Vec<f64> {
    t.slice().iter().map(|v| inn_core::Element::to_f64(*v)).collect()
}

/// Output, cotangents of the inputs, gradients of the weights: added to what was there.
type Results = (Vec<f64>, Vec<Vec<f64>>, Vec<Vec<f64>>);

/// The definition, by convolutions in f64.
fn composed(c: &Case, activation: Activation) -> Results {
    let s = Subject::<f64>::new(c);
    let (cpu, w) = (&s.cpu, &s.weights);
    let (conv, point) = (Conv::same(c.kernel), Conv { stride: 1, padding: 0 });
    let image = |channels| s.out.shape().with_channels(channels);
    let map = |t: &Tensor<Cpu<f64>>, f: &dyn Fn(f64) -> f64| {
        Tensor::from_f64(cpu, t.shape(), &t.slice().iter().map(|&v| f(v)).collect::<Vec<_>>()).unwrap()
    };
    let add_bias = |t: &mut Tensor<Cpu<f64>>, b: &Tensor<Cpu<f64>>| {
        let (channels, pixels) = (t.shape().channels(), t.shape().pixels());
        t.slice_mut().iter_mut().enumerate().for_each(|(i, v)| *v += b.slice()[i / pixels % channels]);
    };
    let sum_bias = |g: &Tensor<Cpu<f64>>| {
        let (channels, pixels) = (g.shape().channels(), g.shape().pixels());
        let mut sums = vec![0.0; channels];
        g.slice().iter().enumerate().for_each(|(i, v)| sums[i / pixels % channels] += v);
        sums
    };
    // Inputs side by side.
    let all: usize = c.inputs.iter().sum();
    let mut x = Tensor::zeros(cpu, image(all)).unwrap();
    let mut start = 0;
    for input in &s.inputs {
        let n = input.shape().channels();
        x.view_mut().channels(start..start + n).assign(cpu, input.view()).unwrap();
        start += n;
    }
    let mut ys = vec![Tensor::zeros(cpu, image(c.hidden)).unwrap()];
    cpu.conv(conv, x.view(), w[0].view(), &mut ys[0].view_mut(), Write::Set).unwrap();
    add_bias(&mut ys[0], &w[1]);
    let mut xs = vec![map(&ys[0], &|v| activation.value(v))];
    for i in 0..c.middle {
        let mut y = Tensor::zeros(cpu, image(c.hidden)).unwrap();
        cpu.conv(point, xs[i].view(), w[2 * i + 2].view(), &mut y.view_mut(), Write::Set).unwrap();
        add_bias(&mut y, &w[2 * i + 3]);
        if c.skip {
            y.view_mut().axpy(cpu, 1.0, xs[i].view()).unwrap();
        }
        xs.push(map(&y, &|v| activation.value(v)));
        ys.push(y);
    }
    let mut out = s.out.duplicate().unwrap();
    let end = 2 * c.middle + 2;
    let mut grads: Vec<_> = w.iter().map(|w| Tensor::full(cpu, w.shape(), 0.5).unwrap()).collect();
    let mut g = Tensor::zeros(cpu, image(c.hidden)).unwrap();
    if c.transposed {
        cpu.conv_input(conv, xs[c.middle].view(), w[end].view(), &mut out.view_mut(), Write::Add).unwrap();
        cpu.conv_weight(conv, s.gout.view(), xs[c.middle].view(), &mut grads[end].view_mut(), Write::Add).unwrap();
        cpu.conv(conv, s.gout.view(), w[end].view(), &mut g.view_mut(), Write::Set).unwrap();
    } else {
        cpu.conv(point, xs[c.middle].view(), w[end].view(), &mut out.view_mut(), Write::Add).unwrap();
        add_bias(&mut out, &w[end + 1]);
        cpu.conv_weight(point, xs[c.middle].view(), s.gout.view(), &mut grads[end].view_mut(), Write::Add).unwrap();
        grads[end + 1].slice_mut().iter_mut().zip(sum_bias(&s.gout)).for_each(|(g, v)| *g += v);
        cpu.conv_input(point, s.gout.view(), w[end].view(), &mut g.view_mut(), Write::Set).unwrap();
    }
    for i in (0..=c.middle).rev() {
        let slopes = map(&ys[i], &|v| activation.derivative(v));
        g.slice_mut().iter_mut().zip(slopes.slice()).for_each(|(g, d)| *g *= d);
        grads[2 * i + 1].slice_mut().iter_mut().zip(sum_bias(&g)).for_each(|(to, v)| *to += v);
        if i > 0 {
            cpu.conv_weight(point, xs[i - 1].view(), g.view(), &mut grads[2 * i].view_mut(), Write::Add).unwrap();
            let mut below = if c.skip { g.duplicate().unwrap() } else { Tensor::zeros(cpu, g.shape()).unwrap() };
            cpu.conv_input(point, g.view(), w[2 * i].view(), &mut below.view_mut(), Write::Add).unwrap();
            g = below;
        }
    }
    cpu.conv_weight(conv, x.view(), g.view(), &mut grads[0].view_mut(), Write::Add).unwrap();
    let mut gx = Tensor::full(cpu, x.shape(), 0.25).unwrap();
    cpu.conv_input(conv, g.view(), w[0].view(), &mut gx.view_mut(), Write::Add).unwrap();
    let mut start = 0;
    let mut parts = Vec::new();
    for input in &s.inputs {
        let n = input.shape().channels();
        let mut part = Tensor::zeros(cpu, input.shape()).unwrap();
        part.view_mut().assign(cpu, gx.view().channels(start..start + n)).unwrap();
        parts.push(values(&part));
        start += n;
    }
    (values(&out), parts, grads.iter().map(values).collect())
}

/// One arena for all gradients, filled with 0.5, and its windows.
fn arena<T: CpuElement>(s: &Subject<T>) -> (Tensor<Cpu<T>>, Vec<inn_core::Window>) {
    let len = s.weights.iter().map(|w| w.shape().len()).sum();
    let mut offset = 0;
    let windows = s.weights.iter().map(|w| {
        let window = inn_core::Window::contiguous(w.shape(), offset);
        offset += w.shape().len();
        window
    });
    (Tensor::full(&s.cpu, Shape::flat(len), 0.5).unwrap(), windows.collect())
}

fn gradients<T: CpuElement>(arena: &Tensor<Cpu<T>>, windows: &[inn_core::Window]) -> Vec<Vec<f64>> {
    let all = values(arena);
    windows.iter().map(|w| all[w.offset..w.end()].to_vec()).collect()
}

fn fused<T: CpuElement>(c: &Case, activation: Activation) -> Results {
    let s = Subject::<T>::new(c);
    let views: Vec<_> = s.inputs.iter().map(Tensor::view).collect();
    let (mut out, mut plain) = (s.out.duplicate().unwrap(), Tensor::scratch(&s.cpu, s.out.shape()).unwrap());
    let mut gx: Vec<_> = s.inputs.iter().map(|x| Tensor::full(&s.cpu, x.shape(), 0.25).unwrap()).collect();
    let (mut grads, windows) = arena(&s);
    s.run(c, activation, &views, |stack| {
        assert!(s.cpu.takes(&stack.primitive(StackPass::Map).unwrap()));
        let mut kept = s.cpu.alloc(s.cpu.kept(&stack.shape().unwrap())).unwrap();
        s.cpu.stack(stack, &mut out.view_mut(), Write::Add, Some(&mut kept)).unwrap();
        s.cpu.stack(stack, &mut plain.view_mut(), Write::Set, None).unwrap();
        let mut gx: Vec<_> = gx.iter_mut().map(Tensor::view_mut).collect();
        let mut weights = Update::new(grads.buffer_mut(), Access::ReadWrite, &windows);
        s.cpu.stack_vjp(stack, &kept, s.gout.view(), &mut gx, &mut weights).unwrap();
    });
    // Written over is added to nothing.
    let rest: Vec<f64> = values(&plain).iter().zip(values(&s.out)).map(|(p, o)| p + o).collect();
    close(&format!("set, {}", T::NAME), &values(&out), &rest, if T::EPSILON < 1e-10 { 1e-12 } else { 1e-4 });
    (values(&out), gx.iter().map(values).collect(), gradients(&grads, &windows))
}

/// The same within one state whose channels are the first input and then the output.
fn in_place<T: CpuElement>(c: &Case, activation: Activation) -> Results {
    let s = Subject::<T>::new(c);
    let kept = c.inputs[0];
    let joined = |a: &Tensor<Cpu<T>>, b: &Tensor<Cpu<T>>| {
        let mut t = Tensor::scratch(&s.cpu, a.shape().with_channels(kept + c.outputs)).unwrap();
        t.view_mut().channels(0..kept).assign(&s.cpu, a.view()).unwrap();
        t.view_mut().channels(kept..kept + c.outputs).assign(&s.cpu, b.view()).unwrap();
        t
    };
    let part = |t: &Tensor<Cpu<T>>, range: std::ops::Range<usize>| {
        let mut p = Tensor::scratch(&s.cpu, t.shape().with_channels(range.len())).unwrap();
        p.view_mut().assign(&s.cpu, t.view().channels(range)).unwrap();
        values(&p)
    };
    let lanes = [0..kept, kept..kept + c.outputs];
    let start = Tensor::full(&s.cpu, s.inputs[0].shape(), 0.25).unwrap();
    let (mut state, mut added) = (joined(&s.inputs[0], &s.out), joined(&s.inputs[0], &s.out));
    let mut cotangent = joined(&start, &s.gout);
    let views: Vec<_> = s.inputs[1..].iter().map(Tensor::view).collect();
    let mut gx: Vec<_> = s.inputs[1..].iter().map(|x| Tensor::full(&s.cpu, x.shape(), 0.25).unwrap()).collect();
    let (mut grads, windows) = arena(&s);
    s.run(c, activation, &views, |stack| {
        s.cpu.stack_add(stack, &mut added.view_mut().update_channels(&lanes)).unwrap();
        let mut gx: Vec<_> = gx.iter_mut().map(Tensor::view_mut).collect();
        let mut weights = Update::new(grads.buffer_mut(), Access::ReadWrite, &windows);
        let (mut y, mut g) = (state.view_mut(), cotangent.view_mut());
        s.cpu.stack_pull(stack, &mut y.update_channels(&lanes), &mut g.update_channels(&lanes), &mut gx, &mut weights).unwrap();
    });
    assert_eq!(values(&state), values(&added), "both passes add the same");
    assert_eq!(part(&cotangent, lanes[1].clone()), values(&s.gout), "the output's cotangent is only read");
    let mut parts = vec![part(&cotangent, lanes[0].clone())];
    parts.extend(gx.iter().map(values));
    (part(&state, lanes[1].clone()), parts, gradients(&grads, &windows))
}

fn close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * size, "{what}, element {i}: {g} against {e}");
    }
}

fn expect(name: &str, got: &Results, expected: &Results, tolerance: f64) {
    close(&format!("{name}, output"), &got.0, &expected.0, tolerance);
    for (what, got, expected) in [("cotangent", &got.1, &expected.1), ("gradient", &got.2, &expected.2)] {
        assert_eq!(got.len(), expected.len(), "{name}");
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            close(&format!("{name}, {what} {i}"), g, e, tolerance);
        }
    }
}

#[test]
fn agrees_with_its_convolutions() {
    for (i, case) in CASES.iter().enumerate() {
        for activation in [Activation::Relu, Activation::LeakyRelu { slope: 0.2 }, Activation::Tanh] {
            let expected = composed(case, activation);
            let name = format!("case {i}, {activation:?}");
            expect(&format!("{name}, f64"), &fused::<f64>(case, activation), &expected, 1e-12);
            expect(&format!("{name}, f64 in place"), &in_place::<f64>(case, activation), &expected, 1e-12);
            if activation != Activation::Relu {
                // With a kink, values near it may fall on either side.
                expect(&format!("{name}, f32"), &fused::<f32>(case, activation), &expected, 2e-5);
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for case in &CASES {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (fused::<f32>(case, Activation::Relu), in_place::<f32>(case, Activation::Relu)))
        };
        let one = run(1);
        assert!(one == run(2) && one == run(7));
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let case = &CASES[0];
    let s = Subject::<f64>::new(case);
    let views: Vec<_> = s.inputs.iter().map(Tensor::view).collect();
    let mut small = Tensor::zeros(&s.cpu, s.out.shape().with_channels(3)).unwrap();
    let mut out = s.out.duplicate().unwrap();
    s.run(case, Activation::Relu, &views, |stack| {
        assert!(s.cpu.stack(stack, &mut small.view_mut(), Write::Set, None).is_err());
        let mut kept = s.cpu.alloc(3).unwrap();
        assert!(s.cpu.stack(stack, &mut out.view_mut(), Write::Set, Some(&mut kept)).is_err());
        let lanes = [0..2, 1..5];
        let mut state = Tensor::zeros(&s.cpu, s.out.shape().with_channels(6)).unwrap();
        assert!(s.cpu.stack_add(stack, &mut state.view_mut().update_channels(&lanes)).is_err());
        let wide = Stack {
            padding: 2,
            activation: Activation::Relu,
            inputs: &views,
            first: stack.first,
            middle: stack.middle,
            skip: true,
            last: Last::Transposed(s.weights[4].view()),
        };
        assert!(!s.cpu.takes(&wide.primitive(StackPass::Map).unwrap()));
        assert!(s.cpu.stack(&wide, &mut out.view_mut(), Write::Set, None).is_err());
    });
    let none = s.run(case, Activation::Relu, &[], |stack| stack.shape().is_err());
    assert!(none);
}
