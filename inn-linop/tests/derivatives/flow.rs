//! A small network that depends on everything, and differences of whatever is computed from it.

use inn_core::{Error, LinearOperator, Model, Params, Scope, Shape, Tensor, Write};
use inn_layers::ActNorm;
use inn_layers::conditioner::{Net, NetConfig, Ports, ResidualConfig};
use inn_layers::coupling::{Affine, Coupling};
use inn_ops::{Cpu, ScaleMap};

pub type Device = Cpu<f64>;
pub type Layers = (ActNorm, Coupling<Net, Affine>, Coupling<Net, Affine>);

pub const SCALES: [ScaleMap; 3] =
    [ScaleMap::Bounded { limit: 1.5 }, ScaleMap::Sigmoid { low: 0.5, high: 1.0 }, ScaleMap::ExpClamp { clamp: 1.0 }];

pub fn number(i: usize) -> f64 {
    ((i * 7919 + 13) % 1009) as f64 / 504.0 - 1.0
}

pub fn tensor(shape: Shape, seed: usize) -> Tensor<Device> {
    let values: Vec<f64> = (0..shape.len()).map(|i| number(i + 1000 * seed)).collect();
    Tensor::from_f64(&Cpu::poisoned(), shape, &values).unwrap()
}

/// A normalization and two couplings of four channels; the second coupling reads a condition of one channel.
pub fn model(scale: ScaleMap) -> Model<Layers, Device> {
    let net = NetConfig::Residual(ResidualConfig { hidden: 3, last_gain: 1.0, ..ResidualConfig::default() });
    let coupling = |scope: &mut Scope<'_>, kept: std::ops::Range<usize>, moved: std::ops::Range<usize>, condition| {
        let ports = Ports { inputs: 2, outputs: 4, rank: 0, condition };
        Ok::<_, Error>(Coupling { conditioner: net.build(scope, ports)?, transform: Affine { scale }, kept, moved })
    };
    let mut model = Model::build(&Device::poisoned(), 3, |scope| {
        let actnorm = ActNorm::new(&mut scope.sub("actnorm"), 4)?;
        let a = coupling(&mut scope.sub("a"), 0..2, 2..4, None)?;
        Ok((actnorm, a, coupling(&mut scope.sub("b"), 2..4, 0..2, Some((0, 1)))?))
    })
    .unwrap();
    let mut flat = model.params().to_flat().unwrap();
    flat.iter_mut().enumerate().for_each(|(i, v)| *v += 0.3 * number(i));
    let params = Params::from_flat(model.backend(), model.layout(), &flat).unwrap();
    model.params_mut().assign(&params).unwrap();
    model
}

/// A point [x; θ; c] of the model.
pub struct Point {
    pub x: Vec<f64>,
    pub theta: Vec<f64>,
    pub c: Vec<f64>,
}

pub const BATCH: usize = 2;

pub fn state() -> Shape {
    Shape::rows(BATCH, 4)
}

impl Point {
    pub fn of(model: &Model<Layers, Device>) -> Self {
        let x = tensor(state(), 1).to_f64().unwrap();
        Self { x, theta: model.params().to_flat().unwrap(), c: tensor(Shape::rows(BATCH, 1), 2).to_f64().unwrap() }
    }

    pub fn moved(&self, index: usize, step: f64) -> Self {
        let mut out = Self { x: self.x.clone(), theta: self.theta.clone(), c: self.c.clone() };
        let (n, p) = (self.x.len(), self.theta.len());
        let place = if index < n {
            &mut out.x[index]
        } else if index < n + p {
            &mut out.theta[index - n]
        } else {
            &mut out.c[index - n - p]
        };
        *place += step;
        out
    }

    pub fn len(&self) -> usize {
        self.x.len() + self.theta.len() + self.c.len()
    }

    /// Padding between parameters does nothing and is left out of differences.
    pub fn padded(&self, model: &Model<Layers, Device>, index: usize) -> bool {
        let n = self.x.len();
        (n..n + self.theta.len()).contains(&index) && !model.layout().entries().iter().any(|e| e.range().contains(&(index - n)))
    }

    pub fn placed(&self, model: &Model<Layers, Device>) -> (Tensor<Device>, Params<Device>, Tensor<Device>) {
        let cpu = model.backend();
        (
            Tensor::from_f64(cpu, state(), &self.x).unwrap(),
            Params::from_flat(cpu, model.layout(), &self.theta).unwrap(),
            Tensor::from_f64(cpu, Shape::rows(BATCH, 1), &self.c).unwrap(),
        )
    }
}

/// Central differences of a vector function at every coordinate: one column each.
pub fn differences(model: &Model<Layers, Device>, at: &Point, f: impl Fn(&Point) -> Vec<f64>) -> Vec<Vec<f64>> {
    let h = 1e-4;
    let zero = vec![0.0; f(at).len()];
    (0..at.len())
        .map(|i| {
            if at.padded(model, i) {
                return zero.clone();
            }
            let at = |t: f64| f(&at.moved(i, t));
            let (a, b, c, d) = (at(h), at(-h), at(2.0 * h), at(-2.0 * h));
            (0..a.len()).map(|k| (8.0 * (a[k] - b[k]) - (c[k] - d[k])) / (12.0 * h)).collect()
        })
        .collect()
}

/// Columns of an operator.
pub fn dense<A: LinearOperator<Device>>(a: &A) -> Vec<Vec<f64>> {
    let cpu = Cpu::poisoned();
    (0..a.domain().len())
        .map(|j| {
            let mut unit = vec![0.0; a.domain().len()];
            unit[j] = 1.0;
            let x = Tensor::from_f64(&cpu, a.domain(), &unit).unwrap();
            let mut y = Tensor::scratch(&cpu, a.range()).unwrap();
            a.apply(&cpu, x.view(), &mut y.view_mut(), Write::Set).unwrap();
            y.to_f64().unwrap()
        })
        .collect()
}

pub fn gap(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    let worst = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    worst / b.iter().flatten().fold(1e-3, |m: f64, v| m.max(v.abs()))
}
