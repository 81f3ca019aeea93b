//! Times a training step of a dense flow, and drawing from it: one line of JSON.
//!
//! A step is forward, the negative log-likelihood, backward, and Adam, on a batch of points. The flow has an activation normalization and a
//! mixing of channels before each of its affine couplings.
//!
//! ```text
//! cargo run --release -p inn-examples --example dense_flow -- --dimensions 2 --couplings 16 --hidden 64 --batch 512
//! ```

use clap::{Args, Parser};
use inn_core::{Architecture, Error, Given, Result, Shape, Tensor};
use inn_examples::cli::{finish, median, print_json};
use inn_examples::memory::{Peak, megabytes, resident};
use inn_examples::random::fill;
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::StepConfig;
use inn_networks::optim::{Moments, Optimizer};
use inn_networks::train::{MaximumLikelihood, Objective};
use inn_networks::{Density, GlowConfig};
use inn_ops::Cpu;
use serde::Serialize;
use std::time::Instant;

/// Times a training step of a dense flow, and drawing from it.
#[derive(Debug, Parser)]
#[command(name = "dense_flow")]
struct Cli {
    #[command(flatten)]
    args: Arguments,
}

#[derive(Debug, Args, Serialize)]
struct Arguments {
    /// Values of a point.
    #[arg(long, default_value_t = 2)]
    dimensions: usize,
    /// Affine couplings.
    #[arg(long, default_value_t = 16)]
    couplings: usize,
    /// Width of the two hidden layers of each.
    #[arg(long, default_value_t = 64)]
    hidden: usize,
    /// Points of a step.
    #[arg(long, default_value_t = 512)]
    batch: usize,
    /// Points to draw at once.
    #[arg(long, default_value_t = 10_000)]
    draws: usize,
    /// Steps to time, after one that is not; a tenth as many times points are drawn.
    #[arg(long, default_value_t = 200)]
    repeat: usize,
    /// Threads; all cores when 0.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of weights and data.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    net: &'static str,
    #[serde(flatten)]
    args: &'a Arguments,
    params: usize,
    step_s: f64,
    base_mb: Option<f64>,
    peak_mb: Option<f64>,
    delta_mb: Option<f64>,
    loss: f64,
    /// Points drawn a second.
    samples_per_s: f64,
}

fn main() -> std::process::ExitCode {
    finish(run(&Cli::parse().args).and_then(|line| print_json(&line)))
}

fn run(args: &Arguments) -> Result<Line<'_>> {
    if args.repeat == 0 {
        return Err(Error::config("repeat", "expected at least 1, got 0"));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build().map_err(|e| Error::config("threads", e))?;
    pool.install(|| measure(args))
}

fn measure(args: &Arguments) -> Result<Line<'_>> {
    let cpu = Cpu::<f32>::new();
    let net = NetConfig::Dense(DenseConfig { hidden: vec![args.hidden; 2], ..DenseConfig::default() });
    let step = StepConfig { net, ..StepConfig::default() };
    let mut model = GlowConfig { step, ..GlowConfig::dense(args.dimensions, args.couplings) }.model(&cpu, args.seed)?;
    let mut x = Tensor::zeros(&cpu, Shape::new(args.batch, args.dimensions, &[])?)?;
    fill(x.slice_mut(), args.seed);

    let peak = Peak::start();
    let base = resident();
    let mut moments = Moments::new(Optimizer::adam(), model.params())?;
    let mut grads = model.zeros()?;
    let (mut times, mut loss) = (Vec::new(), f64::NAN);
    let weight = 1.0 / args.batch as f64;
    for _ in 0..=args.repeat {
        let start = Instant::now();
        grads.fill(0.0)?;
        let losses = MaximumLikelihood.gradient(model.call(), x.duplicate()?, &[], weight, &mut grads)?;
        moments.step(model.params_mut(), &grads, 1e-3, 1.0)?;
        times.push(start.elapsed().as_secs_f64());
        loss = losses.to_f64()?.iter().sum::<f64>() * weight;
    }
    let step_s = median(times.get(1..).unwrap_or_default());
    let highest = peak.bytes();

    let density = Density::new(model.layer(), model.params(), Given::default());
    let shape = Shape::new(args.draws, args.dimensions, &[])?;
    let mut times = Vec::new();
    for i in 0..=args.repeat / 10 {
        let start = Instant::now();
        density.sample(shape, args.seed, (i * args.draws) as u64, 1.0)?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(Line {
        net: "dense",
        args,
        params: model.layout().count(),
        step_s,
        base_mb: base.map(megabytes),
        peak_mb: highest.map(megabytes),
        delta_mb: base.zip(highest).map(|(base, highest)| megabytes(highest.saturating_sub(base))),
        loss,
        samples_per_s: args.draws as f64 / median(&times),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &str) -> Result<serde_json::Value> {
        let cli = Cli::try_parse_from(std::iter::once("dense_flow").chain(arguments.split_whitespace())).unwrap();
        run(&cli.args).map(|line| serde_json::to_value(line).unwrap())
    }

    #[test]
    fn a_line_has_the_promised_keys_and_training_lowers_the_loss() {
        let after = |steps: usize| line(&format!("--couplings 2 --hidden 8 --batch 64 --draws 10 --repeat {steps}")).unwrap();
        let (first, later) = (after(1), after(60));
        for key in ["net", "batch", "couplings", "hidden", "draws", "params", "step_s", "delta_mb", "samples_per_s"] {
            assert!(first.get(key).is_some(), "{key} is missing in {first}");
        }
        assert!(later["loss"].as_f64().unwrap() < first["loss"].as_f64().unwrap(), "{later} after {first}");
    }

    #[test]
    fn bad_arguments_are_errors() {
        assert!(line("--repeat 0").unwrap_err().to_string().contains("repeat"));
        assert!(line("--batch 0").is_err() && line("--dimensions 1").is_err());
    }
}
