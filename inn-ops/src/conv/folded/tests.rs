//! Strips, the choice, and folded convolutions beside plain ones, whatever they cost.

use super::*;
use crate::conv::{Planes, PlanesMut};
use crate::simd::Level;
use crate::stack::fold::Folding;
use crate::zip::Vectors;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn plan(batch: usize, channels: [usize; 2], input: [usize; 3], kernel: [usize; 3], op: Op, level: Level) -> Option<Plan> {
    let g = Geometry::new(batch, channels[0], channels[1], input, kernel, [1; 3], kernel.map(|k| k / 2)).unwrap();
    Plan::new(&g, op, f32::kernels(level))
}

/// Every pixel is in one strip, and the arrays of a strip have room for it.
#[test]
fn strips_cover_the_batch() {
    let shapes = [
        (8, [128, 128], [1, 32, 32], [1, 3, 3]),
        (1, [64, 64], [1, 256, 256], [1, 3, 3]),
        (2, [200, 190], [1, 37, 1025], [1, 3, 3]),
        (1, [33, 32], [48, 47, 46], [3, 3, 3]),
        (3, [50, 90], [1, 1, 5000], [1, 1, 3]),
        (1, [400, 150], [1, 19, 260], [1, 5, 3]),
    ];
    for level in Level::available() {
        for (batch, channels, input, kernel) in shapes {
            for op in [Op::Forward, Op::InputGradient, Op::WeightGradient] {
                let Some(p) = plan(batch, channels, input, kernel, op, level) else {
                    // Turning output gradients, or lanes that they do not fill.
                    assert!(op == Op::WeightGradient, "{op:?} of {channels:?} {input:?} at {level:?}");
                    continue;
                };
                let mut seen = vec![0; batch * input.iter().product::<usize>()];
                for (strip, _) in (0..p.all()).flat_map(|strip| p.reached(strip)) {
                    assert!(strip.lines.len() <= p.lines && strip.tiles.len() <= p.longest);
                    assert!((strip.lines.len() + kernel[1] - 1) * strip.tiles.len() + p.lanes <= p.edge);
                    assert!(p.together * strip.lines.len() * strip.tiles.len() + p.lanes <= p.piece || p.joined > 0);
                    let start = strip.sample * input.iter().product::<usize>() + p.start(&strip);
                    for line in 0..strip.lines.len() {
                        let start = start + line * input[2];
                        seen[start..start + strip.pixels.len()].iter_mut().for_each(|seen| *seen += 1);
                    }
                }
                assert!(seen.iter().all(|&seen| seen == 1), "{op:?} of {channels:?} {input:?} at {level:?}");
            }
        }
    }
}

#[test]
fn what_saves_too_little_is_not_folded() {
    let level = crate::simd::level();
    let folded = |channels, input, kernel| plan(4, channels, input, kernel, Op::Forward, level).is_some();
    assert!(folded([64, 64], [1, 64, 64], [1, 3, 3]));
    assert!(!folded([6, 128], [1, 64, 64], [1, 3, 3]) && !folded([128, 2], [1, 64, 64], [1, 3, 3]));
    assert!(!folded([64, 64], [1, 64, 64], [3, 3, 1]) && !folded([64, 64], [1, 4, 2], [1, 3, 3]));
    // Weights that take much more memory than their own.
    assert!(!folded([137, 190], [17, 18, 19], [7, 7, 7]));
    // A weight gradient fills whole vectors.
    let lanes = f32::kernels(level).lanes;
    let half = lanes / 2;
    assert!(lanes < 8 || plan(1, [64, lanes], [1, 64, 64], [1, 3, 3], Op::WeightGradient, level).is_some());
    assert!(plan(1, [64, half], [1, 64, 64], [1, 3, 3], Op::WeightGradient, level).is_none());
    assert!(plan(1, [64, 64], [1, 64, 64], [1, 3, 3], Op::WeightGradient, level).is_some());
}

/// Samples of channels with some elements between the channels, which nobody touches.
struct Window<T> {
    data: Vec<T>,
    channels: usize,
    pixels: usize,
}

impl<T: Vectors + Dispatch> Window<T> {
    const APART: usize = 3;

    fn random(rng: &mut ChaCha8Rng, batch: usize, channels: usize, pixels: usize) -> Self {
        let each = pixels + Self::APART;
        let value = |i: usize| if i % each < pixels { T::of(rng.random_range(-1.0..1.0)) } else { T::of(f64::NAN) };
        Self { data: (0..batch * channels * each).map(value).collect(), channels, pixels }
    }

    fn copy(&self) -> Self {
        Self { data: self.data.clone(), ..*self }
    }

    fn planes(&self) -> Planes<'_, T> {
        let channel_stride = self.pixels + Self::APART;
        Planes { data: &self.data, batch_stride: self.channels * channel_stride, channel_stride }
    }

    fn planes_mut(&mut self) -> PlanesMut<'_, T> {
        let channel_stride = self.pixels + Self::APART;
        PlanesMut { data: &mut self.data, batch_stride: self.channels * channel_stride, channel_stride }
    }

    fn check(&self, other: &Self, terms: usize, tolerance: f64, what: &str) {
        for (i, (&a, &b)) in self.data.iter().zip(&other.data).enumerate() {
            let (a, b) = (a.widen(), b.widen());
            let inside = i % (self.pixels + Self::APART) < self.pixels;
            assert_eq!(inside, !a.is_nan(), "{what}: element {i} is {a}");
            assert!(!inside || (a - b).abs() <= tolerance * terms as f64, "{what}: element {i} is {a}, not {b}");
        }
    }
}

fn agrees<T: Vectors + Dispatch>(rng: &mut ChaCha8Rng, g: &Geometry, tolerance: f64) {
    let x = Window::<T>::random(rng, g.batch, g.in_channels, g.input_pixels());
    let y = Window::<T>::random(rng, g.batch, g.out_channels, g.output_pixels());
    let w = Window::<T>::random(rng, g.out_channels, g.in_channels, g.taps());
    for level in Level::available() {
        let kernels = T::kernels(level);
        for (folding, joined) in [(Folding::Four, false), (Folding::Two, false), (Folding::Four, true), (Folding::Two, true)] {
            for accumulate in [false, true] {
                for (op, from, to, terms) in [
                    (Op::Forward, &x, &y, g.in_channels * g.taps()),
                    (Op::InputGradient, &y, &x, g.out_channels * g.taps()),
                    (Op::WeightGradient, &x, &w, g.batch * g.output_pixels()),
                ] {
                    let plan = Plan::of(g, op, kernels, folding).unwrap();
                    let Some(plan) = (if joined { plan.joined(op, kernels) } else { Some(plan) }) else { continue };
                    let (mut folded, mut plain) = (to.copy(), to.copy());
                    if op == Op::WeightGradient {
                        weight::by_plan(level, &plan, x.planes(), y.planes(), &mut folded.planes_mut(), accumulate);
                        crate::conv::weight::weight_gradient(level, g, x.planes(), y.planes(), plain.planes_mut(), accumulate);
                    } else {
                        let adjoint = op == Op::InputGradient;
                        apply::by_plan(level, &plan, adjoint, from.planes(), w.planes(), &mut folded.planes_mut(), accumulate);
                        crate::conv::apply::apply(level, g, adjoint, from.planes(), w.planes(), plain.planes_mut(), accumulate);
                    }
                    folded.check(&plain, terms, tolerance, &format!("{op:?} at {level:?} by {folding:?} of {g:?}"));
                }
            }
        }
    }
}

/// Small shapes of all kinds, which would not be folded, as it would not be worth it.
#[test]
fn folded_and_plain_agree() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut done = 0;
    while done < 60 {
        let (mut input, mut kernel, mut padding) = ([1; 3], [1; 3], [0; 3]);
        let rank = rng.random_range(1..=3);
        for axis in 3 - rank..3 {
            input[axis] = rng.random_range(1..=[140, 23, 9][rank - 1]);
            kernel[axis] = rng.random_range(if axis == 2 { 2..=9 } else { 1..=4 });
            padding[axis] = rng.random_range(0..kernel[axis]);
        }
        let (batch, i, o) = (rng.random_range(1..=3), rng.random_range(1..=20), rng.random_range(1..=40));
        if let Ok(g) = Geometry::new(batch, i, o, input, kernel, [1; 3], padding) {
            agrees::<f32>(&mut rng, &g, 2e-6);
            agrees::<f64>(&mut rng, &g, 4e-15);
            done += 1;
        }
    }
}

/// Several lines in a vector of tiles: lines of whole vectors (16 and 32 pixels, or 8 in `f64`), and those that go over the stage, with zeros beside them
/// and with pixels of their own there.
#[test]
fn short_lines_agree() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for width in [8, 16, 32, 7, 15, 30, 12, 20, 28, 36, 69] {
        for (kernel, padding) in [(3, 1), (3, 0), (3, 2), (2, 1), (5, 2), (7, 3)] {
            let g = Geometry::new(2, 5, 6, [1, 5, width], [1, 3, kernel], [1; 3], [0, 1, padding]).unwrap();
            agrees::<f32>(&mut rng, &g, 2e-6);
            agrees::<f64>(&mut rng, &g, 4e-15);
        }
    }
    // Planes that follow each other and together fill vectors of tiles, which none does by itself, in two groups of outputs.
    for (batch, height, width) in [(8, 5, 8), (4, 3, 12), (16, 7, 4)] {
        let g = Geometry::new(batch, 5, 20, [1, height, width], [1, 3, 3], [1; 3], [0, 1, 1]).unwrap();
        agrees::<f32>(&mut rng, &g, 2e-6);
        agrees::<f64>(&mut rng, &g, 4e-15);
    }
}

/// Working memory of shapes that no machine could hold, in no time.
#[test]
fn absurd_shapes_have_a_plan_or_none() {
    let level = crate::simd::level();
    for op in [Op::Forward, Op::InputGradient, Op::WeightGradient] {
        assert!(plan(1 << 12, [16, 17], [1, 1 << 14, 1 << 15], [1, 3, 3], op, level).is_some() || op == Op::WeightGradient);
        let g = Geometry::new(1 << 12, 16, 17, [1, 1 << 14, 1 << 15], [1, 3, 3], [1; 3], [0, 1, 1]).unwrap();
        assert!(scratch(&g, op, f32::kernels(level), 3).is_none_or(|scratch| scratch.shared + 3 * scratch.each < 32 << 20));
        assert!(plan(1, [1 << 21, 1 << 22], [1, 16, 16], [1, 3, 3], op, level).is_none());
    }
}

/// Few samples make strips that two threads share evenly, and gradients no more partial ones than that takes.
#[test]
fn few_samples_are_shared_evenly() {
    for (batch, extent, op, strips) in [
        (3, 16, Op::Forward, 6),
        (3, 16, Op::WeightGradient, 3),
        (5, 16, Op::WeightGradient, 5),
        (1, 24, Op::WeightGradient, 2),
        (1, 32, Op::WeightGradient, 4),
    ] {
        if let Some(plan) =
            plan(batch, [64, 64], [1, extent, extent], [1, 3, 3], op, Level::Avx512).filter(|_| Level::Avx512.is_available())
        {
            assert_eq!(plan.all(), strips, "{op:?} of {batch} samples of {extent} x {extent}");
            assert!(op != Op::WeightGradient || plan.slots(size_of::<f32>()) == strips, "{batch} samples of {extent} x {extent}");
        }
    }
}
