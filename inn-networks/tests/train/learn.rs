//! What training learns.

use super::{model, moons, plane, rich, two_moons};
use inn_core::{Architecture, Backend, Call, Direction, Invertible, Mapped, Params, Result, Shape, Tensor};
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::optim::{Optimizer, Schedule};
use inn_networks::train::{ArrayDataset, Dataset, LastBatch, Objective, Observer, Options, Progress, Record, Trainer, Varied, split};
use inn_networks::{ConditionalGlowConfig, Density, GlowConfig, PyramidConfig};
use inn_ops::Cpu;
use ndarray::{Array2, Array4};
use std::ops::ControlFlow;
use std::sync::Mutex;

/// The mean negative log-likelihood of the Gaussian with the mean and covariance of `points`, in nats.
fn gaussian(points: &Array2<f32>) -> f64 {
    let n = points.nrows() as f64;
    let mean: Vec<f64> = (0..2).map(|j| points.column(j).iter().map(|&v| f64::from(v)).sum::<f64>() / n).collect();
    let cov =
        |i: usize, j: usize| points.rows().into_iter().map(|r| (f64::from(r[i]) - mean[i]) * (f64::from(r[j]) - mean[j])).sum::<f64>() / n;
    let det = cov(0, 0) * cov(1, 1) - cov(0, 1).powi(2);
    0.5 * det.ln() + (2.0 * std::f64::consts::PI).ln() + 1.0
}

#[test]
fn a_flow_beats_the_gaussian_on_two_moons() {
    let held_out = two_moons::<f32>(500, 2);
    let options = Options {
        epochs: 80,
        batch: 100,
        optimizer: Optimizer::adam(),
        schedule: Schedule::cosine(5e-3, 20),
        ema: Some(0.98),
        ..Options::default()
    };
    let mut trainer = Trainer::new(model::<f32>(&plane(6, &[32, 32])), options).unwrap();
    let outcome = trainer.fit(&moons(2000, 1), Some(&ArrayDataset::new(held_out.clone()).unwrap()), &mut ()).unwrap();
    assert_eq!(outcome.steps, 1600);
    let (best, _) = outcome.best.unwrap();
    let baseline = gaussian(&held_out);
    assert!(best < baseline - 0.8, "{best:.3} nats against {baseline:.3} of the Gaussian");

    // The density that was trained is the one that samples follow: most of them lie on the moons.
    let model = trainer.into_model().unwrap();
    let density = Density::new(model.layer(), model.params(), Default::default());
    let x = density.sample(Shape::new(1000, 2, &[]).unwrap(), 3, 0, 1.0).unwrap();
    let on = |x: f32, y: f32| (0.8..1.2).contains(&x.hypot(y)) && y > -0.3;
    let near = x.slice().chunks_exact(2).filter(|p| on(p[0], p[1]) || on(1.0 - p[0], 0.5 - p[1])).count();
    assert!(near > 850, "{near} of 1000 samples near the moons");
}

#[test]
fn pieces_of_a_batch_add_up_to_the_batch() {
    let data = moons::<f64>(60, 1);
    let train = |micro_batch| {
        let options = Options {
            epochs: 3,
            batch: 20,
            micro_batch,
            optimizer: Optimizer::sgd(0.9),
            schedule: Schedule::constant(0.02),
            drift_every: 0,
            ..Options::default()
        };
        let mut trainer = Trainer::new(model::<f64>(&plane(2, &[8])), options).unwrap();
        trainer.fit(&data, None, &mut ()).unwrap();
        (trainer.records().to_vec(), trainer.into_model().unwrap().params().to_flat().unwrap())
    };
    let (records, whole) = train(None);
    for pieces in [1, 7, 20, 100] {
        let (in_pieces, params) = train(Some(pieces));
        for (a, b) in records.iter().zip(&in_pieces) {
            assert!((a.loss - b.loss).abs() < 1e-10 && (a.gradient_norm - b.gradient_norm).abs() < 1e-9, "{a:?} against {b:?}");
        }
        assert!(whole.iter().zip(&params).all(|(a, b)| (a - b).abs() < 1e-10), "pieces of {pieces}");
    }
}

#[test]
fn a_step_is_the_gradient_of_the_mean_loss() {
    // One step of plain descent without clipping: θ1 = θ0 - α ∇, so that the loss falls by α |∇|² to first order.
    let data = moons::<f64>(30, 1);
    let options = Options {
        epochs: 1,
        batch: 30,
        optimizer: Optimizer::sgd(0.0),
        schedule: Schedule::constant(1e-7),
        clip: None,
        ..Options::default()
    };
    let mut trainer = Trainer::new(model::<f64>(&plane(2, &[8])), options.clone()).unwrap();
    trainer.fit(&data, None, &mut ()).unwrap();
    let record = trainer.records()[0].clone();
    let fall = record.loss - trainer.evaluate(&data).unwrap();
    let expected = 1e-7 * record.gradient_norm.powi(2);
    assert!((fall / expected - 1.0).abs() < 1e-3, "{fall:e} against {expected:e}");

    // Clipped to half of the norm the step is half as long.
    let options = Options { clip: Some(record.gradient_norm / 2.0), ..options };
    let mut clipped = Trainer::new(model::<f64>(&plane(2, &[8])), options).unwrap();
    clipped.fit(&data, None, &mut ()).unwrap();
    let half = record.loss - clipped.evaluate(&data).unwrap();
    assert!((half / expected - 0.5).abs() < 1e-3, "{half:e} against {expected:e}");
}

#[test]
fn steps_epochs_and_last_batches() {
    let steps = |last_batch, count| {
        let mut seen = Vec::new();
        let options = Options { epochs: 2, batch: 16, last_batch, ..Options::default() };
        let mut trainer = Trainer::new(model::<f32>(&plane(1, &[4])), options).unwrap();
        let mut observer = |_: &Record, progress: Progress| {
            seen.push((progress.epoch, progress.epoch_ends));
            ControlFlow::Continue(())
        };
        trainer.fit(&moons(count, 0), None, &mut observer).unwrap();
        seen
    };
    assert_eq!(steps(LastBatch::Keep, 20), [(1, false), (1, true), (2, false), (2, true)]);
    assert_eq!(steps(LastBatch::Drop, 20), [(1, true), (2, true)]);
    assert_eq!(steps(LastBatch::Drop, 10), [(1, true), (2, true)]);
}

#[test]
fn each_epoch_takes_every_sample_once_in_an_order_of_its_own() {
    let drawn = Mutex::new(Vec::new());
    let data = Varied::new(moons::<f32>(12, 0), |_: &mut _, x: &mut [f32], _: &mut [&mut [f32]]| {
        drawn.lock().unwrap().push(x[0].to_bits());
        Ok(())
    });
    let mut model = model::<f32>(&plane(1, &[4]));
    model.set_initialized(true);
    let mut trainer = Trainer::new(model, Options { epochs: 3, batch: 1, ..Options::default() }).unwrap();
    trainer.fit(&data, None, &mut ()).unwrap();
    let drawn = drawn.into_inner().unwrap();
    let mut epochs: Vec<_> = drawn.chunks(12).map(<[u32]>::to_vec).collect();
    assert_eq!(epochs.len(), 3);
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2]);
    epochs.iter_mut().for_each(|epoch| epoch.sort_unstable());
    assert!(epochs[0] == epochs[1] && epochs[1] == epochs[2]);
    epochs[0].dedup();
    assert_eq!(epochs[0].len(), 12);
}

#[test]
fn the_learning_rate_is_that_of_the_schedule() {
    let options = rich();
    let mut trainer = Trainer::new(model::<f32>(&plane(1, &[4])), options.clone()).unwrap();
    trainer.fit(&moons(50, 1), None, &mut ()).unwrap();
    let rates: Vec<f64> = trainer.records().iter().map(|r| r.learning_rate).collect();
    assert_eq!(rates, (0..16).map(|step| options.schedule.at(step, 16)).collect::<Vec<_>>());
}

#[cfg(feature = "progress")]
#[test]
fn a_progress_bar_lets_training_through() {
    let mut trainer = Trainer::new(model::<f32>(&plane(1, &[4])), rich()).unwrap();
    let outcome = trainer.fit(&moons(50, 1), Some(&moons(20, 2)), &mut inn_networks::train::Bar::default()).unwrap();
    assert_eq!(outcome.steps, 16);
}

#[test]
fn evaluation_uses_the_averaged_weights() {
    let held_out = moons::<f32>(40, 5);
    let options = Options { restore_best: false, ..rich() };
    let mut trainer = Trainer::new(model::<f32>(&plane(2, &[8])), options).unwrap();
    trainer.fit(&moons(50, 1), Some(&held_out), &mut ()).unwrap();
    assert_eq!(trainer.records().last().unwrap().held_out, Some(trainer.evaluate(&held_out).unwrap()));
    let trained = trainer.model().params().to_flat().unwrap();
    let averaged = trainer.weights().to_flat().unwrap();
    assert_ne!(trained, averaged);
    assert_eq!(trainer.into_model().unwrap().params().to_flat().unwrap(), averaged);
}

#[test]
fn frozen_parameters_stay() {
    let mut model = model::<f32>(&plane(2, &[8]));
    model.set_initialized(true);
    model.freeze(|name| name.starts_with("level0.step0")).unwrap();
    let before = model.params().to_flat().unwrap();
    let mut trainer = Trainer::new(model, rich()).unwrap();
    trainer.fit(&moons(50, 1), None, &mut ()).unwrap();
    let after = trainer.into_model().unwrap();
    let values = after.params().to_flat().unwrap();
    for entry in after.layout().entries() {
        let same = values[entry.range()] == before[entry.range()];
        assert_eq!(same, entry.name().starts_with("level0.step0"), "{}", entry.name());
    }
}

/// Counts warnings.
#[derive(Default)]
struct Drifts(Vec<(u64, String)>);
impl Observer for Drifts {
    fn step(&mut self, _: &Record, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    fn drift(&mut self, step: u64, drift: &inn_core::Drift, limit: f64) {
        assert!(drift.relative_error > limit);
        self.0.push((step, drift.layer.clone()));
    }
}

#[test]
fn drift_is_logged_and_warned_of() {
    let train = |drift_limit, keep_state_every| {
        let options = Options { epochs: 1, batch: 10, drift_every: 2, drift_limit, keep_state_every, ..Options::default() };
        let mut trainer = Trainer::new(model::<f32>(&plane(12, &[16])), options).unwrap();
        let mut drifts = Drifts::default();
        trainer.fit(&moons(50, 1), None, &mut drifts).unwrap();
        (trainer.records().iter().map(|r| r.drift).collect::<Vec<_>>(), drifts.0)
    };
    let (drift, warnings) = train(1e-2, 0);
    assert_eq!(drift.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false, true]);
    assert!(warnings.is_empty());
    let worst = drift[0].unwrap();
    assert!(worst > 0.0 && worst < 1e-5, "{worst:e}");
    let (_, warnings) = train(1e-12, 0);
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].1.starts_with("level0.step"), "{warnings:?}");
    // With every state kept, the drift is that of one layer.
    let (kept, _) = train(1e-2, 1);
    assert!(kept[0].unwrap() < worst, "{kept:?} against {drift:?}");
}

/// Images whose brightness is that of their condition's left half, plus noise.
fn conditioned(count: usize) -> impl Dataset<f32> {
    let condition = Array4::from_shape_fn((count, 1, 4, 4), |(i, _, y, x)| ((i * 7 + y * 3 + x) as f32 * 0.9).sin());
    let x = Array4::from_shape_fn((count, 1, 4, 4), |(i, _, y, _)| condition[[i, 0, y, 0]] + condition[[i, 0, y, 1]]);
    let data = ArrayDataset::new(x).unwrap().with_condition(condition).unwrap();
    Varied::new(data, |rng, x: &mut [f32], _: &mut [&mut [f32]]| {
        x.iter_mut().for_each(|v| *v += 0.2 * super::uniform(rng) as f32);
        Ok(())
    })
}

pub fn conditional() -> ConditionalGlowConfig {
    let net = NetConfig::Residual(ResidualConfig { hidden: 8, ..ResidualConfig::default() });
    let step = StepConfig { net: net.clone(), ..StepConfig::default() };
    ConditionalGlowConfig {
        flow: GlowConfig { channels: 1, levels: 2, steps: 2, step, ..GlowConfig::default() },
        condition: PyramidConfig { channels: 1, net: Some(net), features: 4 },
    }
}

#[test]
fn conditional_glow_learns_with_its_encoder() {
    let data = conditioned(120);
    let (train, held_out) = split(&data, 20, 0).unwrap();
    let options = Options { epochs: 12, batch: 20, schedule: Schedule::constant(3e-3), ..Options::default() };
    let model = conditional().model(&Cpu::<f32>::new(), 1).unwrap();
    let before = model.params().to_flat().unwrap();
    let mut trainer = Trainer::new(model, options).unwrap();
    trainer.fit(&train, Some(&held_out), &mut ()).unwrap();
    let held_out: Vec<f64> = trainer.records().iter().filter_map(|r| r.held_out).collect();
    assert!(held_out[11] < held_out[0] - 5.0, "{held_out:?}");
    let model = trainer.into_model().unwrap();
    let after = model.params().to_flat().unwrap();
    for entry in model.layout().entries() {
        assert_ne!(before[entry.range()], after[entry.range()], "{} has not learned", entry.name());
    }
}

/// |f(x) - target|²/2 or, from the other side, |f⁻¹(x) - target|²/2; the target is condition 0.
struct Regression(Direction);

impl<L: Invertible, B: Backend> Objective<L, B> for Regression {
    fn direction(&self) -> Direction {
        self.0
    }
    fn gradient(&self, call: Call<'_, L, B>, x: Tensor<B>, c: &[Tensor<B>], weight: f64, grads: &mut Params<B>) -> Result<Tensor<B>> {
        let backend = x.backend().clone();
        let losses = self.losses(call, x.duplicate()?, c)?;
        let Mapped { state, logdet } = call.map(self.0, x)?;
        let mut g = state.duplicate()?;
        g.view_mut().axpy(&backend, -1.0, c[0].view())?;
        let mut scaled = Tensor::zeros(&backend, g.shape())?;
        scaled.view_mut().axpy(&backend, weight, g.view())?;
        let zero = Tensor::zeros(&backend, logdet.shape())?;
        call.pull(self.0, state, scaled, &zero, grads)?;
        Ok(losses)
    }
    fn losses(&self, call: Call<'_, L, B>, x: Tensor<B>, c: &[Tensor<B>]) -> Result<Tensor<B>> {
        let backend = x.backend().clone();
        let mut r = call.map(self.0, x)?.state;
        r.view_mut().axpy(&backend, -1.0, c[0].view())?;
        let shape = r.shape();
        let (values, n) = (r.to_f64()?, shape.sample_len());
        let losses: Vec<f64> = values.chunks_exact(n).map(|v| v.iter().map(|v| v * v / 2.0).sum()).collect();
        Tensor::from_f64(&backend, Shape::per_sample(shape.batch()), &losses)
    }
}

#[test]
fn another_objective_in_both_directions() {
    let x = two_moons::<f64>(200, 1);
    let target = x.mapv(|v| 2.0 * v + 0.5);
    for dir in [Direction::Forward, Direction::Inverse] {
        let data = ArrayDataset::new(x.clone()).unwrap().with_condition(target.clone()).unwrap();
        let options = Options { epochs: 60, batch: 50, schedule: Schedule::cosine(0.03, 0), ..Options::default() };
        let mut trainer = Trainer::with_objective(model::<f64>(&plane(2, &[16])), Regression(dir), options).unwrap();
        trainer.fit(&data, None, &mut ()).unwrap();
        let loss = trainer.evaluate(&data).unwrap();
        assert!(loss < 0.02, "{dir:?}: {loss}");
    }
}
