//! What f32 loses in deep flows on digits, fresh from initialization and after some training: one line of JSON.
//!
//! `round_trip` is |inverse(forward(x)) - x| / |x| through 32 flow steps, `gradient` is |g32 - g64| / |g64| over all parameters of 96 flow steps,
//! where g64 is the gradient of the same network in f64; `kept` is that error where every eighth layer's input is kept instead of recomputed.
//! `rounded` is by how much g64 itself changes where each parameter changes by half of the last bit of f32, up or down at random: what f32 code
//! that rounds at every step cannot be expected to stay far below.
//!
//! ```text
//! cargo run --release -p inn-examples --example accuracy
//! ```

use clap::Parser;
use inn_core::{Architecture, Error, Given, Model, Params, Result, Shape, Tensor, Trail};
use inn_examples::cli::{finish, print_json};
use inn_examples::mnist::{Mnist, PIXELS, SIDE};
use inn_examples::random::fill;
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::optim::{Moments, Optimizer, clip_scale};
use inn_networks::train::{MaximumLikelihood, Objective};
use inn_networks::{Glow, GlowConfig};
use inn_ops::{Cpu, CpuElement};
use serde::Serialize;

/// What f32 loses in deep flows on digits.
#[derive(Debug, Parser, Serialize)]
#[command(name = "accuracy")]
struct Cli {
    /// Hidden channels of each coupling.
    #[arg(long, default_value_t = 64)]
    hidden: usize,
    /// Digits of a batch.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Steps of Adam between the two readings.
    #[arg(long, default_value_t = 100)]
    train: usize,
    /// Rate of Adam, reached in a straight line over all steps.
    #[arg(long, default_value_t = 1e-4)]
    learning_rate: f64,
    /// Flow steps of the network whose round trip is taken; an even number.
    #[arg(long, default_value_t = 32)]
    trip_steps: usize,
    /// Flow steps of the network whose gradient is taken; an even number.
    #[arg(long, default_value_t = 96)]
    gradient_steps: usize,
    /// Threads; all cores when 0.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of weights and noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    args: &'a Cli,
    round_trip_initialized: f64,
    round_trip_trained: f64,
    gradient_initialized: f64,
    gradient_trained: f64,
    gradient_trained_kept: f64,
    gradient_trained_rounded: f64,
    /// Of the deeper network, in nats a digit.
    loss_initialized: f64,
    loss_trained: f64,
}

type Device = Cpu<f32>;

fn main() -> std::process::ExitCode {
    finish(run(&Cli::parse()).and_then(|line| print_json(&line)))
}

fn run(args: &Cli) -> Result<Line<'_>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build().map_err(|e| Error::config("threads", e))?;
    pool.install(|| measure(args))
}

fn measure(args: &Cli) -> Result<Line<'_>> {
    let x = digits(args)?;
    let (_, mut model) = initialized(args, args.trip_steps, &x)?;
    let round_trip_initialized = round_trip(&model, &x)?;
    train(&mut model, &x, args)?;
    let round_trip_trained = round_trip(&model, &x)?;

    let (config, mut model) = initialized(args, args.gradient_steps, &x)?;
    let (gradient_initialized, loss_initialized) = (gradient_error(&config, &model, &x, 0)?, loss(&model, &x)?);
    train(&mut model, &x, args)?;
    Ok(Line {
        args,
        round_trip_initialized,
        round_trip_trained,
        gradient_initialized,
        gradient_trained: gradient_error(&config, &model, &x, 0)?,
        gradient_trained_kept: gradient_error(&config, &model, &x, 8)?,
        gradient_trained_rounded: rounding_error(&config, &model, &x, args.seed)?,
        loss_initialized,
        loss_trained: loss(&model, &x)?,
    })
}

/// The first digits, with noise of a tenth of the range of grey levels: without it, the likelihood has no bound.
fn digits(args: &Cli) -> Result<Tensor<Device>> {
    let images = Mnist::shipped()?.train.unit();
    let shape = Shape::new(args.batch, 1, &[SIDE, SIDE])?;
    let count = args.batch.saturating_mul(PIXELS);
    let images = images.get(..count).ok_or_else(|| Error::config("batch", format!("expected at most {}", images.len() / PIXELS)))?;
    let mut x = Tensor::zeros(&Device::new(), shape)?;
    fill(x.slice_mut(), args.seed);
    x.slice_mut().iter_mut().zip(images).for_each(|(x, image)| *x = image + 0.1 * *x);
    Ok(x)
}

/// A Glow of two levels, its activation normalizations set from x, the last convolution of its couplings zero.
fn initialized(args: &Cli, steps: usize, x: &Tensor<Device>) -> Result<(GlowConfig, Model<Glow, Device>)> {
    if steps == 0 || !steps.is_multiple_of(2) {
        return Err(Error::config("steps", format!("expected an even number above 0, got {steps}")));
    }
    let net = NetConfig::Residual(ResidualConfig { hidden: args.hidden, ..ResidualConfig::default() });
    let step = StepConfig { net, ..StepConfig::default() };
    let config = GlowConfig { channels: 1, levels: 2, steps: steps / 2, step, ..GlowConfig::default() };
    let mut model = config.model(x.backend(), args.seed)?;
    model.initialize(x.duplicate()?, Given::default())?;
    Ok((config, model))
}

fn train(model: &mut Model<Glow, Device>, x: &Tensor<Device>, args: &Cli) -> Result<()> {
    let mut moments = Moments::new(Optimizer::adam(), model.params())?;
    for step in 1..=args.train {
        let rate = args.learning_rate * step as f64 / args.train as f64;
        let grads = gradient(model, x.duplicate()?, 0)?;
        let norm = grads.norm()?;
        if !norm.is_finite() {
            return Err(Error::config(
                "learning_rate",
                format!("training diverged at step {step} of {}; expected a smaller one", args.train),
            ));
        }
        moments.step(model.params_mut(), &grads, rate, clip_scale(norm, Some(50.0)))?;
    }
    Ok(())
}

fn loss(model: &Model<Glow, Device>, x: &Tensor<Device>) -> Result<f64> {
    let losses = MaximumLikelihood.losses(model.call(), x.duplicate()?, &[])?.to_f64()?;
    Ok(losses.iter().sum::<f64>() / losses.len() as f64)
}

/// The gradient of the mean loss; the input of every layer whose number divides by `keep` is kept, where that is not 0.
fn gradient<T: CpuElement>(model: &Model<Glow, Cpu<T>>, x: Tensor<Cpu<T>>, keep: usize) -> Result<Params<Cpu<T>>> {
    let weight = 1.0 / x.shape().batch() as f64;
    let mut grads = model.zeros()?;
    let trail = Trail::new(keep);
    let given = if keep == 0 { Given::default() } else { Given::default().with_trail(&trail) };
    MaximumLikelihood.gradient(model.with(given), x, &[], weight, &mut grads)?;
    Ok(grads)
}

fn round_trip(model: &Model<Glow, Device>, x: &Tensor<Device>) -> Result<f64> {
    let z = model.forward(x.duplicate()?)?.state;
    Ok(deviation(&model.inverse(z)?.state.to_f64()?, &x.to_f64()?))
}

fn gradient_error(config: &GlowConfig, model: &Model<Glow, Device>, x: &Tensor<Device>, keep: usize) -> Result<f64> {
    let exact = exact_gradient(config, &model.params().to_flat()?, x)?;
    Ok(deviation(&gradient(model, x.duplicate()?, keep)?.to_flat()?, &exact))
}

/// How the gradient in f64 changes when parameters change by half of the last bit of f32.
fn rounding_error(config: &GlowConfig, model: &Model<Glow, Device>, x: &Tensor<Device>, seed: u64) -> Result<f64> {
    let params = model.params().to_flat()?;
    let mut noise = vec![0.0; params.len()];
    fill(&mut noise, seed.wrapping_add(1));
    let half = f64::from(f32::EPSILON) / 2.0;
    let rounded: Vec<f64> = params.iter().zip(noise).map(|(p, noise)| p * (1.0 + half * f64::from(noise.signum()))).collect();
    Ok(deviation(&exact_gradient(config, &rounded, x)?, &exact_gradient(config, &params, x)?))
}

/// The gradient of the same network in f64.
fn exact_gradient(config: &GlowConfig, params: &[f64], x: &Tensor<Device>) -> Result<Vec<f64>> {
    let cpu = Cpu::<f64>::new();
    let mut precise = config.model(&cpu, 0)?;
    let layout = precise.layout().clone();
    *precise.params_mut() = Params::from_flat(&cpu, &layout, params)?;
    gradient(&precise, Tensor::from_f64(&cpu, x.shape(), &x.to_f64()?)?, 0)?.to_flat()
}

/// |a - b| / |b|.
fn deviation(a: &[f64], b: &[f64]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    (square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut b.iter().copied())).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(std::iter::once("accuracy").chain(line.split_whitespace())).unwrap()
    }

    #[test]
    fn small_flows_lose_little_and_something() {
        let args = parse("--hidden 4 --batch 2 --train 2 --trip-steps 4 --gradient-steps 4");
        let line = run(&args).unwrap();
        for error in [line.round_trip_initialized, line.round_trip_trained, line.gradient_initialized, line.gradient_trained] {
            assert!(error > 0.0 && error < 1e-4, "{line:?}");
        }
    }

    #[test]
    fn bad_arguments_are_errors() {
        assert!(run(&parse("--trip-steps 3")).unwrap_err().to_string().contains("even"));
        assert!(run(&parse("--batch 1000000")).unwrap_err().to_string().contains("batch"));
    }
}
