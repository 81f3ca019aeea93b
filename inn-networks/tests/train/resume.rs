//! An interrupted training ends as one that was not; so does one on another number of threads.

use super::learn::conditional;
use super::{model, moons, plane, rich, uniform};
use inn_core::Architecture;
use inn_networks::train::{ArrayDataset, Dataset, Every, Observer, Options, Progress, Record, Stopped, Trainer, Varied};
use inn_networks::{GlowConfig, files};
use inn_ops::Cpu;
use ndarray::Array4;
use std::ops::ControlFlow;
use std::path::Path;

/// Moons that are disturbed anew in each epoch.
fn noisy(count: usize, seed: u64) -> impl Dataset<f32> {
    Varied::new(moons::<f32>(count, seed), |rng, x: &mut [f32], _: &mut [&mut [f32]]| {
        x.iter_mut().for_each(|v| *v += 0.05 * uniform(rng) as f32);
        Ok(())
    })
}

fn trainer(options: Options, checkpoint: &Path) -> Trainer<inn_networks::Glow, Cpu<f32>> {
    let config = plane(3, &[8]);
    let trainer = Trainer::new(model::<f32>(&config), options).unwrap();
    trainer.with_architecture(&config, &Default::default()).unwrap().with_checkpoints(checkpoint, Every::Steps(1)).unwrap()
}

/// Stops after a step.
fn until(last: u64) -> impl Observer {
    move |record: &Record, _: Progress| if record.step == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[test]
fn interrupted_at_any_step_it_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copies) = (folder.path().join("whole"), folder.path());
    let (data, held_out) = (noisy(50, 1), noisy(30, 2));
    let mut whole = trainer(rich(), &path);
    // What a process that is killed after a step finds on the disk.
    let mut copy = |record: &Record, _: Progress| {
        std::fs::copy(&path, copies.join(format!("at{}", record.step))).unwrap();
        ControlFlow::Continue(())
    };
    let outcome = whole.fit(&data, Some(&held_out), &mut copy).unwrap();
    assert_eq!((outcome.steps, &outcome.stopped), (16, &Stopped::Finished));
    let bytes = std::fs::read(&path).unwrap();
    for step in 1..=16 {
        let found = copies.join(format!("at{step}"));
        let stopped = folder.path().join("stopped");
        // Stopped by an observer, the same file is written.
        let mut first = trainer(rich(), &stopped);
        assert_eq!(first.fit(&data, Some(&held_out), &mut until(step)).unwrap().stopped, Stopped::Observer);
        assert_eq!(std::fs::read(&stopped).unwrap(), std::fs::read(&found).unwrap(), "step {step}");

        let mut second = trainer(rich(), &stopped);
        second.resume(&found).unwrap();
        assert_eq!(second.records(), &whole.records()[..step as usize]);
        let again = second.fit(&data, Some(&held_out), &mut ()).unwrap();
        assert_eq!(again, outcome, "from step {step}");
        assert_eq!(second.records(), whole.records(), "from step {step}");
        assert!(std::fs::read(&stopped).unwrap() == bytes, "from step {step}: other bytes");
        // The first one, still there, goes on as well.
        first.fit(&data, Some(&held_out), &mut ()).unwrap();
        assert!(std::fs::read(&stopped).unwrap() == bytes, "in the same process from step {step}: other bytes");
    }
    // The networks that they leave are the same, and that of the file is the trained one.
    let restored = files::load::<GlowConfig, _>(&path, &Cpu::<f32>::new()).unwrap();
    assert_eq!(restored.model.params().to_flat().unwrap(), whole.model().params().to_flat().unwrap());
}

#[test]
fn before_the_first_step_and_after_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let data = noisy(50, 1);
    let mut whole = trainer(rich(), &path);
    whole.save(&path).unwrap();
    let mut fresh = trainer(rich(), &path);
    fresh.resume(&path).unwrap();
    whole.fit(&data, None, &mut ()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    fresh.fit(&data, None, &mut ()).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);

    let mut done = trainer(rich(), &path);
    done.resume(&path).unwrap();
    assert_eq!(done.fit(&data, None, &mut ()).unwrap().stopped, Stopped::Finished);
    assert!(std::fs::read(&path).unwrap() == bytes);
    // More epochs are no other training.
    let mut longer = trainer(Options { epochs: 5, ..rich() }, &path);
    longer.resume(&path).unwrap();
    assert_eq!(longer.fit(&data, None, &mut ()).unwrap().steps, 20);
}

#[test]
fn a_training_without_patience_left_stays_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (data, held_out) = (noisy(50, 1), noisy(30, 2));
    // Nothing is an improvement but the first evaluation.
    let options = Options { epochs: 9, patience: Some(2), min_improvement: 1e9, ..rich() };
    let mut first = trainer(options.clone(), &path);
    let outcome = first.fit(&data, Some(&held_out), &mut ()).unwrap();
    assert_eq!((outcome.steps, &outcome.stopped), (12, &Stopped::Patience));
    let (loss, step) = outcome.best.unwrap();
    assert_eq!((Some(loss), step), (first.records()[3].held_out, 4));
    let mut second = trainer(options, &path);
    second.resume(&path).unwrap();
    assert_eq!(second.fit(&data, Some(&held_out), &mut ()).unwrap(), outcome);
    // It ends with the weights of the best evaluation.
    assert_eq!(second.evaluate(&held_out).unwrap(), loss);
    assert_eq!(second.weights().to_flat().unwrap(), first.into_model().unwrap().params().to_flat().unwrap());
}

#[test]
fn identical_bytes_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let images = Array4::from_shape_fn((40, 1, 8, 8), |(i, _, y, x)| ((i * 5 + y * 3 + x * x) as f32 * 0.7).sin());
    let data = Varied::new(
        ArrayDataset::new(images.clone()).unwrap().with_condition(images).unwrap(),
        |rng, x: &mut [f32], c: &mut [&mut [f32]]| {
            x.iter_mut().chain(c.iter_mut().flat_map(|c| c.iter_mut())).for_each(|v| *v += 0.1 * uniform(rng) as f32);
            Ok(())
        },
    );
    let bytes = [1, 2, 7].map(|threads| {
        let path = folder.path().join(format!("{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let model = conditional().model(&Cpu::<f32>::new(), 0).unwrap();
            let trainer = Trainer::new(model, Options { epochs: 2, ..rich() }).unwrap();
            let mut trainer = trainer.with_checkpoints(&path, Every::Epochs(1)).unwrap();
            trainer.fit(&data, Some(&data), &mut ()).unwrap();
        });
        std::fs::read(&path).unwrap()
    });
    assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
}

#[test]
fn the_log_holds_each_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("checkpoint"), folder.path().join("log.csv"));
    let data = noisy(50, 1);
    let mut first = trainer(rich(), &path).with_log(&log);
    first.fit(&data, Some(&data), &mut until(6)).unwrap();
    let mut second = trainer(rich(), &path).with_log(&log);
    second.resume(&path).unwrap();
    second.fit(&data, Some(&data), &mut ()).unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 17);
    assert_eq!(rows[0], ["step", "epoch", "loss", "held_out", "learning_rate", "gradient_norm", "drift", "seconds"]);
    for (row, record) in rows[1..].iter().zip(second.records()) {
        assert_eq!(row[0], record.step.to_string());
        assert_eq!(row[2].parse::<f64>().unwrap(), record.loss);
        assert_eq!(row[3].parse::<f64>().ok(), record.held_out);
        assert!(row[7].parse::<f64>().is_ok(), "{row:?}");
    }
}

#[cfg(feature = "plot")]
#[test]
fn loss_curves_as_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.png");
    let mut trainer = trainer(rich(), &folder.path().join("checkpoint"));
    assert!(inn_networks::train::plot_losses(&path, "moons", trainer.records()).is_err());
    trainer.fit(&noisy(50, 1), Some(&noisy(20, 2)), &mut ()).unwrap();
    inn_networks::train::plot_losses(&path, "moons", trainer.records()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5000);
}
