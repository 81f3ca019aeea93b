//! Times one gradient step and measures its memory: one line of JSON.
//!
//! A step is forward, the loss, and backward into the gradients of the parameters; no optimizer. For Glow the loss is
//! `sum(z²)/2/batch - mean(logdet)`, for the hyperbolic network `sum(x_last²)/2/batch`.
//!
//! ```text
//! cargo run --release -p inn-examples --example gradient_step -- glow --size 64 --batch 8 --channels 3 --hidden 128 --levels 3 --steps 8
//! cargo run --release -p inn-examples --example gradient_step -- hyperbolic --size 48 --channels 32 --hidden 32 --depth 18 --batch 1
//! ```

use clap::{Args, Parser, Subcommand, ValueEnum};
use inn_core::kernel::UNIFORMS;
use inn_core::{Architecture, Backend, Error, Invertible, Kernel, Mapped, Model, Params, Result, Scalar, Shape, Tensor, gradient_memory};
use inn_examples::cli::{finish, median, print_json};
use inn_examples::memory::{Peak, megabytes, resident};
use inn_examples::random::fill;
use inn_layers::conditioner::{NetConfig, ResidualConfig, SymmetricConfig};
use inn_layers::glow::StepConfig;
use inn_networks::hyperbolic::HyperbolicLayerConfig;
use inn_networks::{GlowConfig, HyperbolicConfig};
use inn_ops::Cpu;
use serde::Serialize;
use std::ops::Range;
use std::time::Instant;

/// Times one gradient step (forward, loss, backward) and measures its memory.
#[derive(Debug, Parser)]
#[command(name = "gradient_step")]
struct Cli {
    #[command(subcommand)]
    net: Net,
}

#[derive(Debug, Subcommand)]
enum Net {
    /// Glow on images.
    Glow(GlowArgs),
    /// The hyperbolic network on volumes.
    Hyperbolic(HyperbolicArgs),
}

#[derive(Debug, Args, Serialize)]
struct GlowArgs {
    /// Pixels along each side.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Images of the batch.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Channels of an image.
    #[arg(long, default_value_t = 3)]
    channels: usize,
    /// Hidden channels of each coupling.
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    /// Levels L.
    #[arg(long, default_value_t = 3)]
    levels: usize,
    /// Flow steps a level, K.
    #[arg(long, default_value_t = 8)]
    steps: usize,
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Args, Serialize)]
struct HyperbolicArgs {
    /// Voxels along each side.
    #[arg(long, default_value_t = 48)]
    size: usize,
    /// Volumes of the batch.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Channels of one of the two states.
    #[arg(long, default_value_t = 32)]
    channels: usize,
    /// Hidden channels.
    #[arg(long, default_value_t = 32)]
    hidden: usize,
    /// Layers.
    #[arg(long, default_value_t = 18)]
    depth: usize,
    #[command(flatten)]
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Args, Serialize)]
struct Common {
    /// Steps to time, after one that is not.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    backend: Device,
    /// Threads; all cores when 0.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of weights and data.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Device {
    /// The CPU, in f32.
    Cpu,
    /// A GPU; has no kernels yet.
    Gpu,
}

/// The line that is printed; the arguments stand between `net` and `params`.
#[derive(Debug, Serialize)]
struct Report<'a, A> {
    net: &'a str,
    #[serde(flatten)]
    args: &'a A,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Serialize)]
struct Figures {
    params: usize,
    forward_s: f64,
    step_s: f64,
    base_mb: Option<f64>,
    peak_mb: Option<f64>,
    delta_mb: Option<f64>,
    /// The resident set after the last step.
    end_mb: Option<f64>,
    /// What shapes alone say that `delta_mb` should be: gradients, workspace and scratch.
    predicted_mb: f64,
    gradients_mb: f64,
    loss: f64,
}

fn main() -> std::process::ExitCode {
    finish(run(&Cli::parse().net))
}

fn run(net: &Net) -> Result<()> {
    match net {
        Net::Glow(args) => {
            let figures = measure_on(&args.common, |cpu| glow(cpu, args))?;
            print_json(&Report { net: "glow", args, figures })
        }
        Net::Hyperbolic(args) => {
            let figures = measure_on(&args.common, |cpu| hyperbolic(cpu, args))?;
            print_json(&Report { net: "hyperbolic", args, figures })
        }
    }
}

fn measure_on(common: &Common, measure: impl FnOnce(&Cpu<f32>) -> Result<Figures> + Send) -> Result<Figures> {
    match common.backend {
        Device::Cpu => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(common.threads).build().map_err(|e| Error::config("threads", e))?;
            pool.install(|| measure(&Cpu::new()))
        }
        Device::Gpu => Err(Error::backend("gpu", "it has no kernels yet, so there is nothing to measure; use --backend cpu")),
    }
}

fn glow(cpu: &Cpu<f32>, args: &GlowArgs) -> Result<Figures> {
    // A small last convolution instead of the zero of a new network, so that couplings do what they do after some training.
    let net = NetConfig::Residual(ResidualConfig { hidden: args.hidden, last_gain: 0.1, ..ResidualConfig::default() });
    let step = StepConfig { net, ..StepConfig::default() };
    let config = GlowConfig { channels: args.channels, levels: args.levels, steps: args.steps, step, ..GlowConfig::default() };
    let input = Shape::new(args.batch, args.channels, &[args.size, args.size])?;
    measure(cpu, &config, input, &args.common, 0..usize::MAX)
}

fn hyperbolic(cpu: &Cpu<f32>, args: &HyperbolicArgs) -> Result<Figures> {
    let block = SymmetricConfig { hidden: Some(args.hidden), ..HyperbolicConfig::default().block };
    let layers = vec![HyperbolicLayerConfig::default(); args.depth];
    let config = HyperbolicConfig { channels: args.channels, rank: 3, layers, block };
    let lanes = args.channels.checked_mul(2).ok_or_else(|| Error::config("channels", "too many"))?;
    let input = Shape::new(args.batch, lanes, &[args.size; 3])?;
    let newest = config.newest_lane() * args.channels;
    measure(cpu, &config, input, &args.common, newest..newest + args.channels)
}

/// `observed` are the channels of the output that the loss sees.
fn measure<A: Architecture>(cpu: &Cpu<f32>, config: &A, input: Shape, common: &Common, observed: Range<usize>) -> Result<Figures> {
    if common.repeat == 0 {
        return Err(Error::config("repeat", "expected at least 1, got 0"));
    }
    let model = config.model(cpu, common.seed)?;
    model.call().check(inn_core::Direction::Forward, input)?;
    let memory = gradient_memory(cpu, model.layer(), model.layout(), input, &[])?;
    let mut x = Tensor::zeros(cpu, input)?;
    fill(x.slice_mut(), common.seed);

    let peak = Peak::start();
    let base = resident();
    let mut grads = model.zeros()?;
    let (mut forward, mut step, mut loss) = (Vec::new(), Vec::new(), f64::NAN);
    for _ in 0..=common.repeat {
        let timed;
        (x, timed) = gradient_step(&model, x, &mut grads, observed.clone())?;
        forward.push(timed.forward_s);
        step.push(timed.step_s);
        loss = timed.loss;
        // What comes back is the input up to rounding; the next step starts from the same numbers as this one.
        fill(x.slice_mut(), common.seed);
        grads.fill(0.0)?;
    }
    let highest = peak.bytes();
    let delta = base.zip(highest).map(|(base, highest)| highest.saturating_sub(base));
    Ok(Figures {
        params: model.layout().count(),
        forward_s: median(forward.get(1..).unwrap_or_default()),
        step_s: median(step.get(1..).unwrap_or_default()),
        base_mb: base.map(megabytes),
        peak_mb: highest.map(megabytes),
        delta_mb: delta.map(megabytes),
        end_mb: resident().map(megabytes),
        predicted_mb: megabytes((memory.gradients + memory.workspace + memory.spare + memory.threads) as u64),
        gradients_mb: megabytes(memory.gradients as u64),
        loss,
    })
}

struct Timed {
    forward_s: f64,
    step_s: f64,
    loss: f64,
}

/// One step; `grads` are added to, and the input comes back.
fn gradient_step<L: Invertible, B: Backend>(
    model: &Model<L, B>,
    x: Tensor<B>,
    grads: &mut Params<B>,
    observed: Range<usize>,
) -> Result<(Tensor<B>, Timed)> {
    let backend = model.backend();
    let start = Instant::now();
    let Mapped { state: z, logdet } = model.forward(x)?;
    let forward_s = start.elapsed().as_secs_f64();

    let weight = 1.0 / z.shape().batch() as f64;
    let channels = observed.start..observed.end.min(z.shape().channels());
    let mut gz = Tensor::zeros(backend, z.shape())?;
    let mut losses = Tensor::zeros(backend, logdet.shape())?;
    let (read, mut write) = (z.view().channels(channels.clone()), gz.view_mut());
    let mut write = write.channels(channels);
    backend.zip(&HalfSquare(weight), read.shape(), &[read], &mut [write.set()], &mut [], &mut [losses.view_mut().update()])?;
    losses.view_mut().axpy(backend, -weight, logdet.view())?;
    let gl = Tensor::full(backend, logdet.shape(), -weight)?;
    let pulled = model.backward(z, gz, &gl, grads)?;
    // The values are read after the clock has stopped on the CPU, where every call has ended when it returns.
    let step_s = start.elapsed().as_secs_f64();
    let loss = losses.to_f64()?.iter().sum();
    Ok((pulled.state, Timed { forward_s, step_s, loss }))
}

/// w z²/2 summed over a sample, and its gradient w z.
#[derive(Clone, Copy)]
struct HalfSquare(f64);
impl Kernel for HalfSquare {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], z: &[T], gz: &mut [T], _: &mut [T], sums: &mut [T]) {
        gz[0] = u[0] * z[0];
        sums[0] = T::constant(0.5) * z[0] * gz[0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("gradient_step").chain(line.split_whitespace()))
    }

    fn figures(line: &str) -> Result<(Figures, serde_json::Value)> {
        match parse(line).unwrap().net {
            Net::Glow(args) => {
                let figures = measure_on(&args.common, |cpu| glow(cpu, &args))?;
                let json = serde_json::to_value(Report { net: "glow", args: &args, figures });
                let figures = measure_on(&args.common, |cpu| glow(cpu, &args))?;
                Ok((figures, json.unwrap()))
            }
            Net::Hyperbolic(args) => {
                let figures = measure_on(&args.common, |cpu| hyperbolic(cpu, &args))?;
                let json = serde_json::to_value(Report { net: "hyperbolic", args: &args, figures });
                let figures = measure_on(&args.common, |cpu| hyperbolic(cpu, &args))?;
                Ok((figures, json.unwrap()))
            }
        }
    }

    #[test]
    fn the_line_has_the_promised_keys() {
        let keys =
            ["net", "size", "batch", "channels", "hidden", "params", "forward_s", "step_s", "base_mb", "peak_mb", "delta_mb", "loss"];
        let (glow, json) = figures("glow --size 8 --batch 2 --channels 3 --hidden 4 --levels 2 --steps 1 --repeat 1").unwrap();
        for key in keys.iter().chain(&["levels", "steps", "repeat", "backend"]) {
            assert!(json.get(key).is_some(), "{key} is missing in {json}");
        }
        // The same seed gives the same loss: that of data with variance 1 is about half the values of a sample.
        assert_eq!(json["loss"].as_f64().unwrap(), glow.loss);
        assert!((glow.loss - 96.0).abs() < 20.0, "{}", glow.loss);
        let (_, json) = figures("hyperbolic --size 4 --channels 2 --hidden 3 --depth 3 --batch 2 --repeat 1").unwrap();
        for key in keys.iter().chain(&["depth"]) {
            assert!(json.get(key).is_some(), "{key} is missing in {json}");
        }
    }

    #[test]
    fn bad_arguments_are_errors_with_reasons() {
        let message = |line: &str| figures(line).map(|_| ()).unwrap_err().to_string();
        assert!(message("glow --backend gpu").contains("no kernels yet"), "{}", message("glow --backend gpu"));
        assert!(message("hyperbolic --backend gpu").contains("gpu"));
        assert!(message("glow --size 10 --levels 2 --repeat 1").contains("multiples of 4"));
        assert!(message("glow --batch 0").contains("positive size"), "{}", message("glow --batch 0"));
        assert!(message("glow --size 8 --repeat 0").contains("repeat"));
        assert!(parse("glow --hidden many").is_err() && parse("irim").is_err() && parse("").is_err());
    }
}
