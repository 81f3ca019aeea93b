//! All modes of one layer or network against the original's numbers.

use crate::compare::{Book, Precision};
use crate::frame::{Side, array};
use inn_core::{Along, Call, Direction, Given, Invertible, Layout, LinearOperator, Params, Reversed, Shape, Tensor};
use inn_linop::Matrix;
use inn_networks::import::{Array, Correspondence};
use inn_ops::{Cpu, CpuElement};
use std::sync::Arc;

/// What a case is besides its layer.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub input: Side,
    pub output: Side,
    /// The second input is a condition.
    pub conditioned: bool,
    /// There are data, condition 0, and a linear operator, a matrix that is stored by columns.
    pub physics: bool,
    /// The original was built with a log-determinant; its gradients then hold that of minus it.
    pub logdet: bool,
    /// The original was reversed.
    pub reversed: bool,
    /// The original's Hessian of the log-determinant is right.
    pub hessian: bool,
}

/// Runs what the original ran, in f64 and f32.
pub fn check<L: Invertible>(book: &mut Book<'_>, layer: &L, layout: &Arc<Layout>, order: &Correspondence, frame: Frame) {
    run::<f64, L>(book, Precision::Double, layer, layout, order, frame);
    run::<f32, L>(book, Precision::Single, layer, layout, order, frame);
}

fn run<T: CpuElement, L: Invertible>(
    book: &mut Book<'_>,
    precision: Precision,
    layer: &L,
    layout: &Arc<Layout>,
    order: &Correspondence,
    frame: Frame,
) {
    book.set_precision(precision);
    let cpu = Cpu::<T>::poisoned();
    let source = book.source;
    let theta = order.load(&cpu, layout, &source.list("theta.").unwrap()).unwrap();
    let condition = if frame.physics { Some("in.aux0") } else { frame.conditioned.then_some("in.X1") };
    let conditions: Vec<Tensor<Cpu<T>>> = condition.iter().map(|key| source.get(key).unwrap().tensor(&cpu).unwrap()).collect();
    let operator = frame.physics.then(|| physics(book, &cpu));
    let given = Given { operator: operator.as_ref().map(|a| a as &dyn LinearOperator<Cpu<T>>), ..Given::conditions(&conditions) };
    if frame.reversed {
        let reversed = Reversed(layer);
        let call = Call::new(&reversed, &theta, given);
        Modes { layer: &reversed, given, call, cpu: cpu.clone(), theta: &theta, order, frame }.all(book);
        // backward_inv of a reversed object acts on the object that was reversed (S6).
        Modes { layer, given, call: Call::new(layer, &theta, given), cpu, theta: &theta, order, frame }.backward_inverse(book);
    } else {
        let modes = Modes { layer, given, call: Call::new(layer, &theta, given), cpu, theta: &theta, order, frame };
        modes.all(book);
        modes.backward_inverse(book);
    }
}

/// J, from images of one channel to data.
fn physics<T: CpuElement>(book: &Book<'_>, cpu: &Cpu<T>) -> Matrix<Cpu<T>> {
    let (j, image) = (book.source.get("in.aux1").unwrap(), Shape::from_dims(&book.source.get("in.X0").unwrap().dims).unwrap());
    let (columns, rows) = (j.dims[0], j.dims[1]);
    let values: Vec<f64> = (0..rows * columns).map(|i| j.values[i % columns * rows + i / columns]).collect();
    Matrix::new(cpu, rows, columns, &values).unwrap().between(image.with_batch(1), Shape::per_channel(rows)).unwrap()
}

struct Modes<'a, T: CpuElement, L> {
    cpu: Cpu<T>,
    layer: &'a L,
    given: Given<'a, Cpu<T>>,
    call: Call<'a, L, Cpu<T>>,
    theta: &'a Params<Cpu<T>>,
    order: &'a Correspondence,
    frame: Frame,
}

impl<T: CpuElement, L: Invertible> Modes<'_, T, L> {
    fn all(&self, book: &mut Book<'_>) {
        self.forward(book);
        self.inverse(book);
        self.backward(book);
        self.tangents(book);
        self.differences(book);
    }

    /// The arrays `{key}0`, `{key}1` of the file as a state.
    fn state(&self, book: &Book<'_>, side: Side, key: &str) -> Option<Tensor<Cpu<T>>> {
        let arrays: Option<Vec<&Array>> = (0..side.arrays()).map(|i| book.source.find(&format!("{key}{i}"))).collect();
        Some(side.join(&self.cpu, &arrays?))
    }

    /// The input of the map; for a network that is not invertible, with zeros for its output.
    fn input(&self, book: &Book<'_>, key: &str) -> Option<Tensor<Cpu<T>>> {
        let x = self.state(book, self.frame.input, key)?;
        let Side::Output { inputs } = self.frame.output else { return Some(x) };
        let outputs = book.source.find("seed.gY0")?.dims[1];
        let mut state = Tensor::zeros(&self.cpu, x.shape().with_channels(inputs + outputs)).unwrap();
        state.view_mut().channels(0..inputs).assign(&self.cpu, x.view()).unwrap();
        Some(state)
    }

    fn inputs_of(&self, state: Tensor<Cpu<T>>) -> Vec<Array> {
        match self.frame.output {
            Side::Output { inputs } => {
                let mut x = Tensor::scratch(&self.cpu, state.shape().with_channels(inputs)).unwrap();
                x.view_mut().assign(&self.cpu, state.view().channels(0..inputs)).unwrap();
                vec![array(&x)]
            }
            _ => self.frame.input.split(state),
        }
    }

    /// A cotangent of the log-determinants whose mean has the weight `weight`.
    fn logdet_cotangent(&self, batch: usize, weight: f64) -> Tensor<Cpu<T>> {
        Tensor::full(&self.cpu, Shape::per_sample(batch), weight / batch as f64).unwrap()
    }

    fn weight(&self) -> f64 {
        if self.frame.logdet { -1.0 } else { 0.0 }
    }

    fn mean(&self, logdet: &Tensor<Cpu<T>>) -> f64 {
        logdet.to_f64().unwrap().iter().sum::<f64>() / logdet.shape().batch() as f64
    }

    fn forward(&self, book: &mut Book<'_>) {
        let x = self.input(book, "in.X").unwrap();
        let y = self.call.forward(x).unwrap();
        if self.frame.logdet {
            book.compare_number("out.logdet", self.mean(&y.logdet));
        }
        book.compare_lanes("out.Y", &self.frame.output.split(y.state));
    }

    /// Y as the original has it, or as we have it where the output holds the input too.
    fn output(&self, book: &Book<'_>) -> Tensor<Cpu<T>> {
        match self.frame.output {
            Side::Output { .. } => self.call.forward(self.input(book, "in.X").unwrap()).unwrap().state,
            side => self.state(book, side, &format!("{}.out.Y", book.precision().prefix())).unwrap(),
        }
    }

    fn inverse(&self, book: &mut Book<'_>) {
        if book.has("inverse") {
            let x = self.call.inverse(self.output(book)).unwrap();
            book.compare_lanes("inverse.X", &self.frame.input.split(x.state));
        }
    }

    /// Gradients of <gY, Y> + weight * log-determinant under the names of a group.
    fn gradients(&self, book: &mut Book<'_>, group: &str, weight: f64) {
        let y = self.output(book);
        let gy = self.state(book, self.frame.output, "seed.gY").unwrap();
        let gl = self.logdet_cotangent(y.shape().batch(), weight);
        let mut grads = Params::zeros(&self.cpu, self.theta.layout()).unwrap();
        let pulled = self.call.backward(y, gy, &gl, &mut grads).unwrap();
        book.compare_lanes(&format!("{group}.X"), &self.inputs_of(pulled.state));
        book.compare_lanes(&format!("{group}.gX"), &self.inputs_of(pulled.cotangent));
        if let Some(g) = pulled.conditions.first().filter(|_| self.frame.conditioned) {
            let mut g = array(g);
            if let Some(passed) = self.passed_on(book) {
                g.values.iter_mut().zip(&passed.values).for_each(|(g, p)| *g += p);
            }
            book.compare(&format!("{group}.gX1"), &g);
        }
        book.compare_list(&format!("{group}.gtheta"), &self.order.store(&grads).unwrap());
    }

    /// The cotangent of a condition that the original hands on beside its output.
    fn passed_on<'b>(&self, book: &Book<'b>) -> Option<&'b Array> {
        let hands_on = self.frame.conditioned && matches!(self.frame.output, Side::Output { .. });
        hands_on.then(|| book.source.find("seed.gY1")).flatten()
    }

    /// The tangent of the condition in the file.
    fn seed_conditions(&self, book: &Book<'_>) -> Vec<Tensor<Cpu<T>>> {
        if self.frame.conditioned { vec![book.source.get("seed.dX1").unwrap().tensor(&self.cpu).unwrap()] } else { vec![] }
    }

    fn backward(&self, book: &mut Book<'_>) {
        if book.has("backward") {
            self.gradients(book, "backward", self.weight());
        }
        if book.has("adjoint") {
            self.gradients(book, "adjoint", 0.0);
            self.gradient_of_logdet(book);
        }
    }

    fn gradient_of_logdet(&self, book: &mut Book<'_>) {
        let y = self.output(book);
        let gl = self.logdet_cotangent(y.shape().batch(), 1.0);
        let mut grads = Params::zeros(&self.cpu, self.theta.layout()).unwrap();
        let zero = Tensor::zeros(&self.cpu, y.shape()).unwrap();
        self.call.backward(y, zero, &gl, &mut grads).unwrap();
        book.compare_list("adjoint.grad_logdet", &self.order.store(&grads).unwrap());
    }

    fn backward_inverse(&self, book: &mut Book<'_>) {
        let (true, Some(gx)) = (book.has("backward_inv"), self.state(book, self.frame.input, "seed.gX_inv")) else { return };
        let x = self.input(book, "in.X").unwrap();
        let gl = self.logdet_cotangent(x.shape().batch(), self.weight());
        let mut grads = Params::zeros(&self.cpu, self.theta.layout()).unwrap();
        let pulled = self.call.backward_inverse(x, gx, &gl, &mut grads).unwrap();
        book.compare_lanes("backward_inv.Y", &self.frame.output.split(pulled.state));
        book.compare_lanes("backward_inv.gY", &self.frame.output.split(pulled.cotangent));
        book.compare_list("backward_inv.gtheta", &self.order.store(&grads).unwrap());
    }

    /// dθ of the file.
    fn seed_theta(&self, book: &Book<'_>) -> Params<Cpu<T>> {
        self.order.load(&self.cpu, self.theta.layout(), &book.source.list("seed.dtheta.").unwrap()).unwrap()
    }

    fn tangents(&self, book: &mut Book<'_>) {
        if !book.has("jacobian") {
            return;
        }
        let (x, dx) = (self.input(book, "in.X").unwrap(), self.input(book, "seed.dX").unwrap());
        let dtheta = self.seed_theta(book);
        let dconditions = self.seed_conditions(book);
        let out = self.call.jvp(x, dx, &Along { theta: Some(&dtheta), conditions: &dconditions }).unwrap();
        if self.frame.logdet {
            book.compare_number("jacobian.logdet", self.mean(&out.logdet));
        }
        if self.frame.hessian && book.has("jacobian.H") {
            self.hessian(book, &dtheta);
        }
        book.compare_lanes("jacobian.Y", &self.frame.output.split(out.state));
        book.compare_lanes("jacobian.dY", &self.frame.output.split(out.tangent));
    }

    /// The Hessian of the log-determinant in the parameters, along dθ.
    fn hessian(&self, book: &mut Book<'_>, dtheta: &Params<Cpu<T>>) {
        let x = self.input(book, "in.X").unwrap();
        let along = Along { theta: Some(dtheta), conditions: &[] };
        let zero = Tensor::zeros(&self.cpu, x.shape()).unwrap();
        let y = self.call.jvp(x, zero, &along).unwrap();
        let zero = Tensor::zeros(&self.cpu, y.state.shape()).unwrap();
        let gl = self.logdet_cotangent(y.state.shape().batch(), 1.0);
        let h = self.call.hessian(Direction::Forward, y.state, y.tangent, zero, &gl, &along).unwrap();
        book.compare_list("jacobian.H", &self.order.store(&h.theta_tangent).unwrap());
    }

    /// Both derivatives of ours, backward and forward, against central differences of the original.
    fn differences(&self, book: &mut Book<'_>) {
        let Some(count) = book.source.find("f64.fd.theta").map(|a| a.values.len()) else { return };
        if book.precision() == Precision::Single {
            return;
        }
        let y = self.output(book);
        let gy = self.state(book, self.frame.output, "seed.gY").unwrap();
        let gl = self.logdet_cotangent(y.shape().batch(), self.weight());
        let mut grads = Params::zeros(&self.cpu, self.theta.layout()).unwrap();
        let weight = gy.to_f64().unwrap();
        let pulled = self.call.backward(y, gy, &gl, &mut grads).unwrap();

        let dx = self.input(book, "seed.dX").unwrap();
        let dconditions = self.seed_conditions(book);
        let (mut along_x, mut size) = dot(&pulled.cotangent.to_f64().unwrap(), &dx.to_f64().unwrap());
        for (g, d) in pulled.conditions.iter().zip(&dconditions) {
            let (product, norms) = dot(&g.to_f64().unwrap(), &d.to_f64().unwrap());
            (along_x, size) = (along_x + product, size + norms);
        }
        let mut passed = 0.0;
        if let Some(g) = self.passed_on(book) {
            let (product, norms) = dot(&g.values, &book.source.get("seed.dX1").unwrap().values);
            (passed, size) = (product, size + norms);
        }
        book.compare_difference("X", 0, along_x + passed, size, |_| None);
        let objective = |dx: Tensor<Cpu<T>>, along: &Along<'_, Cpu<T>>| {
            let out = self.call.jvp(self.input(book, "in.X").unwrap(), dx, along).unwrap();
            dot(&weight, &out.tangent.to_f64().unwrap()).0 + self.weight() * self.mean(&out.logdet_tangent)
        };
        let forward = passed + objective(dx, &Along { theta: None, conditions: &dconditions });
        let gradients = self.order.store(&grads).unwrap();
        let seeds = book.source.list("seed.dtheta.").unwrap();
        let mut pairs = vec![];
        for i in 0..count {
            let (product, norms) = dot(&gradients[i].values, &seeds[i].values);
            let only: Vec<Array> = seeds
                .iter()
                .enumerate()
                .map(|(j, a)| Array { dims: a.dims.clone(), values: a.values.iter().map(|v| if i == j { *v } else { 0.0 }).collect() })
                .collect();
            let only = self.order.load(&self.cpu, self.theta.layout(), &only.iter().collect::<Vec<_>>()).unwrap();
            let dx = Tensor::zeros(&self.cpu, self.input(book, "in.X").unwrap().shape()).unwrap();
            pairs.push((product, objective(dx, &Along { theta: Some(&only), conditions: &[] }), norms));
        }
        book.compare_difference("X", 0, forward, size, |_| None);
        for (i, (backward, forward, norms)) in pairs.into_iter().enumerate() {
            for derivative in [backward, forward] {
                book.compare_difference("theta", i, derivative, norms, |book| Some(self.quotient(book, i, 1e-5)));
            }
        }
    }

    /// Our own central difference along the seed of parameter `i`.
    fn quotient(&self, book: &Book<'_>, i: usize, h: f64) -> f64 {
        let gy = self.state(book, self.frame.output, "seed.gY").unwrap().to_f64().unwrap();
        let seed = book.source.list("seed.dtheta.").unwrap()[i];
        let objective = |h: f64| {
            let mut arrays: Vec<Array> = book.source.list("theta.").unwrap().into_iter().cloned().collect();
            arrays[i].values.iter_mut().zip(&seed.values).for_each(|(v, d)| *v += h * d);
            let theta = self.order.load(&self.cpu, self.theta.layout(), &arrays.iter().collect::<Vec<_>>()).unwrap();
            let y = Call::new(self.layer, &theta, self.given).forward(self.input(book, "in.X").unwrap()).unwrap();
            dot(&gy, &y.state.to_f64().unwrap()).0 + self.weight() * self.mean(&y.logdet)
        };
        (objective(h) - objective(-h)) / (2.0 * h)
    }
}

/// The inner product and the product of the norms.
fn dot(a: &[f64], b: &[f64]) -> (f64, f64) {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    (product(a, b), (product(a, a) * product(b, b)).sqrt())
}
