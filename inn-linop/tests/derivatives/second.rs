//! Second derivatives, and what is solved with them.

use crate::flow::*;
use inn_core::{Call, Direction, Given, LinearOperator, Model, Params, Reversed, Shape, Tensor};
use inn_layers::conditioner::Net;
use inn_layers::coupling::{Affine, Coupling};
use inn_linop::solve::{FitOptions, LeastSquares, LsqrOptions, levenberg_marquardt};
use inn_linop::{BlockDiagonal, By, GaussNewton, Hessian, Jacobian, LogdetBlocks, Map, Objective, dot_test};

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

/// The point that a network maps to a given one, found from another, is that of its inverse.
struct Target<'a> {
    model: &'a Model<Layers, Device>,
    given: Given<'a, Device>,
    y: Tensor<Device>,
}

impl LeastSquares<Device> for Target<'_> {
    fn residual(&self, x: &Tensor<Device>) -> inn_core::Result<Tensor<Device>> {
        let mut y = self.model.with(self.given).forward(x.duplicate()?)?.state;
        y.view_mut().axpy(self.model.backend(), -1.0, self.y.view())?;
        Ok(y)
    }
    fn linearize(
        &self,
        x: &Tensor<Device>,
        then: &mut dyn FnMut(&dyn LinearOperator<Device>) -> inn_core::Result<()>,
    ) -> inn_core::Result<()> {
        then(&Jacobian::state(Map::of(self.model).given(self.given), x.duplicate()?)?)
    }
}

#[test]
fn a_network_inverted_by_gauss_newton() {
    let model = model(SCALES[0]);
    let conditions = [tensor(Shape::rows(BATCH, 1), 2)];
    let given = Given::conditions(&conditions);
    let y = tensor(state(), 6);
    let x = model.with(given).inverse(y.duplicate().unwrap()).unwrap().state.to_f64().unwrap();
    let problem = Target { model: &model, given, y };
    let options =
        FitOptions { tolerance: 1e-12, inner: LsqrOptions { atol: 1e-12, btol: 1e-12, ..LsqrOptions::default() }, ..FitOptions::default() };
    let fit = levenberg_marquardt(&problem, tensor(state(), 7), &options).unwrap();
    assert!(fit.converged && fit.history.len() < 40, "{:?}", fit.history);
    assert!(gap(&[fit.x.to_f64().unwrap()], &[x]) < 1e-8, "{:?}", fit.history);
}
