//! Second derivatives and Jacobians in every variable, against differences and against their definitions written out.

use inn_core::{
    Call, Chain, Direction, Error, Given, Invertible, LinearOperator, Model, Multiscale, Params, Reversed, Scale, Scope, Shape, Squeeze,
    Tensor, Write,
};
use inn_layers::conditioner::{Net, NetConfig, Ports, ResidualConfig};
use inn_layers::coupling::{Affine, Coupling};
use inn_layers::{ActNorm, glow};
use inn_linop::{BlockDiagonal, By, GaussNewton, Hessian, Jacobian, LogdetBlocks, Map, Objective, dot_test};
use inn_ops::{Cpu, ScaleMap};

type Device = Cpu<f64>;
type Layers = (ActNorm, Coupling<Net, Affine>, Coupling<Net, Affine>);

const SCALES: [ScaleMap; 3] =
    [ScaleMap::Bounded { limit: 1.5 }, ScaleMap::Sigmoid { low: 0.5, high: 1.0 }, ScaleMap::ExpClamp { clamp: 1.0 }];

fn number(i: usize) -> f64 {
    ((i * 7919 + 13) % 1009) as f64 / 504.0 - 1.0
}

fn tensor(shape: Shape, seed: usize) -> Tensor<Device> {
    let values: Vec<f64> = (0..shape.len()).map(|i| number(i + 1000 * seed)).collect();
    Tensor::from_f64(&Cpu::poisoned(), shape, &values).unwrap()
}

/// A normalization and two couplings of four channels; the second coupling reads a condition of one channel.
fn model(scale: ScaleMap) -> Model<Layers, Device> {
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
struct Point {
    x: Vec<f64>,
    theta: Vec<f64>,
    c: Vec<f64>,
}

const BATCH: usize = 2;

fn state() -> Shape {
    Shape::rows(BATCH, 4)
}

impl Point {
    fn of(model: &Model<Layers, Device>) -> Self {
        let x = tensor(state(), 1).to_f64().unwrap();
        Self { x, theta: model.params().to_flat().unwrap(), c: tensor(Shape::rows(BATCH, 1), 2).to_f64().unwrap() }
    }

    fn moved(&self, index: usize, step: f64) -> Self {
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

    fn len(&self) -> usize {
        self.x.len() + self.theta.len() + self.c.len()
    }

    /// Padding between parameters does nothing and is left out of differences.
    fn padded(&self, model: &Model<Layers, Device>, index: usize) -> bool {
        let n = self.x.len();
        (n..n + self.theta.len()).contains(&index) && !model.layout().entries().iter().any(|e| e.range().contains(&(index - n)))
    }

    fn placed(&self, model: &Model<Layers, Device>) -> (Tensor<Device>, Params<Device>, Tensor<Device>) {
        let cpu = model.backend();
        (
            Tensor::from_f64(cpu, state(), &self.x).unwrap(),
            Params::from_flat(cpu, model.layout(), &self.theta).unwrap(),
            Tensor::from_f64(cpu, Shape::rows(BATCH, 1), &self.c).unwrap(),
        )
    }
}

/// Central differences of a vector function at every coordinate: one column each.
fn differences(model: &Model<Layers, Device>, at: &Point, f: impl Fn(&Point) -> Vec<f64>) -> Vec<Vec<f64>> {
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
fn dense<A: LinearOperator<Device>>(a: &A) -> Vec<Vec<f64>> {
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

fn gap(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    let worst = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    worst / b.iter().flatten().fold(1e-3, |m: f64, v| m.max(v.abs()))
}

fn gradient(model: &Model<Layers, Device>, at: &Point, dir: Direction, likelihood: bool) -> Vec<f64> {
    let (x, theta, c) = at.placed(model);
    let conditions = [c];
    let map = Map::new(model.layer(), &theta).given(Given::conditions(&conditions)).direction(dir);
    let data = tensor(state(), 9);
    let objective = |v: &_| if likelihood { Objective::likelihood(v) } else { Objective::least_squares(v, &data) };
    GaussNewton::new(map, By::All, x, objective).unwrap().gradient().unwrap().to_f64().unwrap()
}

#[test]
fn hessians_are_the_derivatives_of_gradients() {
    for (scale, dir, likelihood) in
        [(SCALES[0], Direction::Forward, true), (SCALES[1], Direction::Inverse, true), (SCALES[2], Direction::Forward, false)]
    {
        let model = model(scale);
        let at = Point::of(&model);
        let (x, _, c) = at.placed(&model);
        let (conditions, data) = ([c], tensor(state(), 9));
        let map = Map::of(&model).given(Given::conditions(&conditions)).direction(dir);
        let objective = |v: &_| if likelihood { Objective::likelihood(v) } else { Objective::least_squares(v, &data) };
        let h = Hessian::new(map, By::All, x, objective).unwrap();
        let expected = differences(&model, &at, |p| gradient(&model, p, dir, likelihood));
        let products = dense(&h);
        assert!(gap(&products, &expected) < 1e-7, "{scale:?} {dir:?}: {}", gap(&products, &expected));
        let transposed: Vec<Vec<f64>> = (0..at.len()).map(|i| products.iter().map(|column| column[i]).collect()).collect();
        assert!(gap(&products, &transposed) < 1e-12);
        dot_test(model.backend(), &h, 1, 1e-12).unwrap();
    }
}

/// The gradient itself, against differences of the objective: with a log-determinant (S9: only where one was asked for) and without.
#[test]
fn gradients_of_objectives() {
    let model = model(SCALES[0]);
    let at = Point::of(&model);
    for likelihood in [true, false] {
        let value = |p: &Point| {
            let (x, theta, c) = p.placed(&model);
            let conditions = [c];
            let out = Call::new(model.layer(), &theta, Given::conditions(&conditions)).forward(x).unwrap();
            let (y, l) = (out.state.to_f64().unwrap(), out.logdet.to_f64().unwrap());
            let data = tensor(state(), 9).to_f64().unwrap();
            let target = |i: usize| if likelihood { 0.0 } else { data[i] };
            let misfit: f64 = y.iter().enumerate().map(|(i, y)| 0.5 * (y - target(i)).powi(2)).sum();
            vec![(misfit - if likelihood { l.iter().sum::<f64>() } else { 0.0 }) / BATCH as f64]
        };
        let expected: Vec<f64> = differences(&model, &at, value).concat();
        assert!(gap(&[gradient(&model, &at, Direction::Forward, likelihood)], &[expected]) < 1e-8);
    }
}

/// u of a coupling from its values alone: with x_moved = 1 and 0 they differ by S(u).
fn coefficients(layer: &Coupling<Net, Affine>, theta: &Params<Device>, given: Given<'_, Device>, x: &Tensor<Device>) -> Vec<f64> {
    let at = |value: f64| {
        let mut x = x.duplicate().unwrap();
        let cpu = x.backend().clone();
        x.view_mut().channels(layer.moved.clone()).fill(&cpu, value).unwrap();
        let y = Call::new(layer, theta, given).forward(x).unwrap().state.to_f64().unwrap();
        y.chunks(4).flat_map(|sample| sample[layer.moved.clone()].to_vec()).collect::<Vec<f64>>()
    };
    at(1.0).iter().zip(at(0.0)).map(|(a, b)| layer.transform.scale.inverse(a - b)).collect()
}

/// The coefficients of all log-determinant terms: of both couplings, and the scales of the normalization.
fn all_coefficients(model: &Model<Layers, Device>, at: &Point) -> [Vec<f64>; 3] {
    let (x, theta, c) = at.placed(model);
    let conditions = [c];
    let given = Given::conditions(&conditions);
    let (actnorm, a, b) = model.layer();
    let x = Call::new(actnorm, &theta, given).forward(x).unwrap().state;
    let u = coefficients(a, &theta, given, &x);
    let x = Call::new(a, &theta, given).forward(x).unwrap().state;
    let entry = model.layout().find("actnorm.scale").unwrap();
    [u, coefficients(b, &theta, given, &x), at.theta[entry.range()].to_vec()]
}

/// Σ Duᵀ diag(w) Du from columns of Du, with those of `keep` alone.
fn curvature(columns: &[Vec<f64>], w: &[f64], keep: impl Fn(usize) -> bool) -> Vec<Vec<f64>> {
    let n = columns.len();
    let entry = |i: usize, j: usize| {
        if keep(i) && keep(j) { columns[i].iter().zip(&columns[j]).zip(w).map(|((a, b), w)| a * b * w).sum() } else { 0.0 }
    };
    (0..n).map(|j| (0..n).map(|i| entry(i, j)).collect()).collect()
}

fn plus(a: &mut [Vec<f64>], b: &[Vec<f64>]) {
    a.iter_mut().flatten().zip(b.iter().flatten()).for_each(|(a, b)| *a += b);
}

/// S3: the curvature is ψ'' with the weight that was asked for, at every scale map, through all layers.
#[test]
fn gauss_newton_is_what_it_is_defined_to_be() {
    for scale in SCALES {
        let model = model(scale);
        let at = Point::of(&model);
        let (x, _, c) = at.placed(&model);
        let conditions = [c];
        let map = Map::of(&model).given(Given::conditions(&conditions));
        let n = at.len();
        let (first, parameters) = (at.x.len(), at.theta.len());
        let u = all_coefficients(&model, &at);
        // One sample has one normalization: its term counts once a sample.
        let second: Vec<Vec<f64>> = [
            u[0].iter().map(|&u| scale.log_scale_second(u)).collect(),
            u[1].iter().map(|&u| scale.log_scale_second(u)).collect(),
            u[2].iter().map(|s| -(BATCH as f64) / (s * s)).collect(),
        ]
        .to_vec();
        let columns: Vec<Vec<Vec<f64>>> = (0..3).map(|j| differences(&model, &at, |p| all_coefficients(&model, p)[j].clone())).collect();
        let weight = -1.0 / BATCH as f64;
        let mut logdet = vec![vec![0.0; n]; n];
        let mut blocks = logdet.clone();
        for (j, name) in ["a.", "b.", "actnorm."].into_iter().enumerate() {
            let w: Vec<f64> = second[j].iter().map(|v| weight * v).collect();
            plus(&mut logdet, &curvature(&columns[j], &w, |_| true));
            let own = |i: usize| {
                let entries = model.layout().entries().iter().filter(|e| e.name().starts_with(name));
                i >= first && entries.clone().any(|e| e.range().contains(&(i - first)))
            };
            plus(&mut blocks, &curvature(&columns[j], &w, own));
        }
        let weighted = |v: &_| Objective::log_determinant(v, weight);
        let alone = GaussNewton::new(map, By::All, x.duplicate().unwrap(), weighted).unwrap();
        assert!(gap(&dense(&alone), &logdet) < 1e-7, "{scale:?}: {}", gap(&dense(&alone), &logdet));
        dot_test(model.backend(), &alone, 1, 1e-12).unwrap();

        // With the objective: Jᵀ (I/B) J besides.
        let j = dense(&Jacobian::by(map, By::All, x.duplicate().unwrap()).unwrap());
        let mut whole = curvature(&j, &[-weight; 4 * BATCH], |_| true);
        plus(&mut whole, &logdet);
        let full = GaussNewton::new(map, By::All, x.duplicate().unwrap(), Objective::likelihood).unwrap();
        assert!(gap(&dense(&full), &whole) < 1e-7);

        // Layer by layer, without what earlier layers do.
        let weights = Tensor::full(model.backend(), Shape::per_sample(BATCH), weight).unwrap();
        let local = LogdetBlocks::new(map, x.duplicate().unwrap(), weights).unwrap();
        let block = |m: &[Vec<f64>]| -> Vec<Vec<f64>> {
            m[first..first + parameters].iter().map(|c| c[first..first + parameters].to_vec()).collect()
        };
        assert!(gap(&dense(&local), &block(&blocks)) < 1e-7);
        dot_test(model.backend(), &local, 2, 1e-12).unwrap();

        // The blocks of the full one.
        let full = GaussNewton::new(map, By::Parameters, x, Objective::likelihood).unwrap();
        let group = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let diagonal = BlockDiagonal::by_name(full, model.layout(), group).unwrap();
        let entries = model.layout().entries();
        let name = |i: usize| entries.iter().find(|e| e.range().contains(&i)).map(|e| group(e.name()));
        let mut expected = block(&whole);
        for (j, column) in expected.iter_mut().enumerate() {
            column.iter_mut().enumerate().for_each(|(i, v)| *v *= f64::from(u8::from(name(i).is_some() && name(i) == name(j))));
        }
        assert!(gap(&dense(&diagonal), &expected) < 1e-7);
    }
}

#[test]
fn jacobians_in_every_variable() {
    let model = model(SCALES[0]);
    let at = Point::of(&model);
    for dir in [Direction::Forward, Direction::Inverse] {
        let value = |p: &Point| {
            let (x, theta, c) = p.placed(&model);
            let conditions = [c];
            let out = Call::new(model.layer(), &theta, Given::conditions(&conditions)).map(dir, x).unwrap();
            [out.state.to_f64().unwrap(), out.logdet.to_f64().unwrap()].concat()
        };
        let expected = differences(&model, &at, value);
        let (x, _, c) = at.placed(&model);
        let conditions = [c];
        let map = Map::of(&model).given(Given::conditions(&conditions)).direction(dir).with_logdet();
        let all = Jacobian::by(map, By::All, x.duplicate().unwrap()).unwrap();
        assert!(gap(&dense(&all), &expected) < 1e-8);
        dot_test(model.backend(), &all, 1, 1e-12).unwrap();
        let start = at.x.len() + at.theta.len();
        let condition = Jacobian::condition(map, 0, x.duplicate().unwrap()).unwrap();
        assert_eq!(condition.domain(), Shape::rows(BATCH, 1));
        assert!(gap(&dense(&condition), &expected[start..]) < 1e-8);
        dot_test(model.backend(), &condition, 2, 1e-12).unwrap();
        let same = Jacobian::by(map, By::Conditions, x.duplicate().unwrap()).unwrap();
        assert_eq!(same.domain(), Shape::flat(BATCH));
        assert!(gap(&dense(&same), &expected[start..]) < 1e-8);
        // What is not there, or is shared, is refused.
        assert!(matches!(Jacobian::condition(map, 1, x.duplicate().unwrap()).err(), Some(Error::Missing { .. })));
        let shared = [tensor(Shape::rows(1, 1), 2)];
        let map = map.given(Given::conditions(&shared));
        assert!(matches!(Jacobian::condition(map, 0, x.duplicate().unwrap()).err(), Some(Error::Shape { .. })));
        assert!(Jacobian::state(map, x).is_ok());
    }
}

/// S6: a reversed layer is differentiated as it is, reversed. S16: with frozen parameters too.
#[test]
fn reversed_layers_have_the_jacobians_of_the_inverse() {
    let mut model = model(SCALES[0]);
    model.freeze(|name| name.starts_with("a.")).unwrap();
    let conditions = [tensor(Shape::rows(BATCH, 1), 2)];
    let given = Given::conditions(&conditions);
    let reversed = Reversed(model.layer());
    let (of_reversed, of_inverse) = (Map::new(&reversed, model.params()).given(given), Map::of(&model).given(given).inverse());
    let x = || tensor(state(), 4);
    let a = Jacobian::by(of_reversed.with_logdet(), By::All, x()).unwrap();
    let b = Jacobian::by(of_inverse.with_logdet(), By::All, x()).unwrap();
    assert!(gap(&dense(&a), &dense(&b)) < 1e-14);
    let a = GaussNewton::new(of_reversed, By::All, x(), Objective::likelihood).unwrap();
    let b = GaussNewton::new(of_inverse, By::All, x(), Objective::likelihood).unwrap();
    let columns = dense(&a);
    assert!(gap(&columns, &dense(&b)) < 1e-14);
    let entry = model.layout().entries().iter().find(|e| e.is_frozen()).unwrap();
    let frozen = entry.range().start + state().len();
    assert!(columns[frozen].iter().all(|v| *v == 0.0) && columns.iter().all(|column| column[frozen] == 0.0));
}

/// S13: one level with splitting; rows of the Jacobian in the order of the output.
#[test]
fn one_level_that_splits() {
    let net = NetConfig::Residual(ResidualConfig { hidden: 3, last_gain: 1.0, ..ResidualConfig::default() });
    let step = glow::StepConfig { net, ..glow::StepConfig::default() };
    let model = Model::build(&Device::poisoned(), 5, |scope| {
        let layer = Chain::build(scope, "step", 2, |scope, _| glow::glow_step(scope, 4, 2, None, &step))?;
        Ok(Multiscale { rank: 2, scales: vec![Scale { squeeze: Some(Squeeze::Checkerboard), layer, keep: 2 }] })
    })
    .unwrap();
    let shape = Shape::new(1, 1, &[2, 4]).unwrap();
    let x = tensor(shape, 1);
    let j = dense(&Jacobian::state(Map::of(&model), x.duplicate().unwrap()).unwrap());
    let value = |i: usize, h: f64| {
        let mut x = x.to_f64().unwrap();
        x[i] += h;
        model.forward(Tensor::from_f64(model.backend(), shape, &x).unwrap()).unwrap().state.to_f64().unwrap()
    };
    let h = 1e-5;
    let column = |i: usize| value(i, h).iter().zip(value(i, -h)).map(|(a, b)| (a - b) / (2.0 * h)).collect::<Vec<_>>();
    assert!(gap(&j, &(0..shape.len()).map(column).collect::<Vec<_>>()) < 1e-8);
    assert!(model.layer().name().contains("Multiscale"));
}
