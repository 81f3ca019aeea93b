//! The guard: what is not finite stops a training, is named, and leaves the last good state.

use super::{model, moons, plane, rich};
use inn_core::Model;
use inn_networks::Glow;
use inn_networks::optim::{Optimizer, Schedule};
use inn_networks::train::{Every, Options, Stopped, Trainer, Varied};
use inn_ops::Cpu;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A network with one value of a parameter replaced.
fn with(name: &str, value: f64) -> Model<Glow, Cpu<f64>> {
    let mut model = model::<f64>(&plane(3, &[8]));
    let mut flat = model.params().to_flat().unwrap();
    flat[model.layout().find(name).unwrap_or_else(|| panic!("{:?}", model.layout())).range().start] = value;
    *model.params_mut() = inn_core::Params::from_flat(&Cpu::new(), model.layout(), &flat).unwrap();
    model.set_initialized(true);
    model
}

fn stopped_at(model: Model<Glow, Cpu<f64>>) -> (u64, &'static str, String) {
    let mut trainer = Trainer::new(model, rich()).unwrap();
    match trainer.fit(&moons(50, 1), None, &mut ()).unwrap().stopped {
        Stopped::NonFinite { step, what, layer } => (step, what, layer),
        other => panic!("{other}"),
    }
}

#[test]
fn the_first_bad_layer_is_named() {
    // A state that is not finite.
    assert_eq!(stopped_at(with("level0.step1.actnorm.bias", f64::NAN)), (1, "loss", "level0.step1".into()));
    assert_eq!(stopped_at(with("level0.step2.coupling.layer0.weight", f64::INFINITY)), (1, "loss", "level0.step2".into()));
    // A log-determinant that is not, with finite states.
    assert_eq!(stopped_at(with("level0.step1.actnorm.scale", 0.0)), (1, "loss", "level0.step1.actnorm.scale".into()));
}

#[test]
fn a_step_too_far_is_taken_back() {
    let options = Options { optimizer: Optimizer::sgd(0.9), schedule: Schedule::constant(1e200), clip: None, ema: Some(0.9), ..rich() };
    let data = moons::<f64>(50, 1);
    let mut trainer = Trainer::new(model::<f64>(&plane(3, &[8])), options).unwrap();
    let outcome = trainer.fit(&data, None, &mut ()).unwrap();
    assert!(matches!(outcome.stopped, Stopped::NonFinite { step: 2, .. }), "{}", outcome.stopped);
    assert_eq!((outcome.steps, trainer.records().len()), (0, 0));
    let loss = trainer.evaluate(&data).unwrap();
    assert!(loss.is_finite() && loss < 10.0, "{loss}");
    assert!(trainer.into_model().unwrap().params().to_flat().unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn the_last_good_state_is_that_before_the_last_update() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    let options = Options { micro_batch: None, ..rich() };
    let begin = || Trainer::new(model::<f64>(&plane(3, &[8])), options.clone()).unwrap();
    // 4 steps an epoch; from the first sample of step 7 on they are so large that their squares overflow. A batch is drawn twice for
    // initialization.
    let draws = AtomicUsize::new(0);
    let data = Varied::new(moons::<f64>(64, 1), |_: &mut _, x: &mut [f64], _: &mut [&mut [f64]]| {
        if draws.fetch_add(1, Ordering::Relaxed) >= 7 * 16 {
            x.fill(1e200);
        }
        Ok(())
    });
    let mut trainer = begin().with_checkpoints(&bad, Every::Steps(3)).unwrap();
    let outcome = trainer.fit(&data, None, &mut ()).unwrap();
    assert!(
        matches!(&outcome.stopped, Stopped::NonFinite { step: 7, what: "loss", layer } if layer.starts_with("level0.step")),
        "{outcome:?}"
    );
    assert_eq!(outcome.steps, 5);
    // The file is the last that was written on the way.
    let mut resumed = begin();
    resumed.resume(&bad).unwrap();
    assert_eq!(resumed.records().len(), 6);

    let stop = |record: &inn_networks::train::Record, _: inn_networks::train::Progress| match record.step {
        5 => std::ops::ControlFlow::Break(()),
        _ => std::ops::ControlFlow::Continue(()),
    };
    let mut plain = begin();
    plain.fit(&moons::<f64>(64, 1), None, &mut { stop }).unwrap();
    plain.save(&good).unwrap();
    trainer.save(&bad).unwrap();
    assert!(std::fs::read(&good).unwrap() == std::fs::read(&bad).unwrap());
}
