//! Activations, scales and objectives against differences, at the ends of the number range, and back.

use inn_core::scalar::Pair;
use inn_core::{Scalar, Shape, Tensor};
use inn_ops::loss::{Gaussian, SquaredError};
use inn_ops::pointwise::{activate, activate_derivative, activate_inverse, galu, galu_adjoint, galu_shape, galu_tangent};
use inn_ops::{Activation, Cpu, ScaleMap};

const ACTIVATIONS: [Activation; 12] = [
    Activation::Identity,
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.01 },
    Activation::Sigmoid { low: 0.0, high: 1.0 },
    Activation::Sigmoid { low: -0.5, high: 2.0 },
    Activation::Tanh,
    Activation::ExpClamp { clamp: 2.0 },
    Activation::Softplus,
    Activation::Elu { alpha: 1.0 },
    Activation::Elu { alpha: 0.6 },
    Activation::Silu,
    Activation::Gelu,
];

const SCALES: [ScaleMap; 6] = [
    ScaleMap::Bounded { limit: 2.0 },
    ScaleMap::Bounded { limit: 0.3 },
    ScaleMap::Sigmoid { low: 0.0, high: 1.0 },
    ScaleMap::Sigmoid { low: 0.5, high: 1.0 },
    ScaleMap::Sigmoid { low: 0.1, high: 3.0 },
    ScaleMap::ExpClamp { clamp: 2.0 },
];

/// The central difference, extrapolated once.
fn slope(f: impl Fn(f64) -> f64, x: f64) -> f64 {
    let difference = |h: f64| (f(x + h) - f(x - h)) / (2.0 * h);
    (4.0 * difference(1e-4) - difference(2e-4)) / 3.0
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance * (1.0 + b.abs())
}

#[test]
fn derivatives_of_activations() {
    for activation in ACTIVATIONS {
        for i in -40..40 {
            let x = i as f64 * 0.25 + 0.1;
            let (got, expected) = (activation.derivative(x), slope(|x| activation.value(x), x));
            assert!(close(got, expected, 1e-9), "{activation:?} at {x}: {got} against {expected}");
            if let Some(back) = activation.inverse(activation.value(x)) {
                assert!(close(back, x, 1e-9 / activation.derivative(x)), "{activation:?}: {x} came back as {back}");
            }
        }
        let none = matches!(activation, Activation::Relu | Activation::Silu | Activation::Gelu);
        assert_eq!(activation.is_invertible(), !none, "{activation:?}");
    }
}

#[test]
fn derivatives_of_log_scales() {
    for map in SCALES {
        map.validate().unwrap();
        for i in -40..40 {
            let u = i as f64 * 0.21 + 0.05;
            assert!(close(map.log_scale(u), map.scale(u).ln(), 1e-13), "{map:?}");
            let pairs = [
                (map.log_scale_derivative(u), slope(|u| map.log_scale(u), u)),
                (map.log_scale_second(u), slope(|u| map.log_scale_derivative(u), u)),
            ];
            for (k, (got, expected)) in pairs.into_iter().enumerate() {
                assert!(close(got, expected, 1e-9), "{map:?}, derivative {} at {u}: {got} against {expected}", k + 1);
            }
            // Where the scale has saturated it no longer tells u.
            let (back, slope) = (map.inverse(map.scale(u)), map.log_scale_derivative(u));
            assert!(slope < 1e-6 || close(back, u, 1e-12 / slope), "{map:?}: {u} came back as {back}");
        }
    }
}

/// Values on (value, tangent) pairs are how layers are differentiated: they have to agree with the closed forms, and to stay finite.
#[test]
fn tangents_agree_with_derivatives_at_any_input() {
    let at = |x: f64| Pair { v: x, d: 1.0 };
    let moderate = (-40..40).map(|i| f64::from(i) * 0.21 + 0.05);
    for x in moderate.chain([90.0, -90.0, 800.0, -800.0, 1e30, -1e30, 1e300, -1e300]) {
        for activation in ACTIVATIONS {
            let (got, expected) = (activation.value(at(x)).d, activation.derivative(x));
            assert!(close(got, expected, 1e-14), "{activation:?} at {x}: {got} against {expected}");
        }
        for map in SCALES {
            let pairs = [
                (map.log_scale(at(x)).d, map.log_scale_derivative(x)),
                (map.log_scale_derivative(at(x)).d, map.log_scale_second(x)),
                (map.scale(at(x)).d, map.scale(x) * map.log_scale_derivative(x)),
            ];
            for (k, (got, expected)) in pairs.into_iter().enumerate() {
                assert!(close(got, expected, 1e-13), "{map:?}, {k} at {x}: {got} against {expected}");
            }
            assert!(map.log_scale_second(at(x)).d.is_finite(), "{map:?} at {x}");
        }
    }
}

#[test]
fn nothing_overflows_at_any_input() {
    fn check<T: Scalar + Into<f64>>(x: T) {
        let at: f64 = x.into();
        for activation in ACTIVATIONS {
            for value in [activation.value(x), activation.derivative(x)] {
                let value: f64 = value.into();
                assert!(value.is_finite(), "{activation:?} at {at}: {value}");
            }
        }
        for map in SCALES {
            for value in [map.scale(x), map.log_scale_derivative(x), map.log_scale_second(x)] {
                let value: f64 = value.into();
                assert!(value.is_finite(), "{map:?} at {at}: {value}");
            }
            // The logarithm of a sigmoid without a lower limit falls without bound, as its argument does.
            let log: f64 = map.log_scale(x).into();
            assert!(log.is_finite(), "{map:?} at {at}: {log}");
        }
    }
    for x in [0.0f32, -0.0, 1e-30, 60.0, -60.0, 90.0, -90.0, 1e4, -1e4, 1e30, -1e30] {
        check(x);
        check(f64::from(x));
    }
    for x in [1e300f64, -1e300, 709.0, -746.0] {
        check(x);
    }
}

#[test]
fn settings_that_give_no_scale_are_refused() {
    let bad = [
        ScaleMap::Bounded { limit: 0.0 },
        ScaleMap::Bounded { limit: f64::NAN },
        ScaleMap::ExpClamp { clamp: -1.0 },
        ScaleMap::Sigmoid { low: -0.1, high: 1.0 },
        ScaleMap::Sigmoid { low: 1.0, high: 1.0 },
        ScaleMap::Sigmoid { low: 0.0, high: f64::INFINITY },
    ];
    assert!(bad.iter().all(|map| map.validate().is_err()));
}

fn tensor(shape: Shape, seed: usize) -> Tensor<Cpu<f64>> {
    let values: Vec<f64> = (0..shape.len()).map(|i| (((i + 1) * 7919 + seed * 613) % 1009) as f64 / 252.0 - 2.0).collect();
    Tensor::from_f64(&Cpu::poisoned(), shape, &values).unwrap()
}

fn dot(a: &Tensor<Cpu<f64>>, b: &Tensor<Cpu<f64>>) -> f64 {
    a.slice().iter().zip(b.slice()).map(|(a, b)| a * b).sum()
}

#[test]
fn activations_on_tensors() {
    let shape = Shape::new(2, 3, &[5, 3]).unwrap();
    let cpu = Cpu::<f64>::poisoned();
    for activation in ACTIVATIONS {
        let (x, mut d, mut y) = (tensor(shape, 1), tensor(shape, 2), Tensor::scratch(&cpu, shape).unwrap());
        activate(&cpu, activation, x.view(), &mut y.view_mut()).unwrap();
        activate_derivative(&cpu, activation, x.view(), &mut d.view_mut()).unwrap();
        for (i, (&x, &y)) in x.slice().iter().zip(y.slice()).enumerate() {
            assert!(close(y, activation.value(x), 1e-15));
            assert!(close(d.slice()[i], activation.derivative(x) * tensor(shape, 2).slice()[i], 1e-14));
        }
        let mut back = Tensor::scratch(&cpu, shape).unwrap();
        let inverse = activate_inverse(&cpu, activation, y.view(), &mut back.view_mut());
        assert_eq!(inverse.is_ok(), activation.is_invertible());
        if inverse.is_ok() {
            assert!(back.slice().iter().zip(x.slice()).all(|(a, b)| close(*a, *b, 1e-12)), "{activation:?}");
        }
    }
}

#[test]
fn galu_with_its_tangent_and_adjoint() {
    let cpu = Cpu::<f64>::poisoned();
    let shape = Shape::new(3, 6, &[4]).unwrap();
    let half = galu_shape(shape).unwrap();
    let (x, dx, g) = (tensor(shape, 1), tensor(shape, 5), tensor(half, 3));
    let value = |x: &Tensor<Cpu<f64>>| {
        let mut y = Tensor::scratch(&cpu, half).unwrap();
        galu(&cpu, x.view(), &mut y.view_mut()).unwrap();
        y
    };
    let (first, gate) = (x.slice()[4], x.slice()[4 + 12]);
    assert!(close(value(&x).slice()[4], first / (1.0 + (-gate).exp()), 1e-14));
    let mut dy = Tensor::scratch(&cpu, half).unwrap();
    galu_tangent(&cpu, x.view(), dx.view(), &mut dy.view_mut()).unwrap();
    let moved = |h: f64| {
        let mut x = x.duplicate().unwrap();
        x.view_mut().axpy(&cpu, h, dx.view()).unwrap();
        value(&x)
    };
    for i in 0..half.len() {
        let expected = slope(|h| moved(h).slice()[i], 0.0);
        assert!(close(dy.slice()[i], expected, 1e-9), "{} against {expected}", dy.slice()[i]);
    }
    let mut adjoint = x.duplicate().unwrap();
    galu_adjoint(&cpu, g.view(), &mut adjoint.view_mut()).unwrap();
    let (a, b) = (dot(&dy, &g), dot(&dx, &adjoint));
    assert!(close(a, b, 1e-13), "{a} against {b}");
    assert!(galu_shape(Shape::rows(1, 3)).unwrap_err().to_string().contains("even number of channels"));
}

#[test]
fn objectives_to_second_order() {
    let cpu = Cpu::<f64>::poisoned();
    let shape = Shape::new(3, 2, &[4, 5]).unwrap();
    let (x, target, d) = (tensor(shape, 1), tensor(shape, 2), tensor(shape, 3));
    let per_sample = Shape::per_sample(3);
    type Value<'a> = Box<dyn Fn(&Tensor<Cpu<f64>>, Option<&mut Tensor<Cpu<f64>>>) -> Vec<f64> + 'a>;
    type Product<'a> = Box<dyn Fn(&mut Tensor<Cpu<f64>>) + 'a>;
    let gaussian = Gaussian::new(1.0, 2.0, true).unwrap();
    let weight = 1.0 / 3.0;
    let cases: [(&str, Value<'_>, Product<'_>); 2] = [
        (
            "squared error",
            Box::new(|x, g| {
                let mut sums = Tensor::zeros(&cpu, per_sample).unwrap();
                match g {
                    None => SquaredError.add(&cpu, x.view(), target.view(), &mut sums.view_mut()).unwrap(),
                    Some(g) => SquaredError
                        .add_with_gradient(&cpu, weight, x.view(), target.view(), &mut g.view_mut(), &mut sums.view_mut())
                        .unwrap(),
                }
                sums.to_f64().unwrap()
            }),
            Box::new(|h| SquaredError.hessian(&cpu, weight, d.view(), &mut h.view_mut()).unwrap()),
        ),
        (
            "Gaussian",
            Box::new(|x, g| {
                let mut sums = Tensor::zeros(&cpu, per_sample).unwrap();
                match g {
                    None => gaussian.add(&cpu, x.view(), &mut sums.view_mut()).unwrap(),
                    Some(g) => {
                        gaussian.add_with_gradient(&cpu, weight, x.view(), &mut g.view_mut(), &mut sums.view_mut()).unwrap();
                    }
                }
                sums.to_f64().unwrap()
            }),
            Box::new(|h| gaussian.hessian(&cpu, weight, d.view(), &mut h.view_mut()).unwrap()),
        ),
    ];
    for (name, value, hessian) in &cases {
        let (mut g, mut h) = (Tensor::scratch(&cpu, shape).unwrap(), Tensor::scratch(&cpu, shape).unwrap());
        let with_gradient = value(&x, Some(&mut g));
        assert_eq!(with_gradient, value(&x, None), "{name}");
        hessian(&mut h);
        let mean = |step: f64| {
            let mut x = x.duplicate().unwrap();
            x.view_mut().axpy(&cpu, step, d.view()).unwrap();
            weight * value(&x, None).iter().sum::<f64>()
        };
        // Quadratic, so that the expansion to second order is the function.
        for step in [0.5, -1.0] {
            let expected = mean(0.0) + step * dot(&g, &d) + 0.5 * step * step * dot(&h, &d);
            assert!(close(mean(step), expected, 1e-12), "{name}: {} against {expected}", mean(step));
        }
    }
    // (1/2B) |x - y|² of ones, and the standard normal density at 0.
    let ones = Tensor::full(&cpu, shape, 1.0).unwrap();
    let zeros = Tensor::zeros(&cpu, shape).unwrap();
    let mut sums = Tensor::full(&cpu, per_sample, 0.25).unwrap();
    SquaredError.add(&cpu, ones.view(), zeros.view(), &mut sums.view_mut()).unwrap();
    assert_eq!(sums.slice(), [20.25; 3]);
    let mut sums = Tensor::zeros(&cpu, per_sample).unwrap();
    Gaussian::STANDARD.add(&cpu, zeros.view(), &mut sums.view_mut()).unwrap();
    assert!(close(sums.slice()[0], -20.0 * (2.0 * std::f64::consts::PI).ln(), 1e-14));
    // Unnormalized and with σ: the normalization is -n ln σ - n/2 ln 2π.
    let mut bare = Tensor::zeros(&cpu, per_sample).unwrap();
    Gaussian::new(1.0, 2.0, false).unwrap().add(&cpu, ones.view(), &mut bare.view_mut()).unwrap();
    assert_eq!(bare.slice(), [0.0; 3]);
    let mut whole = Tensor::zeros(&cpu, per_sample).unwrap();
    gaussian.add(&cpu, ones.view(), &mut whole.view_mut()).unwrap();
    assert!(close(whole.slice()[0], -40.0 * (2f64.ln() + 0.5 * (2.0 * std::f64::consts::PI).ln()), 1e-14));
    assert!(Gaussian::new(0.0, 0.0, true).is_err() && Gaussian::new(f64::NAN, 1.0, true).is_err());
}
