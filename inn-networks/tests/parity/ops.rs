//! Activations, objectives and squeezes.

use crate::compare::{Book, Precision};
use crate::frame::array;
use inn_core::wavelet::Filter;
use inn_core::{Backend, Direction, Element, Scalar, Shape, Squeeze, Tensor, Wavelet};
use inn_networks::import::Array;
use inn_ops::loss::{Gaussian, SquaredError};
use inn_ops::wavelet::transform;
use inn_ops::{Activation, Cpu, CpuElement, ScaleMap, pointwise};

pub fn check(book: &mut Book<'_>) {
    book.set_precision(Precision::Double);
    Operations { cpu: Cpu::<f64>::poisoned() }.all(book);
    book.set_precision(Precision::Single);
    Operations { cpu: Cpu::<f32>::poisoned() }.all(book);
}

struct Operations<T: CpuElement> {
    cpu: Cpu<T>,
}

impl<T: CpuElement + Scalar> Operations<T> {
    fn all(&self, book: &mut Book<'_>) {
        self.squeezes(book);
        self.wavelets(book);
        self.activation(book, "relu", Activation::Relu);
        self.activation(book, "leakyrelu", Activation::LeakyRelu { slope: 0.01 });
        self.gated(book);
        for (name, low, high) in [("sigmoid", 0.0, 1.0), ("sigmoid2", 0.0, 2.0), ("sigmoid_05_1", 0.5, 1.0)] {
            self.activation(book, name, Activation::Sigmoid { low, high });
            self.scale(book, name, ScaleMap::Sigmoid { low, high });
        }
        self.scale(book, "expclamp", ScaleMap::ExpClamp { clamp: 2.0 });
        self.scale(book, "expclamp_layer", ScaleMap::ExpClamp { clamp: 2.0 });
        self.squared_error(book);
        let standard = self.log_likelihood(book, "loglik", &Gaussian::new(0.0, 1.0, false).unwrap());
        book.compare_number("obj.loglik_of_flattened", standard);
        self.log_likelihood(book, "loglik_mu1_sigma2", &Gaussian::new(1.0, 2.0, false).unwrap());
    }

    fn tensor(&self, book: &Book<'_>, name: &str) -> Tensor<Cpu<T>> {
        book.source.get(name).unwrap().tensor(&self.cpu).unwrap()
    }

    /// A result of the original in the precision of the book, which is that of T.
    fn result(&self, book: &Book<'_>, key: &str) -> Tensor<Cpu<T>> {
        self.tensor(book, &format!("{}.{key}", book.precision().prefix()))
    }

    fn activation(&self, book: &mut Book<'_>, name: &str, activation: Activation) {
        let (cpu, x) = (&self.cpu, self.tensor(book, "in.act.x"));
        let mut y = Tensor::scratch(cpu, x.shape()).unwrap();
        pointwise::activate(cpu, activation, x.view(), &mut y.view_mut()).unwrap();
        book.compare(&format!("act.{name}.y"), &array(&y));
        let mut g = self.tensor(book, "in.act.gy");
        pointwise::activate_derivative(cpu, activation, x.view(), &mut g.view_mut()).unwrap();
        book.compare(&format!("act.{name}.gx"), &array(&g));
        if activation.is_invertible() {
            let y = self.result(book, &format!("act.{name}.y"));
            let mut x = Tensor::scratch(cpu, y.shape()).unwrap();
            pointwise::activate_inverse(cpu, activation, y.view(), &mut x.view_mut()).unwrap();
            book.compare(&format!("act.{name}.inverse_of_y"), &array(&x));
        }
    }

    fn gated(&self, book: &mut Book<'_>) {
        let (cpu, mut x) = (&self.cpu, self.tensor(book, "in.act.x"));
        let half = pointwise::galu_shape(x.shape()).unwrap();
        let mut y = Tensor::scratch(cpu, half).unwrap();
        pointwise::galu(cpu, x.view(), &mut y.view_mut()).unwrap();
        book.compare("act.galu.y", &array(&y));
        let dx = self.result(book, "act.galu.dx");
        book.compare("act.galu.dx", &array(&dx));
        pointwise::galu_tangent(cpu, x.view(), dx.view(), &mut y.view_mut()).unwrap();
        book.compare("act.galu.dy", &array(&y));
        pointwise::galu_adjoint(cpu, self.tensor(book, "in.act.gy_half").view(), &mut x.view_mut()).unwrap();
        book.compare("act.galu.gx", &array(&x));
    }

    /// S(u), S ψ' g and u from S, where the original has one activation for both uses.
    fn scale(&self, book: &mut Book<'_>, name: &str, map: ScaleMap) {
        let (u, g) = (self.tensor(book, "in.act.x"), self.tensor(book, "in.act.gy"));
        let values = |values: Vec<T>| Array { dims: u.shape().dims(), values: values.into_iter().map(Element::to_f64).collect() };
        book.compare(&format!("act.{name}.y"), &values(u.slice().iter().map(|&u| map.scale(u)).collect()));
        let pulled = u.slice().iter().zip(g.slice()).map(|(&u, &g)| map.scale(u) * map.log_scale_derivative(u) * g);
        book.compare(&format!("act.{name}.gx"), &values(pulled.collect()));
        let s = self.result(book, &format!("act.{name}.y"));
        book.compare(&format!("act.{name}.inverse_of_y"), &values(s.slice().iter().map(|&s| map.inverse(s)).collect()));
    }

    fn squared_error(&self, book: &mut Book<'_>) {
        let (cpu, x, y) = (&self.cpu, self.tensor(book, "in.obj.X"), self.tensor(book, "in.obj.Y"));
        let batch = x.shape().batch();
        let mut sums = Tensor::zeros(cpu, Shape::per_sample(batch)).unwrap();
        let mut g = Tensor::scratch(cpu, x.shape()).unwrap();
        let (mut into, mut gradient) = (sums.view_mut(), g.view_mut());
        SquaredError.add_with_gradient(cpu, 1.0 / batch as f64, x.view(), y.view(), &mut gradient, &mut into).unwrap();
        book.compare_number("obj.mse", mean(&sums));
        book.compare("obj.grad_mse", &array(&g));
    }

    fn log_likelihood(&self, book: &mut Book<'_>, name: &str, gaussian: &Gaussian) -> f64 {
        let (cpu, x) = (&self.cpu, self.tensor(book, "in.obj.X"));
        let batch = x.shape().batch();
        let mut sums = Tensor::zeros(cpu, Shape::per_sample(batch)).unwrap();
        let mut g = Tensor::scratch(cpu, x.shape()).unwrap();
        gaussian.add_with_gradient(cpu, 1.0 / batch as f64, x.view(), &mut g.view_mut(), &mut sums.view_mut()).unwrap();
        book.compare_number(&format!("obj.{name}"), mean(&sums));
        book.compare(&format!("obj.grad_{name}"), &array(&g));
        mean(&sums)
    }

    fn squeezed(&self, squeeze: Squeeze, x: &Tensor<Cpu<T>>) -> Array {
        let mut y = x.duplicate().unwrap();
        self.cpu.squeeze(squeeze, Direction::Forward, &mut y.view_mut()).unwrap();
        array(&y.reshape(squeeze.output(Direction::Forward, x.shape()).unwrap()).unwrap())
    }

    fn squeezes(&self, book: &mut Book<'_>) {
        for rank in 1..=3 {
            let x = self.tensor(book, &format!("in.squeeze.{rank}d.X"));
            for squeeze in [Squeeze::Checkerboard, Squeeze::Patch, Squeeze::Column, Squeeze::Haar] {
                let pattern = format!("{squeeze:?}").to_lowercase();
                book.compare(&format!("squeeze.{rank}d.{pattern}.Y"), &self.squeezed(squeeze, &x));
            }
            for name in ["db1", "db2", "coif2"] {
                let squeeze = Squeeze::Wavelet(name.parse().unwrap());
                book.compare(&format!("squeeze.{rank}d.wavelet_{name}.Y"), &self.squeezed(squeeze, &x));
            }
        }
    }

    /// The filters themselves, one level on 8 and on 64 points, and on images.
    fn wavelets(&self, book: &mut Book<'_>) {
        let names = book.source.names().filter_map(|name| name.strip_prefix("f64.wavelet.")?.strip_suffix(".qmf"));
        let names: Vec<String> = names.map(str::to_owned).collect();
        for name in names {
            // The tables of batt are orthonormal to three digits only, too few for a squeeze.
            let filter = Filter::named(&name, 2e-3).unwrap();
            book.compare(&format!("wavelet.{name}.qmf"), &Array { dims: vec![filter.taps().len()], values: filter.taps().to_vec() });
            for n in [8, 64] {
                let mut values = book.source.get(&format!("in.wavelet.x{n}")).unwrap().values.clone();
                transform(&filter, Direction::Forward, &[n], &mut values).unwrap();
                book.compare(&format!("wavelet.{name}.dwt{n}"), &Array { dims: vec![n], values });
            }
            if let Ok(wavelet) = name.parse::<Wavelet>() {
                let y = self.squeezed(Squeeze::Wavelet(wavelet), &self.tensor(book, "in.wavelet.X2d"));
                book.compare(&format!("wavelet.{name}.squeeze2d"), &y);
            }
        }
    }
}

fn mean<T: CpuElement>(sums: &Tensor<Cpu<T>>) -> f64 {
    sums.to_f64().unwrap().iter().sum::<f64>() / sums.shape().batch() as f64
}
