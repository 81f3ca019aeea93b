//! Variational inference with a reversed flow.

use super::plane;
use inn_core::{Architecture, Backend, LinearOperator, Model, Result, Reversed, Tensor, View, ViewMut, Write};
use inn_linop::Matrix;
use inn_networks::distributions::{Normal, Target};
use inn_networks::optim::Schedule;
use inn_networks::train::{ArrayDataset, LogDensity, Options, ReverseKl, Trainer};
use inn_ops::{Cpu, loss::Gaussian};
use ndarray::Array2;
use std::f64::consts::PI;

/// ln p(y | x) + ln p(x) of y = A x + noise, with x standard normal; y is condition 0.
struct Posterior<B: Backend> {
    a: Matrix<B>,
    noise: Gaussian,
}

impl<B: Backend> LogDensity<B> for Posterior<B> {
    fn add_with_gradient(
        &self,
        backend: &B,
        weight: f64,
        x: View<'_, B>,
        conditions: &[Tensor<B>],
        g: &mut ViewMut<'_, B>,
        sums: &mut ViewMut<'_, B>,
    ) -> Result<()> {
        let y = &conditions[0];
        let mut residual = Tensor::scratch(backend, y.shape())?;
        self.a.apply(backend, x, &mut residual.view_mut(), Write::Set)?;
        residual.view_mut().axpy(backend, -1.0, y.view())?;
        let mut pull = Tensor::scratch(backend, y.shape())?;
        self.noise.add_with_gradient(backend, weight, residual.view(), &mut pull.view_mut(), sums)?;
        Gaussian::STANDARD.add_with_gradient(backend, weight, x, g, sums)?;
        self.a.apply_adjoint(backend, pull.view(), g, Write::Add)
    }
}

/// A = (1, 0.5), noise of variance 0.25: y is normal with variance 1.25 + 0.25, and the least divergence is -ln p(y).
#[test]
fn a_reversed_flow_learns_a_linear_posterior() {
    let (cpu, y, variance) = (Cpu::<f64>::new(), 1.2, 1.5);
    let z = Normal::isotropic(&[0.0, 0.0], 1.0).unwrap().sample(1024, 0).unwrap();
    let data = ArrayDataset::new(z).unwrap().with_condition(Array2::from_elem((1024, 1), y)).unwrap();
    let posterior = Posterior { a: Matrix::new(&cpu, 1, 2, &[1.0, 0.5]).unwrap(), noise: Gaussian::new(0.0, 0.5, true).unwrap() };
    let config = plane(3, &[8]);
    let model = Model::build(&cpu, 0, |scope| config.build(scope).map(Reversed)).unwrap();
    let options = Options { epochs: 40, batch: 64, schedule: Schedule::cosine(0.02, 0), ..Options::default() };
    let mut trainer = Trainer::with_objective(model, ReverseKl(posterior), options).unwrap();
    trainer.fit(&data, None, &mut ()).unwrap();

    let divergence = trainer.evaluate(&data).unwrap() - (0.5 * (2.0 * PI * variance).ln() + y * y / (2.0 * variance));
    println!("{divergence:.4} nats from the posterior");
    assert!(divergence.abs() < 0.02, "{divergence}");
    // The mean of the posterior is Aᵀ y / variance.
    let model = trainer.into_model().unwrap();
    let z = Normal::isotropic(&[0.0, 0.0], 1.0).unwrap().sample(4000, 1).unwrap();
    let shape = inn_core::Shape::rows(4000, 2);
    let x = model.inverse(Tensor::from_f64(&cpu, shape, &z.into_raw_vec_and_offset().0).unwrap()).unwrap().state.to_f64().unwrap();
    for (i, expected) in [y / variance, 0.5 * y / variance].into_iter().enumerate() {
        let mean = x.iter().skip(i).step_by(2).sum::<f64>() / 4000.0;
        assert!((mean - expected).abs() < 0.08, "{mean} where {expected} is the mean");
    }
}
