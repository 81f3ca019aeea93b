//! The algebra and the Jacobians through the dot test, and against dense matrices.

use inn_core::{
    Call, Chain, Direction, Error, Given, Invertible, LinearOperator, Model, Params, Scope, Shape, Tensor, View, ViewMut, Write,
};
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_layers::glow::{StepConfig, glow_step};
use inn_linop::{Algebra, Diagonal, Identity, Jacobian, Map, Matrix, dot_test};
use inn_ops::Cpu;

type Device = Cpu<f64>;

fn number(i: usize) -> f64 {
    ((i * 7919 + 13) % 1009) as f64 / 504.0 - 1.0
}

fn tensor(shape: Shape, seed: usize) -> Tensor<Device> {
    let values: Vec<f64> = (0..shape.len()).map(|i| number(i + 1000 * seed)).collect();
    Tensor::from_f64(&Cpu::poisoned(), shape, &values).unwrap()
}

fn matrix(rows: usize, columns: usize, seed: usize) -> Matrix<Device> {
    let values: Vec<f64> = (0..rows * columns).map(|i| number(i + 77 * seed)).collect();
    Matrix::new(&Cpu::new(), rows, columns, &values).unwrap()
}

fn apply<A: LinearOperator<Device>>(a: &A, x: &Tensor<Device>) -> Vec<f64> {
    let cpu = Cpu::poisoned();
    let range = if a.range().batch() == 1 { a.range().with_batch(x.shape().batch()) } else { a.range() };
    let mut y = Tensor::scratch(&cpu, range).unwrap();
    a.apply(&cpu, x.view(), &mut y.view_mut(), Write::Set).unwrap();
    y.to_f64().unwrap()
}

/// Row-major (range, domain), column by column.
fn dense<A: LinearOperator<Device>>(a: &A) -> Vec<f64> {
    let (rows, columns) = (a.range().len(), a.domain().len());
    let mut out = vec![0.0; rows * columns];
    for j in 0..columns {
        let mut unit = vec![0.0; columns];
        unit[j] = 1.0;
        let x = Tensor::from_f64(&Cpu::new(), a.domain(), &unit).unwrap();
        apply(a, &x).into_iter().enumerate().for_each(|(i, v)| out[i * columns + j] = v);
    }
    out
}

fn product(a: &[f64], b: &[f64], n: usize, inner: usize, m: usize) -> Vec<f64> {
    let entry = |k: usize| (0..inner).map(|j| a[k / m * inner + j] * b[j * m + k % m]).sum();
    (0..n * m).map(entry).collect()
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + b.abs()))
}

#[test]
fn algebra_is_that_of_matrices() {
    let cpu = Device::poisoned();
    let (a, b, c) = (matrix(3, 4, 1), matrix(3, 4, 2), matrix(2, 3, 3));
    let (da, db, dc) = (dense(&a), dense(&b), dense(&c));
    let sum = (&a).plus((&b).scaled(-2.5).unwrap()).unwrap();
    assert!(close(&dense(&sum), &da.iter().zip(&db).map(|(a, b)| a - 2.5 * b).collect::<Vec<_>>()));
    let composed = (&a).then(&c).unwrap();
    assert!(close(&dense(&composed), &product(&dc, &da, 2, 3, 4)));
    let transposed: Vec<f64> = (0..12).map(|k| da[k % 3 * 4 + k / 3]).collect();
    assert!(close(&dense(&(&a).adjoint()), &transposed));
    assert!(close(&dense(&(&a).adjoint().adjoint()), &da));
    // A square one, whose shapes would not tell A from Aᵀ.
    let square = matrix(4, 4, 6);
    let rows = dense(&square);
    assert!(close(&dense(&(&square).adjoint()), &(0..16).map(|k| rows[k % 4 * 4 + k / 4]).collect::<Vec<_>>()));
    dot_test(&cpu, &(&square).scaled(-2.5).unwrap(), 6, 1e-13).unwrap();
    let shape = Shape::rows(1, 4);
    let diagonal = Diagonal::new(tensor(shape, 4));
    let damped = (&a).then((&a).adjoint()).unwrap().plus(Identity::new(shape).scaled(0.3).unwrap()).unwrap();
    let normal = product(&transposed, &da, 4, 3, 4);
    let expected: Vec<f64> = normal.iter().enumerate().map(|(k, v)| v + if k / 4 == k % 4 { 0.3 } else { 0.0 }).collect();
    assert!(close(&dense(&damped), &expected));
    dot_test(&cpu, &sum, 1, 1e-13).unwrap();
    dot_test(&cpu, &composed, 2, 1e-13).unwrap();
    dot_test(&cpu, &diagonal, 3, 1e-13).unwrap();
    dot_test(&cpu, &damped, 4, 1e-13).unwrap();
    dot_test(&cpu, &(&composed).adjoint(), 5, 1e-13).unwrap();
}

#[test]
fn operators_of_one_sample_take_any_batch() {
    let image = Shape::new(1, 2, &[3, 2]).unwrap();
    let a = matrix(5, 12, 1).between(image, Shape::per_channel(5)).unwrap();
    let x = tensor(image.with_batch(4), 2);
    let all = apply(&a, &x);
    for b in 0..4 {
        let one = Tensor::from_f64(&Cpu::new(), image, &x.to_f64().unwrap()[12 * b..12 * (b + 1)]).unwrap();
        assert!(close(&all[5 * b..5 * (b + 1)], &apply(&a, &one)));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let message = |e: Error| e.to_string();
    let (a, b) = (matrix(3, 4, 1), matrix(3, 5, 2));
    assert!(message((&a).plus(&b).err().unwrap()).contains("expected"));
    assert!(message((&a).then(&b).err().unwrap()).contains("range of the inner operator"));
    assert!((&a).scaled(f64::NAN).is_err());
    assert!(Matrix::<Device>::new(&Cpu::new(), 2, 2, &[1.0; 3]).is_err());
    assert!(Matrix::<Device>::new(&Cpu::new(), 2, 2, &[1.0, f64::NAN, 0.0, 0.0]).is_err());
    let cpu = Device::new();
    let (x, mut y) = (tensor(Shape::rows(1, 4), 1), tensor(Shape::rows(1, 4), 2));
    assert!(message(a.apply(&cpu, x.view(), &mut y.view_mut(), Write::Set).unwrap_err()).contains("output of the matrix"));
}

/// A wrong adjoint: that of the matrix with one entry changed.
struct Wrong(Matrix<Device>, Matrix<Device>);
impl LinearOperator<Device> for Wrong {
    fn domain(&self) -> Shape {
        self.0.domain()
    }
    fn range(&self) -> Shape {
        self.0.range()
    }
    fn apply(&self, cpu: &Device, x: View<'_, Device>, y: &mut ViewMut<'_, Device>, write: Write) -> inn_core::Result<()> {
        self.0.apply(cpu, x, y, write)
    }
    fn apply_adjoint(&self, cpu: &Device, y: View<'_, Device>, x: &mut ViewMut<'_, Device>, write: Write) -> inn_core::Result<()> {
        self.1.apply_adjoint(cpu, y, x, write)
    }
}

#[test]
fn a_wrong_adjoint_fails() {
    let values: Vec<f64> = (0..12).map(number).collect();
    let mut other = values.clone();
    other[5] += 1e-6;
    let matrix = |values: &[f64]| Matrix::new(&Cpu::new(), 3, 4, values).unwrap();
    dot_test(&Cpu::new(), &Wrong(matrix(&values), matrix(&values)), 1, 1e-12).unwrap();
    assert!(matches!(dot_test(&Cpu::new(), &Wrong(matrix(&values), matrix(&other)), 1, 1e-12), Err(Error::Verification(_))));
}

/// Two flow steps whose parameters are all away from zero.
fn network(rank: usize, condition: Option<(usize, usize)>) -> Model<Chain<impl Invertible>, Device> {
    let net = NetConfig::Residual(ResidualConfig { hidden: 4, last_gain: 1.0, ..ResidualConfig::default() });
    let step = StepConfig { net, ..StepConfig::default() };
    let build = |scope: &mut Scope<'_>| Chain::build(scope, "step", 2, |scope, _| glow_step(scope, 3, rank, condition, &step));
    let mut model = Model::build(&Device::poisoned(), 3, build).unwrap();
    let mut flat = model.params().to_flat().unwrap();
    flat.iter_mut().enumerate().for_each(|(i, v)| *v += 0.2 * number(i));
    let params = Params::from_flat(model.backend(), model.layout(), &flat).unwrap();
    model.params_mut().assign(&params).unwrap();
    model
}

#[test]
fn jacobians_of_a_network() {
    for (batch, spatial) in [(1, &[][..]), (3, &[5]), (2, &[3, 4]), (1, &[2, 3, 2])] {
        let model = network(spatial.len(), None);
        let cpu = model.backend().clone();
        let shape = Shape::new(batch, 3, spatial).unwrap();
        for direction in [Direction::Forward, Direction::Inverse] {
            for logdet in [false, true] {
                let map = Map::of(&model).direction(direction);
                let map = if logdet { map.with_logdet() } else { map };
                dot_test(&cpu, &Jacobian::state(map, tensor(shape, 1)).unwrap(), 1, 1e-12).unwrap();
                dot_test(&cpu, &Jacobian::parameters(map, tensor(shape, 2)).unwrap(), 2, 1e-12).unwrap();
                dot_test(&cpu, &Jacobian::full(map, tensor(shape, 3)).unwrap(), 3, 1e-12).unwrap();
            }
        }
    }
}

#[test]
fn the_jacobian_of_the_inverse_is_the_inverse() {
    let model = network(2, None);
    let shape = Shape::new(2, 3, &[2, 2]).unwrap();
    let x = tensor(shape, 1);
    let forward = Jacobian::state(Map::of(&model), x).unwrap();
    let back = Jacobian::state(Map::of(&model).inverse(), forward.value().state.duplicate().unwrap()).unwrap();
    let both = dense(&(&forward).then(&back).unwrap());
    let n = shape.len();
    let identity: Vec<f64> = (0..n * n).map(|k| if k / n == k % n { 1.0 } else { 0.0 }).collect();
    assert!(both.iter().zip(&identity).all(|(a, b)| (a - b).abs() < 1e-11));
}

#[test]
fn conditions_stay_and_frozen_parameters_act_as_zero() {
    let mut model = network(2, Some((0, 2)));
    model.freeze(|name| name.contains("conv1")).unwrap();
    let cpu = model.backend().clone();
    let (shape, conditions) = (Shape::new(2, 3, &[3, 3]).unwrap(), [tensor(Shape::new(2, 2, &[3, 3]).unwrap(), 5)]);
    let map = Map::of(&model).given(Given::conditions(&conditions)).with_logdet();
    dot_test(&cpu, &Jacobian::full(map, tensor(shape, 1)).unwrap(), 1, 1e-12).unwrap();
    let j = Jacobian::parameters(map, tensor(shape, 1)).unwrap();
    dot_test(&cpu, &j, 2, 1e-12).unwrap();
    let columns = dense(&j);
    let width = j.domain().len();
    for entry in model.layout().entries() {
        let moves = entry.range().any(|c| (0..j.range().len()).any(|r| columns[r * width + c] != 0.0));
        assert_eq!(moves, !entry.is_frozen(), "{}", entry.name());
    }
    // Without the condition, the layer's gate answers.
    assert!(matches!(Jacobian::state(Map::of(&model), tensor(shape, 1)).err(), Some(Error::Missing { .. })));
    assert!(Call::new(model.layer(), model.params(), Given::default()).check(Direction::Forward, shape).is_err());
}
