//! Handwritten digits out of nothing: an unconditional Glow, its samples, and the way from one digit to another through its latent space.
//!
//! The flow is trained on digits in [0, 1] with Gaussian noise of 0.05, which a density needs to be finite on the black background. Under `--out`:
//!
//! | file | holds |
//! |---|---|
//! | `samples.png` | samples at temperatures 1 and 0.7 |
//! | `interpolation.png` | pairs of held-out digits, and what lies between their latents on a great circle |
//! | `training.png`, `training.csv` | the loss over the steps |
//! | `metrics.json` | `test_bits_per_dim` of the held-out digits with the noise of training, in units of 1/256; `train_seconds` |
//! | `model.safetensors` | the network; `inn_networks::files::load` restores it |
//!
//! ```text
//! cargo run --release -p inn-examples --example generate_digits
//! ```

use clap::Parser;
use inn_core::{Architecture, Error, Given, Model, Result, Tensor};
use inn_examples::cli::finish;
use inn_examples::inpainting::{DEQUANTIZATION, image_shape};
use inn_examples::mnist::{Mnist, PIXELS, SIDE};
use inn_examples::picture::{Grid, Tile};
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::files::{self, Metadata, write_whole};
use inn_networks::optim::{Decay, Schedule};
use inn_networks::train::{ArrayDataset, Bar, Dataset, Options, Stopped, Trainer, Varied, plot_losses};
use inn_networks::{Density, Glow, GlowConfig, bits_per_dim};
use inn_ops::Cpu;
use ndarray::Array4;
use rand_distr::{Distribution, StandardNormal};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Trains a flow on handwritten digits and draws new ones.
#[derive(Debug, Parser)]
#[command(name = "generate_digits")]
struct Args {
    /// Passes over the training digits.
    #[arg(long, default_value_t = 20)]
    epochs: u64,
    /// Seed of weights, noise and samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A folder with the IDX files of MNIST, gzipped or not; the digits that ship with the program when absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Where the results go.
    #[arg(long, default_value = "target/examples/generate_digits")]
    out: PathBuf,
}

type Device = Cpu<f32>;

fn main() -> std::process::ExitCode {
    finish(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    let digits = match &args.data {
        Some(folder) => Mnist::open(folder)?,
        None => Mnist::shipped()?,
    };
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io(&args.out, e))?;
    let (train, test) = (noisy(digits.train.unit())?, noisy(digits.test.unit())?);
    println!("{} digits to train on, {} held out", train.len(), test.len());

    let net = NetConfig::Residual(ResidualConfig { hidden: 48, ..ResidualConfig::default() });
    let config =
        GlowConfig { channels: 1, levels: 2, steps: 8, step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::default() };
    let model = config.model(&Device::new(), args.seed)?;
    let learning_rate = 2e-3;
    let options = Options {
        epochs: args.epochs,
        batch: 32,
        seed: args.seed,
        schedule: Schedule { learning_rate, warm_up: 50, decay: Decay::Cosine { steps: None, floor: 0.02 * learning_rate } },
        ema: Some(0.99),
        restore_best: false,
        ..Options::default()
    };
    let mut trainer = Trainer::new(model, options)?.with_log(args.out.join("training.csv"));
    let start = Instant::now();
    let outcome = trainer.fit(&train, Some(&test), &mut Bar::default())?;
    let seconds = start.elapsed().as_secs_f64();
    if let Stopped::NonFinite { .. } = outcome.stopped {
        return Err(Error::config("training", outcome.stopped));
    }
    println!("trained for {} steps in {seconds:.1} s: {}", outcome.steps, outcome.stopped);
    plot_losses(args.out.join("training.png"), "Glow on digits: -ln p, nats a digit", trainer.records())?;
    // A pixel in [0, 1] is 256 grey levels wide: 8 bits more a pixel.
    let bits = bits_per_dim(-trainer.evaluate(&test)?, PIXELS) + 8.0;
    let model = trainer.into_model()?;
    files::save(args.out.join("model.safetensors"), &config, &model, &Metadata::default())?;

    sample(&model, args.seed)?.save(args.out.join("samples.png"))?;
    interpolate(&model, &digits)?.save(args.out.join("interpolation.png"))?;
    let metrics = serde_json::json!({ "test_bits_per_dim": bits, "train_seconds": seconds, "epochs": args.epochs, "seed": args.seed });
    write_file(&args.out.join("metrics.json"), &metrics)?;
    println!("{bits:.3} bits a dimension on held-out digits\nresults are in {}", args.out.display());
    Ok(())
}

fn write_file(path: &Path, value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::config("metrics", e))?;
    write_whole(path, text.as_bytes())
}

/// Digits with new noise in every draw.
fn noisy(images: Vec<f32>) -> Result<impl Dataset<f32>> {
    let images = Array4::from_shape_vec((images.len() / PIXELS, 1, SIDE, SIDE), images).map_err(|e| Error::config("digits", e))?;
    Ok(Varied::new(ArrayDataset::new(images)?, |rng, x, _| {
        for x in x {
            let noise: f32 = StandardNormal.sample(rng);
            *x += DEQUANTIZATION * noise;
        }
        Ok(())
    }))
}

fn sample(model: &Model<Glow, Device>, seed: u64) -> Result<inn_examples::picture::Picture> {
    let (rows, columns) = (4, 12);
    let density = Density::new(model.layer(), model.params(), Given::default());
    let mut grid =
        Grid { width: SIDE, height: SIDE, zoom: 3, title: "Samples of a Glow trained on handwritten digits".into(), ..Grid::default() };
    for temperature in [1.0, 0.7] {
        let x = density.sample(image_shape(rows * columns)?, seed, 0, temperature)?;
        for (i, row) in x.slice().chunks_exact(columns * PIXELS).enumerate() {
            let label = if i == 0 { format!("T = {temperature}") } else { String::new() };
            grid.rows.push((label, row.chunks_exact(PIXELS).map(Tile::grey).collect()));
        }
    }
    grid.draw()
}

/// Pairs of held-out digits of different kinds; in between, latents of the same length turn from one to the other.
fn interpolate(model: &Model<Glow, Device>, digits: &Mnist) -> Result<inn_examples::picture::Picture> {
    let of_kind = |kind: u8| digits.test.labels().iter().position(|&label| label == kind);
    let ways = 9;
    let mut grid = Grid {
        width: SIDE,
        height: SIDE,
        zoom: 3,
        title: "From one held-out digit to another through latent space".into(),
        captions: vec![(0, 1, "from".into()), (1, ways - 2, "between".into()), (ways - 1, 1, "to".into())],
        ..Grid::default()
    };
    for (a, b) in [(0, 6), (1, 7), (3, 8), (4, 9), (2, 5)] {
        let (Some(from), Some(to)) = (of_kind(a), of_kind(b)) else { continue };
        let unit = digits.test.unit();
        let pair: Vec<f32> = [from, to].iter().flat_map(|&i| unit[i * PIXELS..(i + 1) * PIXELS].to_vec()).collect();
        let z = model.forward(Tensor::from_slice(model.backend(), image_shape(2)?, &pair)?)?.state;
        let (first, second) = z.slice().split_at(PIXELS);
        let between: Vec<f32> = (0..ways).flat_map(|i| turn(first, second, i as f64 / (ways - 1) as f64)).collect();
        let x = model.inverse(Tensor::from_slice(model.backend(), image_shape(ways)?, &between)?)?.state;
        grid.rows.push((format!("{a} to {b}"), x.slice().chunks_exact(PIXELS).map(Tile::grey).collect()));
    }
    grid.draw()
}

/// The point at t between a (t = 0) and b (t = 1) on the great circle through both: straight lines pass nearer to the origin than
/// Gaussian latents ever lie (White 2016, arXiv:1609.04468).
fn turn(a: &[f32], b: &[f32], t: f64) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE);
    let angle = cosine.clamp(-1.0, 1.0).acos();
    let (p, q) = if angle.sin() < 1e-6 { (1.0 - t, t) } else { (((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()) };
    a.iter().zip(b).map(|(a, b)| (p * f64::from(*a) + q * f64::from(*b)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_keeps_the_length_and_ends_where_it_should() {
        let (a, b) = ([3.0, 4.0], [-4.0, 3.0]);
        assert_eq!(turn(&a, &b, 0.0), a);
        assert!(turn(&a, &b, 1.0).iter().zip(&b).all(|(x, y)| (x - y).abs() < 1e-6));
        let half = turn(&a, &b, 0.5);
        assert!((half[0].hypot(half[1]) - 5.0).abs() < 1e-6);
        assert_eq!(turn(&a, &a, 0.3), a);
    }

    #[test]
    fn bad_data_are_explained() {
        let args = Args::try_parse_from(["generate_digits", "--data", "no/such/folder"]).unwrap();
        assert!(run(&args).unwrap_err().to_string().contains("no/such/folder"));
    }
}
