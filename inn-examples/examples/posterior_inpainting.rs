//! The main job: what could be behind the hidden middle of a handwritten digit?
//!
//! A conditional Glow learns p(digit | observation) from real digits. The observation hides the middle 14 x 14 of 28 x 28 pixels and adds Gaussian
//! noise of 0.1 to the others; the condition is the observation and the mask, encoded once a digit and shared by all its samples. For digits that
//! were held out, the program draws posterior samples and writes, under `--out`:
//!
//! | file | holds |
//! |---|---|
//! | `posterior.png` | truth, observation, samples, their mean and standard deviation, the linear Gaussian estimate |
//! | `training.png`, `training.csv` | the loss over the steps |
//! | `metrics.json` | see below |
//! | `model.safetensors` | the network; `inn_networks::files::load` restores it |
//! | `checkpoint.safetensors` | what `--resume` continues from |
//!
//! PSNR is over all pixels of the held-out digits, where an estimate takes the pixels outside of the hole as known: hole errors count, divided by the
//! size of the image. `psnr_linear_gaussian_db` is the best linear estimate (mean and covariance of the training digits).
//! `coverage_90` is the share of hidden pixels within the central 90 % of their samples. `test_bits_per_dim` is that of the held-out
//! digits with the noise that the flow was trained with (0.05, in units of 1/256).
//!
//! ```text
//! cargo run --release -p inn-examples --example posterior_inpainting
//! ```

use clap::Parser;
use inn_core::{Architecture, Error, Model, Result, Squeeze, Tensor, gradient_memory};
use inn_examples::cli::finish;
use inn_examples::inpainting::{Experiment, condition_shape, image_shape, is_hidden, observe};
use inn_examples::memory::{Peak, megabytes};
use inn_examples::metrics::{Coverage, SquaredError, moments};
use inn_examples::mnist::{Mnist, PIXELS, SIDE};
use inn_examples::picture::{Colours, Grid, Tile};
use inn_examples::wiener::Wiener;
use inn_layers::conditioner::{NetConfig, ResNetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::files::{self, Metadata, write_whole};
use inn_networks::optim::{Decay, Optimizer, Schedule};
use inn_networks::train::{Bar, ChaCha8Rng, Every, Options, Stopped, Trainer, plot_losses};
use inn_networks::{ConditionalGlow, ConditionalGlowConfig, GlowConfig, PyramidConfig, Sampling, bits_per_dim};
use inn_ops::Cpu;
use ndarray::{ArrayView1, ArrayView2};
use rand::SeedableRng;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Trains a conditional flow on digits whose middle is hidden and draws from the posterior.
#[derive(Debug, Parser)]
#[command(name = "posterior_inpainting")]
struct Args {
    /// Passes over the training digits.
    #[arg(long, default_value_t = 15)]
    epochs: u64,
    /// Seed of weights, noise and samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A folder with the IDX files of MNIST, gzipped or not; the digits that ship with the program when absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where the results go.
    #[arg(long, default_value = "target/examples/posterior_inpainting")]
    out: PathBuf,
    /// Go on with the checkpoint under `--out`.
    #[arg(long)]
    resume: bool,
    /// Posterior samples for each held-out digit.
    #[arg(long, default_value_t = 64)]
    samples: usize,
    /// Megabytes that drawing samples may take at a time.
    #[arg(long, default_value_t = 64)]
    budget: usize,
    /// Held-out digits to evaluate on, all when absent.
    #[arg(long)]
    digits: Option<usize>,
}

type Device = Cpu<f32>;
type Flow = Model<ConditionalGlow, Device>;

fn main() -> std::process::ExitCode {
    finish(run(&Args::parse()))
}

fn configuration() -> ConditionalGlowConfig {
    let net = NetConfig::Residual(ResidualConfig { hidden: 32, ..ResidualConfig::default() });
    let encoder = NetConfig::ResNet(ResNetConfig { hidden: 32, blocks: 2, last_gain: 1.0, ..ResNetConfig::default() });
    ConditionalGlowConfig {
        flow: GlowConfig {
            channels: 1,
            levels: 2,
            steps: 8,
            squeeze: Some(Squeeze::Checkerboard),
            step: StepConfig { net, ..StepConfig::default() },
            ..GlowConfig::default()
        },
        condition: PyramidConfig { channels: 2, net: Some(encoder), features: 16 },
    }
}

fn run(args: &Args) -> Result<()> {
    if args.samples < 2 {
        return Err(Error::config("samples", format!("expected at least 2, got {}", args.samples)));
    }
    if args.budget == 0 || args.digits == Some(0) {
        return Err(Error::config("budget and digits", "expected at least 1 each, got 0"));
    }
    let digits = match &args.data {
        Some(folder) => Mnist::open(folder)?,
        None => Mnist::shipped()?,
    };
    println!("{} digits to train on, {} held out", digits.train.len(), digits.test.len());
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io(&args.out, e))?;
    let (train, test) = (Experiment::new(digits.train.unit())?, Experiment::new(digits.test.unit())?);
    let peak = Peak::start();
    let (model, trained) = fit(args, &train, &test)?;
    let evaluated = evaluate(args, &model, &digits, &test)?;
    let metrics = serde_json::json!({
        "psnr_observation_db": evaluated.observation.psnr_db(),
        "psnr_linear_gaussian_db": evaluated.linear.psnr_db(),
        "psnr_posterior_mean_db": evaluated.posterior.psnr_db(),
        "coverage_90": evaluated.coverage.share(),
        "test_bits_per_dim": trained.bits_per_dim,
        "train_seconds": trained.seconds,
        "samples_per_second": evaluated.samples_per_second,
        "peak_mb": peak.bytes().map(megabytes),
        "samples_per_digit": args.samples,
        "held_out_digits": evaluated.digits,
        "parameters": model.layout().count(),
        "epochs": args.epochs,
        "seed": args.seed,
        "threads": rayon::current_num_threads(),
    });
    let text = serde_json::to_string_pretty(&metrics).map_err(|e| Error::config("metrics", e))?;
    write_whole(args.out.join("metrics.json"), text.as_bytes())?;
    println!("{text}\nresults are in {}", args.out.display());
    Ok(())
}

struct Trained {
    seconds: f64,
    bits_per_dim: f64,
}

fn fit(args: &Args, train: &Experiment, test: &Experiment) -> Result<(Flow, Trained)> {
    let config = configuration();
    let model = config.model(&Cpu::new(), args.seed)?;
    let learning_rate = 2e-3;
    let options = Options {
        epochs: args.epochs,
        batch: 32,
        seed: args.seed,
        optimizer: Optimizer::adam(),
        schedule: Schedule { learning_rate, warm_up: 50, decay: Decay::Cosine { steps: None, floor: 0.02 * learning_rate } },
        ema: Some(0.99),
        // The held-out digits are looked at, and choose nothing.
        restore_best: false,
        ..Options::default()
    };
    let batch = options.batch;
    let memory = gradient_memory(model.backend(), model.layer(), model.layout(), image_shape(batch)?, &[condition_shape(batch)?])?;
    println!("a conditional Glow of {} parameters; a gradient step takes {memory}", model.layout().count());
    let checkpoint = args.out.join("checkpoint.safetensors");
    let mut trainer = Trainer::new(model, options)?
        .with_architecture(&config, &Metadata::default())?
        .with_checkpoints(&checkpoint, Every::Epochs(1))?
        .with_log(args.out.join("training.csv"));
    if args.resume {
        trainer.resume(&checkpoint)?;
        println!("going on after step {}", trainer.records().len());
    }
    let start = Instant::now();
    let outcome = trainer.fit(train, Some(test), &mut Bar::default())?;
    let seconds = start.elapsed().as_secs_f64();
    if let Stopped::NonFinite { .. } = outcome.stopped {
        return Err(Error::config("training", outcome.stopped));
    }
    println!("trained for {} steps in {seconds:.1} s: {}", outcome.steps, outcome.stopped);
    plot_losses(args.out.join("training.png"), "Conditional Glow on digits with a hole: -ln p, nats a digit", trainer.records())?;
    let per_pixel = bits_per_dim(-trainer.evaluate(test)?, PIXELS);
    let model = trainer.into_model()?;
    let mut metadata = Metadata::default();
    metadata.set("noise", &inn_examples::inpainting::DEQUANTIZATION)?;
    files::save(args.out.join("model.safetensors"), &config, &model, &metadata)?;
    // A pixel in [0, 1] is 256 grey levels wide: 8 bits more a pixel.
    Ok((model, Trained { seconds, bits_per_dim: per_pixel + 8.0 }))
}

struct Evaluated {
    observation: SquaredError,
    linear: SquaredError,
    posterior: SquaredError,
    coverage: Coverage,
    samples_per_second: f64,
    digits: usize,
}

/// One held-out digit with everything that is known of it.
struct Case {
    truth: Vec<f32>,
    observation: Vec<f32>,
    linear: Vec<f32>,
    /// One sample after the other, values in [0, 1].
    samples: Vec<f32>,
}

fn evaluate(args: &Args, model: &Flow, digits: &Mnist, test: &Experiment) -> Result<Evaluated> {
    let count = args.digits.unwrap_or(test.count()).min(test.count());
    println!("drawing {} samples for each of {count} held-out digits", args.samples);
    let train = digits.train.unit();
    let images = ArrayView2::from_shape((digits.train.len(), PIXELS), &train).map_err(|e| Error::config("training digits", e))?;
    let hidden: Vec<bool> = (0..PIXELS).map(is_hidden).collect();
    let wiener = Wiener::fit(images, &hidden, f64::from(inn_examples::inpainting::NOISE))?;
    // The first held-out digit of each kind is shown.
    let shown: Vec<usize> = (0..10).filter_map(|kind| digits.test.labels()[..count].iter().position(|&label| label == kind)).collect();
    let mut out = Evaluated {
        observation: SquaredError::default(),
        linear: SquaredError::default(),
        posterior: SquaredError::default(),
        coverage: Coverage::new(0.0),
        samples_per_second: 0.0,
        digits: count,
    };
    let mut rows = Vec::new();
    let mut seconds = 0.0;
    for index in 0..count {
        let (case, elapsed) = draw(args, model, &wiener, test, index)?;
        seconds += elapsed;
        let mean = moments(&case.samples, PIXELS).mean;
        // Outside of the hole every estimate is the truth.
        let completed = |estimate: &[f32]| -> Vec<f32> {
            case.truth.iter().zip(estimate).enumerate().map(|(i, (&t, &e))| if is_hidden(i) { e } else { t }).collect()
        };
        out.observation.add(&case.truth, &completed(&case.observation), |_| true);
        out.linear.add(&case.truth, &completed(&case.linear), |_| true);
        out.posterior.add(&case.truth, &completed(&mean), |_| true);
        out.coverage.add(&case.truth, &case.samples, is_hidden);
        if shown.contains(&index) {
            rows.push((digits.test.labels()[index], case));
        }
    }
    out.samples_per_second = (count * args.samples) as f64 / seconds;
    rows.sort_by_key(|row| row.0);
    let note = format!(
        "PSNR: posterior mean {:.1} dB, linear Gaussian {:.1} dB, hole left black {:.1} dB. 90 % intervals cover {:.0} % of hidden pixels.",
        out.posterior.psnr_db(),
        out.linear.psnr_db(),
        out.observation.psnr_db(),
        100.0 * out.coverage.share()
    );
    picture(&args.out.join("posterior.png"), &rows, note)?;
    Ok(out)
}

fn draw(args: &Args, model: &Flow, wiener: &Wiener, test: &Experiment, index: usize) -> Result<(Case, f64)> {
    let missing = || Error::config("digits", "the test set has fewer");
    let truth = test.truth(index).ok_or_else(missing)?.to_vec();
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    rng.set_stream(index as u64);
    let mut condition = vec![0.0; 2 * PIXELS];
    observe(&truth, &mut rng, &mut condition);
    let observation = condition[..PIXELS].to_vec();
    let linear = wiener.estimate(ArrayView1::from(&observation))?;
    let start = Instant::now();
    let condition = Tensor::from_slice(model.backend(), condition_shape(1)?, &condition)?;
    let mut samples = Vec::with_capacity(args.samples * PIXELS);
    let seed = args.seed.wrapping_mul(1 << 20).wrapping_add(index as u64);
    let sampling = Sampling { count: args.samples, seed, budget: args.budget.saturating_mul(1_000_000), ..Sampling::default() };
    model.layer().draw(model.params(), std::slice::from_ref(&condition), image_shape(1)?, &sampling, |drawn| {
        samples.extend(drawn.x.slice().iter().map(|v| v.clamp(0.0, 1.0)));
        Ok(())
    })?;
    Ok((Case { truth, observation, linear, samples }, start.elapsed().as_secs_f64()))
}

fn picture(path: &Path, rows: &[(u8, Case)], note: String) -> Result<()> {
    let shown = 6;
    let grid = Grid {
        width: SIDE,
        height: SIDE,
        zoom: 3,
        title: "What is behind the hidden middle? Held-out digits, posterior samples of a conditional flow".into(),
        captions: vec![
            (0, 1, "truth".into()),
            (1, 1, "observed".into()),
            (2, shown, "posterior samples".into()),
            (2 + shown, 1, "mean".into()),
            (3 + shown, 1, "std. dev.".into()),
            (4 + shown, 1, "linear".into()),
        ],
        rows: rows
            .iter()
            .map(|(label, case)| {
                let m = moments(&case.samples, PIXELS);
                let mut tiles = vec![Tile::grey(case.truth.clone()), Tile::grey(case.observation.clone())];
                tiles.extend(case.samples.chunks_exact(PIXELS).take(shown).map(Tile::grey));
                tiles.push(Tile::grey(m.mean));
                tiles.push(Tile { values: m.deviation, colours: Colours::Heat { highest: 0.5 } });
                tiles.push(Tile::grey(case.linear.clone()));
                (label.to_string(), tiles)
            })
            .collect(),
        note,
    };
    grid.draw()?.save(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::try_parse_from(std::iter::once("posterior_inpainting").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn arguments() {
        let a = args("--epochs 3 --seed 7 --data somewhere --out elsewhere --resume");
        assert_eq!((a.epochs, a.seed, a.resume, a.samples), (3, 7, true, 64));
        assert_eq!((a.data, a.out), (Some("somewhere".into()), "elsewhere".into()));
        assert_eq!(args("").out, PathBuf::from("target/examples/posterior_inpainting"));
        assert!(Args::try_parse_from(["posterior_inpainting", "--epochs", "many"]).is_err());
    }

    #[test]
    fn bad_data_and_a_missing_checkpoint_are_explained() {
        let folder = tempfile::tempdir().unwrap();
        let mut a = args("--epochs 1");
        a.out = folder.path().join("out");
        a.data = Some(folder.path().join("nowhere"));
        assert!(run(&a).unwrap_err().to_string().contains("nowhere"));
        std::fs::create_dir(folder.path().join("nowhere")).unwrap();
        assert!(run(&a).unwrap_err().to_string().contains("train-images"));
        assert!(!a.out.exists(), "nothing is written before the data are there");
        (a.data, a.resume) = (None, true);
        assert!(run(&a).unwrap_err().to_string().contains("checkpoint.safetensors"));
    }
}
