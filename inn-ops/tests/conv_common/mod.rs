//! Shared by the tests of the convolutions: a plain reference, and windows
//! surrounded by values that must be neither read nor written.
#![allow(dead_code)]

use inn_ops::conv::{ConvElement, Geometry, Planes, PlanesMut};

/// Batch, input and output channels, input pixels, kernel, stride and padding.
pub type Shape = (usize, usize, usize, [usize; 3], [usize; 3], [usize; 3], [usize; 3]);

/// Elements of the tests.
pub trait Number: ConvElement {
    /// Largest acceptable relative error of a sum.
    const TOLERANCE: f64;
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
}

impl Number for f32 {
    const TOLERANCE: f64 = 3e-5;
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Number for f64 {
    const TOLERANCE: f64 = 1e-13;
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// A small generator of test data (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `low..=high`.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + (self.bits() % (high - low + 1) as u64) as usize
    }

    /// Uniform in `-1..1`, rounded to an `f32`.
    pub fn value(&mut self) -> f64 {
        ((self.bits() >> 40) as f64 / (1u64 << 23) as f64) - 1.0
    }
}

/// An array of planes in a larger array that is NaN everywhere else.
#[derive(Clone)]
pub struct Window<T> {
    pub data: Vec<T>,
    pub start: usize,
    pub batch_stride: usize,
    pub channel_stride: usize,
    pub shape: [usize; 3],
}

impl<T: Number> Window<T> {
    /// A window with random margins, filled with random numbers.
    pub fn random(random: &mut Random, shape: [usize; 3], margins: bool) -> Self {
        let [batch, channels, plane] = shape;
        let margin = |random: &mut Random, most| if margins { random.range(0, most) } else { 0 };
        let channel_stride = plane + margin(random, 3);
        let batch_stride = channels.max(1) * channel_stride + margin(random, 20);
        let start = margin(random, 9);
        let len = start + batch * batch_stride + margin(random, 9);
        let data = vec![T::from_f64(f64::NAN); len];
        let mut window = Window { data, start, batch_stride, channel_stride, shape };
        for b in 0..batch {
            for c in 0..channels {
                for q in 0..plane {
                    *window.at_mut(b, c, q) = T::from_f64(random.value());
                }
            }
        }
        window
    }

    fn place(&self, b: usize, c: usize, q: usize) -> usize {
        self.start + b * self.batch_stride + c * self.channel_stride + q
    }

    pub fn at(&self, b: usize, c: usize, q: usize) -> T {
        self.data[self.place(b, c, q)]
    }

    pub fn at_mut(&mut self, b: usize, c: usize, q: usize) -> &mut T {
        let place = self.place(b, c, q);
        &mut self.data[place]
    }

    /// The slice exactly from the first to the last element.
    fn range(&self) -> std::ops::Range<usize> {
        let [batch, channels, plane] = self.shape;
        if batch * channels == 0 {
            return self.start..self.start;
        }
        self.start..self.place(batch - 1, channels - 1, plane - 1) + 1
    }

    pub fn planes(&self) -> Planes<'_, T> {
        Planes { data: &self.data[self.range()], batch_stride: self.batch_stride, channel_stride: self.channel_stride }
    }

    pub fn planes_mut(&mut self) -> PlanesMut<'_, T> {
        let range = self.range();
        PlanesMut { data: &mut self.data[range], batch_stride: self.batch_stride, channel_stride: self.channel_stride }
    }

    pub fn values(&self) -> Vec<f64> {
        let [batch, channels, plane] = self.shape;
        let mut values = Vec::new();
        for b in 0..batch {
            for c in 0..channels {
                for q in 0..plane {
                    values.push(self.at(b, c, q).to_f64());
                }
            }
        }
        values
    }

    /// The bits of all elements, margins included.
    pub fn bits(&self) -> Vec<u64> {
        self.data.iter().map(|value| value.to_f64().to_bits()).collect()
    }

    /// Makes the elements NaN too.
    pub fn poison(&mut self) {
        self.data.fill(T::from_f64(f64::NAN));
    }

    /// Checks that the margins still are NaN.
    pub fn check_margins(&self) {
        let mut inside = vec![false; self.data.len()];
        let [batch, channels, plane] = self.shape;
        for b in 0..batch {
            for c in 0..channels {
                for q in 0..plane {
                    inside[self.place(b, c, q)] = true;
                }
            }
        }
        for (value, inside) in self.data.iter().zip(inside) {
            assert_eq!(value.to_f64().is_nan(), !inside, "a margin was written, or NaN was read");
        }
    }
}

/// The arrays of one convolution.
#[derive(Clone)]
pub struct Case<T> {
    pub g: Geometry,
    pub x: Window<T>,
    pub w: Window<T>,
    pub y: Window<T>,
}

impl<T: Number> Case<T> {
    pub fn new(random: &mut Random, g: Geometry, margins: bool) -> Self {
        Case {
            x: Window::random(random, [g.batch, g.in_channels, g.input_pixels()], margins),
            w: Window::random(random, [g.out_channels, g.in_channels, g.taps()], margins),
            y: Window::random(random, [g.batch, g.out_channels, g.output_pixels()], margins),
            g,
        }
    }

    /// Visits every product of the convolution: sample, output and input
    /// channel, and the numbers of output pixel, tap and input pixel.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize, usize, usize, usize)) {
        let g = &self.g;
        let place = |i: [usize; 3], n: [usize; 3]| (i[0] * n[1] + i[1]) * n[2] + i[2];
        let indices = |n: [usize; 3]| (0..n[0]).flat_map(move |a| (0..n[1]).flat_map(move |b| (0..n[2]).map(move |c| [a, b, c])));
        for q in indices(g.output) {
            for t in indices(g.kernel) {
                let mut pixel = [0; 3];
                let inside = (0..3).all(|axis| {
                    let at = q[axis] * g.stride[axis] + t[axis];
                    pixel[axis] = at.wrapping_sub(g.padding[axis]);
                    pixel[axis] < g.input[axis]
                });
                if !inside {
                    continue;
                }
                let (q, t, u) = (place(q, g.output), place(t, g.kernel), place(pixel, g.input));
                for b in 0..g.batch {
                    for o in 0..g.out_channels {
                        for i in 0..g.in_channels {
                            visit(b, o, i, q, t, u);
                        }
                    }
                }
            }
        }
    }

    /// The forward operation: values, and sums of magnitudes for error bounds.
    pub fn reference_y(&self) -> Vec<(f64, f64)> {
        let g = &self.g;
        let mut sums = vec![(0.0, 0.0); g.batch * g.out_channels * g.output_pixels()];
        self.each(|b, o, i, q, t, u| {
            let term = self.w.at(o, i, t).to_f64() * self.x.at(b, i, u).to_f64();
            add(&mut sums[(b * g.out_channels + o) * g.output_pixels() + q], term);
        });
        sums
    }

    pub fn reference_gx(&self) -> Vec<(f64, f64)> {
        let g = &self.g;
        let mut sums = vec![(0.0, 0.0); g.batch * g.in_channels * g.input_pixels()];
        self.each(|b, o, i, q, t, u| {
            let term = self.w.at(o, i, t).to_f64() * self.y.at(b, o, q).to_f64();
            add(&mut sums[(b * g.in_channels + i) * g.input_pixels() + u], term);
        });
        sums
    }

    pub fn reference_gw(&self) -> Vec<(f64, f64)> {
        let g = &self.g;
        let mut sums = vec![(0.0, 0.0); g.out_channels * g.in_channels * g.taps()];
        self.each(|b, o, i, q, t, u| {
            let term = self.y.at(b, o, q).to_f64() * self.x.at(b, i, u).to_f64();
            add(&mut sums[(o * g.in_channels + i) * g.taps() + t], term);
        });
        sums
    }
}

fn add(sum: &mut (f64, f64), term: f64) {
    sum.0 += term;
    sum.1 += term.abs();
}

/// Checks results against a reference, `before` being what was accumulated to.
pub fn check<T: Number>(what: &str, found: &Window<T>, wanted: &[(f64, f64)], before: Option<&Window<T>>) {
    found.check_margins();
    let before = before.map(Window::values);
    let found = found.values();
    assert_eq!(found.len(), wanted.len());
    for (index, (&found, &(value, size))) in found.iter().zip(wanted).enumerate() {
        let before = before.as_ref().map_or(0.0, |before| before[index]);
        let error = (found - (value + before)).abs();
        assert!(error <= T::TOLERANCE * (size + before.abs()), "{what}, element {index}: {found} instead of {}", value + before);
    }
}
