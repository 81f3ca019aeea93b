//! The shapes that are tried, and everything of a case.

use inn_core::stack::{Affine, Last, Stack};
use inn_core::{Shape, Tensor, View};
use inn_ops::{Activation, Cpu, CpuElement};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub struct Case {
    pub batch: usize,
    pub spatial: &'static [usize],
    pub kernel: usize,
    /// Channels of the two inputs; 0 for none.
    pub inputs: [usize; 2],
    pub hidden: usize,
    pub middle: usize,
    pub outputs: usize,
    pub skip: bool,
    pub transposed: bool,
}

/// Few pixels and many, lines longer than a strip, samples cut into pieces that run in two phases, dense data; channels of any count.
pub const CASES: [Case; 35] = [
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
    // Folded parts of lines.
    Case { batch: 2, spatial: &[7, 260], kernel: 3, inputs: [3, 2], hidden: 150, middle: 1, outputs: 5, skip: true, transposed: true },
    Case { batch: 1, spatial: &[2, 4, 262], kernel: 3, inputs: [2, 0], hidden: 140, middle: 0, outputs: 3, skip: false, transposed: true },
    Case { batch: 3, spatial: &[700], kernel: 3, inputs: [1, 1], hidden: 90, middle: 1, outputs: 2, skip: true, transposed: true },
    // Tiles that reach beyond the ends of lines, and of the last part of one.
    Case { batch: 2, spatial: &[7, 263], kernel: 3, inputs: [3, 2], hidden: 150, middle: 1, outputs: 5, skip: true, transposed: true },
    Case { batch: 2, spatial: &[701], kernel: 3, inputs: [2, 0], hidden: 90, middle: 2, outputs: 3, skip: false, transposed: true },
    Case { batch: 1, spatial: &[5, 6, 45], kernel: 3, inputs: [5, 1], hidden: 33, middle: 0, outputs: 6, skip: false, transposed: true },
    Case { batch: 2, spatial: &[30, 37], kernel: 3, inputs: [6, 0], hidden: 128, middle: 1, outputs: 12, skip: true, transposed: true },
    Case { batch: 2, spatial: &[9, 31], kernel: 3, inputs: [20, 0], hidden: 24, middle: 1, outputs: 33, skip: true, transposed: true },
    // Strips of a few samples that set aside what they add: folded or not, in parts of many channels, and with an affine end.
    Case { batch: 3, spatial: &[16, 16], kernel: 3, inputs: [6, 4], hidden: 64, middle: 1, outputs: 12, skip: true, transposed: true },
    Case { batch: 1, spatial: &[12, 30], kernel: 5, inputs: [20, 7], hidden: 40, middle: 1, outputs: 13, skip: true, transposed: true },
    Case { batch: 2, spatial: &[14, 16], kernel: 5, inputs: [5, 0], hidden: 80, middle: 1, outputs: 6, skip: false, transposed: false },
    // Weights so large that partial gradients are as few as threads need.
    Case { batch: 2, spatial: &[12, 12], kernel: 3, inputs: [20, 0], hidden: 512, middle: 1, outputs: 24, skip: true, transposed: true },
    Case { batch: 33, spatial: &[2, 3], kernel: 3, inputs: [3, 0], hidden: 16, middle: 1, outputs: 3, skip: true, transposed: true },
];

/// Everything of a case, as tensors on a backend.
pub struct Subject<T: CpuElement> {
    pub cpu: Cpu<T>,
    pub inputs: Vec<Tensor<Cpu<T>>>,
    /// W_1, b_1, W_2, b_2, .., W (, b).
    pub weights: Vec<Tensor<Cpu<T>>>,
    pub gout: Tensor<Cpu<T>>,
    pub out: Tensor<Cpu<T>>,
}

pub fn random<T: CpuElement>(cpu: &Cpu<T>, shape: Shape, rng: &mut ChaCha8Rng) -> Tensor<Cpu<T>> {
    // Numbers that f32 has, so that both types start from the same.
    let values: Vec<f64> = (0..shape.len()).map(|_| f64::from(rng.random_range(-1.0f32..1.0))).collect();
    Tensor::from_f64(cpu, shape, &values).unwrap()
}

impl<T: CpuElement> Subject<T> {
    pub fn new(c: &Case) -> Self {
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

    pub fn run<R>(
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

pub fn values<T: CpuElement>(t: &Tensor<Cpu<T>>) -> Vec<f64> {
    t.slice().iter().map(|v| inn_core::Element::to_f64(*v)).collect()
}

/// One arena for all gradients, filled with 0.5, and its windows.
pub fn arena<T: CpuElement>(s: &Subject<T>) -> (Tensor<Cpu<T>>, Vec<inn_core::Window>) {
    let len = s.weights.iter().map(|w| w.shape().len()).sum();
    let mut offset = 0;
    let windows = s.weights.iter().map(|w| {
        let window = inn_core::Window::contiguous(w.shape(), offset);
        offset += w.shape().len();
        window
    });
    (Tensor::full(&s.cpu, Shape::flat(len), 0.5).unwrap(), windows.collect())
}

pub fn gradients<T: CpuElement>(arena: &Tensor<Cpu<T>>, windows: &[inn_core::Window]) -> Vec<Vec<f64>> {
    let all = values(arena);
    windows.iter().map(|w| all[w.offset..w.end()].to_vec()).collect()
}

pub fn close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * size, "{what}, element {i}: {g} against {e}");
    }
}
