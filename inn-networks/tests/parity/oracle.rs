//! Networks of the original of which there are no numbers, dense Glow and ResNets: what is imported computes what the formulas say, which are
//! written down here once more over plain lists (SPEC 4.1, 4.4, 5.1, 5.3, 5.6, 5.8, 6.1), with central differences of them for the gradients.

use crate::frame::Side;
use crate::orders::{numbered, summarized};
use inn_core::{Gradients, Inputs, Shape, Squeeze, Tensor};
use inn_layers::conditioner::{NetConfig, ResNetConfig, ResNetEnds};
use inn_networks::encoder::Encoder;
use inn_networks::import::{self, Array, Original, dense_step_config};
use inn_networks::{GlowConfig, SummarizedGlowConfig};
use inn_ops::{Activation, Cpu};

/// Numbers in (-1, 1) that look like noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn list(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| self.next()).collect()
    }
}

/// Values of (batch, channel, pixel), one pixel after the other.
#[derive(Clone)]
struct State {
    channels: usize,
    pixels: usize,
    values: Vec<f64>,
}

impl State {
    fn sample_len(&self) -> usize {
        self.channels * self.pixels
    }

    /// The channels of a range.
    fn part(&self, range: std::ops::Range<usize>) -> Self {
        let rows = self.values.chunks(self.sample_len());
        let values = rows.flat_map(|row| row[range.start * self.pixels..range.end * self.pixels].to_vec()).collect();
        Self { channels: range.len(), pixels: self.pixels, values }
    }

    fn change(&mut self, f: impl Fn(usize, usize, usize, f64) -> f64) {
        let (channels, pixels) = (self.channels, self.pixels);
        for (i, v) in self.values.iter_mut().enumerate() {
            *v = f(i / (channels * pixels), i / pixels % channels, i % pixels, *v);
        }
    }

    /// Checkerboard in 1D: channel b C + c has the pixels 2 x + b of channel c.
    fn squeezed(&self) -> Self {
        let (channels, pixels) = (2 * self.channels, self.pixels / 2);
        let mut out = Self { channels, pixels, values: vec![0.0; self.values.len()] };
        out.change(|b, c, x, _| {
            let (bit, c) = (c / self.channels, c % self.channels);
            self.values[(b * self.channels + c) * self.pixels + 2 * x + bit]
        });
        out
    }
}

/// x - 2 v (v x) / |v|², for each pixel.
fn reflected(x: &State, v: &[f64]) -> State {
    let norm: f64 = v.iter().map(|v| v * v).sum();
    let mut out = x.clone();
    out.change(|b, c, p, value| {
        let dot: f64 = v.iter().enumerate().map(|(i, v)| v * x.values[(b * x.channels + i) * x.pixels + p]).sum();
        value - 2.0 * v[c] * dot / norm
    });
    out
}

/// ReLU(W x + b) of a row. W is (out, in), column after column.
fn dense(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let outputs = bias.len();
    let row = |o: usize| bias[o] + x.iter().enumerate().map(|(i, x)| weight[i * outputs + o] * x).sum::<f64>();
    (0..outputs).map(|o| row(o).max(0.0)).collect()
}

/// Y and the mean of the log-determinant. Y is Z_1, Z_2, .., X, each over the whole batch.
fn dense_glow(theta: &[Vec<f64>], config: &GlowConfig, x: State) -> (Vec<f64>, f64) {
    let batch = x.values.len() / x.sample_len();
    let (norms, mut blocks) = theta.split_at(2 * config.levels * config.steps);
    let (mut norms, mut x, mut logdet, mut out) = (norms.chunks(2), x, 0.0, Vec::new());
    for level in 0..config.levels {
        if config.split {
            x = x.squeezed();
        }
        for _ in 0..config.steps {
            let [s, b] = norms.next().unwrap() else { panic!() };
            x.change(|_, c, _, v| s[c] * v + b[c]);
            logdet += x.pixels as f64 * s.iter().map(|s| s.abs().ln()).sum::<f64>();
            let (own, rest) = blocks.split_at(9);
            blocks = rest;
            for v in &own[..3] {
                x = reflected(&x, v);
            }
            let k = if x.channels % 4 == 1 { x.channels / 2 } else { x.channels.div_ceil(2) };
            let read = x.part(k..x.channels);
            let rows = read.values.chunks(read.sample_len());
            let made: Vec<Vec<f64>> =
                rows.map(|row| own[3..].chunks(2).fold(row.to_vec(), |x, layer| dense(&x, &layer[0], &layer[1]))).collect();
            let pixels = x.pixels;
            let scale = |b: usize, c: usize, p: usize| 1.0 / (1.0 + (-made[b][c * pixels + p]).exp());
            x.change(|b, c, p, v| if c < k { scale(b, c, p) * v + made[b][(k + c) * pixels + p] } else { v });
            let all = (0..batch * k * pixels).map(|i| scale(i / (k * pixels), i / pixels % k, i % pixels).ln());
            logdet += all.sum::<f64>() / batch as f64;
        }
        if config.split && (level + 1 < config.levels || config.levels == 1) {
            let keep = x.channels / 2;
            out.extend(x.part(keep..x.channels).values);
            x = x.part(0..keep);
        }
    }
    out.extend(x.values);
    (out, logdet)
}

/// A random list for each array of the original; scales away from 0.
fn random(arrays: &mut [Array], is_scale: impl Fn(usize) -> bool, noise: &mut Noise) {
    for (i, array) in arrays.iter_mut().enumerate() {
        let bound = if array.dims.len() > 1 { (6.0 / (array.dims[0] + array.dims[1]) as f64).sqrt() } else { 1.0 };
        array.values.iter_mut().for_each(|v| {
            let u = noise.next();
            *v = if is_scale(i) { u.signum() * (1.0 + 0.5 * u.abs()) } else { bound * u };
        });
    }
}

/// The gradient of f at θ against its central difference along a direction for each list.
fn expect_gradient(f: impl Fn(&[Vec<f64>]) -> f64, theta: &[Vec<f64>], gradient: &[Vec<f64>], noise: &mut Noise) {
    for (i, g) in gradient.iter().enumerate() {
        let direction = noise.list(g.len());
        let at = |h: f64| {
            let mut moved = theta.to_vec();
            moved[i].iter_mut().zip(&direction).for_each(|(v, d)| *v += h * d);
            f(&moved)
        };
        let ours: f64 = g.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((ours - difference).abs() < 1e-6 * (1.0 + difference.abs()), "list {i}: {ours}, differences {difference}");
    }
}

fn expect_near(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    let worst = ours.iter().zip(theirs).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst < 1e-12 * largest, "{worst} off, of {largest}");
}

fn values(arrays: &[Array]) -> Vec<Vec<f64>> {
    arrays.iter().map(|array| array.values.clone()).collect()
}

#[test]
fn dense_glow_is_what_the_formulas_say() {
    let cpu = Cpu::<f64>::poisoned();
    let (batch, nx) = (3, 8);
    for (channels, levels, split, step) in [
        (3, 2, false, dense_step_config(2, 3, nx)),
        (2, 2, true, dense_step_config(2, 4, nx / 2)),
        (1, 3, true, dense_step_config(3, 2, nx / 2)),
        (1, 1, true, dense_step_config(3, 2, nx / 2)),
    ] {
        let squeeze = split.then_some(Squeeze::Checkerboard);
        let config = GlowConfig { channels, rank: 1, levels, steps: 2, squeeze, split, step, ..GlowConfig::default() };
        let mut noise = Noise(channels as u64 + 10 * levels as u64);
        let (order, _, mut arrays) = numbered(&config);
        assert_eq!(arrays.len(), 11 * levels * config.steps);
        random(&mut arrays, |i| i < 4 * levels && i % 2 == 0, &mut noise);
        let model = import::model(&cpu, &config, &arrays.iter().collect::<Vec<_>>()).unwrap();

        let shape = Shape::new(batch, channels, &[nx]).unwrap();
        let (x, gy) = (noise.list(shape.len()), noise.list(shape.len()));
        let state = |values: &[f64]| State { channels, pixels: nx, values: values.to_vec() };
        let (theirs, mean) = dense_glow(&values(&arrays), &config, state(&x));
        let y = model.forward(Tensor::from_f64(&cpu, shape, &x).unwrap()).unwrap();
        let splits = if levels == 1 { 1 } else { levels - 1 };
        let side = Side::Latents { lanes: 1, data: shape, squeeze: Squeeze::Checkerboard, levels, splits };
        let side = if split { side } else { Side::State };
        let dims = || if split { vec![shape.len()] } else { shape.dims() };
        let joined = |values: Vec<f64>| side.join(&cpu, &[&Array { dims: dims(), values }]);
        expect_near(&[y.logdet.to_f64().unwrap().iter().sum::<f64>() / batch as f64], &[mean]);
        expect_near(&y.state.to_f64().unwrap(), &joined(theirs).to_f64().unwrap());

        // The gradient of <gY, Y> - ℓ, in the arrays and in X.
        let gl = Tensor::full(&cpu, Shape::per_sample(batch), -1.0 / batch as f64).unwrap();
        let mut grads = model.zeros().unwrap();
        let pulled = model.backward(y.state, joined(gy.clone()), &gl, &mut grads).unwrap();
        let mut gradient = values(&order.store(&grads).unwrap());
        gradient.push(pulled.cotangent.to_f64().unwrap());
        let mut point = values(&arrays);
        point.push(x);
        let objective = |point: &[Vec<f64>]| {
            let (x, theta) = point.split_last().unwrap();
            let (y, logdet) = dense_glow(theta, &config, state(x));
            y.iter().zip(&gy).map(|(y, g)| y * g).sum::<f64>() - logdet
        };
        expect_gradient(objective, &point, &gradient, &mut noise);
    }
}

/// A true convolution with kernels of 3 x 3 (c_out, c_in, y, x), padded to the same extents, for one sample (channel, y, x).
fn convolved(x: &[f64], (h, w): (usize, usize), kernel: &[f64], bias: &[f64]) -> Vec<f64> {
    let inputs = x.len() / (h * w);
    let at = |i: usize, y: usize, x_: usize| {
        // Shifted by one, for the padding.
        if (1..=h).contains(&y) && (1..=w).contains(&x_) { x[(i * h + y - 1) * w + x_ - 1] } else { 0.0 }
    };
    let value = |o: usize, y: usize, x: usize| {
        let taps = (0..inputs * 9).map(|t| kernel[o * inputs * 9 + t] * at(t / 9, y + 2 - t % 9 / 3, x + 2 - t % 3));
        bias[o] + taps.sum::<f64>()
    };
    (0..bias.len() * h * w).map(|i| value(i / (h * w), i / w % h, i % w)).collect()
}

/// X + conv₂(ReLU(conv₁(X))) of each block, then a convolution if there are arrays left.
fn resnet(theta: &[Vec<f64>], blocks: usize, extents: (usize, usize), x: &[f64]) -> Vec<f64> {
    let (units, last) = theta.split_at(4 * blocks);
    let x = units.chunks(4).fold(x.to_vec(), |x, unit| {
        let inside: Vec<f64> = convolved(&x, extents, &unit[0], &unit[1]).iter().map(|v| v.max(0.0)).collect();
        convolved(&inside, extents, &unit[2], &unit[3]).iter().zip(&x).map(|(v, x)| v + x).collect()
    });
    if let [kernel, bias] = last { convolved(&x, extents, kernel, bias) } else { x }
}

#[test]
fn a_resnet_is_what_the_formulas_say() {
    let cpu = Cpu::<f64>::poisoned();
    let (batch, extents) = (2, (4, 6));
    for ends in [ResNetEnds::Last, ResNetEnds::Neither] {
        let mut config: SummarizedGlowConfig = summarized();
        let net = ResNetConfig { hidden: 4, blocks: 2, ends, activation: Activation::Relu, ..ResNetConfig::default() };
        config.summary.net = NetConfig::ResNet(net);
        if ends == ResNetEnds::Neither {
            config.summary.channels = 3;
        }
        let mut noise = Noise(7);
        let (order, _, mut arrays) = numbered(&config);
        random(&mut arrays, |i| i == 0, &mut noise);
        let model = import::model(&cpu, &config, &arrays.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(order, config.correspondence().unwrap());

        // The summary's arrays are behind those of the network.
        let own = |list: Vec<Array>| values(&list[12..]);
        let shape = Shape::new(batch, config.summary.channels, &[extents.0, extents.1]).unwrap();
        let x = noise.list(shape.len());
        let observation = [Tensor::from_f64(&cpu, shape, &x).unwrap()];
        let all = |theta: &[Vec<f64>], x: &[f64]| -> Vec<f64> {
            x.chunks(shape.sample_len()).flat_map(|x| resnet(theta, 2, extents, x)).collect()
        };
        let encoded = model.layer().encode(model.params(), &observation).unwrap();
        expect_near(&encoded[0].to_f64().unwrap(), &all(&own(arrays.clone()), &x));

        let gy = noise.list(encoded[0].shape().len());
        let (mut grads, mut conditions) = (model.zeros().unwrap(), vec![Tensor::zeros(&cpu, shape).unwrap()]);
        let at = Inputs { theta: model.params(), conditions: &observation, operator: None, trail: None, samples: 0..batch };
        let cotangent = Tensor::from_f64(&cpu, encoded[0].shape(), &gy).unwrap();
        let mut into = Gradients { theta: &mut grads, conditions: &mut conditions };
        model.layer().encoder().pull(&at, &encoded, vec![cotangent], &mut into).unwrap();
        let mut gradient = own(order.store(&grads).unwrap());
        gradient.push(conditions[0].to_f64().unwrap());
        let mut point = own(arrays);
        point.push(x);
        let objective = |point: &[Vec<f64>]| {
            let (x, theta) = point.split_last().unwrap();
            all(theta, x).iter().zip(&gy).map(|(y, g)| y * g).sum()
        };
        expect_gradient(objective, &point, &gradient, &mut noise);
    }
}
