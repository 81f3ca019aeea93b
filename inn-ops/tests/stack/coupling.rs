//! Couplings in one pass against the stack, the kernel and the adjoint of the stack one after the other.

use super::subject::{CASES, Case, Subject, arena, close, gradients, random, values};
use inn_core::kernel::UNIFORMS;
use inn_core::primitive::Primitive;
use inn_core::stack::StackPass;
use inn_core::view::{Access, Update};
use inn_core::{Backend, Error, Kernel, Scalar, Shape, Tensor, View, Write};
use inn_ops::{Activation, Cpu, CpuElement};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// x -> x exp(tanh u) + t, from the groups u and t of the output; the log-derivative is tanh u.
#[derive(Clone, Copy)]
struct Map;
impl Kernel for Map {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = 1;
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], out: &[T], x: &mut [T], _: &mut [T], logdet: &mut [T]) {
        let psi = out[0].tanh();
        (x[0], logdet[0]) = (psi.exp() * x[0] + out[1], psi);
    }
}

/// Its way back.
#[derive(Clone, Copy)]
struct Pull;
impl Kernel for Pull {
    const READ: usize = 1;
    const UPDATE: usize = 4;
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], gl: &[T], at: &mut [T], _: &mut [T], _: &mut [T]) {
        let (psi, g) = (at[2].tanh(), at[1]);
        let x = (at[0] - at[3]) * (-psi).exp();
        let (gx, slope) = (psi.exp() * g, T::one() - psi * psi);
        (at[0], at[1], at[2], at[3]) = (x, gx, slope * (gx * x + gl[0]), g);
    }
}

/// The same of one group, x -> x + t, which has no log-derivative.
#[derive(Clone, Copy)]
struct Shift;
impl Kernel for Shift {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], out: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        x[0] = x[0] + out[0];
    }
}
#[derive(Clone, Copy)]
struct PullShift;
impl Kernel for PullShift {
    const READ: usize = 1;
    const UPDATE: usize = 3;
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], _: &[T], at: &mut [T], _: &mut [T], _: &mut [T]) {
        (at[0], at[2]) = (at[0] - at[2], at[1]);
    }
}

/// A state of channels that are read and channels that change, with its cotangent, and the rest of a case.
struct Whole<T: CpuElement> {
    s: Subject<T>,
    lanes: [Range<usize>; 2],
    groups: usize,
    state: Tensor<Cpu<T>>,
    cotangent: Tensor<Cpu<T>>,
    gl: Tensor<Cpu<T>>,
    logdet: Tensor<Cpu<T>>,
    gx: Vec<Tensor<Cpu<T>>>,
    grads: Tensor<Cpu<T>>,
    windows: Vec<inn_core::Window>,
}

/// All that a pass changes.
type After = Vec<Vec<f64>>;

impl<T: CpuElement> Whole<T> {
    fn new(c: &Case, groups: usize) -> Self {
        let s = Subject::<T>::new(c);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let (kept, moved) = (c.inputs[0], c.outputs / groups);
        // A channel on each side that is nobody's business.
        let shape = s.out.shape().with_channels(kept + moved + 2);
        let (state, cotangent) = (random(&s.cpu, shape, &mut rng), random(&s.cpu, shape, &mut rng));
        let (gl, logdet) = (random(&s.cpu, Shape::per_sample(c.batch), &mut rng), random(&s.cpu, Shape::per_sample(c.batch), &mut rng));
        let gx = s.inputs[1..].iter().map(|x| Tensor::full(&s.cpu, x.shape(), 0.25).unwrap()).collect();
        let (grads, windows) = arena(&s);
        let lanes = [1 + moved..1 + moved + kept, 1..1 + moved];
        Self { s, lanes, groups, state, cotangent, gl, logdet, gx, grads, windows }
    }

    fn after(&self) -> After {
        let mut all = vec![values(&self.state), values(&self.cotangent), values(&self.logdet)];
        all.extend(self.gx.iter().map(values));
        all.extend(gradients(&self.grads, &self.windows));
        all
    }

    /// The groups of the output in a tensor of its own, and a kernel on them.
    fn composed<K: Kernel, P: Kernel>(mut self, c: &Case, rho: Activation, kernel: &K, pull: &P) -> [After; 2] {
        let cpu = self.s.cpu.clone();
        let (kept_lane, lane) = (self.lanes[0].clone(), self.lanes[1].clone());
        let ranges: Vec<_> = (0..self.groups).map(|i| i * lane.len()..(i + 1) * lane.len()).collect();
        let domain = self.state.shape().with_channels(lane.len());
        let mut out = Tensor::scratch(&cpu, self.s.out.shape()).unwrap();
        let kept = self.s.run(c, rho, &self.inputs(&self.state), |stack| {
            let mut kept = cpu.alloc(cpu.kept(&stack.shape().unwrap())).unwrap();
            cpu.stack(stack, &mut out.view_mut(), Write::Set, Some(&mut kept)).unwrap();
            kept
        });
        let (before, logdet) = (self.state.duplicate().unwrap(), self.logdet.duplicate().unwrap());
        {
            let read: Vec<_> = ranges.iter().map(|r| out.view().channels(r.clone())).collect();
            let mut sums = self.logdet.view_mut();
            let mut sums = [sums.update()];
            let sums = if K::SAMPLE_SUMS > 0 { &mut sums[..] } else { &mut [] };
            let mut x = self.state.view_mut();
            cpu.zip(kernel, domain, &read, &mut [x.channels(lane.clone()).update()], &mut [], sums).unwrap();
        }
        let mapped = self.after();
        (self.state, self.logdet) = (before, logdet);
        {
            let read = [self.gl.view().over_channels(domain)];
            let (mut x, mut g, mut c) = (self.state.view_mut(), self.cotangent.view_mut(), out.view_mut());
            let (mut x, mut g) = (x.channels(lane.clone()), g.channels(lane));
            cpu.zip(pull, domain, &read, &mut [x.update(), g.update(), c.update_channels(&ranges)], &mut [], &mut []).unwrap();
        }
        let (mut cotangent, mut gx, mut grads) = (self.cotangent.duplicate().unwrap(), Vec::new(), self.grads.duplicate().unwrap());
        std::mem::swap(&mut gx, &mut self.gx);
        {
            let mut g = cotangent.view_mut();
            let mut to = vec![g.channels(kept_lane)];
            to.extend(gx.iter_mut().map(Tensor::view_mut));
            let mut weights = Update::new(grads.buffer_mut(), Access::ReadWrite, &self.windows);
            let inputs = self.inputs(&self.state);
            self.s.run(c, rho, &inputs, |stack| cpu.stack_vjp(stack, &kept, out.view(), &mut to, &mut weights)).unwrap();
        }
        (self.cotangent, self.gx, self.grads) = (cotangent, gx, grads);
        [mapped, self.after()]
    }

    /// The channels of a state that are read, and the other inputs.
    fn inputs<'a>(&'a self, state: &'a Tensor<Cpu<T>>) -> Vec<View<'a, Cpu<T>>> {
        let mut inputs = vec![state.view().channels(self.lanes[0].clone())];
        inputs.extend(self.s.inputs[1..].iter().map(Tensor::view));
        inputs
    }

    fn fused<K: Kernel, P: Kernel>(mut self, c: &Case, rho: Activation, kernel: &K, pull: &P) -> Result<[After; 2], Error> {
        let cpu = &self.s.cpu;
        let views: Vec<_> = self.s.inputs[1..].iter().map(Tensor::view).collect();
        let (before, logdet) = (self.state.duplicate()?, self.logdet.duplicate()?);
        self.s.run(c, rho, &views, |stack| {
            cpu.couple(stack, kernel, &mut self.state.view_mut().update_channels(&self.lanes), &mut self.logdet.view_mut())
        })?;
        let mapped = self.after();
        (self.state, self.logdet) = (before, logdet);
        self.s.run(c, rho, &views, |stack| {
            let (mut x, mut g) = (self.state.view_mut(), self.cotangent.view_mut());
            let (mut x, mut g) = (x.update_channels(&self.lanes), g.update_channels(&self.lanes));
            let mut gx: Vec<_> = self.gx.iter_mut().map(Tensor::view_mut).collect();
            let mut weights = Update::new(self.grads.buffer_mut(), Access::ReadWrite, &self.windows);
            cpu.couple_pull(stack, pull, self.gl.view(), &mut x, &mut g, &mut gx, &mut weights)
        })?;
        Ok([mapped, self.after()])
    }

    fn takes(&self, c: &Case, pass: StackPass) -> bool {
        let views: Vec<_> = self.s.inputs[1..].iter().map(Tensor::view).collect();
        let kept = self.state.shape().with_channels(c.inputs[0]);
        self.s.run(c, Activation::Relu, &views, |stack| {
            self.s.cpu.takes(&Primitive::Stack { pass, shape: stack.shape_in_place(kept).unwrap() })
        })
    }
}

/// The cases of [`CASES`] that are taken, and samples and lines of other numbers.
fn cases(groups: usize) -> impl Iterator<Item = Case> {
    let even = move |c: Case| Case { outputs: c.outputs.next_multiple_of(groups), ..c };
    let many = [
        Case { batch: 9, spatial: &[32, 32], kernel: 3, inputs: [3, 2], hidden: 40, middle: 1, outputs: 6, skip: true, transposed: true },
        Case { batch: 7, spatial: &[300], kernel: 3, inputs: [2, 0], hidden: 24, middle: 1, outputs: 4, skip: true, transposed: true },
        Case { batch: 6, spatial: &[5, 260], kernel: 3, inputs: [2, 1], hidden: 150, middle: 1, outputs: 4, skip: true, transposed: true },
        Case { batch: 6, spatial: &[8, 9, 10], kernel: 3, inputs: [2, 1], hidden: 17, middle: 1, outputs: 2, skip: true, transposed: true },
        Case { batch: 8, spatial: &[20, 18], kernel: 1, inputs: [3, 1], hidden: 33, middle: 2, outputs: 6, skip: false, transposed: false },
        Case { batch: 4000, spatial: &[], kernel: 1, inputs: [1, 0], hidden: 20, middle: 1, outputs: 2, skip: false, transposed: false },
    ];
    CASES.into_iter().chain(many).map(even)
}

/// Both passes of all cases that are taken, and how many those were.
fn compare<T: CpuElement>(rho: Activation, tolerance: f64, check: impl Fn(&Case, usize, &[After; 2])) {
    let mut taken = [0; 2];
    for groups in [1, 2] {
        for (i, c) in cases(groups).enumerate() {
            let whole = Whole::<T>::new(&c, groups);
            if !(whole.takes(&c, StackPass::Couple) && whole.takes(&c, StackPass::CouplePull)) {
                continue;
            }
            taken[groups - 1] += 1;
            let got = if groups == 1 { whole.fused(&c, rho, &Shift, &PullShift) } else { whole.fused(&c, rho, &Map, &Pull) };
            let got = got.unwrap();
            let whole = Whole::<T>::new(&c, groups);
            let expected = if groups == 1 { whole.composed(&c, rho, &Shift, &PullShift) } else { whole.composed(&c, rho, &Map, &Pull) };
            for (pass, (got, expected)) in got.iter().zip(&expected).enumerate() {
                for (j, (got, expected)) in got.iter().zip(expected).enumerate() {
                    close(&format!("case {i}, {groups} groups, {rho:?}, {}, pass {pass}, result {j}", T::NAME), got, expected, tolerance);
                }
            }
            check(&c, groups, &got);
        }
    }
    assert!(taken.iter().all(|&n| n >= 12), "only {taken:?} cases were taken");
}

#[test]
fn one_pass_is_the_three_it_is_made_of() {
    for rho in [Activation::LeakyRelu { slope: 0.2 }, Activation::Tanh] {
        compare::<f64>(rho, 1e-12, |_, _, _| ());
        compare::<f32>(rho, 2e-5, |_, _, _| ());
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_a_coupling() {
    compare::<f32>(Activation::Relu, 1e-3, |c, groups, got| {
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let again = pool.install(|| {
                let whole = Whole::<f32>::new(c, groups);
                if groups == 1 {
                    whole.fused(c, Activation::Relu, &Shift, &PullShift)
                } else {
                    whole.fused(c, Activation::Relu, &Map, &Pull)
                }
            });
            assert!(again.unwrap() == *got, "{threads} threads");
        }
    });
}

#[test]
fn couplings_that_do_not_fit_are_refused() {
    let c = cases(2).last().unwrap();
    let fresh = || Whole::<f64>::new(&c, 2);
    // Kernels of other operands, for either pass.
    assert!(fresh().fused(&c, Activation::Relu, &Pull, &Pull).is_err());
    assert!(fresh().fused(&c, Activation::Relu, &Map, &Map).is_err());
    assert!(fresh().fused(&c, Activation::Relu, &Shift, &Pull).is_err());
    assert!(fresh().fused(&c, Activation::Relu, &Map, &PullShift).is_err());
    // Windows that overlap, log-determinants of another batch.
    let mut whole = fresh();
    whole.lanes = [1..2, 1..2];
    assert!(whole.fused(&c, Activation::Relu, &Map, &Pull).is_err());
    let mut whole = fresh();
    whole.logdet = Tensor::zeros(&whole.s.cpu, Shape::per_sample(3)).unwrap();
    assert!(whole.fused(&c, Activation::Relu, &Map, &Pull).is_err());
    let mut whole = fresh();
    whole.gl = Tensor::zeros(&whole.s.cpu, Shape::per_sample(3)).unwrap();
    assert!(whole.fused(&c, Activation::Relu, &Map, &Pull).is_err());
}
