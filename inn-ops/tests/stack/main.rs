//! Fused stacks of convolutions against the same thing composed of convolutions, in all shapes that are cut differently.

mod coupling;
mod subject;

use inn_core::stack::{Last, Stack, StackPass};
use inn_core::view::{Access, Update};
use inn_core::{Backend, Conv, Tensor, Write};
use inn_ops::{Activation, Cpu, CpuElement};
use subject::{CASES, Case, Subject, arena, close, gradients, values};

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
