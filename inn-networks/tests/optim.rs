//! Optimizers against their papers' formulas (those of PyTorch), schedules, clipping, averages.

use inn_core::{Init, Layout, Params, Result, Shape, Tensor};
use inn_networks::optim::{Average, Decay, Kept, Moments, Optimizer, Schedule, add_squared_norm, clip_scale};
use inn_ops::Cpu;
use std::sync::Arc;

type Cpu64 = Cpu<f64>;

/// A 2 x 2 weight, a vector of two and a frozen vector between them.
fn layout() -> Arc<Layout> {
    let ((), layout) = Layout::build(|scope| {
        scope.weight("weight", 2, 2, &[], Init::Constant(0.0))?;
        scope.vector("frozen", 3, Init::Constant(5.0))?;
        scope.vector("bias", 2, Init::Constant(0.0))?;
        Ok(())
    })
    .unwrap();
    layout.with_frozen(|name| name == "frozen")
}

/// The values of weight and bias, six numbers.
fn learning(params: &Params<Cpu64>) -> Vec<f64> {
    let flat = params.to_flat().unwrap();
    ["weight", "bias"].iter().flat_map(|name| flat[params.layout().find(name).unwrap().range()].to_vec()).collect()
}

fn filled(values: &[f64; 6]) -> Params<Cpu64> {
    let layout = layout();
    let mut flat = vec![0.0; layout.len()];
    flat[layout.find("weight").unwrap().range()].copy_from_slice(&values[..4]);
    flat[layout.find("frozen").unwrap().range()].fill(5.0);
    flat[layout.find("bias").unwrap().range()].copy_from_slice(&values[4..]);
    Params::from_flat(&Cpu::new(), &layout, &flat).unwrap()
}

const START: [f64; 6] = [1.0, -0.5, 2.0, 0.3, -1.5, 0.7];

/// A gradient that depends on the weight and the step, so that mistakes in the state show.
fn slope(theta: f64, i: usize, step: usize) -> f64 {
    (1.0 + i as f64) * theta + ((step * (i + 2)) as f64).sin()
}

/// What a rule does to one number over some steps; `matrix` for entries of the weight.
fn expect(optimizer: Optimizer, rate: impl Fn(usize) -> f64, scale: f64, rule: impl Fn(&mut [f64; 3], f64, f64, i32, bool)) {
    let mut params = filled(&START);
    let mut moments = Moments::new(optimizer, &params).unwrap();
    // θ and two moments of each number.
    let mut reference = START.map(|theta| [theta, 0.0, 0.0]);
    for step in 0..20 {
        let mut slopes = [0.0; 6];
        for (i, (slope_i, state)) in slopes.iter_mut().zip(&mut reference).enumerate() {
            *slope_i = slope(state[0], i, step);
            rule(state, scale * *slope_i, rate(step), step as i32 + 1, i < 4);
        }
        moments.step(&mut params, &filled(&slopes), rate(step), scale).unwrap();
        for (got, [expected, ..]) in learning(&params).iter().zip(&reference) {
            assert!((got - expected).abs() <= 1e-13 * expected.abs().max(1.0), "{optimizer:?}, step {step}: {got} against {expected}");
        }
    }
    assert_eq!(moments.steps(), 20);
    let frozen = params.layout().find("frozen").unwrap().range();
    assert_eq!(params.to_flat().unwrap()[frozen], [5.0; 3]);
}

#[test]
fn adam() {
    expect(
        Optimizer::Adam { beta1: 0.8, beta2: 0.95, epsilon: 1e-3 },
        |step| 0.1 / (1.0 + step as f64),
        0.5,
        |[theta, m, v], g, rate, t, _| {
            *m = 0.8 * *m + (1.0 - 0.8) * g;
            *v = 0.95 * *v + (1.0 - 0.95) * g * g;
            let (m, v) = (*m / (1.0 - 0.8f64.powi(t)), *v / (1.0 - 0.95f64.powi(t)));
            *theta -= rate * m / (v.sqrt() + 1e-3);
        },
    );
}

#[test]
fn the_first_step_of_adam_has_the_length_of_the_learning_rate() {
    let mut params = filled(&[0.0; 6]);
    let gradient = [1e-3, -2.0, 3e4, -4e-2, 5.0, -6.0];
    Moments::new(Optimizer::adam(), &params).unwrap().step(&mut params, &filled(&gradient), 0.01, 1.0).unwrap();
    for (got, g) in learning(&params).iter().zip(gradient) {
        assert!((got + 0.01 * g.signum()).abs() < 1e-6, "{got}");
    }
}

#[test]
fn adam_w_decays_weights_apart_from_the_moments() {
    for decay_vectors in [false, true] {
        expect(
            Optimizer::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-6, weight_decay: 0.3, decay_vectors },
            |_| 0.05,
            1.0,
            |[theta, m, v], g, rate, t, matrix| {
                if matrix || decay_vectors {
                    *theta *= 1.0 - rate * 0.3;
                }
                *m = 0.9 * *m + (1.0 - 0.9) * g;
                *v = 0.99 * *v + (1.0 - 0.99) * g * g;
                let (m, v) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.99f64.powi(t)));
                *theta -= rate * m / (v.sqrt() + 1e-6);
            },
        );
    }
}

#[test]
fn gradient_descent_with_momentum_nesterov_and_decay() {
    for (momentum, nesterov) in [(0.0, false), (0.7, false), (0.7, true)] {
        for (weight_decay, decay_vectors) in [(0.0, false), (0.2, false), (0.2, true)] {
            expect(
                Optimizer::Sgd { momentum, nesterov, weight_decay, decay_vectors },
                |step| if step < 10 { 0.05 } else { 0.02 },
                0.8,
                |[theta, velocity, _], mut g, rate, _, matrix| {
                    if matrix || decay_vectors {
                        g += weight_decay * *theta;
                    }
                    *velocity = momentum * *velocity + g;
                    *theta -= rate * if nesterov { g + momentum * *velocity } else { *velocity };
                },
            );
        }
    }
}

#[test]
fn gradient_descent_on_a_parabola_is_a_geometric_series() {
    let mut params = filled(&START);
    let mut moments = Moments::new(Optimizer::sgd(0.0), &params).unwrap();
    for _ in 0..10 {
        // The gradient of θ²/2.
        let gradient = params.duplicate().unwrap();
        moments.step(&mut params, &gradient, 0.1, 1.0).unwrap();
    }
    for (got, start) in learning(&params).iter().zip(START) {
        assert!((got - start * 0.9f64.powi(10)).abs() < 1e-14);
    }
}

#[test]
fn rms_prop() {
    for momentum in [0.0, 0.6] {
        expect(
            Optimizer::RmsProp { smoothing: 0.9, epsilon: 1e-4, momentum },
            |_| 0.01,
            1.0,
            |[theta, v, u], g, rate, _, _| {
                *v = 0.9 * *v + (1.0 - 0.9) * g * g;
                *u = momentum * *u + g / (v.sqrt() + 1e-4);
                *theta -= rate * *u;
            },
        );
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let named = |result: Result<()>, name: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    };
    named(Optimizer::Adam { beta1: 1.0, beta2: 0.9, epsilon: 1e-8 }.validate(), "beta1");
    named(Optimizer::Adam { beta1: 0.9, beta2: -0.1, epsilon: 1e-8 }.validate(), "beta2");
    named(Optimizer::Adam { beta1: 0.9, beta2: 0.9, epsilon: 0.0 }.validate(), "epsilon");
    named(Optimizer::adam_w(f64::NAN).validate(), "weight_decay");
    named(Optimizer::Sgd { momentum: 0.0, nesterov: true, weight_decay: 0.0, decay_vectors: false }.validate(), "nesterov");
    named(Optimizer::RmsProp { smoothing: 2.0, epsilon: 1.0, momentum: 0.0 }.validate(), "smoothing");
    named(Schedule::constant(0.0).validate(), "learning_rate");
    named(Schedule { decay: Decay::Cosine { steps: None, floor: 1.0 }, ..Schedule::constant(0.1) }.validate(), "floor");
    named(Schedule { decay: Decay::Step { every: 0, factor: 0.5 }, ..Schedule::constant(0.1) }.validate(), "every");
    named(Schedule { decay: Decay::Exponential { every: 1, factor: 1.5 }, ..Schedule::constant(0.1) }.validate(), "factor");
    assert!(Average::new(1.0, &filled(&START)).is_err());
}

#[test]
fn moments_of_another_network_are_refused() {
    let ((), other) = Layout::build(|scope| scope.vector("other", 2, Init::Constant(0.0)).map(drop)).unwrap();
    let mut other = Params::<Cpu64>::zeros(&Cpu::new(), &other).unwrap();
    let params = filled(&START);
    let mut moments = Moments::new(Optimizer::adam(), &params).unwrap();
    let gradient = other.duplicate().unwrap();
    assert!(moments.step(&mut other, &gradient, 0.1, 1.0).is_err());
    assert!(moments.step(&mut filled(&START), &gradient, 0.1, 1.0).is_err());
    assert!(Average::new(0.9, &params).unwrap().update(&other).is_err());
}

#[test]
fn schedules() {
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} against {b}");
    let constant = Schedule::constant(0.3);
    close(constant.at(0, 10), 0.3);
    close(constant.at(1000, 10), 0.3);

    let warm = Schedule { warm_up: 4, ..Schedule::constant(0.8) };
    for (step, rate) in [0.2, 0.4, 0.6, 0.8, 0.8].into_iter().enumerate() {
        close(warm.at(step as u64, 100), rate);
    }

    let cosine = Schedule { learning_rate: 1.0, warm_up: 2, decay: Decay::Cosine { steps: None, floor: 0.1 } };
    close(cosine.at(0, 12), 0.5);
    close(cosine.at(2, 12), 1.0);
    close(cosine.at(7, 12), 0.55);
    close(cosine.at(12, 12), 0.1);
    close(cosine.at(500, 12), 0.1);
    close(Schedule::cosine(1.0, 0).at(25, 100), 0.5 + 0.125f64.sqrt());

    let step = Schedule { decay: Decay::Step { every: 3, factor: 0.5 }, ..Schedule::constant(0.8) };
    for (s, rate) in [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2].into_iter().enumerate() {
        close(step.at(s as u64, 0), rate);
    }

    let exponential = Schedule { decay: Decay::Exponential { every: 10, factor: 0.1 }, ..Schedule::constant(1.0) };
    close(exponential.at(10, 0), 0.1);
    close(exponential.at(5, 0), 0.1f64.sqrt());
}

#[test]
fn clipping_by_the_global_norm() {
    let cpu = Cpu64::new();
    // The frozen entry of a gradient is zero.
    let mut gradient = filled(&[1.0, 2.0, 2.0, 4.0, 0.0, 0.0]);
    gradient.clear_frozen().unwrap();
    let mut square = Tensor::zeros(&cpu, Shape::per_sample(1)).unwrap();
    add_squared_norm(&gradient, square.view_mut().update()).unwrap();
    assert_eq!(square.to_f64().unwrap(), [25.0]);
    assert_eq!(clip_scale(5.0, Some(2.0)), 0.4);
    assert_eq!(clip_scale(5.0, Some(5.0)), 1.0);
    assert_eq!(clip_scale(0.0, Some(1.0)), 1.0);
    assert_eq!(clip_scale(1e9, None), 1.0);
    let mut params = filled(&[0.0; 6]);
    Moments::new(Optimizer::sgd(0.0), &params).unwrap().step(&mut params, &gradient, 1.0, clip_scale(5.0, Some(1.0))).unwrap();
    let norm = learning(&params).iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!((norm - 1.0).abs() < 1e-14);
}

#[test]
fn average_of_the_weights() {
    let mut average = Average::new(0.9, &filled(&START)).unwrap();
    let mut expected = START;
    for t in 0..200 {
        let theta: [f64; 6] = std::array::from_fn(|i| START[i] + (t * (i + 1)) as f64 * 0.01);
        average.update(&filled(&theta)).unwrap();
        let decay = f64::min(0.9, (1.0 + t as f64) / (10.0 + t as f64));
        for (e, theta) in expected.iter_mut().zip(theta) {
            *e = decay * *e + (1.0 - decay) * theta;
        }
    }
    assert_eq!(average.updates(), 200);
    for (got, expected) in learning(average.params()).iter().zip(expected) {
        assert!((got - expected).abs() < 1e-12 * expected.abs(), "{got} against {expected}");
    }
}

/// All rules, with every number of moments, with and without decay.
fn rules() -> [Optimizer; 7] {
    let rms = |momentum| Optimizer::RmsProp { smoothing: 0.9, epsilon: 1e-6, momentum };
    let sgd = |momentum, nesterov| Optimizer::Sgd { momentum, nesterov, weight_decay: 0.1, decay_vectors: false };
    [Optimizer::adam(), Optimizer::adam_w(0.1), Optimizer::sgd(0.9), sgd(0.0, false), sgd(0.5, true), rms(0.0), rms(0.6)]
}

/// The whole arena with frozen parameters, moments and average after some steps, taken in one of three ways.
fn steps(optimizer: Optimizer, way: usize) -> Vec<Vec<f64>> {
    let mut params = filled(&START);
    // An average that began elsewhere: it follows frozen parameters as well.
    let mut average = Average::new(0.9, &Params::zeros(params.backend(), params.layout()).unwrap()).unwrap();
    let mut moments = Moments::new(optimizer, &params).unwrap();
    let mut kept = Kept::new(&params, &moments, Some(&average)).unwrap();
    let state = |params: &Params<Cpu64>, moments: &Moments<Cpu64>, average: &Average<Cpu64>| {
        [params, average.params()].into_iter().chain(moments.vectors()).map(|v| v.to_flat().unwrap()).collect::<Vec<_>>()
    };
    for step in 0..7 {
        let slopes = std::array::from_fn(|i| slope(learning(&params)[i], i, step));
        let (gradient, rate) = (filled(&slopes), 0.1 / (1.0 + step as f64));
        let before = state(&params, &moments, &average);
        match way {
            0 => {
                moments.step(&mut params, &gradient, rate, 0.5).unwrap();
                average.update(&params).unwrap();
            }
            1 => moments.step_averaged(&mut params, &gradient, rate, 0.5, &mut average).unwrap(),
            _ => {
                moments.step_keeping(&mut params, &gradient, rate, 0.5, Some(&mut average), &mut kept).unwrap();
                if step % 3 == 1 {
                    let after = state(&params, &moments, &average);
                    kept.restore(&mut params, &mut moments, Some(&mut average)).unwrap();
                    assert_eq!((moments.steps(), average.updates()), (step as u64, step as u64));
                    assert_eq!(state(&params, &moments, &average), before);
                    moments.step_keeping(&mut params, &gradient, rate, 0.5, Some(&mut average), &mut kept).unwrap();
                    assert_eq!(state(&params, &moments, &average), after);
                }
            }
        }
    }
    assert_eq!((moments.steps(), average.updates()), (7, 7));
    state(&params, &moments, &average)
}

#[test]
fn one_pass_or_several_make_the_same_bits() {
    for optimizer in rules() {
        let apart = steps(optimizer, 0);
        assert!(apart == steps(optimizer, 1), "{optimizer:?}");
        assert!(apart == steps(optimizer, 2), "{optimizer:?}");
        let frozen = layout().find("frozen").unwrap().range();
        assert!(apart[1][frozen].iter().all(|v| *v > 1.0 && *v < 5.0), "{:?}", apart[1]);
    }
}

#[test]
fn what_is_kept_has_to_fit() {
    let mut params = filled(&START);
    let gradient = params.duplicate().unwrap();
    let mut moments = Moments::new(Optimizer::adam(), &params).unwrap();
    let mut average = Average::new(0.9, &params).unwrap();
    let sgd = Moments::new(Optimizer::sgd(0.9), &params).unwrap();
    for mut kept in [Kept::new(&params, &moments, None).unwrap(), Kept::new(&params, &sgd, Some(&average)).unwrap()] {
        let message = moments.step_keeping(&mut params, &gradient, 0.1, 1.0, Some(&mut average), &mut kept).unwrap_err().to_string();
        assert!(message.contains("2 moments and an average"), "{message}");
        assert_eq!((moments.steps(), average.updates()), (0, 0));
    }
    assert_eq!(learning(&params), START);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let ((), layout) = Layout::build(|scope| scope.weight("weight", 301, 257, &[], Init::Normal(1.0)).map(drop)).unwrap();
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let cpu = Cpu::<f32>::new();
            let [mut params, gradient] = [0, 1].map(|seed| Params::init(&cpu, &layout, seed).unwrap());
            let mut average = Average::new(0.9, &params).unwrap();
            let mut moments = Moments::new(Optimizer::adam_w(0.1), &params).unwrap();
            let mut square = Tensor::zeros(&cpu, Shape::per_sample(1)).unwrap();
            add_squared_norm(&gradient, square.view_mut().update()).unwrap();
            for _ in 0..3 {
                moments.step_averaged(&mut params, &gradient, 0.01, 0.7, &mut average).unwrap();
            }
            let mut bits = square.to_vec().unwrap();
            bits.extend([&params, average.params()].into_iter().chain(moments.vectors()).flat_map(|v| v.read().unwrap()));
            bits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(7));
}
