//! A process that is killed while it writes checkpoints leaves one from which training goes on.

use inn_core::Architecture;
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::StepConfig;
use inn_networks::train::{ArrayDataset, Every, Options, Progress, Record, Trainer};
use inn_networks::{Glow, GlowConfig, files};
use inn_ops::Cpu;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CHECKPOINT: &str = "INN_TEST_CHECKPOINT";

fn trainer(checkpoint: Option<&Path>) -> Trainer<Glow, Cpu<f32>> {
    // Wide enough that writing takes as long as computing.
    let net = NetConfig::Dense(DenseConfig { hidden: vec![96, 96], ..DenseConfig::default() });
    let config = GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, 3) };
    let options = Options { epochs: 1_000_000, batch: 8, ema: Some(0.9), ..Options::default() };
    let model = config.model(&Cpu::<f32>::new(), 0).unwrap();
    let trainer = Trainer::new(model, options).unwrap().with_architecture(&config, &Default::default()).unwrap();
    match checkpoint {
        Some(path) => trainer.with_checkpoints(path, Every::Steps(1)).unwrap(),
        None => trainer,
    }
}

fn data() -> ArrayDataset<f32> {
    ArrayDataset::new(ndarray::Array2::from_shape_fn((32, 2), |(i, j)| (i as f32 * (0.4 + j as f32)).sin())).unwrap()
}

#[test]
fn child_that_trains() {
    let Some(path) = std::env::var_os(CHECKPOINT).map(PathBuf::from) else { return };
    let mut trainer = trainer(Some(&path));
    if path.exists() {
        trainer.resume(&path).unwrap();
    }
    trainer
        .fit(&data(), None, &mut |record: &Record, _: Progress| {
            println!("step {}", record.step);
            ControlFlow::Continue(())
        })
        .unwrap();
}

/// Waits for the line of a step and answers its number.
fn next_step(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> u64 {
    let step = |line: String| line.trim().rsplit("step ").next()?.parse().ok();
    lines.by_ref().find_map(|line| step(line.unwrap())).expect("a child that trains")
}

#[test]
fn killed_twenty_times_it_leaves_a_checkpoint_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut reached = 0;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_trains", "--nocapture"])
            .env(CHECKPOINT, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = next_step(&mut lines);
        assert_eq!(first, reached + 1, "round {round} goes on where the checkpoint was");
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() % 30_000;
        std::thread::sleep(Duration::from_micros(u64::from(moment)));
        child.kill().unwrap();
        child.wait().unwrap();
        let printed = lines.map_while(Result::ok).filter(|line| line.contains("step ")).count() as u64;

        let mut found = trainer(None);
        found.resume(&path).unwrap_or_else(|e| panic!("round {round}: {e}"));
        files::load::<GlowConfig, _>(&path, &Cpu::<f32>::new()).unwrap();
        reached = found.records().len() as u64;
        // Nothing that was reported as done is lost.
        assert!(reached >= first + printed.saturating_sub(1), "round {round}: {reached} steps after {first} and {printed} more");
    }
    assert!(reached >= 20);

    // What twenty processes did together is what one does.
    let mut whole = trainer(None);
    whole
        .fit(&data(), None, &mut |record: &Record, _: Progress| {
            if record.step == reached { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    let again = folder.path().join("again");
    whole.save(&again).unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&again).unwrap());
}
