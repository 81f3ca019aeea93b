//! Bad data and settings: typed errors that say what was expected and what came, and nothing changed.

use super::{model, moons, plane, rich, two_moons};
use inn_core::{Architecture, Error};
use inn_networks::GlowConfig;
use inn_networks::train::{ArrayDataset, Dataset, Every, Options, Subset, Trainer, Varied, split};
use inn_ops::Cpu;
use ndarray::{Array2, Array3, Array4};

/// Both texts are in the message.
#[track_caller]
fn says<T>(result: Result<T, Error>, texts: &[&str]) -> Error {
    let error = result.err().expect("an error");
    let message = error.to_string();
    assert!(texts.iter().all(|text| message.contains(text)), "{message}");
    error
}

#[test]
fn data_that_are_not_finite() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut points = two_moons::<f32>(20, 0);
        points[[7, 1]] = bad;
        let error = says(ArrayDataset::new(points.clone()), &["data, sample 7", "finite", "index 1"]);
        assert!(matches!(error, Error::NonFinite { .. }));
        let good = ArrayDataset::new(two_moons::<f32>(20, 0)).unwrap();
        says(good.with_condition(points), &["condition 0, sample 7"]);
    }
    // Made on the way: the trainer finds it and stays as it was.
    let spoiled = Varied::new(moons::<f32>(40, 0), |_: &mut _, x: &mut [f32], _: &mut [&mut [f32]]| {
        if x[0] > 1.5 {
            x[1] = f32::NAN;
        }
        Ok(())
    });
    let mut trainer = Trainer::new(model::<f32>(&plane(2, &[4])), rich()).unwrap();
    let before = trainer.model().params().to_flat().unwrap();
    let error = says(trainer.fit(&spoiled, None, &mut ()), &["sample", "as it was drawn", "NaN"]);
    assert!(matches!(error, Error::NonFinite { .. }));
    assert_eq!(trainer.model().params().to_flat().unwrap(), before);
    // And can be used.
    trainer.fit(&moons(40, 0), None, &mut ()).unwrap();

    // In held-out data it shows at the end of an epoch; the steps before are kept, and can be gone on from.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut trainer = Trainer::new(model::<f32>(&plane(2, &[4])), rich()).unwrap();
    says(trainer.fit(&moons(40, 0), Some(&spoiled), &mut ()), &["sample", "as it was drawn"]);
    assert_eq!(trainer.records().len(), 3);
    trainer.save(&path).unwrap();
    trainer.resume(&path).unwrap();
    assert_eq!(trainer.fit(&moons(40, 0), None, &mut ()).unwrap().steps, 12);
}

#[test]
fn shapes_that_do_not_fit() {
    says(ArrayDataset::new(Array2::<f32>::zeros((0, 2))), &["data", "at least one sample"]);
    says(ArrayDataset::new(ndarray::Array1::<f32>::zeros(3)), &["data", "channel"]);
    let short = ArrayDataset::new(Array2::<f32>::zeros((4, 2))).unwrap().with_condition(Array2::zeros((3, 2)));
    says(short, &["condition 0", "4 samples", "3 samples"]);
    let fit = |data: &dyn Dataset<f32>, config: &GlowConfig| {
        let mut trainer = Trainer::new(config.model(&Cpu::<f32>::new(), 0).unwrap(), rich()).unwrap();
        trainer.fit(data, None, &mut ())
    };
    says(fit(&ArrayDataset::new(Array2::zeros((4, 3))).unwrap(), &plane(2, &[4])), &["2", "(4, 3)"]);
    let images = |n| ArrayDataset::new(Array4::zeros((4, 3, n, n))).unwrap();
    let glow = GlowConfig { levels: 2, steps: 1, ..GlowConfig::default() };
    says(fit(&images(7), &glow), &["multiples of 4", "7, 7"]);
    says(fit(&images(6), &glow), &["multiples of 4", "6, 6"]);
    says(fit(&ArrayDataset::new(Array3::zeros((4, 3, 8))).unwrap(), &glow), &["2 spatial axes", "(4, 3, 8)"]);
    let conditional = super::learn::conditional();
    let mut trainer = Trainer::new(conditional.model(&Cpu::<f32>::new(), 0).unwrap(), rich()).unwrap();
    let x = || ArrayDataset::new(Array4::<f32>::zeros((4, 1, 4, 4))).unwrap();
    says(trainer.fit(&x(), None, &mut ()), &["condition 0"]);
    says(trainer.fit(&x().with_condition(Array4::zeros((4, 1, 2, 2))).unwrap(), None, &mut ()), &["condition 0", "4, 4", "2, 2"]);
    says(trainer.fit(&x().with_condition(Array4::zeros((4, 2, 4, 4))).unwrap(), None, &mut ()), &["(4, 2, 4, 4)"]);
}

#[test]
fn subsets_and_splits() {
    let data = moons::<f32>(10, 0);
    says(Subset::new(&data, vec![]), &["at least one"]);
    says(Subset::new(&data, vec![3, 10]), &["less than 10", "10"]);
    says(split(&data, 0, 0), &["held_out", "1 to 9"]);
    says(split(&data, 10, 0), &["held_out", "1 to 9"]);
    let (train, test) = split(&data, 3, 5).unwrap();
    let values = |data: &dyn Dataset<f32>| {
        (0..data.len())
            .map(|i| {
                let mut x = [0.0; 2];
                data.draw(i, &mut rand::SeedableRng::seed_from_u64(0), &mut x, &mut []).unwrap();
                x.map(f32::to_bits)
            })
            .collect::<Vec<_>>()
    };
    let (mut parts, mut all) = ([values(&train), values(&test)].concat(), values(&data));
    assert_eq!((train.len(), test.len()), (7, 3));
    assert_ne!(parts, all);
    parts.sort_unstable();
    all.sort_unstable();
    assert_eq!(parts, all);
    let mut wrong = [0.0; 3];
    says(data.draw(0, &mut rand::SeedableRng::seed_from_u64(0), &mut wrong, &mut []), &["2 values", "3"]);
}

#[test]
fn settings() {
    let new = |options| Trainer::new(model::<f32>(&plane(1, &[4])), options);
    says(new(Options { epochs: 0, ..rich() }), &["epochs", "at least 1"]);
    says(new(Options { batch: 0, ..rich() }), &["batch", "at least 1"]);
    says(new(Options { micro_batch: Some(0), ..rich() }), &["micro_batch"]);
    says(new(Options { patience: Some(0), ..rich() }), &["patience"]);
    says(new(Options { clip: Some(-1.0), ..rich() }), &["clip", "-1"]);
    says(new(Options { ema: Some(1.0), ..rich() }), &["ema", "1"]);
    says(new(Options { drift_limit: f64::NAN, ..rich() }), &["drift_limit"]);
    says(new(rich()).unwrap().with_checkpoints("x", Every::Steps(0)), &["checkpoints", "0"]);
    says(new(rich()).unwrap().with_architecture(&plane(1, &[5]), &Default::default()), &["another network"]);
    // Settings are plain data.
    let text = serde_json::to_string(&rich()).unwrap();
    assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), rich());
    assert!(serde_json::from_str::<Options>(r#"{"epoch": 3}"#).is_err());
}

#[test]
fn a_checkpoint_of_another_training() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let data = moons::<f32>(40, 0);
    let mut trainer = Trainer::new(model::<f32>(&plane(2, &[4])), rich()).unwrap();
    trainer.fit(&data, None, &mut ()).unwrap();
    trainer.save(&path).unwrap();
    let resume = |options, hidden: usize| Trainer::new(model::<f32>(&plane(2, &[hidden])), options).unwrap().resume(&path);
    resume(rich(), 4).unwrap();
    says(resume(Options { seed: 1, ..rich() }, 4), &["`seed`", "expected 0", "got 1"]);
    says(resume(Options { ema: None, ..rich() }, 4), &["`ema`", "0.9", "null"]);
    says(resume(rich(), 5), &["weights/", "expected [5", "got [4"]);
    says(Trainer::new(model::<f64>(&plane(2, &[4])), rich()).unwrap().resume(&path), &["f64", "f32"]);
    says(Trainer::new(model::<f32>(&plane(2, &[4])), rich()).unwrap().resume(folder.path().join("none")), &["none"]);
    // Other data, seen by their number.
    let mut other = Trainer::new(model::<f32>(&plane(2, &[4])), rich()).unwrap();
    other.resume(&path).unwrap();
    says(other.fit(&moons(41, 0), None, &mut ()), &["training data", "40 samples", "41"]);
    // A network is no checkpoint.
    let network = folder.path().join("network");
    inn_networks::files::save(&network, &plane(2, &[4]), trainer.model(), &Default::default()).unwrap();
    says(trainer.resume(&network), &["expected a checkpoint", "network"]);
}
